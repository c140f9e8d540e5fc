"""The Parzen-window log likelihood of 2015, Table 2, by the procedure of Goodfellow et al. (2014).

Samples of the model, on [0, 1], are the centres of a mixture of Gaussians of one width; the width that suits validation
images best is taken, and the score is the mean log density of test images. The estimate is no bound and is far from
converged in 784 dimensions: it compares models under one protocol, beside training images in the place of samples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT
from dpm.evaluators.samples import levels
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.samplers import last
from dpm.samplers.ancestral import ancestral, grid
from dpm.study.records import Measurement, standard_error

SIGMAS: Sequence[float] = np.logspace(-1, 0, 10).tolist()  # the script's
ENTRIES = 2**22  # of a block of the table of all pairs: 32 MB
GROUPS = 20  # of the jackknife


def log_density(x: Tensor, samples: Tensor, sigma: float) -> Tensor:
    """log p(x) = logmeanexp_k(-|x - s_k|^2 / (2 sigma^2)) - D log(sigma sqrt(2 pi)), nats: (n, D), (k, D) -> (n,), float64.

    |x - s|^2 = |x|^2 - 2 (x.s - |s|^2 / 2), in float64: the difference of large numbers is then divided by sigma^2.
    """
    if x.shape[1:] != samples.shape[1:]:
        raise UserError(
            f"Parzen window: examples of {x.shape[1]} dimensions, samples of {samples.shape[1]}; patches of images?"
        )
    centres, precision = samples.double(), sigma**-2
    half = centres.square().sum(1) / 2
    blocks = []
    for block in x.split(max(1, ENTRIES // len(centres))):  # type: ignore[no-untyped-call]
        rows = block.double()
        exponents = torch.addmm(half, rows, centres.T, beta=-precision, alpha=precision)
        blocks.append(exponents.logsumexp(1) - precision * rows.square().sum(1) / 2)
    constant = math.log(len(centres)) + centres.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))
    return torch.cat(blocks) - constant


def bandwidth(validation: Tensor, samples: Tensor, sigmas: Sequence[float]) -> float:
    """The sigma with the largest mean log density of the validation examples."""
    return max(sigmas, key=lambda sigma: float(log_density(validation, samples, sigma).mean()))


def with_jackknife(x: Tensor, samples: Tensor, sigma: float, groups: int = GROUPS) -> tuple[Tensor, float]:
    """log p(x), (n,), and the error of its mean by the choice of the samples: each group of them is left out in turn.

    A group's log sum of exponentials is the logarithm of its share of p, so that nothing is computed twice.
    """
    parts = samples.tensor_split(min(groups, len(samples)))
    sizes = torch.tensor([len(part) for part in parts], dtype=torch.float64)
    sums = torch.stack([log_density(x, part, sigma) for part in parts]) + sizes.log()[:, None]
    whole = sums.logsumexp(0) - math.log(len(samples))
    left = [(torch.cat([sums[:g], sums[g + 1 :]]), len(samples) - n) for g, n in enumerate(sizes.tolist())]
    means = torch.stack([others.logsumexp(0).mean() - math.log(k) for others, k in left])
    return whole, math.sqrt(len(parts) - 1) * float(means.std(correction=0))


@torch.no_grad()
def draws(reverse: Reverse, like: Tensor, n: int, steps: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """n examples x_0 ~ p(x_0), shaped like that in `like` (1, ...), batch after batch, each a function of (seed, its number).

    The chain has `steps` steps, evenly spaced from T to 1 and then to 0. Its last step is drawn like all others: p(x_0) has
    the noise of p(x_0 | x_1), which the last item of `ancestral`, the mode, has not. Memory: one batch at one time.
    """
    times = grid(len(reverse.process.schedule), steps)
    for number, first in enumerate(range(0, n, batch_size)):
        seeds.seed_everything(seed, seeds.SAMPLING, number)
        x_T = reverse.process.prior(like.expand(min(batch_size, n - first), *like.shape[1:])).sample()
        x_1 = last(chain([x_T], islice(ancestral(reverse, x_T, times), len(times) - 2)))
        one = torch.ones(len(x_1), dtype=torch.long, device=x_1.device)
        yield reverse(x_1, 0 * one, times[-2] * one).sample()


def unit_interval(grey: Tensor) -> Tensor:
    """Grey levels (n, C, H, W) -> (n, D) with 255 at 1, float64; neither rounded nor clipped."""
    return grey.double().flatten(1) / 255


class Images(Protocol):
    """Grey levels 0..255, (n, C, H, W), and the way back to them from what the model sees."""

    train: np.ndarray
    kept: np.ndarray
    test: np.ndarray

    def grey(self, x: Tensor) -> Tensor: ...


class ParzenWindow:
    """log p of the first len(x_0) test images, as files hold them, under n samples of the model, and under n training images.

    The second is what 2015 calls the perfect model. Each has its own bandwidth, chosen on the first `validation` images that
    training leaves out. `claims` maps "model" and "training_images" to the claims they answer. `stderr` is that of the choice
    of the test images, samples and bandwidth given; `estimate_stderr` that of the choice of the samples, test images and
    bandwidth given. Array `samples`: the first `shown`, (shown, C, H, W), uint8.
    """

    def __init__(
        self, n: int, steps: int, batch_size: int, validation: int, shown: int, claims: Mapping[str, str] | None = None
    ) -> None:
        if min(n - 1, steps, batch_size, validation, shown) < 1:
            raise UserError(
                f"Parzen window: all from 1, samples from 2, got {n=}, {steps=}, {batch_size=}, {validation=}, {shown=}"
            )
        self.n, self.steps, self.batch_size, self.validation, self.shown = n, steps, batch_size, validation, shown
        self.claims = claims or {}

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Images, x_0: Tensor, seed: int) -> Evaluation:
        if self.n > len(data.train):
            raise UserError(f"Parzen window: {self.n} training images asked for, there are {len(data.train)}")
        chosen = torch.randperm(len(data.train), generator=seeds.generator(seed, seeds.EVALUATION))[: self.n]
        batches = draws(reverse, x_0[:1].float(), self.n, self.steps, self.batch_size, seed)
        samples, n = torch.cat([data.grey(x).cpu() for x in batches]), len(x_0)
        steps = min(self.steps, len(reverse.process.schedule))
        measurements = (
            self.measured("model", samples, data, n, sampler="ancestral", sampling_steps=steps, last_step="drawn"),
            self.measured("training_images", torch.tensor(data.train[chosen.numpy()]), data, n),
        )
        return Evaluation(measurements, {"samples": levels(samples[: self.shown])})

    def measured(self, source: str, samples: Tensor, data: Images, n: int, **sampler: Scalar) -> Measurement:
        """The measurement with these grey levels as samples."""
        validation, test = torch.tensor(data.kept[: self.validation]), torch.tensor(data.test[:n])
        centres = unit_interval(samples)
        sigma = bandwidth(unit_interval(validation), centres, SIGMAS)
        nats, of_samples = with_jackknife(unit_interval(test), centres, sigma)
        bits = (nats / NATS_PER_BIT).numpy()
        protocol: dict[str, Scalar] = {
            **{"estimator": "parzen", "source": source, "samples": len(samples), "sigma": sigma, **sampler},
            **{"validation": len(validation), "clipped": False, "test_noise": "none"},
        }
        about = (float(bits.mean()), standard_error(bits), len(bits), "bits", protocol, self.claims.get(source))
        return Measurement("parzen_log_likelihood", *about, estimate_stderr=of_samples / NATS_PER_BIT)
