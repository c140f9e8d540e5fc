"""Replacement (Song et al. 2021) and RePaint (Lugmayr et al. 2022): known coordinates follow q, given their values."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse.conditioned import moments
from dpm.reverse.guided import Denoising


class Replaced:
    """x_s: known coordinates from q(x_s | x_0) at their values, without noise of observation, the others from p(x_s | x_t).

    `known` is a mask that broadcasts to x, as `values` do. RePaint with r repetitions of each step is this process with r
    `sweeps` of `dpm.samplers.ancestral`; one sweep is replacement, which never lets the known coordinates see the others.
    """

    def __init__(self, reverse: Denoising, known: Tensor, values: Tensor) -> None:
        self.reverse, self.known, self.values = reverse, known, values

    @property
    def process(self) -> GaussianDiffusion:
        return self.reverse.process

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        mean, variance = moments(self.reverse(x_t, s, t))
        alpha, sigma = (per_example(c, x_t) for c in self.process.schedule(s))
        std = torch.where(self.known, sigma, variance.sqrt())
        return normal(torch.where(self.known, alpha * self.values, mean), std)
