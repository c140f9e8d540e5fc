"""Samples along the probability flow: any solver's path from the end of time to a first noise level, then x_0-hat there."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dpm.continuous import karras
from dpm.errors import UserError
from dpm.flows import Field, Solve, noise_level, probability_flow
from dpm.processes import at, per_example
from dpm.reverse.gaussian import GaussianReverse

Walk = Callable[[Field, Tensor, Sequence[float]], Iterator[Tensor]]  # (field, y, times) -> y at every time but the first


def by_grid(reverse: GaussianReverse, x_T: Tensor, walk: Walk, steps: int, first: float, rho: float = 7.0) -> Tensor:
    """x_0 by `walk` (`dpm.samplers.ode`) over `steps` levels (Karras et al. 2022, eq. 5); last, x_0-hat at t = `first`."""
    if steps < 2:
        raise UserError(f"a flow takes two steps at least, the last of them to x_0, got {steps=}")
    high, low = ends(reverse, first)
    levels = karras(high, low, steps, rho)[:-1]
    walked = walk(probability_flow(reverse), start(reverse, x_T), levels)
    return denoised(reverse, deque(walked, maxlen=1).pop(), first)


def by_solver(reverse: GaussianReverse, x_T: Tensor, solve: Solve, first: float) -> Tensor:
    """The same by a solver that chooses its own steps."""
    return denoised(reverse, solve(probability_flow(reverse), start(reverse, x_T), *ends(reverse, first)), first)


def ends(reverse: GaussianReverse, first: float) -> tuple[float, float]:
    """The noise levels at the end of time, where a path of samples starts, and at t = `first`, where it stops."""
    schedule = reverse.process.schedule
    return noise_level(schedule, schedule.end), noise_level(schedule, first)


def start(reverse: GaussianReverse, x_T: Tensor) -> Tensor:
    """y = x_T / alpha_T."""
    return x_T / per_example(reverse.process.schedule(at(x_T, reverse.process.schedule.end))[0], x_T)


@torch.no_grad()
def denoised(reverse: GaussianReverse, y: Tensor, first: float) -> Tensor:
    """x_0-hat at x_t = alpha_t y, t = `first`, as the last step of a chain shows the mode of its decoder."""
    t = at(y, first)
    return reverse.predicted(per_example(reverse.process.schedule(t)[0], y) * y, t)
