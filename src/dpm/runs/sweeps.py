"""What a sweep ends with: the validated bound of every variant over its seeds, as a table and a figure with error bars.

They go to outputs/<experiment>/sweep.{md,png} and cover every finished run of the experiment, earlier sweeps included.
"""

import atexit
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dpm.runs.folder import read_json
from dpm.study.records import standard_error, write_atomically
from dpm.study.results import settings_of


@dataclass(frozen=True)
class Variant:
    """One set of overrides ("" for none): mean over the seeds, and its standard error (of the one seed if there is one)."""

    name: str
    seeds: int
    value: float
    stderr: float

    @property
    def settings(self) -> dict[str, str]:
        return settings_of(self.name)


class SweepSummary(Callback):
    """Hydra calls it when a multirun starts; the summary is made when the program ends, whether or not a job failed."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        chosen = [o.split("=", 1)[1] for o in config.hydra.overrides.task if o.startswith("experiment=")]
        for name in ",".join(chosen).split(","):
            atexit.register(summarise, Path(config.outputs, name))


def summarise(folder: Path) -> list[Variant]:
    """Write sweep.md and sweep.png for the finished runs below `folder` and print the table; nothing if there are none."""
    import dpm.figures.sweep as sweep
    from dpm.figures import render  # here, because a training that only registers the summary should not load matplotlib

    done = [(path, read_json(path)) for path in sorted(folder.glob("**/done.json"))]
    if not done:
        return []
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path, content in done:
        groups["" if path.parents[1] == folder else str(path.parents[1].relative_to(folder))].append(content)
    variants = [_variant(name, runs) for name, runs in sorted(groups.items())]
    label = f"{done[0][1]['quantity']} ({done[0][1]['unit']}, validation)"
    write_atomically(folder / "sweep.md", table(variants, label).encode())
    settings, values, errors = ([getattr(v, key) for v in variants] for key in ("settings", "value", "stderr"))
    reference = settings.index({}) if {} in settings else -1
    write_atomically(folder / "sweep.png", render(sweep.variants(settings, values, errors, label, reference)))
    print(table(variants, label) + f"{folder / 'sweep.md'}, {folder / 'sweep.png'}")
    return variants


def _variant(name: str, runs: Sequence[dict[str, Any]]) -> Variant:
    values = np.array([run["value"] for run in runs])
    return Variant(name, len(runs), float(values.mean()), standard_error(values) if len(runs) > 1 else runs[0]["stderr"])


def table(variants: Sequence[Variant], label: str) -> str:
    rows = [f"| {v.name or '(as configured)'} | {v.seeds} | {v.value:.4g} ± {v.stderr:.2g} |" for v in variants]
    return "\n".join([f"| variant | seeds | {label} |", "| --- | --- | --- |", *rows, ""])
