"""Solvers of dx/dt = field(x, t): Euler, Heun, Heun with added noise on any grid of times, and one that chooses its steps."""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torchode
from torch import Tensor

from dpm.errors import UserError
from dpm.flows import Field
from dpm.processes import at, per_example


def euler_step(field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x at s of the path that is at x at t; both (B,). First order."""
    return x + per_example(s - t, x) * field(x, t)


def heun_step(field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The same by the trapezoidal rule, second order; the field is seen at both ends."""
    here, step = field(x, t), per_example(s - t, x)
    return x + step * (here + field(x + step * here, s)) / 2


@torch.no_grad()
def euler(field: Field, x: Tensor, times: Iterable[float]) -> Iterator[Tensor]:
    """Yield x at every time but the first, where it starts. First order."""
    for t, s in pairwise(map(float, times)):
        x = euler_step(field, x, at(x, t), at(x, s))
        yield x


@torch.no_grad()
def heun(field: Field, x: Tensor, times: Iterable[float]) -> Iterator[Tensor]:
    """The same by the trapezoidal rule, second order; by Euler's to t = 0, where a probability flow has no value."""
    for t, s in pairwise(map(float, times)):
        x = (heun_step if s != 0 else euler_step)(field, x, at(x, t), at(x, s))
        yield x


@torch.no_grad()
def stochastic_heun(field: Field, x: Tensor, times: Iterable[float], churn: float) -> Iterator[Tensor]:
    """Each step first adds noise, up to the level (1 + churn) t (Karras et al. 2022, algorithm 2); alpha_t = 1, sigma_t = t."""
    grid = [float(t) for t in times]
    for t, s in pairwise(grid):
        up = min((1 + churn) * t, grid[0]) if s > 0 else t
        noisy = x + (up**2 - t**2) ** 0.5 * torch.randn_like(x)
        (x,) = heun(field, noisy, (up, s))
        yield x


def adaptive(field: Field, x: Tensor, start: float, end: float, tolerance: float) -> Tensor:
    """x at `end`, by Dormand and Prince's method of order 5; relative and absolute local error at most `tolerance`.

    Every example has steps of its own, so that a result does not depend on what else is in the batch.
    """
    return _dopri5(field, x, start, end, torchode.IntegralController(atol=tolerance, rtol=tolerance), None)


def geometric(field: Field, x: Tensor, start: float, end: float, steps: int) -> Tensor:
    """The same in `steps` equal steps of u = log t, dx/du = t field(x, t), all examples alike: for noise levels of images.

    A field that falls as 1 / t is smooth in u. A step looks at the field six times.
    """
    if steps < 1:
        raise UserError(f"a path has one step at least, got {steps=}")

    def in_log_time(x: Tensor, u: Tensor) -> Tensor:
        return per_example(u.exp(), x) * field(x, u.exp())

    span = math.log(start), math.log(end)
    return _dopri5(in_log_time, x, *span, torchode.FixedStepController(), (span[1] - span[0]) / steps)


@torch.no_grad()
def _dopri5(field: Field, x: Tensor, start: float, end: float, controller: Any, step: float | None) -> Tensor:
    term = torchode.ODETerm(lambda t, y: field(y.view_as(x), t).flatten(1))
    solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), controller)
    t_start, t_end = (torch.full((len(x),), t, dtype=torch.float64, device=x.device) for t in (start, end))
    problem = torchode.InitialValueProblem(y0=x.flatten(1), t_start=t_start, t_end=t_end)
    solution = solver.solve(problem, term, dt0=None if step is None else torch.full_like(t_start, step))
    if bool((solution.status != 0).any()):
        raise UserError(f"the solver did not get from t = {start:g} to {end:g}: take a larger tolerance")
    end_points: Tensor = solution.ys[:, -1]
    return end_points.view_as(x)
