"""Noise schedules that are given in real time, and grids of real times."""

import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.schedules import Schedule


class VariancePreserving(Schedule):
    """dx = -beta(t) x / 2 dt + beta(t)^1/2 dw, beta(t) = first + (last - first) t, t in [0, 1] (Song et al. 2021, eqs. 11, 32).

    alpha_t^2 = exp(-B(t)), B the integral of beta: the limit of 2020's linear schedule, beta_t = beta(t / T) / T.
    """

    end = 1.0

    def __init__(self, first: float = 0.1, last: float = 20.0) -> None:
        super().__init__()
        if not 0 < first <= last:
            raise UserError(f"the rate of a variance preserving schedule grows: 0 < first <= last, got {first=}, {last=}")
        self.first, self.last = first, last

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**super().facts, "first_rate": self.first, "last_rate": self.last}

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        B = self.first * t + (self.last - self.first) / 2 * t.square()
        return (-B / 2).exp(), (-torch.expm1(-B)).sqrt()

    def time(self, noise: Tensor) -> Tensor:
        B, slope = torch.log1p(noise.square()), self.last - self.first
        return 2 * B / (self.first + (self.first**2 + 2 * slope * B).sqrt())


class Rectified(Schedule):
    """(1 - t, t), t in [0, 1]: straight lines from data to noise (Liu et al. 2023; Lipman et al. 2023)."""

    end = 1.0

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(t, -1), torch.ones_like(t)

    def time(self, noise: Tensor) -> Tensor:
        return noise / (1 + noise)


class VarianceExploding(Schedule):
    """(1, t), t in [0, sigma_max]: time is the noise level itself (Karras et al. 2022, Table 1)."""

    def __init__(self, sigma_max: float = 80.0) -> None:
        super().__init__()
        if not sigma_max > 0:
            raise UserError(f"the largest noise level is above 0, got {sigma_max=}")
        self.end = self.prior_std = sigma_max

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**super().facts, "sigma_max": self.end}

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), t

    def time(self, noise: Tensor) -> Tensor:
        return noise


def karras(end: float, first: float, steps: int, rho: float = 7.0) -> list[float]:
    """Decreasing t_i = (end^(1/rho) + i / (steps - 1) (first^(1/rho) - end^(1/rho)))^rho, then 0 (Karras et al. 2022)."""
    a, b = end ** (1 / rho), first ** (1 / rho)
    return [end, *((a + i / (steps - 1) * (b - a)) ** rho for i in range(1, steps)), 0.0]
