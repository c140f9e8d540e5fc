"""p(x_s | x_t) r(x_s) / Z: a reverse process multiplied by a second distribution or bounded function r (2015, section 2.5)."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from dpm.errors import UserError
from dpm.processes import Process
from dpm.processes.binomial import bernoulli
from dpm.processes.gaussian import normal
from dpm.reverse import Reverse


class Likelihood(Protocol):
    """r(x), the same at every t (2015, eq. 23)."""

    def __call__(self, p: Distribution) -> Distribution:
        """p(x) r(x) / Z."""


class Conditioned(Reverse):
    """p~(x_s | x_t) = p(x_s | x_t) r(x_s) / Z for every step of `reverse`, the last one included (2015, eq. 22).

    It is meant to have the marginals p(x_s) r(x_s) / Z, and so to end in the posterior p(x_0) r(x_0) / Z. One pass does not:
    Z depends on x_t. For the exact p and m `sweeps` of `dpm.samplers.ancestral` the difference falls as 1 / m. Where
    q(x_t) = pi at all t, small steps give p r^(2m / (2m - 1)): the paper's one sweep counts r twice.
    """

    def __init__(self, reverse: Reverse, likelihood: Likelihood) -> None:
        self.reverse, self.likelihood = reverse, likelihood

    @property
    def process(self) -> Process:
        return self.reverse.process

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        return self.likelihood(self.reverse(x_t, s, t))

    def prior(self, like: Tensor) -> Distribution:
        """p~(x_T) = pi(x_T) r(x_T) / Z, where the chain starts."""
        return self.likelihood(self.process.prior(like))


class GaussianFactor(Likelihood):
    """r(x) = N(y; x, variance I), x seen through noise: mu + k (y - mu) and k variance, k = Sigma / (Sigma + variance).

    That is 1 / (1 / Sigma + 1 / variance) for the variance, and exact. y is shaped like x; where `known` is a mask, the product
    is over the known coordinates, and the others are left as they are.
    """

    def __init__(self, y: Tensor, variance: float, known: Tensor | None = None) -> None:
        if not variance > 0:
            raise UserError(f"a Gaussian factor needs a variance above 0, got {variance}; take KnownCoordinates for 0")
        self.y, self.variance, self.known = y, variance, known

    def __call__(self, p: Distribution) -> Distribution:
        mean, variance = moments(p)
        k = variance / (variance + self.variance)
        new_mean, new_variance = mean + k * (self.y - mean), k * self.variance
        if self.known is not None:
            new_mean = torch.where(self.known, new_mean, mean)
            new_variance = torch.where(self.known, new_variance, variance)
        return normal(new_mean, new_variance.sqrt())


class KnownCoordinates(Likelihood):
    """r(x) = prod_{i known} delta(x_i - values_i): those have their values and no noise, the others are left as they are.

    `known` is a mask, both broadcast to the shape of x. The result is drawn from and has no density.
    """

    def __init__(self, known: Tensor, values: Tensor) -> None:
        self.known, self.values = known, values

    def __call__(self, p: Distribution) -> Distribution:
        mean, variance = moments(p)
        return normal(torch.where(self.known, self.values, mean), variance.sqrt().masked_fill(self.known, 0))


class SmoothFactor(Likelihood):
    """Any r that varies little over one step: mu + Sigma grad log r(mu), Sigma unchanged (2015, eq. 61).

    log_r maps (B, ...) to (B,), each example on its own. Exact for a linear log r, else to first order in Sigma.
    """

    def __init__(self, log_r: Callable[[Tensor], Tensor]) -> None:
        self.log_r = log_r

    def __call__(self, p: Distribution) -> Distribution:
        mean, variance = moments(p)
        with torch.enable_grad():
            x = mean.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_r(x).sum(), x)
        return normal(mean + variance * slope, variance.sqrt())


class BitFactor(Likelihood):
    """r(x) = prod_i d_i^x_i (1 - d_i)^(1 - x_i) for bits: the rate c becomes c d / (c d + (1 - c) (1 - d)).

    d broadcasts to the shape of x: 0 and 1 for known bits, 1/2 for unknown ones. (2015, Table App.1, prints x d for c d below.)
    """

    def __init__(self, d: Tensor) -> None:
        self.d = d

    def __call__(self, p: Distribution) -> Distribution:
        if not (isinstance(p, Independent) and isinstance(p.base_dist, Bernoulli)):
            raise UserError(f"a factor for bits multiplies independent bits, not {p}")
        on, off = p.mean * self.d, (1 - p.mean) * (1 - self.d)
        return bernoulli(on / (on + off))


def moments(p: Distribution) -> tuple[Tensor, Tensor]:
    """mu and Sigma, the diagonal, of a Gaussian step."""
    if not (isinstance(p, Independent) and isinstance(p.base_dist, Normal)):
        raise UserError(f"this factor multiplies a Gaussian with independent coordinates, not {p}")
    return p.mean, p.variance
