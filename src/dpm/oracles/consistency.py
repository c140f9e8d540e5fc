"""What consistency models tend to, on mixtures in one dimension and the path x_t = x_0 + t z (Song et al. 2023).

The exact map follows the probability flow from t to the start. Distillation by a solver tends to what the solver makes of the
flow on the grid of times, whatever the data: its fixed point is the solver itself. Training tends to a map of its own.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from dpm.data.mixtures import GaussianMixture
from dpm.flows import Field
from dpm.information import moments
from dpm.samplers import last
from dpm.samplers.ode import adaptive

QUANTILES = torch.linspace(-6, 6, 2001, dtype=torch.float64)[:, None]  # of x_t, in units of its standard deviation
NODES, SHARES = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(80))


def flow(data: GaussianMixture) -> Field:
    """dx/dt = (x - E[x_0 | x_t]) / t, the exact one."""
    return lambda x, t: (x - data.denoised(x, torch.ones_like(t), t)) / t[:, None]


def distilled(
    data: GaussianMixture, times: Sequence[float], solver: Callable[[Field, Tensor, Iterable[float]], Iterator[Tensor]]
) -> tuple[Tensor, Tensor]:
    """x and f(x), (n, 1), at the last of increasing `times`, where distillation by it tends to (Song et al. 2023, eq. 7)."""
    x = places(data, times[-1])
    return x, last(solver(flow(data), x, reversed(times)))


def trained(data: GaussianMixture, times: Sequence[float]) -> tuple[Tensor, Tensor]:
    """x and f(x), (n, 1), at the last of increasing `times`: the minimum of training (Song et al. 2023, eq. 10).

    f_t(x) = E[f_s(x_0 + s z) | x_0 + t z = x].

    Given x_t and its component, x_s is Gaussian: Gauss and Hermite's rule, and cubic splines between the points.
    """
    x = f = places(data, times[0])
    for s, t in pairwise(times):
        before, x = CubicSpline(x[:, 0], f[:, 0]), places(data, t)
        shares, means, left = data.posterior_components(x, 1.0, t)  # of x_0; x_s = (1 - s / t) x_0 + s / t x_t
        x_s = (1 - s / t) * (means + left.sqrt() * NODES) + s / t * x[:, None]
        f = (shares * (torch.from_numpy(before(x_s)) @ SHARES / SHARES.sum())).sum(1, keepdim=True)
    return x, f


def exact(data: GaussianMixture, first: float, x: Tensor, t: float) -> Tensor:
    """Where the probability flow takes x from t to `first`, like x: the map that both approximate (section 3)."""
    f: Tensor = adaptive(flow(data), x, t, first, tolerance=1e-9)
    return f


def expectation(f: Tensor) -> float:
    """E f(x_t) over x_t at `places`, taken to be Gaussian: t is large against the data."""
    weights = (-QUANTILES.square() / 2).exp()
    return float((weights * f).sum() / weights.sum())


def places(data: GaussianMixture, t: float) -> Tensor:
    """Points x_t that cover its distribution, (n, 1)."""
    mean, variance = moments(data)
    return mean + math.sqrt(variance + t**2) * QUANTILES
