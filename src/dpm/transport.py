"""Distances and costs between samples of two ends, and what a flow spends on its way."""

import math
from collections.abc import Callable
from typing import NamedTuple

import ot
import torch
from torch import Tensor

from dpm.flows import Field
from dpm.processes import at
from dpm.samplers.ode import euler_step

Step = Callable[[Field, Tensor, Tensor, Tensor], Tensor]  # (field, x, from t, to s) -> x at s


class Distance(NamedTuple):
    """W_2 and its standard error."""

    value: float
    stderr: float


def wasserstein(x: Tensor, y: Tensor) -> Distance:
    """(min over pairings of the mean of |x - y|^2)^1/2 of samples (n, d) of equal size, exactly.

    With optimal potentials the variance of the mean is that of f(x) / n plus that of g(y) / n (del Barrio, Loubes 2019); where
    the distributions are equal, f = g = 0 in the limit, the distance is the floor that finite samples have, and its error is
    no longer that.
    """
    n = len(x)
    cost, log = ot.emd2([], [], ot.dist(x.double().numpy(), y.double().numpy()), numItermax=10**7, log=True)
    f, g = (torch.from_numpy(log[key]) for key in "uv")
    value = math.sqrt(max(float(cost), 0.0))
    return Distance(value, math.sqrt(float(f.var() + g.var()) / n) / (2 * value) if value > 0 else 0.0)


class Journey(NamedTuple):
    """Where a flow leads, (n, d), and per example, (n,), int |v|^2 dt on the way."""

    end: Tensor
    energy: Tensor


@torch.no_grad()
def pushed(field: Field, x: Tensor, steps: int, start: float = 0.0, end: float = 1.0, step: Step = euler_step) -> Journey:
    """From `start` to `end` in equal steps, each with its mean velocity; energy and end have the order of the step."""
    dt, energy = (end - start) / steps, x.new_zeros(len(x))
    for i in range(steps):
        before = x
        x = step(field, x, at(x, start + i * dt), at(x, start + (i + 1) * dt))
        energy = energy + (x - before).flatten(1).square().sum(1) / abs(dt)
    return Journey(x, energy)
