"""Solvers of dx = drift(x, t) dt + g dw, on any increasing grid of times."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from dpm.flows import Field
from dpm.processes import at


@torch.no_grad()
def euler_maruyama(drift: Field, x: Tensor, times: Iterable[float], g: float) -> Iterator[Tensor]:
    """Yield x at every time but the first, where it starts; of first order in law, for constant g."""
    for t, s in pairwise(map(float, times)):
        x = x + (s - t) * drift(x, at(x, t)) + g * (s - t) ** 0.5 * torch.randn_like(x)
        yield x


@torch.no_grad()
def stochastic_heun(drift: Field, x: Tensor, times: Iterable[float], g: float) -> Iterator[Tensor]:
    """The same by the trapezoidal rule, with one draw of noise for a step's two looks at the drift: second order in law."""
    for t, s in pairwise(map(float, times)):
        here, noise = drift(x, at(x, t)), g * (s - t) ** 0.5 * torch.randn_like(x)
        there = drift(x + (s - t) * here + noise, at(x, s))
        x = x + (s - t) * (here + there) / 2 + noise
        yield x
