"""What was learned from noisy examples of a Gaussian: the law of the samples, and errors of x_0-hat."""

import copy
import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from dpm import seeds
from dpm.data.mixtures import GaussianMixture
from dpm.data.noisy import Noisy
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.ancestral import ancestral, grid
from dpm.study.records import Measurement


class LearnedLaw:
    """KL(clean || Gaussian of the samples' mean and covariance), nats: at t = 0, and where the noise is `least` times that of
    the data, by n chains of `steps` steps. Root mean square errors of x_0-hat against the exact one at noise levels
    v = sigma_t / alpha_t: arrays `level`, `error`, and `amplification` v^2 / (v^2 - noise^2) above the noise.
    """

    def __init__(self, n: int, steps: int, least: float) -> None:
        self.n, self.steps, self.least = n, steps, least

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Noisy, x_0: Tensor, seed: int) -> Evaluation:
        reverse, x_0 = copy.deepcopy(reverse).cpu(), x_0.cpu()  # where the mixture is
        schedule, clean = reverse.process.schedule, data.clean
        level = self.least * data.noise
        end = int(float(schedule.time(torch.tensor(level, dtype=torch.float64)))) + 1
        times = sorted({*grid(len(schedule), self.steps), end}, reverse=True)
        seeds.seed_everything(seed, seeds.SAMPLING)
        rows = []
        chain = ancestral(reverse, torch.randn(self.n, clean.dimensions, dtype=torch.float64), times)
        for t, x in zip(times[1:], chain, strict=True):
            if t in (end, 0):
                alpha, sigma = schedule(torch.tensor(t))
                mean, C = alpha * clean.means[0], alpha**2 * clean.covariances[0] + sigma**2 * torch.eye(clean.dimensions)
                off = [divergence(mean, C, part) for part in (x, *(x[k::5] for k in range(5)))]
                protocol: dict[str, Scalar] = {"at": "end" if t == 0 else "above_the_noise", "chain_steps": len(times) - 1}
                error = float(np.std(off[1:], ddof=1)) / 5**0.5
                rows.append(Measurement("posterior_divergence", off[0], error, self.n, "nats", protocol))
        levels = np.geomspace(0.1, 5, 25)
        errors = [self.error(reverse, clean, x_0, v) for v in levels]
        v2, n2 = levels**2, data.noise**2
        amplification = np.where(levels > data.noise, v2 / np.maximum(v2 - n2, 1e-9), 0)
        arrays = {"level": levels, "error": np.array(errors), "amplification": amplification, "noise": np.array([data.noise])}
        return Evaluation(tuple(rows), arrays)

    def error(self, reverse: GaussianReverse, clean: GaussianMixture, x_0: Tensor, level: float) -> float:
        t = reverse.process.schedule.time(torch.full((len(x_0),), level, dtype=torch.float64)).round().long().clamp(min=1)
        x_t = reverse.process.marginal(x_0, t).sample()
        exact = clean.denoised(x_t, *reverse.process.schedule(t))
        off: Tensor = (reverse.predicted(x_t, t) - exact).square().mean()
        return math.sqrt(off)


def divergence(mean: Tensor, C: Tensor, x: Tensor) -> float:
    """KL(N(mean, C) || N(mean of x, covariance of x)), nats."""
    return float(kl_divergence(MultivariateNormal(mean, C), MultivariateNormal(x.mean(0), x.mT.cov())))
