"""Samples along flows: any solver's path from the end of time to the data, or from one end of a transport to the other."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dpm.continuous import karras
from dpm.errors import UserError
from dpm.flows import Field, Solve, flow_in_time, noise_level, probability_flow
from dpm.processes import at, per_example
from dpm.reverse import require_prediction
from dpm.reverse.gaussian import GaussianReverse

Walk = Callable[[Field, Tensor, Sequence[float]], Iterator[Tensor]]  # (field, y, times) -> y at every time but the first


class Flow(Protocol):
    def field(self, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t), 0 <= t <= 1 from source to target."""


def by_grid(reverse: GaussianReverse, x_T: Tensor, walk: Walk, steps: int, first: float, rho: float = 7.0) -> Iterator[Tensor]:
    """Yield x_t by `walk` (`dpm.samplers.ode`) over `steps` levels (Karras et al. 2022, eq. 5), then x_0-hat at t = `first`."""
    if steps < 2:
        raise UserError(f"a flow takes two steps at least, the last of them to x_0, got {steps=}")
    high, low = ends(reverse, first)
    levels = karras(high, low, steps, rho)[:-1]
    walked = walk(probability_flow(reverse), start(reverse, x_T), levels)
    return seen(reverse, zip(levels[1:], walked, strict=True), first)


def by_solver(reverse: GaussianReverse, x_T: Tensor, solve: Solve, first: float, stops: int = 1) -> Iterator[Tensor]:
    """The same by a solver that chooses its own steps, and yields x_t at as many levels as it has stops."""
    if stops < 1:
        raise UserError(f"a path stops once at least, where it ends, got {stops=}")
    levels = karras(*ends(reverse, first), stops + 1)[:-1]

    def walked() -> Iterator[tuple[float, Tensor]]:
        field, y = probability_flow(reverse), start(reverse, x_T)
        for level, lower in pairwise(levels):
            y = solve(field, y, level, lower)
            yield lower, y

    return seen(reverse, walked(), first)


def in_time(reverse: GaussianReverse, x_T: Tensor, walk: Walk, steps: int, first: float = 0.0) -> Iterator[Tensor]:
    """Yield x_t by `walk` in equal steps of t down to `first`, along the process's own flow (`dpm.flows.flow_in_time`)."""
    require_prediction(reverse)
    return walk(flow_in_time(reverse), x_T, np.linspace(reverse.process.schedule.end, first, steps + 1).tolist())


def across(flow: Flow, x_0: Tensor, walk: Walk, steps: int) -> Iterator[Tensor]:
    """Yield x_t by `walk` in equal steps of t from the source, t = 0, to the target, t = 1."""
    if not hasattr(flow, "field"):
        raise UserError(f"this sampler follows one flow between two ends, and {type(flow).__name__} is none")
    return walk(flow.field, x_0, np.linspace(0.0, 1.0, steps + 1).tolist())


def ends(reverse: GaussianReverse, first: float) -> tuple[float, float]:
    """The noise levels at the end of time, where a path of samples starts, and at t = `first`, where it stops."""
    require_prediction(reverse)
    schedule = reverse.process.schedule
    return noise_level(schedule, schedule.end), noise_level(schedule, first)


def start(reverse: GaussianReverse, x_T: Tensor) -> Tensor:
    """y = x_T / alpha_T."""
    return x_T / per_example(reverse.process.schedule(at(x_T, reverse.process.schedule.end))[0], x_T)


def seen(reverse: GaussianReverse, path: Iterable[tuple[float, Tensor]], first: float) -> Iterator[Tensor]:
    """x_t = alpha_t y at every (level, y) of a path, and then x_0-hat at its end, where t = `first`."""
    schedule = reverse.process.schedule
    for level, y in path:
        alpha, _ = schedule(schedule.time(at(y, level)))
        yield per_example(alpha, y) * y
    yield denoised(reverse, y, first)


@torch.no_grad()
def denoised(reverse: GaussianReverse, y: Tensor, first: float) -> Tensor:
    """x_0-hat at x_t = alpha_t y, t = `first`, as the last step of a chain shows the mode of its decoder."""
    t = at(y, first)
    return reverse.predicted(per_example(reverse.process.schedule(t)[0], y) * y, t)
