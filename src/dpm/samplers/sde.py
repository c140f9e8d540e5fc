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
