"""Ancestral sampling from the reverse process (2015, section 2.2; 2020, algorithm 2)."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.reverse import Reverse


@torch.no_grad()
def ancestral(reverse: Reverse, x_T: Tensor, steps: Iterable[int]) -> Iterator[Tensor]:
    """Yield x_s for each s of a decreasing grid `steps` from T to 0, at any stride; the last item is the sample.

    The last step shows the mode of p(x_0 | x_1), without noise (2020, section 3.3).
    """
    grid, T = list(steps), len(reverse.process.schedule)
    if grid != sorted(set(grid), reverse=True) or grid[:1] != [T] or grid[-1] != 0:
        raise UserError(f"a sampling grid decreases from T = {T} to 0, got {grid[:6]}...")
    x, one = x_T, torch.ones(len(x_T), dtype=torch.long, device=x_T.device)
    for t, s in pairwise(grid):
        p = reverse(x, one * s, one * t)
        x = p.sample() if s > 0 else p.mode
        yield x
