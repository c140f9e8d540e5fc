"""Samples of a consistency model in one step or a few (Song et al. 2023, algorithm 1)."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from dpm.processes import at
from dpm.reverse import require_prediction
from dpm.reverse.gaussian import GaussianReverse


@torch.no_grad()
def multistep(reverse: GaussianReverse, x: Tensor, times: Iterable[float], start: float) -> Iterator[Tensor]:
    """Yield f(x_t, t) for each of decreasing `times`, the first with x itself and then x_t ~ q(x_t | x_start) of the last one.

    On `VarianceExploding` the noise between two steps has the variance t^2 - start^2.
    """
    for number, t in enumerate(map(float, times)):
        noisy = reverse.process.kernel(x, at(x, start), at(x, t)).sample() if number else x
        x = reverse.predicted(noisy, at(x, t))
        yield x


def evenly(reverse: GaussianReverse, x: Tensor, steps: int) -> Iterator[Tensor]:
    """`multistep` at evenly spread times, the first of them the end of time."""
    require_prediction(reverse)
    return multistep(reverse, x, np.linspace(reverse.process.schedule.end, 0, steps + 1)[:-1], 0.0)
