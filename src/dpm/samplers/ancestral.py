"""Ancestral sampling from the reverse process (2015, section 2.2; 2020, algorithm 2)."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.reverse import Reverse


@torch.no_grad()
def ancestral(reverse: Reverse, x_T: Tensor, steps: Sequence[int]) -> Iterator[Tensor]:
    """Yield x_s for each s of a decreasing grid `steps` from T to 0, at any stride; the last item is the sample.

    The last step shows the mode of p(x_0 | x_1), without noise (2020, section 3.3).
    """
    if list(steps) != sorted(set(steps), reverse=True) or steps[0] != len(reverse.process.schedule) or steps[-1] != 0:
        raise UserError(f"a sampling grid decreases from T = {len(reverse.process.schedule)} to 0, got {list(steps)[:6]}...")
    x, one = x_T, torch.ones(len(x_T), dtype=torch.long, device=x_T.device)
    for t, s in pairwise(steps):
        p = reverse(x, one * s, one * t)
        x = p.sample() if s > 0 else p.mode
        yield x
