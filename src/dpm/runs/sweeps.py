"""What a sweep ends with: the validated bound of every variant over its seeds, as tables and figures with error bars.

They go to outputs/<experiment>/ and cover every finished run of the experiment, earlier sweeps included: sweep.md, a row for
each variant, named by what differs between them alone, in the order of the values; sweep.csv, a line for each run; sweep.png;
sweep_curves.png, what validation measured during training; and, where two keys were varied against each other, sweep_map.png.
"""

import atexit
import csv
import io
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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
from dpm.runs import app
from dpm.runs.folder import MEASURED, rows
from dpm.stored import read_json
from dpm.study.records import standard_error, write_atomically
from dpm.study.results import settings_of
from dpm.study.units import QUANTITIES, with_error
from dpm.study.variants import Settings, common, is_number, keys_of, paired, place

AS_CONFIGURED = "as configured"
DIGITS = 8  # letters of a number that somebody may have typed


@dataclass(frozen=True)
class Variant:
    """One set of overrides, its finished runs by seed: the folder of each, and what is in its done.json."""

    settings: Settings
    runs: Mapping[int, tuple[Path, Mapping[str, Any]]]

    @property
    def seeds(self) -> int:
        return len(self.runs)

    @property
    def values(self) -> dict[int, float]:
        return {seed: done["value"] for seed, (_, done) in self.runs.items()}

    @property
    def value(self) -> float:
        return float(np.mean(list(self.values.values())))

    @property
    def stderr(self) -> float:
        """Standard error over the seeds; of the one seed, that of its validation."""
        if self.seeds > 1:
            return standard_error(np.array(list(self.values.values())))
        return float(next(done["stderr"] for _, done in self.runs.values()))

    def curve(self) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
        """Steps, and the mean over the seeds of what was validated there, where all of them were."""
        found = [
            {row["step"]: row["value"] for row in rows(folder / "metrics.jsonl") if "validated" in row}
            for folder, _ in self.runs.values()
        ]
        steps = sorted(set.intersection(*map(set, found)))
        return np.array(steps), np.array([np.mean([curve[step] for curve in found]) for step in steps])


@dataclass(frozen=True)
class Sweep:
    """The variants of an experiment, in the order of their settings; what all have alike is `common`, the rest `varied`."""

    name: str
    variants: Sequence[Variant]

    @property
    def common(self) -> dict[str, str]:
        return common([variant.settings for variant in self.variants])

    @property
    def varied(self) -> list[dict[str, str]]:
        alike = self.common
        return [{key: short(value) for key, value in v.settings.items() if key not in alike} for v in self.variants]

    @property
    def about(self) -> Mapping[str, Any]:
        """What was validated, as any of the runs says it."""
        return next(done for _, done in self.variants[0].runs.values())

    @property
    def label(self) -> str:
        return f"{self.about['quantity'].replace('_', ' ')} ({self.about['unit']}, validation)"

    @property
    def best(self) -> int:
        sign = improvement(self.about["quantity"])
        return int(np.argmax([sign * variant.value for variant in self.variants]))

    def markdown(self) -> str:
        keys, best = keys_of(self.varied), self.variants[self.best]
        header = [*keys, "seeds", self.label, *(["minus the best, seeds paired"] if len(self.variants) > 1 else [])]
        cells = [header, ["---"] * len(header)]
        for variant, own in zip(self.variants, self.varied, strict=True):
            row = [own.get(key, "") for key in keys]
            if keys and not own:
                row[0] = AS_CONFIGURED
            row += [str(variant.seeds), with_error(variant.value, variant.stderr)]
            cells.append([*row, difference(variant, best)] if len(self.variants) > 1 else row)
        alike = ", ".join(f"{key} = {value}" for key, value in self.common.items())
        table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
        return f"{self.name}{f', {alike}' if alike else ''}\n\n{table}\n"

    def csv(self) -> str:
        """A line for each run, with all that it was told."""
        file, keys = io.StringIO(), keys_of([variant.settings for variant in self.variants])
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*keys, "seed", "quantity", "unit", "value", "stderr", "steps", "seconds", "folder"])
        for variant in self.variants:
            for seed, (folder, done) in sorted(variant.runs.items()):
                spent = done.get("budget", {})
                measured = [done[key] for key in ("quantity", "unit", "value", "stderr")]
                told = [variant.settings.get(key, "") for key in keys]
                writer.writerow([*told, seed, *measured, spent.get("steps", ""), spent.get("seconds", ""), folder])
        return file.getvalue()

    def figures(self) -> dict[str, bytes]:
        """PNG by the end of the file's name."""
        from dpm.figures import render, sweep, variants  # here: a training that only registers the summary needs no matplotlib

        settings, keys = self.varied, keys_of(self.varied)
        values, errors = ([getattr(variant, name) for variant in self.variants] for name in ("value", "stderr"))
        reference = settings.index({}) if {} in settings and keys else -1
        drawn = {"": sweep.variants(settings, values, errors, self.label, reference)}
        names = [", ".join(f"{key} = {value}" for key, value in own.items()) or AS_CONFIGURED for own in settings]
        order = np.argsort([-improvement(self.about["quantity"]) * value for value in values]).tolist()
        drawn["_curves"] = variants.curves(names, [variant.curve() for variant in self.variants], order, self.label)
        if len(keys) == 2 and 2 * len(self.variants) >= math.prod(len({own.get(key) for own in settings}) for key in keys):
            drawn["_map"] = variants.heat_map(settings, values, errors, self.label, self.best)
        return {name: render(figure) for name, figure in drawn.items()}


class SweepSummary(Callback):
    """Hydra calls it when a multirun starts; the summary is made when the program ends, whether or not a job failed."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        overrides = list(config.hydra.overrides.task)
        if config.hydra.sweeper._target_.endswith("BasicSweeper"):  # of a search there is no list to evaluate
            atexit.register(app.next_is, "evaluate", ["-m", *overrides])  # what is registered first comes last
        for name in names(overrides):
            atexit.register(summarise, Path(config.outputs, name).absolute())


def names(overrides: list[str]) -> list[str]:
    """What the experiments of a sweep are called: of all other choices the first stands for the rest, and none of a range."""
    choices = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_interval_sweep():
            continue
        key = override.key_or_group
        lines = [f"{key}={value}" for value in override.sweep_string_iterator()] if override.is_sweep_override() else []
        chosen = lines or [override.input_line or ""]
        choices.append(chosen if key in ("experiment", "name") else chosen[:1])
    return list(dict.fromkeys(str(compose("train", list(line)).name) for line in product(*choices)))


def summarise(folder: Path) -> list[Variant]:
    """Write tables and figures for the finished runs below `folder` and print the first table; nothing if there are none."""
    groups: dict[str, dict[int, tuple[Path, Mapping[str, Any]]]] = defaultdict(dict)
    for path, done in _finished(folder):
        variant = "" if path.parents[1] == folder else str(path.parents[1].relative_to(folder))
        groups[variant][int(path.parent.name.removeprefix("seed"))] = path.parent, done
    if not groups:
        return []
    found = [Variant(settings_of(name), runs) for name, runs in groups.items()]
    keys = keys_of([variant.settings for variant in found])
    found.sort(key=lambda variant: [place(variant.settings.get(key)) for key in keys])
    made = Sweep("/".join(folder.parts[-2:]), found)
    files = {"sweep.md": made.markdown().encode(), "sweep.csv": made.csv().encode()}
    files |= {f"sweep{name}.png": content for name, content in made.figures().items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    print(f"{made.markdown()}\n{folder}: {', '.join(files)}")
    return found


def _finished(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob("**/done.json")):
        try:
            yield (
                path,
                read_json(path, "left out; delete it: the training of this run writes it again", **MEASURED),
            )
        except UserError as error:  # the other runs have their table nevertheless
            print(f"warning: {error}", file=sys.stderr)


def short(value: str) -> str:
    """Four digits of a number that a search has drawn; sweep.csv has all of them."""
    return f"{float(value):.4g}" if is_number(value) and len(value) > DIGITS else value


def improvement(quantity: str) -> int:
    """+1 where more is better, else -1: what is validated and has no name of its own is a loss."""
    return QUANTITIES[quantity].better.factor or -1 if quantity in QUANTITIES else -1


def to_minimise(done: Mapping[str, Any]) -> float:
    """What a training returns to whoever searches among settings: the validated quantity, so signed that less is better."""
    return -improvement(done["quantity"]) * float(done["value"])


def difference(variant: Variant, best: Variant) -> str:
    """From the best one over the seeds that both have; nothing from itself."""
    found = paired(variant.values, best.values)
    return "" if variant is best or found is None else with_error(*found)
