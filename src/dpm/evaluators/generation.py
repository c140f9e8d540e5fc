"""What the reverse process makes on its way (2020, section 4.3): progressive generation, shared latents, interpolations.

All images are on [-1, 1] in the model and uint8 grey levels in the arrays.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.data import Data
from dpm.data.images import DiscreteImages
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.features import Score
from dpm.evaluators.samples import levels
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.reverse.first_steps import FirstSteps
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.ancestral import ancestral, grid, sample
from dpm.samplers.mixtures import mixed
from dpm.study.records import Measurement

PROGRESSIVE, SHARED, INTERPOLATION = range(3)  # random streams of sampling


def completed(reverse: Reverse, x_t: Tensor, t: int, steps: int) -> Tensor:
    """x_0 ~ p(x_0 | x_t), its last step without noise, in the share t / T of `steps` steps; x_t itself where t = 0."""
    share = max(1, round(steps * t / len(reverse.process.schedule)))
    return sample(FirstSteps(reverse, t), x_t, share) if t else x_t


@torch.no_grad()
def predictions(reverse: GaussianReverse, x_T: Tensor, steps: Sequence[int], times: Collection[int]) -> Iterator[Tensor]:
    """x_0-hat (2020, eq. 15) at those t >= 1 of a sampling grid that are in `times`, on one chain; at t = 1 that is the sample.

    For a decoder whose mode is the prediction of x_0, all but the fixed one of 2015.
    """
    for t, x_t in zip(steps[:-1], chain([x_T], ancestral(reverse, x_T, steps)), strict=False):  # the last step is not taken
        if t in times:
            yield reverse.predicted(x_t, torch.full((len(x_t),), t, device=x_t.device))


class Progressive:
    """Figures 6, 10 and 14: x_0-hat on n chains of `steps` steps at `columns` times, evenly spaced from T to 1.

    Arrays: `progressive` (shown, columns, C, H, W) of the first chains, `progressive_times`, and `samples` (n, C, H, W). Each
    of `scores` measures the n predicted images of each column; its arrays are named by quantity and statistics, for instance
    `patch_distance_train_step`, `_mean`, `_stderr`, the step being T - t + 1. `wrap` makes the process that is evaluated of
    the trained one (`dpm.reverse.gaussian.clipped`).
    """

    def __init__(
        self,
        n: int,
        steps: int,
        columns: int,
        shown: int,
        batch_size: int,
        scores: Sequence[Score],
        wrap: Callable[[Any], GaussianReverse],
    ) -> None:
        if not 1 <= shown <= n or not 2 <= columns <= steps or batch_size < 1:
            raise UserError(f"progressive: 1 <= shown <= n, 2 <= columns <= steps, got {shown=}, {n=}, {columns=}, {steps=}")
        self.n, self.steps, self.columns, self.shown = n, steps, columns, shown
        self.batch_size, self.scores, self.wrap = batch_size, scores, wrap

    def __call__(self, reverse: GaussianReverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        model, T = self.wrap(reverse), len(reverse.process.schedule)
        steps = grid(T, self.steps)
        times = [steps[k] for k in np.unique(np.linspace(0, len(steps) - 2, self.columns).round().astype(int))]
        images = self.images(model, x_0[:1].float(), steps, times, seed)
        rows = [self.scored(images[:, column], T - t + 1) for column, t in enumerate(times)]
        arrays = {"progressive": images[: self.shown], "progressive_times": np.array(times), "samples": images[:, -1]}
        return Evaluation(tuple(chain(*rows)), {**arrays, **curves(rows)})

    def images(self, model: GaussianReverse, like: Tensor, steps: Sequence[int], times: Sequence[int], seed: int) -> np.ndarray:
        """(n, columns, C, H, W), uint8."""
        batches = []
        for number, first in enumerate(range(0, self.n, self.batch_size)):
            seeds.seed_everything(seed, seeds.SAMPLING, PROGRESSIVE, number)
            size = min(self.batch_size, self.n - first)
            x_T = model.process.prior(like.expand(size, *like.shape[1:])).sample()
            batches.append(np.stack([grey(x) for x in predictions(model, x_T, steps, times)], 1))
        return np.concatenate(batches)

    def scored(self, images: np.ndarray, step: int) -> list[Measurement]:
        about: dict[str, Scalar] = {"sampler": "ancestral", "sampling_steps": self.steps, "reverse_step": step}
        protocol = {"source": "samples", **about}
        return [m.with_protocol(protocol) for score in self.scores for m in score(torch.from_numpy(images))]


def curves(rows: Sequence[Sequence[Measurement]]) -> dict[str, np.ndarray]:
    """Step, mean and standard error of each score, from the measurements of each column."""
    arrays: dict[str, np.ndarray] = {}
    for column in zip(*rows, strict=True):
        name = "_".join(str(part) for part in (column[0].quantity, column[0].protocol.get("statistics")) if part)
        arrays[f"{name}_step"] = np.array([m.protocol["reverse_step"] for m in column])
        arrays[f"{name}_mean"] = np.array([m.value for m in column])
        arrays[f"{name}_stderr"] = np.array([np.nan if m.stderr is None else m.stderr for m in column])
    return arrays


class SharedLatents:
    """Figure 7: `chains` chains, each stopped at the given times, and `completions` draws of x_0 given each x_t.

    Arrays: `shared_times` (k,), decreasing, `shared_x_t` (chains, k, C, H, W), `shared_x_0` (chains, k, completions, C, H, W).
    """

    def __init__(self, times: Sequence[int], chains: int, completions: int, steps: int, wrap: Callable[[Any], Reverse]) -> None:
        if min(chains, completions, steps, len(times)) < 1:
            raise UserError(f"shared latents: at least one of each, got {times=}, {chains=}, {completions=}, {steps=}")
        self.times, self.chains, self.completions = sorted(set(times), reverse=True), chains, completions
        self.steps, self.wrap = steps, wrap

    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        model, T = self.wrap(reverse), len(reverse.process.schedule)
        if not 1 <= self.times[-1] <= self.times[0] <= T:
            raise UserError(f"shared latents: times from 1 to T = {T}, got {self.times}")
        seeds.seed_everything(seed, seeds.SAMPLING, SHARED)
        x_T = model.process.prior(x_0[:1].float().expand(self.chains, *x_0.shape[1:])).sample()
        stopped = stops(model, x_T, self.times, self.steps)
        draws = [self.draws(model, x_t, t) for t, x_t in zip(self.times, stopped, strict=True)]
        panels = {"shared_x_t": np.stack([grey(x) for x in stopped], 1), "shared_x_0": np.stack(draws, 1)}
        return Evaluation(arrays={"shared_times": np.array(self.times), **panels})

    def draws(self, model: Reverse, x_t: Tensor, t: int) -> np.ndarray:
        """(chains, completions, C, H, W)."""
        x_0 = completed(model, x_t.repeat_interleave(self.completions, 0), t, self.steps)
        return grey(x_0).reshape(self.chains, self.completions, *x_t.shape[1:])


def stops(reverse: Reverse, x_T: Tensor, times: Sequence[int], steps: int) -> list[Tensor]:
    """x_t of one chain at decreasing times t >= 1, which are added to its grid."""
    T = len(reverse.process.schedule)
    whole = sorted({*grid(T, steps), *times}, reverse=True)
    states = zip(whole, chain([x_T], ancestral(reverse, x_T, whole)), strict=True)
    return [next(x_t for t, x_t in states if t == time) for time in times]


class Interpolation:
    """Figures 8 and 9: pairs of images, mixed after t steps of diffusion and taken back, for each of `times` and `lambdas`.

    The pairs are the first and second half of the first 2 `pairs` examples. lambda = 0 and 1 are reconstructions; t = 0 mixes
    the images themselves. Arrays: `interpolation` (pairs, times, lambdas, C, H, W), `interpolation_sources` (pairs, 2, C, H,
    W), `interpolation_times`, `interpolation_lambdas`.
    """

    def __init__(
        self, times: Sequence[int], lambdas: Sequence[float], pairs: int, steps: int, wrap: Callable[[Any], Reverse]
    ) -> None:
        if min(pairs, steps, len(times), len(lambdas)) < 1:
            raise UserError(f"interpolation: at least one of each, got {times=}, {lambdas=}, {pairs=}, {steps=}")
        self.times, self.lambdas, self.pairs, self.steps, self.wrap = times, lambdas, pairs, steps, wrap

    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        model, T = self.wrap(reverse), len(reverse.process.schedule)
        if not all(0 <= t <= T for t in self.times) or len(x_0) < 2 * self.pairs:
            raise UserError(f"interpolation: times from 0 to T = {T} and {2 * self.pairs} images, got {self.times}, {len(x_0)}")
        one, other = x_0[: self.pairs].float(), x_0[self.pairs : 2 * self.pairs].float()
        rows = []
        for t in self.times:
            seeds.seed_everything(seed, seeds.SAMPLING, INTERPOLATION, t)
            rows.append(grey(interpolated(model, one, other, t, self.lambdas, self.steps)))
        arrays = {"interpolation": np.stack(rows, 1), "interpolation_sources": np.stack([grey(one), grey(other)], 1)}
        axes = {"interpolation_times": np.array(self.times), "interpolation_lambdas": np.array(self.lambdas)}
        return Evaluation(arrays={**arrays, **axes})


def interpolated(reverse: Reverse, x_0: Tensor, other: Tensor, t: int, lambdas: Sequence[float], steps: int) -> Tensor:
    """x_0 ~ p(x_0 | (1 - lambda) x_t + lambda x_t') for each lambda, (B, len(lambdas), ...)."""
    x_t = mixed(reverse.process, x_0, other, t, lambdas)
    return completed(reverse, x_t.flatten(0, 1), t, steps).reshape(x_t.shape)


def grey(x: Tensor) -> np.ndarray:
    """Grey levels of images on [-1, 1]."""
    return levels(DiscreteImages.grey(x))
