"""What a sweep ends with: the validated bound of every variant over its seeds, as a table and a figure with error bars.

They go to outputs/<experiment>/sweep.{md,png} and cover every finished run of the experiment, earlier sweeps included.
"""

import atexit
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dpm.errors import UserError
from dpm.runs.folder import MEASURED
from dpm.stored import read_json
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
        for name in names(list(config.hydra.overrides.task)):
            atexit.register(summarise, Path(config.outputs, name).absolute())


def names(overrides: list[str]) -> list[str]:
    """What the experiments of a sweep are called: of all other choices the first stands for the rest."""
    choices = []
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        lines = [f"{key}={value}" for value in override.sweep_string_iterator()] if override.is_sweep_override() else []
        chosen = lines or [override.input_line or ""]
        choices.append(chosen if key in ("experiment", "name") else chosen[:1])
    return list(dict.fromkeys(str(compose("train", list(line)).name) for line in product(*choices)))


def summarise(folder: Path) -> list[Variant]:
    """Write sweep.md and sweep.png for the finished runs below `folder` and print the table; nothing if there are none."""
    import dpm.figures.sweep as sweep
    from dpm.figures import render  # here, because a training that only registers the summary should not load matplotlib

    done = list(_finished(folder))
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


def _finished(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob("**/done.json")):
        try:
            yield (
                path,
                read_json(path, "left out; delete it: the training of this run writes it again", **MEASURED),
            )
        except UserError as error:  # the other runs have their table nevertheless
            print(f"warning: {error}", file=sys.stderr)


def _variant(name: str, runs: Sequence[dict[str, Any]]) -> Variant:
    values = np.array([run["value"] for run in runs])
    return Variant(name, len(runs), float(values.mean()), standard_error(values) if len(runs) > 1 else runs[0]["stderr"])


def table(variants: Sequence[Variant], label: str) -> str:
    rows = [f"| {v.name or '(as configured)'} | {v.seeds} | {v.value:.4g} ± {v.stderr:.2g} |" for v in variants]
    return "\n".join([f"| variant | seeds | {label} |", "| --- | --- | --- |", *rows, ""])
