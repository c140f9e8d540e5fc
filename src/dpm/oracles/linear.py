"""The best linear reverse process: exact for Gaussian data, in the coordinates in which they are independent."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm.baselines.gaussian_images import GaussianImages
from dpm.decoders import Decoder
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, posterior_mean
from dpm.reverse import ReverseStep
from dpm.reverse.correlated import CorrelatedNormal


class LinearOracle(ReverseStep):
    """p(x_s | x_t) = N(a x_t + b E_lin[x_0 | x_t], A^T diag(beta-tilde + b^2 Var[c_0 | c_t]) A), A the basis of the model.

    That is q(x_s | x_t) of Gaussian data: every trajectory has the weight p(x_0), and the bound no slack, on any grid.
    """

    def __init__(self, process: GaussianDiffusion, model: GaussianImages, decoder: Decoder) -> None:
        super().__init__()
        self.process: GaussianDiffusion = process
        self.model, self.decoder = model, decoder

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        step, (_, variance) = self.process.step(s, t), self.model.gain(self.process, t)
        mean = posterior_mean(step, self.model.posterior_mean(self.process, x_t, t), x_t)
        spectrum = per_example(step.posterior_variance, variance) + per_example(step.on_x_0.square(), variance) * variance
        return CorrelatedNormal(mean, torch.ones_like(mean), spectrum, self.model)
