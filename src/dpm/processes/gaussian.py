"""Gaussian diffusion: q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I) (2015, Table App.1; 2020, eq. 2)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from dpm.facts import Scalar
from dpm.processes import per_example
from dpm.schedules import Schedule


class Step(NamedTuple):
    """From s to t and, knowing x_0, back: five coefficients of shape (B,), float64.

    x_t = alpha x_s + sqrt(variance) eps;   q(x_s | x_t, x_0) = N(on_x_t x_t + on_x_0 x_0, posterior_variance I).
    """

    alpha: Tensor
    variance: Tensor
    on_x_t: Tensor
    on_x_0: Tensor
    posterior_variance: Tensor


class GaussianDiffusion(nn.Module):
    """x_t = alpha_t x_0 + sigma_t eps; for s < t, x_t = alpha_{t|s} x_s + sigma_{t|s} eps.

    alpha_{t|s} = alpha_t / alpha_s and sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2 are computed in float64 and
    only then cast to the type of x: in float32 the difference would lose a small beta.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    @property
    def facts(self) -> dict[str, Scalar]:
        return self.schedule.facts

    def prior(self, like: Tensor) -> Distribution:
        """pi = N(0, I), or the schedule's standard deviation."""
        return normal(torch.zeros_like(like), torch.full_like(like, self.schedule.prior_std))

    def marginal(self, x_0: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I) (2020, eq. 4)."""
        alpha, sigma = self.schedule(t)
        return normal(per_example(alpha, x_0) * x_0, per_example(sigma, x_0))

    def kernel(self, x_s: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_s) = N(alpha_{t|s} x_s, sigma_{t|s}^2 I)."""
        step = self.step(s, t)
        return normal(per_example(step.alpha, x_s) * x_s, per_example(step.variance.sqrt(), x_s))

    def posterior(self, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """q(x_s | x_t, x_0) for s > 0 (2020, eqs. 6-7); at s = 0 it is a point mass and has no density."""
        step = self.step(s, t)
        return normal(posterior_mean(step, x_0, x_t), per_example(step.posterior_variance.sqrt(), x_t))

    def until(self, t: float) -> "GaussianDiffusion":
        return GaussianDiffusion(self.schedule.until(t))

    def step(self, s: Tensor, t: Tensor) -> Step:
        """Bayes for two Gaussians; posterior_variance is the beta-tilde of 2020, eq. 7, for s = t - 1."""
        (alpha_s, sigma_s), (alpha_t, sigma_t) = self.schedule(s), self.schedule(t)
        alpha, s2, t2 = alpha_t / alpha_s, sigma_s**2, sigma_t**2
        variance = t2 - alpha**2 * s2
        return Step(alpha, variance, alpha * s2 / t2, alpha_s * variance / t2, s2 * variance / t2)


def posterior_mean(step: Step, x_0: Tensor, x_t: Tensor) -> Tensor:
    """E[x_s | x_t, x_0] (2020, eq. 7)."""
    return per_example(step.on_x_t, x_t) * x_t + per_example(step.on_x_0, x_t) * x_0


def normal(mean: Tensor, std: Tensor) -> Distribution:
    """N(mean, std^2) with independent coordinates; one draw is one example."""
    return Independent(Normal(mean, std.expand_as(mean), validate_args=False), mean.ndim - 1, validate_args=False)
