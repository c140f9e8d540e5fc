"""What was learned from noisy examples: the law of the samples where it is known, and errors of x_0-hat."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from dpm import seeds
from dpm.data import Data
from dpm.data.images import DiscreteImages
from dpm.data.mixtures import GaussianMixture
from dpm.data.noisy import Noisy
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.distortion import mean_square
from dpm.evaluators.samples import levels
from dpm.facts import Scalar
from dpm.oracles.from_examples import FittedGaussian, by_heart
from dpm.processes import at, per_example
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.ancestral import ancestral, grid
from dpm.study.records import Measurement, root_mean


class LearnedLaw:
    """KL(clean || Gaussian of the samples' mean and covariance), nats, clean data being Gaussian: at t = 0, and at the noise
    `level`, above that of the data, by n chains of `steps` steps; `rmse` of x_0-hat against the exact one at that level.

    Where the number of training examples is finite, the oracle is the Gaussian that is fitted to them, seen through as many
    samples, and there is the error of one who learned them by heart. Arrays: root mean square errors `error` at noise levels
    `level`, v = sigma_t / alpha_t, and `amplification` v^2 / (v^2 - noise^2) above the noise of the data, `noise`.
    """

    def __init__(self, n: int, steps: int, level: float) -> None:
        self.n, self.steps, self.level = n, steps, level

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Noisy, x_0: Tensor, seed: int) -> Evaluation:
        reverse, x_0 = copy.deepcopy(reverse).cpu(), x_0.cpu()  # where the mixture is
        schedule, clean = reverse.process.schedule, data.clean
        if not isinstance(clean, GaussianMixture) or len(clean.weights) > 1 or self.level <= data.noise:
            raise UserError(f"the learned law is compared with one Gaussian, data.clean, above its noise {data.noise}")
        fitted = FittedGaussian(clean.covariances[0], data.noise, data.number) if data.number else None
        end = int(float(schedule.time(torch.tensor(self.level, dtype=torch.float64)))) + 1
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
                own = FittedGaussian(C, 0.0, self.n).divergence(0.0)  # of samples of the exact law
                oracle = own + fitted.divergence(float(sigma / alpha)) if fitted else None
                rows.append(Measurement("posterior_divergence", off[0], error, self.n, "nats", protocol, oracle=oracle))
        rows += self.errors(reverse, data, x_0, seed, fitted)
        v = np.geomspace(0.1, 5, 25)
        errors = np.array([root_mean(exact_and_off(reverse, clean, *noised(reverse, x_0, level))[1].numpy())[0] for level in v])
        amplification = np.where(v > data.noise, v**2 / np.maximum(v**2 - data.noise**2, 1e-9), 0)
        known = {"level": v, "error": errors, "amplification": amplification, "noise": np.array([data.noise])}
        return Evaluation(tuple(rows), known)

    def errors(
        self, reverse: GaussianReverse, data: Noisy, x_0: Tensor, seed: int, fitted: FittedGaussian | None
    ) -> Iterator[Measurement]:
        about: dict[str, Scalar] = {"noise_level": self.level, "against": "posterior_mean"}
        x_t, t = noised(reverse, x_0, self.level)
        exact, off = exact_and_off(reverse, data.clean, x_t, t)
        oracle = math.sqrt(fitted.square_error(self.level)) if fitted else None
        yield Measurement("rmse", *root_mean(off.numpy()), len(x_0), "1", {**about, "estimate": "network"}, oracle=oracle)
        if fitted:
            alpha, sigma = (float(c[0]) for c in reverse.process.schedule(t))
            off = mean_square(by_heart(data.examples(seed), data.noise, x_t / alpha, sigma / alpha) - exact)
            yield Measurement("rmse", *root_mean(off.numpy()), len(x_0), "1", {**about, "estimate": "by_heart"}, recipe={})


def exact_and_off(reverse: GaussianReverse, clean: Any, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """E[x_0 | x_t], and the squared error of x_0-hat from it, (n,)."""
    exact = clean.denoised(x_t, *reverse.process.schedule(t))
    return exact, mean_square(reverse.predicted(x_t, t) - exact)


class Denoised:
    """`rmse` of x_0-hat against x_0 itself at noise levels v = sigma_t / alpha_t: E[x_0 | x_t] has the least.

    Arrays: `level` and `error`; in grey levels, of the first image in [-1, 1], `original`, and at each of the levels `shown`,
    (levels, ...), `noisy`, which is x_t / alpha_t, and `denoised`.
    """

    def __init__(self, levels: list[float], shown: list[float], batch_size: int = 500) -> None:
        self.levels, self.shown, self.batch_size = levels, shown, batch_size

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        rows = []
        for v in self.levels:
            seeds.seed_everything(seed, seeds.EVALUATION)  # the same noise for each
            batches = x_0.split(self.batch_size)  # type: ignore[no-untyped-call]
            square = torch.cat([mean_square(reverse.predicted(*noised(reverse, x, v)) - x) for x in batches])
            protocol: dict[str, Scalar] = {"noise_level": v, "against": "x_0"}
            rows.append(Measurement("rmse", *root_mean(square.numpy()), len(x_0), "1", protocol))
        noisy, denoised = [], []
        for v in self.shown:
            seeds.seed_everything(seed, seeds.EVALUATION)
            x_t, t = noised(reverse, x_0[:1], v)
            noisy.append(levels(DiscreteImages.grey(x_t / per_example(reverse.process.schedule(t)[0], x_t)))[0])
            denoised.append(levels(DiscreteImages.grey(reverse.predicted(x_t, t)))[0])
        pictures = {"noisy": np.stack(noisy), "denoised": np.stack(denoised)} if self.shown else {}
        errors = {"level": np.array(self.levels), "error": np.array([m.value for m in rows])}
        return Evaluation(tuple(rows), {**errors, "original": levels(DiscreteImages.grey(x_0[0])), **pictures})


def noised(reverse: GaussianReverse, x_0: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """A draw of x_t at the whole step t whose sigma_t / alpha_t is nearest to the level, and t."""
    t = reverse.process.schedule.time(at(x_0, level)).round().long().clamp(min=1)
    return reverse.process.marginal(x_0, t).sample(), t


def divergence(mean: Tensor, C: Tensor, x: Tensor) -> float:
    """KL(N(mean, C) || N(mean of x, covariance of x)), nats."""
    return float(kl_divergence(MultivariateNormal(mean, C), MultivariateNormal(x.mean(0), x.mT.cov())))
