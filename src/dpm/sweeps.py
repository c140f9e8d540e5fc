"""What a sweep ends with: the validated bound of every variant over its seeds, as a table and a figure with error bars.

They go to outputs/<experiment>/sweep.{md,png} and cover every finished run of the experiment, earlier sweeps included.
"""

import atexit
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.experimental.callback import Callback
from matplotlib.figure import Figure
from omegaconf import DictConfig

from dpm.figures import WIDTH, render, styled
from dpm.records import standard_error, write_atomically
from dpm.runs import read_json


@dataclass(frozen=True)
class Variant:
    """One set of overrides ("" for none): mean over the seeds, and its standard error (of the one seed if there is one)."""

    name: str
    seeds: int
    value: float
    stderr: float


class SweepSummary(Callback):
    """Hydra calls it when a multirun starts; the summary is made when the program ends, whether or not a job failed."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        chosen = [o.split("=", 1)[1] for o in config.hydra.overrides.task if o.startswith("experiment=")]
        for name in ",".join(chosen).split(","):
            atexit.register(summarise, Path(config.outputs, name))


def summarise(folder: Path) -> list[Variant]:
    """Write sweep.md and sweep.png for the finished runs below `folder` and print the table; nothing if there are none."""
    done = [(path, read_json(path)) for path in sorted(folder.glob("**/done.json"))]
    if not done:
        return []
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path, content in done:
        groups["" if path.parents[1] == folder else str(path.parents[1].relative_to(folder))].append(content)
    variants = [_variant(name, runs) for name, runs in sorted(groups.items())]
    label = f"{done[0][1]['quantity']} ({done[0][1]['unit']}, validation)"
    write_atomically(folder / "sweep.md", table(variants, label).encode())
    write_atomically(folder / "sweep.png", render(figure(variants, label)))
    print(table(variants, label) + f"{folder / 'sweep.md'}, {folder / 'sweep.png'}")
    return variants


def _variant(name: str, runs: Sequence[dict[str, Any]]) -> Variant:
    values = np.array([run["value"] for run in runs])
    return Variant(name, len(runs), float(values.mean()), standard_error(values) if len(runs) > 1 else runs[0]["stderr"])


def table(variants: Sequence[Variant], label: str) -> str:
    rows = [f"| {v.name or '(as configured)'} | {v.seeds} | {v.value:.4g} ± {v.stderr:.2g} |" for v in variants]
    return "\n".join([f"| variant | seeds | {label} |", "| --- | --- | --- |", *rows, ""])


@styled
def figure(variants: Sequence[Variant], label: str) -> Figure:
    """One point per variant: along a number line where they differ in one number, else one named row for each."""
    x, values, errors = [_number(v.name) for v in variants], [v.value for v in variants], [v.stderr for v in variants]
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    if all(map(math.isfinite, x)):
        axes.errorbar(x, values, errors, fmt="o", capsize=3)
        axes.set(xlabel=variants[0].name.split("=")[0], ylabel=label.replace(" (", "\n("))
        axes.set_xscale("log" if min(x) > 0 and max(x) > 20 * min(x) else "linear")
    else:
        rows = range(len(variants))
        axes.errorbar(values, rows, xerr=errors, fmt="o", capsize=3)
        axes.set_yticks(rows, [v.name.replace(",", "\n") or "(as configured)" for v in variants])
        axes.set(xlabel=label, ylim=(len(variants) - 0.5, -0.5))
    return figure


def _number(name: str) -> float:
    """The number in "key=number", or nan."""
    try:
        return float(name.split("=")[1])
    except (IndexError, ValueError):
        return math.nan
