"""The Fokker-Planck equation of a forward process in one dimension, as densities and as scores obey it.

dx = f x dt + g dw with f = alpha' / alpha and g^2 = 2 sigma sigma' - 2 f sigma^2 has the marginals alpha_t x_0 + sigma_t eps
(Song et al. 2021). `VariancePreserving(2, 2)` is the Ornstein-Uhlenbeck process in its own time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import solve_banded
from scipy.special import exprel
from torch import Tensor

from dpm.errors import UserError
from dpm.schedules import Schedule

Array = np.ndarray[Any, Any]
Score = Callable[[Tensor, Tensor], Tensor]  # (x (B,), t (B,)) -> grad log q_t(x), (B,)


@dataclass(frozen=True)
class Scheme:
    """Finite volumes of width h: mass jumps to the cell on the right at the rate g^2 / (2 h^2) jump(w), to the left with -w.

    w = 2 f x h / g^2 on the face between them. theta is the place in each step of time where the rates act.
    """

    jump: Callable[[Array], Array]
    theta: float


CRANK_NICOLSON = Scheme(lambda w: 1 + w / 2, 1 / 2)  # central differences
CHANG_COOPER = Scheme(lambda w: 1 / exprel(-w), 1.0)  # implicit Euler; no rate is negative, so no density becomes so


def coefficients(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """f and g^2 at t > 0, in the shape of t."""
    (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.rates(t)
    f = d_alpha / alpha
    g2 = 2 * sigma * d_sigma - 2 * f * sigma.square()
    if not bool((f.isfinite() & g2.isfinite()).all()):
        raise UserError(f"{type(schedule).__name__} has no finite f and g^2 at an end of its time: keep away from it")
    return f, g2


def cells(limit: float, number: int) -> Array:
    """Centres of equal cells of [-limit, limit]."""
    h = 2 * limit / number
    return -limit + h * (np.arange(number) + 0.5)


def evolve(scheme: Scheme, schedule: Schedule, x: Array, p: Array, start: float, end: float, steps: int) -> Iterator[Array]:
    """dp/dt = d/dx (-f x p) + g^2 / 2 d^2p/dx^2 without flux at the ends: p in the cells x after each step of time."""
    if not (0 <= start < end and steps > 0):
        raise UserError(f"a density evolves from a time to a later one in one step at least, got {start=}, {end=}, {steps=}")
    dt = (end - start) / steps
    t = start + dt * (torch.arange(steps, dtype=torch.float64) + scheme.theta)
    for f, g2 in zip(*(c.tolist() for c in coefficients(schedule, t)), strict=True):
        p = step(scheme, f * faces(x), g2, x, p, dt)
        yield p


def faces(x: Array) -> Array:
    """Between the cells."""
    middle: Array = (x[1:] + x[:-1]) / 2
    return middle


def step(scheme: Scheme, drift: Array, g2: float, x: Array, p: Array, dt: float) -> Array:
    """p after dt of dx = drift dt + g dw, with the drift on the faces as it is at the scheme's place in the step."""
    implicit = -scheme.theta * dt * generator(scheme, drift, g2, x)
    implicit[1] += 1
    after: Array = p + (solve_banded((1, 1), implicit, p) - p) / scheme.theta
    return after


def generator(scheme: Scheme, drift: Array, g2: float, x: Array) -> Array:
    """Rates between the cells, of columns that sum to zero, as the three bands of `scipy.linalg.solve_banded`."""
    h = x[1] - x[0]
    w = 2 * drift * h / g2
    right, left = (g2 / (2 * h**2) * scheme.jump(sign * w) for sign in (1, -1))
    return np.array([np.append(0, left), -np.append(right, 0) - np.append(0, left), np.append(right, 0)])


def score_residual(score: Score, schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """ds/dt - d/dx (g^2 / 2 (ds/dx + s^2) - f x s), (B,): zero for the score of a diffused density (Lai et al. 2023)."""
    f, g2 = coefficients(schedule, t)

    def potential(x: Tensor) -> Tensor:
        s = score(x, t)
        return g2 / 2 * (derivative(lambda x: score(x, t), x) + s.square()) - f * x * s

    return derivative(lambda t: score(x, t), t) - derivative(potential, x)


def derivative(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Of an elementwise function."""
    value: Tensor = torch.func.grad(lambda x: function(x).sum())(at)
    return value
