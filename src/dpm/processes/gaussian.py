"""Gaussian diffusion: q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I) (2015, Table App.1; 2020, eq. 2)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from dpm.processes import per_example
from dpm.schedules import BetaSchedule


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(on_x_t x_t + on_x_0 x_0, variance), each of shape (B,) and float64."""

    on_x_t: Tensor
    on_x_0: Tensor
    variance: Tensor


class GaussianDiffusion(nn.Module):
    """x_t = alpha_t x_0 + sigma_t eps; for s < t, x_t = alpha_{t|s} x_s + sigma_{t|s} eps.

    alpha_{t|s} = alpha_t / alpha_s and sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2 are computed in float64 and
    only then cast to the type of x: in float32 the difference would lose a small beta.
    """

    def __init__(self, schedule: BetaSchedule) -> None:
        super().__init__()
        self.schedule = schedule

    def prior(self, like: Tensor) -> Distribution:
        """pi = N(0, I)."""
        return normal(torch.zeros_like(like), torch.ones_like(like))

    def marginal(self, x_0: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I) (2020, eq. 4)."""
        alpha, sigma = self.schedule(t)
        return normal(per_example(alpha, x_0) * x_0, per_example(sigma, x_0))

    def kernel(self, x_s: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_s) = N(alpha_{t|s} x_s, sigma_{t|s}^2 I)."""
        alpha, variance = self.step(s, t)
        return normal(per_example(alpha, x_s) * x_s, per_example(variance.sqrt(), x_s))

    def posterior(self, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """q(x_s | x_t, x_0) for s >= 1 (2020, eqs. 6-7); at s = 0 it is a point mass and has no density."""
        return normal(self.posterior_mean(x_0, x_t, s, t), per_example(self.coefficients(s, t).variance.sqrt(), x_t))

    def posterior_mean(self, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
        on_x_t, on_x_0, _ = self.coefficients(s, t)
        return per_example(on_x_t, x_t) * x_t + per_example(on_x_0, x_t) * x_0

    def step(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_{t|s}, sigma_{t|s}^2), shape (B,), float64."""
        (alpha_s, sigma_s), (alpha_t, sigma_t) = self.schedule(s), self.schedule(t)
        alpha = alpha_t / alpha_s
        return alpha, sigma_t**2 - alpha**2 * sigma_s**2

    def coefficients(self, s: Tensor, t: Tensor) -> Posterior:
        """Bayes for two Gaussians; for s = t - 1 the beta-tilde form of 2020, eq. 7."""
        (alpha_s, sigma_s), (_, sigma_t) = self.schedule(s), self.schedule(t)
        alpha, variance = self.step(s, t)
        return Posterior(alpha * sigma_s**2 / sigma_t**2, alpha_s * variance / sigma_t**2, sigma_s**2 * variance / sigma_t**2)


def normal(mean: Tensor, std: Tensor) -> Distribution:
    """N(mean, std^2) with independent coordinates; one draw is one example."""
    return Independent(Normal(mean, std.expand_as(mean), validate_args=False), mean.ndim - 1, validate_args=False)
