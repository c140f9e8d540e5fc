"""Whether your numbers and the shipped ones agree: an independent check of both, in joint standard errors."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dpm.study.claims import COVERAGE
from dpm.study.records import Mean, Measurement, over_seeds
from dpm.study.results import Entry, Results

ROUNDING = 1e-9  # between processors, of what has no error of sampling


@dataclass(frozen=True)
class Agreement:
    """One quantity of one folder as it was shipped and as you measured it, both over the seeds that you have.

    `deviation` is yours minus the shipped in joint standard errors, (y - s) / sqrt(e_y^2 + e_s^2). The same seed trains to
    other weights on another processor: the error of one seed alone, which has no spread of its own, then gets that of the
    shipped seeds. Numbers without any error deviate by 0 if they are equal but for rounding, or else without limit.
    """

    folder: str
    quantity: str
    claim: str | None
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


def _in_folder(folder: str, shipped: Sequence[Entry], yours: Sequence[Entry]) -> Iterator[Agreement]:
    pairs = [(a.record, b.record) for a in shipped for b in yours if a.record.seed == b.record.seed]
    if not pairs:
        return
    trained = any(a.provenance["weights_sha256"] != b.provenance["weights_sha256"] for a, b in pairs)
    for m in pairs[0][1].measurements:
        found = [(_same(m, a.measurements), _same(m, b.measurements)) for a, b in pairs]
        if both := [(s, y) for s, y in found if s is not None and y is not None]:
            every = [_same(m, run.record.measurements) for run in shipped] if trained else []
            theirs, own = [s for s, _ in both], [y for _, y in both]
            yield _agreement(folder, theirs, own, [s.value for s in every if s is not None])


def _same(m: Measurement, others: Sequence[Measurement]) -> Measurement | None:
    """The one of the others that is of the same quantity and unit and says nothing else about what it means.

    Facts that only one of both states do not tell them apart: later versions of the project state more.
    """
    found = [
        other
        for other in others
        if (other.quantity, other.unit) == (m.quantity, m.unit)
        and all(m.protocol[key] == other.protocol[key] for key in m.protocol.keys() & other.protocol.keys() - {"seed"})
    ]
    return found[0] if len(found) == 1 else None


def _agreement(
    folder: str, shipped: Sequence[Measurement], yours: Sequence[Measurement], of_seeds: Sequence[float]
) -> Agreement:
    """of_seeds: the shipped values of all seeds, where the weights are not the same."""
    s, y = over_seeds(shipped), over_seeds(yours)
    training = float(np.std(of_seeds, ddof=1)) if len(yours) == 1 and len(of_seeds) > 1 else 0.0
    error, gap = math.hypot(s.stderr or 0.0, y.stderr or 0.0, training, training), y.value - s.value
    same = math.isclose(s.value, y.value, rel_tol=ROUNDING)
    deviation = gap / error if error else 0.0 if same else math.copysign(math.inf, gap)
    return Agreement(folder, yours[0].quantity, yours[0].claim, s, y, deviation)
