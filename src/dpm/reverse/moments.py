"""p(x_s | x_t) = N(E[x_s | x_t], Cov[x_s | x_t]), the full covariance, for a known mixture: exact for one Gaussian."""

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from dpm.data.mixtures import GaussianMixture
from dpm.decoders import Network
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, posterior_mean
from dpm.reverse import ReverseStep


class MomentMatched(ReverseStep):
    """With q(x_s | x_t, x_0) = N(a x_t + b x_0, v I): N(a x_t + b E[x_0 | x_t], v I + b^2 Cov[x_0 | x_t])."""

    def __init__(self, process: GaussianDiffusion, data: GaussianMixture) -> None:
        super().__init__()
        self.process: GaussianDiffusion = process
        self.data, self.decoder = data, Network()

    def predicted(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t]."""
        return self.data.denoised(x_t, *self.process.schedule(t))

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        step = self.process.step(s, t)
        mean, covariance = self.data.posterior_covariance(x_t, *self.process.schedule(t))
        a, b = (per_example(c, covariance) for c in (step.posterior_variance, step.on_x_0.square()))
        of_x_s = a * torch.eye(x_t.shape[1], dtype=x_t.dtype) + b * covariance
        return MultivariateNormal(posterior_mean(step, mean, x_t), of_x_s, validate_args=False)
