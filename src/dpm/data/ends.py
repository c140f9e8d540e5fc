"""Data of two ends: examples are pairs (x_0, x_1), (n, 2, ...), of a source and a target."""

from functools import cache

import torch
from torch import Tensor

from dpm import seeds
from dpm.couplings import Coupling
from dpm.data.synthetic import GaussianData, Synthetic
from dpm.errors import UserError
from dpm.facts import Scalar, named


class TwoEnds(Synthetic):
    """x_0 of the source and x_1 of the target, independent."""

    def __init__(self, source: Synthetic, target: Synthetic) -> None:
        self.source, self.target = source, target

    @property
    def name(self) -> str:
        return f"{self.source.name} to {self.target.name}"

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.stack([self.source.sample(n, generator), self.target.sample(n, generator)], 1)


class GaussianEnds(TwoEnds):
    """Independent x_0 ~ N(m_0, v_0 I) and x_1 ~ N(m_1, v_1 I)."""

    def __init__(self, dimensions: int, means: list[float], variances: list[float]) -> None:
        super().__init__(*(GaussianData(dimensions, mean, variance) for mean, variance in zip(means, variances, strict=True)))
        self.dimensions, self.means, self.variances = dimensions, means, variances

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**super().facts, "dimensions": self.dimensions}


class Wrapped(Synthetic):
    """The same ends, trained on in another way; validation and held-out pairs stay."""

    def __init__(self, of: Synthetic) -> None:
        self.of = of

    @property
    def facts(self) -> dict[str, Scalar]:
        return self.of.facts

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.of.sample(n, generator)


class TrainingSet(Wrapped):
    """n points of each end, drawn once for each seed; a batch takes of either end, independently, with replacement."""

    def __init__(self, of: TwoEnds, n: int) -> None:
        super().__init__(of)
        if n < 1:
            raise UserError(f"a training set has one point at least, got {n}")
        self.n = n
        self.points = cache(lambda seed: of.sample(n, seeds.generator(seed, seeds.TRAINING)))

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**super().facts, "training_points": self.n}

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        i, j = torch.randint(self.n, (2, size), generator=seeds.generator(seed, seeds.TRAINING, step))
        return torch.stack([self.points(seed)[i, 0], self.points(seed)[j, 1]], 1)


class CoupledBatches(Wrapped):
    """The pairs that a coupling makes of `batches` batches, in turn: an assignment is solved once and looked at again."""

    def __init__(self, of: Synthetic, coupling: Coupling, batches: int) -> None:
        super().__init__(of)
        if batches < 1:
            raise UserError(f"one batch at least is coupled, got {batches}")
        self.coupling, self.batches = coupling, batches
        self.pairs = cache(self._pairs)

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**super().facts, "coupling": named(self.coupling), "coupled_batches": self.batches}

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        return self.pairs(size, seed, step % self.batches)

    def _pairs(self, size: int, seed: int, number: int) -> Tensor:
        with torch.random.fork_rng([]):
            seeds.seed_everything(seed, seeds.TRAINING, number, 1)
            return self.coupling(self.of.batch(size, seed, number))
