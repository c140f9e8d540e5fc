"""Whether your numbers and the shipped ones agree: an independent check of both, in joint standard errors."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dpm.facts import Scalar
from dpm.study.claims import COVERAGE
from dpm.study.records import Mean, Measurement, over_seeds
from dpm.study.results import Results, Run

Key = tuple[str, frozenset[tuple[str, Scalar]]]


@dataclass(frozen=True)
class Agreement:
    """One quantity of one folder as it was shipped and as you measured it, both over the seeds that you have.

    `deviation` is yours minus the shipped in joint standard errors, (y - s) / sqrt(e_y^2 + e_s^2). The same seed trains to
    other weights on another processor: the error of one seed alone, which has no spread of its own, then gets that of the
    shipped seeds. Numbers without any error deviate by 0 if they are equal, or else without limit.
    """

    folder: str
    quantity: str
    claim: str | None
    facts: frozenset[tuple[str, Scalar]]
    shipped: Mean
    yours: Mean
    deviation: float

    @property
    def agree(self) -> bool:
        return abs(self.deviation) <= COVERAGE


def agreements(shipped: Results, yours: Results) -> tuple[Agreement, ...]:
    """Of every folder that both have, every quantity that both measured by the same protocol."""
    folders = dict.fromkeys(run.folder for run in yours.runs)
    return tuple(found for folder in folders for found in _in_folder(folder, shipped.of(folder), yours.of(folder)))


def _in_folder(folder: str, shipped: Sequence[Run], yours: Sequence[Run]) -> Iterator[Agreement]:
    both = {run.record.seed for run in shipped} & {run.record.seed for run in yours}
    theirs, own = (_measured([run for run in runs if run.record.seed in both]) for runs in (shipped, yours))
    every = _measured(shipped)
    pairs = [(a, b) for a in shipped for b in yours if a.record.seed == b.record.seed]
    trained = any(a.record.provenance["weights_sha256"] != b.record.provenance["weights_sha256"] for a, b in pairs)
    for key in own:
        if len(own[key]) == len(theirs.get(key, ())) == len(both):
            yield _agreement(folder, key, theirs[key], own[key], every[key] if trained else ())


def _agreement(
    folder: str, key: Key, shipped: Sequence[Measurement], yours: Sequence[Measurement], spread: Sequence[Measurement]
) -> Agreement:
    """spread: the shipped measurements of all seeds, where the weights are others."""
    s, y = over_seeds(shipped), over_seeds(yours)
    training = float(np.std([m.value for m in spread], ddof=1)) if len(yours) == 1 and len(spread) > 1 else 0.0
    error, gap = math.hypot(s.stderr or 0.0, y.stderr or 0.0, training, training), y.value - s.value
    deviation = gap / error if error else math.copysign(math.inf, gap) if gap else 0.0
    return Agreement(folder, key[0], shipped[0].claim, key[1], s, y, deviation)


def _measured(runs: Sequence[Run]) -> dict[Key, list[Measurement]]:
    found: dict[Key, list[Measurement]] = {}
    for m in (m for run in runs for m in run.record.measurements):
        facts = frozenset((key, value) for key, value in m.protocol.items() if key != "seed")
        found.setdefault((m.quantity, facts), []).append(m)
    return found
