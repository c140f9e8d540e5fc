"""The variants of an experiment, sweeps among them: by the settings that differ, best first, seeds paired."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

from dpm.figures import render, serif, sweep
from dpm.report.markdown import code, document, measured, setting, table
from dpm.report.rows import ours
from dpm.study import variants
from dpm.study.records import Measurement, over_seeds
from dpm.study.results import Entry, Results, common_tier
from dpm.study.units import QUANTITIES

AS_CONFIGURED = "as configured"


@dataclass(frozen=True)
class Variant:
    """What one folder varies, nothing for the one that the others are changes of, and its first quantity, seed by seed."""

    settings: Mapping[str, str]
    found: Sequence[Measurement]


@dataclass(frozen=True)
class Group:
    """Folders of one experiment that changed the same keys; what all of them changed alike is `common`."""

    experiment: str
    common: Mapping[str, str]
    variants: Sequence[Variant]

    @property
    def title(self) -> str:
        return ", ".join((f"Variants of {self.experiment}", *(f"{key} = {value}" for key, value in self.common.items())))

    @property
    def quantity(self) -> str:
        return self.variants[0].found[0].quantity.replace("_", " ")

    @cached_property
    def ordered(self) -> list[Variant]:
        """Best first."""
        sign = QUANTITIES[self.variants[0].found[0].quantity].better.factor
        return sorted(self.variants, key=lambda variant: -sign * over_seeds(variant.found).value)

    def section(self, image: str) -> str:
        keys = list(dict.fromkeys(key for variant in self.variants for key in variant.settings))
        rows = []
        for variant in self.ordered:
            cells = (
                [variant.settings.get(key, "") for key in keys]
                if variant.settings
                else [AS_CONFIGURED, *("" for _ in keys[1:])]
            )
            difference = paired(variant.found, self.ordered[0].found)
            rows.append((*map(setting, cells), ours(over_seeds(variant.found)), difference))
        unit = self.ordered[0].found[0].unit
        header = (*map(code, keys), f"{self.quantity} (seeds × n), {unit}", "minus the best, seeds paired")
        picture = f"![{self.quantity.capitalize()} of the variants ± standard error.]({image})" if len(rows) > 1 else ""
        return document(f"## {self.title}", table(header, rows, "l" * len(keys) + "rr"), picture)

    def figure(self, form: str = "png") -> bytes:
        means = [over_seeds(variant.found) for variant in self.ordered]
        settings = [variant.settings for variant in self.ordered]
        reference = settings.index({}) if {} in settings else -1
        label = f"{self.quantity} ({means[0].unit})"
        errors = [m.stderr or 0.0 for m in means]
        with nullcontext() if form == "png" else serif():
            return render(sweep.variants(settings, [m.value for m in means], errors, label, reference), form)


def groups(runs: Sequence[Entry], results: Results) -> Iterator[Group]:
    """Of these runs, which changed something, each experiment's by what they changed, with what it is a change of.

    A folder that others are changes of stands with them, and not once more by itself.
    """
    found: dict[tuple[str, ...], dict[str, Mapping[str, str]]] = {}
    for run in runs:
        if run.settings:
            found.setdefault((run.record.experiment, *sorted(run.settings)), {})[run.folder] = run.settings
    made = [_group(key[0], folders, results) for key, folders in found.items()]
    based = {folder for _, bases in made for folder in bases}
    yield from (group for (group, _), folders in zip(made, found.values(), strict=True) if not based >= folders.keys())


def _group(experiment: str, folders: Mapping[str, Mapping[str, str]], results: Results) -> tuple[Group, set[str]]:
    """The group of folders that changed the same keys, and the folder, if there is one, that they are changes of."""
    first, *others = folders.values()
    varied = {key for key in first if any(own[key] != first[key] for own in others)} or set(first)
    common = {key: value for key, value in first.items() if key not in varied}
    alike = _alike(results.of(next(iter(folders)))[0])
    own = (run for run in results.runs if run.record.experiment == experiment and run.settings == common)
    bases = {run.folder: common for run in own if _alike(run) == alike}
    variants = [_variant(results.of(folder), own, varied) for folder, own in {**folders, **bases}.items()]
    quantity = variants[0].found[0].quantity
    return Group(experiment, common, [v for v in variants if v.found[0].quantity == quantity]), set(bases)


def _alike(run: Entry) -> tuple[str, object]:
    """What must be the same for a folder to stand beside others as what they are changes of: tier and data."""
    return run.record.tier, run.record.headline.facts.get("data")


def _variant(runs: Sequence[Entry], settings: Mapping[str, str], varied: set[str]) -> Variant:
    common_tier(runs)
    return Variant({key: value for key, value in settings.items() if key in varied}, [run.record.headline for run in runs])


def paired(found: Sequence[Measurement], best: Sequence[Measurement]) -> str:
    """Mean difference over the seeds that both have, with its error where these are two at least; nothing to oneself."""
    one, other = ({int(m.protocol.get("seed", 0)): m.value for m in measurements} for measurements in (found, best))
    difference = variants.paired(one, other)
    return "" if found is best or difference is None else measured(*difference)
