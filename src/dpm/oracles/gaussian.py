"""The best diagonal Gaussian reverse process for a known data distribution and a given schedule."""

from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm.decoders import Decoder
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, normal, posterior_mean
from dpm.reverse import ReverseStep


class KnownDistribution(Protocol):
    def posterior_moments(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """Mean and variance of each coordinate of x_0 given x = alpha x_0 + sigma eps."""


class GaussianOracle(ReverseStep):
    """p(x_s | x_t) = N(E[x_s | x_t], diag Var[x_s | x_t]), which minimises E KL(q(x_s | x_t, x_0) || p) over such p.

    With q(x_s | x_t, x_0) = N(a x_t + b x_0, beta-tilde): the mean is a x_t + b E[x_0 | x_t],
    the variance beta-tilde + b^2 Var[x_0 | x_t].
    """

    def __init__(self, process: GaussianDiffusion, data: KnownDistribution, decoder: Decoder) -> None:
        super().__init__()
        self.process: GaussianDiffusion = process
        self.data, self.decoder = data, decoder

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        mean, variance = torch.empty_like(x_t), torch.empty_like(x_t)
        for time in t.unique():  # type: ignore[no-untyped-call]
            alpha, sigma = (c.item() for c in self.process.schedule(time))
            mean[t == time], variance[t == time] = self.data.posterior_moments(x_t[t == time], alpha, sigma)
        step = self.process.step(s, t)
        beta_tilde, on_x_0 = per_example(step.posterior_variance, x_t), per_example(step.on_x_0, x_t)
        return normal(posterior_mean(step, mean, x_t), (beta_tilde + on_x_0**2 * variance).sqrt())
