"""Ancestral sampling from the reverse process (2015, section 2.2; 2020, algorithm 2)."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.processes import at
from dpm.reverse import Reverse
from dpm.samplers import last


@torch.no_grad()
def ancestral(reverse: Reverse, x_T: Tensor, steps: Iterable[float], sweeps: int = 1) -> Iterator[Tensor]:
    """Yield x_s for each s of a decreasing grid `steps` from `end` (T) to 0, at any stride; the last item is the sample.

    The last step shows the mode of p(x_0 | x_1), without noise (2020, section 3.3).

    With `sweeps` > 1 every step but the last is followed by sweeps - 1 pairs x_t ~ q(x_t | x_s), x_s ~ p~(x_s | x_t). For
    p~(x_s | x_t) = p(x_s | x_t) r(x_s) / Z and the exact p, these two are the conditionals of p(x_s) r(x_s) q(x_t | x_s) / Z:
    a Gibbs sampler, whose x_s tends to the marginal p(x_s) r(x_s) / Z that 2015 asks for (section 2.5), at any stride. The
    last step is taken once: the fixed one (2015, eq. 44) reverses q under pi, and pairs would lead to pi(x_0) r(x_0) / Z.
    """
    grid, end = list(steps), reverse.process.schedule.end
    if grid != sorted(set(grid), reverse=True) or grid[:1] != [end] or grid[-1] != 0:
        raise UserError(f"a sampling grid decreases from T = {end} to 0, got {grid[:6]}...")
    if sweeps < 1:
        raise UserError(f"every step is taken at least once, got {sweeps=}")
    x = x_T
    for t, s in pairwise(grid):
        times = at(x, s), at(x, t)
        p = reverse(x, *times)
        for _ in range(sweeps - 1 if s > 0 else 0):
            p = reverse(reverse.process.kernel(p.sample(), *times).sample(), *times)
        x = p.sample() if s > 0 else p.mode
        yield x


def grid(T: int, steps: int) -> list[int]:
    """T, ..., 1, 0 in `steps` steps (T at most): the last one is from 1 to 0, as the fixed decoder of 2015 needs it."""
    return [*np.linspace(T, 1, min(steps, T)).round().astype(int).tolist(), 0]


def evenly(reverse: Reverse, x_T: Tensor, steps: int, sweeps: int = 1) -> Iterator[Tensor]:
    """`ancestral` on such a grid."""
    return ancestral(reverse, x_T, grid(len(reverse.process.schedule), steps), sweeps)


def sample(reverse: Reverse, x_T: Tensor, steps: int, sweeps: int = 1) -> Tensor:
    """Its last item, and no other in memory."""
    return last(evenly(reverse, x_T, steps, sweeps))
