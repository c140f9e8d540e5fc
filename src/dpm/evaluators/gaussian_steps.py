"""What steps with independent pixels cost, in closed form: the bound of a Gaussian model of images, whose entropy is known."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm.baselines.gaussian_images import GaussianImages
from dpm.errors import UserError
from dpm.evaluators import Arrays, Evaluation
from dpm.facts import Scalar
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse
from dpm.schedules import BetaSchedule
from dpm.study.records import Measurement


@dataclass(frozen=True)
class Costs:
    """In nats per image: what each term t = 1..T loses by a diagonal covariance, and the bound without this loss."""

    lost: Tensor  # (T,), float64
    exact: float


@torch.no_grad()
def costs(model: GaussianImages, q: GaussianDiffusion) -> Costs:
    """E over x_0 of the model of the terms of L for the best reverse process, and for the best one with a diagonal covariance.

    Cov[x_0 | x_t] = A^T diag(w) A. With beta-tilde and b of the step from t,

        1/2 sum_k log(1 + b^2 w_k / beta-tilde), and 1/2 sum_i log(1 + b^2 diag(A^T diag(w) A)_i / beta-tilde) on a diagonal;

    at t = 1 the entropies of a Gaussian decoder, 1/2 sum log(2 pi e w). L_T = KL(q(x_T | x_0) || pi) is common to both.
    """
    T, lost, exact = len(q.schedule), [], 0.0
    for t in torch.arange(1, T + 1).split(50):  # type: ignore[no-untyped-call]
        w = model.gain(q, t)[1]
        step = q.step(t - 1, t)
        first = per_example(t == 1, w).bool()
        ratio = per_example(step.on_x_0.square() / step.posterior_variance.where(t > 1, 1), w)
        full, diagonal = (torch.where(first, v.log(), torch.log1p(ratio * v)) for v in (w, model.at_pixels(w)))
        lost.append((diagonal - full).flatten(1).sum(1) / 2)
        exact += float(full.sum()) / 2
    alpha, sigma = (float(c) for c in q.schedule(torch.tensor(T)))
    D, square = model.variances.numel(), float(model.variances.sum() + model.mean.square().sum())
    prior = (alpha**2 * square + D * (sigma**2 - 1 - 2 * math.log(sigma))) / 2
    return Costs(torch.cat(lost), exact + prior + D * math.log(2 * math.pi * math.e) / 2)


class GaussianSteps:
    """By how much L exceeds the entropy of a Gaussian model of the training images, in bits/dim, for chains of T steps each.

    Steps have a diagonal covariance, but for those of t <= m, which have the full one: m = 0, 1 (the decoder's) and `last`. The
    betas are schedules[name](T). `data.grey` is a scaling; the density stands for the probability of 8-bit values. `shown` is
    the chain whose terms are kept one by one, for the first schedule.
    """

    def __init__(
        self, lengths: Sequence[int], schedules: Mapping[str, Callable[[int], BetaSchedule]], last: int, shown: int
    ) -> None:
        if not schedules or not lengths or min(lengths) < 2 or last < 1 or shown not in lengths:
            raise UserError(f"chains have 2 steps at least, `shown` is one of them, last >= 1: {lengths=}, {shown=}, {last=}")
        self.lengths, self.schedules, self.shown = list(lengths), schedules, shown
        self.until = tuple(dict.fromkeys((0, 1, last)))

    def __call__(self, reverse: Reverse, data: Any, x_0: Tensor, seed: int) -> Evaluation:
        training = data.training()
        model = GaussianImages(*training.shape[1:])
        model.fit(training)
        scale, shift = model.variances.numel() * math.log(2), math.log2(float(data.grey(x_0.new_ones(())) - data.grey(0.0)))
        arrays = {"gaussian_T": np.array(self.lengths), "gaussian_entropy": np.array([entropy(model) / scale + shift])}
        for name, schedule in self.schedules.items():
            found = {T: costs(model, GaussianDiffusion(schedule(T))) for T in self.lengths}
            for m in self.until:
                arrays[f"gaussian_{name}_lost_after_{m}"] = np.array([float(c.lost[m:].sum()) / scale for c in found.values()])
            arrays.setdefault("gaussian_terms", found[self.shown].lost.numpy() / scale)
        return Evaluation(tuple(self.measurements(arrays, len(training))), arrays)

    def measurements(self, arrays: Arrays, n: int) -> Iterator[Measurement]:
        """The entropy of the model, and how far L is above it, for each schedule, m and T."""
        about: dict[str, Scalar] = {"split": "model", "weights": "none", "clip_x_0": False, "terms": "closed_form"}
        yield Measurement("nll", float(arrays["gaussian_entropy"][0]), 0.0, n, "bits/dim", about)
        for name, m in product(self.schedules, self.until):
            for T, lost in zip(self.lengths, arrays[f"gaussian_{name}_lost_after_{m}"], strict=True):
                protocol = {**about, "covariance": "pixels", "full_until": m, "first_beta": name, "T": T}
                yield Measurement("entropy_gap", float(lost), 0.0, n, "bits/dim", protocol)


def entropy(model: GaussianImages) -> float:
    """1/2 sum_k log(2 pi e v_k), nats."""
    return float((model.variances.log() + math.log(2 * math.pi * math.e)).sum()) / 2
