"""The results folder as a whole: which runs lie where, and means over their seeds.

`results/<paper>/<experiment>/seed<k>.json` is a run of the experiment as configured, `.../<overrides>/seed<k>.json` one
with other settings. Beside the record lie the arrays that its figures are drawn from, `seed<k>.npz`.
Your own runs lie in the same order below `results/yours`: they are results of their own, and no part of the shipped ones.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.study.records import Measurement, Record, verified

YOURS = "yours"  # the folder of your own results, within the shipped ones
Group = tuple[str, frozenset[tuple[str, Scalar]]]  # quantity and facts


@dataclass(frozen=True)
class Entry:
    """One record and the folder that it lies in, relative to the results: "ho_2020/cifar10_simple"."""

    folder: str
    record: Record
    arrays: Path

    @property
    def name(self) -> str:
        return f"{self.folder}/seed{self.record.seed}"

    @property
    def settings(self) -> dict[str, str]:
        """What was changed: {"optimizer.lr": "0.01", "units": "8"}."""
        return settings_of(self.folder.removeprefix(self.record.experiment).strip("/"))

    @property
    def arguments(self) -> str:
        """What an entrypoint is told to make this run: experiment, seed and what was changed."""
        changed = (f"{key}={value}" for key, value in self.settings.items())
        return " ".join([f"experiment={self.record.experiment}", f"seed={self.record.seed}", *changed])


class Results:
    """Every record below `root`, those of your own runs apart, read once."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder of results")
        self.root = root
        paths = sorted(root.glob("*/**/seed*.json"), key=lambda path: (path.parent, len(path.name), path.name))
        self.runs = tuple(self._run(path) for path in paths if path.relative_to(root).parts[0] != YOURS)

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments that have runs, in the order of their folders."""
        return tuple(dict.fromkeys(run.record.experiment for run in self.runs))

    def keeping(self, folders: Iterable[str], more: Iterable[Entry] = ()) -> "Results":
        """Of these the runs in some folders only, and `more` runs from elsewhere."""
        kept, few = set(folders), copy(self)
        few.runs = tuple(run for run in self.runs if run.folder in kept) + tuple(more)
        return few

    def yours(self) -> "Results | None":
        """Your own results within these, if there are any."""
        return Results(self.root / YOURS) if (self.root / YOURS).is_dir() else None

    def of(self, folder: str) -> tuple[Entry, ...]:
        """The runs in just this folder, by seed."""
        return tuple(run for run in self.runs if run.folder == folder)

    def folders(self, pattern: str) -> list[str]:
        """Folders with runs that match a shell pattern such as "sohl_dickstein_2015/swiss_roll/beta_1=*"."""
        return sorted({run.folder for run in self.runs if fnmatchcase(run.folder, pattern)})

    def _run(self, path: Path) -> Entry:
        record, folder = Record.load(path), path.parent.relative_to(self.root).as_posix()
        if path.stem != f"seed{record.seed}" or not f"{folder}/".startswith(f"{record.experiment}/"):
            raise UserError(f"{path}: holds seed {record.seed} of {record.experiment}; evaluate it again where it belongs")
        arrays = path.with_suffix(".npz")
        if "arrays_sha256" in record.provenance and arrays.is_file():
            verified(arrays)
        return Entry(folder, record, arrays)


def settings_of(variant: str) -> dict[str, str]:
    """ "optimizer.lr=0.01,units=8" -> {"optimizer.lr": "0.01", "units": "8"}; a comma within a value is followed by no key."""
    return dict(part.split("=", 1) for part in re.split(r",(?=[\w.@/]+=)", variant) if "=" in part)


def selected(records: Iterable[Record], quantity: str, wanted: Mapping[str, object]) -> list[Measurement]:
    """From each record that has it, the one measurement of `quantity` whose facts agree with those `wanted`, as text.

    Several are one where they say the same number without an error: L_T does not depend on how the steps after it are taken.
    """
    found, said = [], {(key, str(value)) for key, value in wanted.items()}
    for record in records:
        own = [m for m in record.measurements if m.quantity == quantity]
        own = [m for m in own if said <= {(key, str(value)) for key, value in m.facts.items()}]
        if len(own) > 1 and {(m.value, m.stderr) for m in own} != {(own[0].value, 0)}:
            keys = sorted({key for m in own for key in m.facts if len({m.facts.get(key) for m in own}) > 1})
            raise UserError(f"{record.experiment}: {len(own)} measurements of {quantity} fit; say which: {', '.join(keys)}")
        found += own[:1]
    return found


def grouped(runs: Iterable[Entry]) -> dict[Group, list[Measurement]]:
    """The measurements of several seeds by quantity and facts, seed and n apart, in the order of the first record."""
    groups: dict[Group, list[Measurement]] = {}
    for run in runs:
        for m in run.record.measurements:
            groups.setdefault(group_of(m), []).append(m)
    return groups


def group_of(m: Measurement) -> Group:
    """What the measurements of several seeds have in common."""
    return m.quantity, frozenset((key, value) for key, value in m.facts.items() if key not in ("seed", "n"))


def common_tier(runs: Sequence[Entry]) -> str:
    tiers = sorted({run.record.tier for run in runs})
    if len(tiers) > 1:
        raise UserError(f"{runs[0].folder}: seeds of different tiers ({', '.join(tiers)}); evaluate them again at one tier")
    return tiers[0] if tiers else ""


def at_paper_tier(folder: str) -> str:
    """Where runs at the paper's tier lie, of the experiment whose runs at the default tier lie in `folder`."""
    return f"{folder}{',' if folder.count('/') > 1 else '/'}tier=paper"
