"""Interpolants between two ends: x_t = a_t x_0 + b_t x_1 + c_t z, z ~ N(0, I), with x_0 at t = 0 and x_1 at t = 1.

(a, b) is a schedule: a diffusion is the path whose x_1 is noise. Papers on two ends draw x_0 ~ pi_0 from the source, x_1 ~ pi_1
from the target, and follow fields from t = 0 to 1; so do the experiments here on two ends. In the rest of the project t = 0 is
data: swap the two ends, t -> 1 - t and velocity -> -velocity turn one convention into the other.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm.continuous import Rectified
from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.processes import per_example
from dpm.processes.gaussian import normal
from dpm.schedules import Schedule


class Trigonometric(Schedule):
    """(cos pi t / 2, sin pi t / 2), t in [0, 1]: variance 1 stays variance 1 (Albergo, Vanden-Eijnden 2023)."""

    end = 1.0

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return (math.pi / 2 * t).cos(), (math.pi / 2 * t).sin()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self(t)
        return -math.pi / 2 * sigma, math.pi / 2 * alpha

    def time(self, noise: Tensor) -> Tensor:
        return 2 / math.pi * noise.atan()


class Noise(ABC):
    """c_t, and its derivative for t in (0, 1)."""

    def __init__(self, scale: float) -> None:
        if not scale >= 0:
            raise UserError(f"the noise of a path has a scale of at least 0, got {scale}")
        self.scale = scale

    @abstractmethod
    def __call__(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor: ...


class ConstantNoise(Noise):
    """c_t = scale: both ends are blurred by it (sigma_min of Tong et al. 2024); no noise for 0."""

    def __call__(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.scale)

    def rate(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)


class BridgeNoise(Noise):
    """c_t = scale (t (1 - t))^1/2: of scale W given its two ends; sqrt(2) in Albergo et al. 2023, eq. 1.1."""

    def __call__(self, t: Tensor) -> Tensor:
        return self.scale * (t * (1 - t)).sqrt()

    def rate(self, t: Tensor) -> Tensor:
        return self.scale * (1 - 2 * t) / (2 * (t * (1 - t)).sqrt())


class Point(NamedTuple):
    """One moment of a path, each like x_0: where it is, where it goes to, and its noise."""

    x_t: Tensor
    velocity: Tensor
    z: Tensor


class Path:
    """Gaussian paths between given ends; the marginals follow from the law of the pairs (x_0, x_1), a coupling's affair."""

    def __init__(self, schedule: Schedule, noise: Noise) -> None:
        self.schedule, self.noise = schedule, noise

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**self.schedule.facts, "path_noise": type(self.noise).__name__, "path_noise_scale": self.noise.scale}

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(a_t, b_t, c_t), in the shape of t."""
        return (*self.schedule(t), self.noise(t))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Their derivatives at real t, in the shape of t."""
        return (*self.schedule.rates(t), self.noise.rate(t))

    def __call__(self, ends: Tensor, t: Tensor) -> Point:
        """A draw of x_t given the ends (B, 2, ...) at t (B,), 0 < t < 1, with velocity = a' x_0 + b' x_1 + c' z."""
        x_0, x_1 = ends.unbind(1)
        z = torch.randn_like(x_0)
        x_t, velocity = (
            per_example(a, x_0) * x_0 + per_example(b, x_0) * x_1 + per_example(c, x_0) * z
            for a, b, c in (self.coefficients(t), self.rates(t))
        )
        return Point(x_t, velocity, z)

    def marginal(self, ends: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_0, x_1) = N(a_t x_0 + b_t x_1, c_t^2 I)."""
        x_0, x_1 = ends.unbind(1)
        a, b, c = (per_example(coefficient, x_0) for coefficient in self.coefficients(t))
        return normal(a * x_0 + b * x_1, c)


class BridgeDrift(Path):
    """Brownian bridges whose `velocity` is the drift towards their end, (x_1 - x_t) / (1 - t).

    Its mean given x_t is the drift of the Markovian projection (Shi et al. 2023, definition 1). Its variance is
    sigma^2 t / (1 - t).
    """

    def __init__(self, sigma: float) -> None:
        super().__init__(Rectified(), BridgeNoise(sigma))

    def __call__(self, ends: Tensor, t: Tensor) -> Point:
        x_t, _, z = super().__call__(ends, t)
        return Point(x_t, (ends[:, 1] - x_t) / per_example(1 - t, x_t), z)


class RunnerBridge(Path):
    """Brownian bridges with the flow target of the released runner of Tong et al. 2023: c' z is sigma^2 (1 - 2t) z there.

    It divides the rate of the variance by the deviation only where the rate of the deviation is due (cfm_module.py, `calc_u` of
    SF2MLitModule at cacd4dc; the package's own class has it right): for the audit of its table, and for nothing else.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__(Rectified(), BridgeNoise(sigma))

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**super().facts, "flow_target": type(self).__name__}

    def __call__(self, ends: Tensor, t: Tensor) -> Point:
        x_t, velocity, z = super().__call__(ends, t)
        slip = self.noise.scale**2 * (1 - 2 * t) - self.rates(t)[2]
        return Point(x_t, velocity + per_example(slip, x_t) * z, z)


def rectified(std: float = 0.0) -> Path:
    """Straight lines (Liu et al. 2023), blurred by `std` at all times (Tong et al. 2023, eq. 14)."""
    return Path(Rectified(), ConstantNoise(std))


def trigonometric(scale: float = 0.0) -> Path:
    """Arcs, with noise between the ends (Albergo et al. 2023)."""
    return Path(Trigonometric(), BridgeNoise(scale))


def brownian_bridge(sigma: float) -> Path:
    """sigma W between its ends (Shi et al. 2023, eq. 4); sigma = sqrt(2) is the interpolant of Albergo et al. 2023, eq. 1.1."""
    return Path(Rectified(), BridgeNoise(sigma))
