"""p(x_0 | x_1): the last reverse step, where the two papers differ and where no KL term exists."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.processes import Process


class Stepwise(Protocol):
    """A reverse process as its decoder sees it: `step` is what the network says about p(x_s | x_t), at s = 0 too."""

    @property
    def process(self) -> Process: ...

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution: ...


class Decoder(Protocol):
    facts: Mapping[str, Scalar] = MappingProxyType({})  # in a protocol, besides its name

    def __call__(self, reverse: Stepwise, x_t: Tensor, t: Tensor) -> Distribution:
        """p(x_0 | x_t), the last step of a reverse chain."""


class Stationary(Decoder):
    """p(x_0 | x_1) = q(x_1 | x_0) pi(x_0) / pi(x_1), fixed (2015, eq. 44): by detailed balance the kernel itself, from x_1."""

    def __call__(self, reverse: Stepwise, x_t: Tensor, t: Tensor) -> Distribution:
        if not bool((t == 1).all()):
            raise UserError("the fixed last step of 2015 leads from t = 1 to 0; let the sampling grid end in ..., 1, 0")
        return reverse.process.kernel(x_t, torch.zeros_like(t), t)


class Network(Decoder):
    """p(x_0 | x_1) is the network's own density over continuous x_0."""

    def __call__(self, reverse: Stepwise, x_t: Tensor, t: Tensor) -> Distribution:
        return reverse.step(x_t, torch.zeros_like(t), t)


class Discretized(Decoder):
    """The network's Gaussian, integrated over the bins of 8-bit data scaled to [-1, 1] (2020, eq. 13)."""

    def __init__(self, levels: int = 256) -> None:
        self.levels = levels

    def require(self, x_0: Tensor) -> None:
        """Refuse data beside the levels: what a bin holds is no probability of theirs."""
        levels = (x_0 + 1) * (self.levels - 1) / 2
        beside = (levels - levels.round().clamp(0, self.levels - 1)).abs().max()
        if not bool(beside < 1e-3):
            raise UserError(
                f"a discretised decoder needs data on {self.levels} levels from -1 to 1, and these have others; "
                "take 8-bit images (data=cifar10, data=mnist), or decoder=network for a density"
            )

    def __call__(self, reverse: Stepwise, x_t: Tensor, t: Tensor) -> Distribution:
        p = reverse.step(x_t, torch.zeros_like(t), t)
        return Independent(DiscretizedNormal(p.mean, p.stddev, self.levels), x_t.ndim - 1)


class DiscretizedNormal(Distribution):
    """N(mean, std^2) integrated over bins of width 2 / (levels - 1) around -1, ..., 1; the end bins are open.

    log_prob is exact in both tails: log(Phi(b) - Phi(a)) by log_ndtr on the side where nothing cancels.
    """

    arg_constraints = {"mean": constraints.real, "std": constraints.positive}  # noqa: RUF012 (torch reads it so)

    def __init__(self, mean: Tensor, std: Tensor, levels: int = 256) -> None:
        self._mean, self.std, self.levels = mean, std, levels
        super().__init__(mean.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def mode(self) -> Tensor:
        return self._mean

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.bin(torch.normal(self._mean.expand(shape), self.std.expand(shape)))

    def bin(self, x: Tensor) -> Tensor:
        """The centre of the bin that x falls into."""
        scale = (self.levels - 1) / 2
        return ((x.clamp(-1, 1) + 1) * scale).round() / scale - 1

    def log_prob(self, value: Tensor) -> Tensor:
        half_bin = 1 / (self.levels - 1)
        infinity = torch.full_like(value, math.inf)
        low = torch.where(value < -1 + half_bin, -infinity, (value - half_bin - self._mean) / self.std)
        high = torch.where(value > 1 - half_bin, infinity, (value + half_bin - self._mean) / self.std)
        flip = low + high > 0  # measure in the left tail: log Phi is accurate there
        low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
        upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
        log_mass: Tensor = upper + torch.log(-torch.expm1(lower - upper))
        return log_mass
