"""Which steps to look at: distributions of their times, and draws from them that are spread evenly."""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dpm.baselines.gaussian_images import GaussianImages
from dpm.errors import UserError
from dpm.reverse import Reverse


class Draws(NamedTuple):
    """Steps from t to s, and 1 / q of each in float64, (n,)."""

    s: Tensor
    t: Tensor
    weights: Tensor


class Steps(Protocol):
    """Who draws steps; an objective needs no more of time than this."""

    def draw(self, reverse: Reverse, x_0: Tensor, first: int) -> Draws:
        """One step for each example, from t >= first where time is whole."""


class Times(Steps, ABC):
    """Single steps of a chain, t = first..T and s = t - 1."""

    @abstractmethod
    def masses(self, reverse: Reverse, first: int) -> Tensor:
        """Probabilities of t = first..T up to a common factor, positive, float64, shape (T - first + 1,)."""

    def draw(self, reverse: Reverse, x_0: Tensor, first: int) -> Draws:
        t, weights = stratified(self.masses(reverse, first).to(x_0.device), len(x_0), first)
        return Draws(t - 1, t, weights)


class Continuous(Steps):
    """Real t, uniform on (0, end) and stratified; s and t are the same moment, for regressions."""

    def draw(self, reverse: Reverse, x_0: Tensor, first: int) -> Draws:
        end = reverse.process.schedule.end
        t = end * spread(len(x_0), x_0.device)
        return Draws(t, t, torch.full_like(t, end))


class LogNormal(Steps):
    """Real t at the noise levels s = sigma_t / alpha_t with log s ~ N(mean, std^2), stratified; weights are 1 / q(log s).

    Karras et al. 2022, Table 1: -1.2 and 1.2.
    """

    def __init__(self, mean: float, std: float) -> None:
        if not std > 0:
            raise UserError(f"the noise levels of a log-normal distribution vary: std > 0, got {std}")
        self.mean, self.std = mean, std

    def draw(self, reverse: Reverse, x_0: Tensor, first: int) -> Draws:
        z = torch.special.ndtri(spread(len(x_0), x_0.device))
        t = reverse.process.schedule.time((self.mean + self.std * z).exp())
        return Draws(t, t, self.std * math.sqrt(2 * math.pi) * (z.square() / 2).exp())


class Uniform(Times):
    def masses(self, reverse: Reverse, first: int) -> Tensor:
        return torch.ones(len(reverse.process.schedule) - first + 1, dtype=torch.float64)


class NoiseLevels(Times):
    """q(t) proportional to exp(-(log(sigma_t / alpha_t) - log median)^2 / 2 spread^2), mixed with a tenth of the uniform."""

    def __init__(self, median: float, spread: float) -> None:
        if not (median > 0 and spread > 0):
            raise UserError(f"noise levels: median > 0 and spread > 0 must hold, got {median=}, {spread=}")
        self.median, self.spread = median, spread

    def masses(self, reverse: Reverse, first: int) -> Tensor:
        schedule = reverse.process.schedule
        alpha, sigma = (c.detach().double() for c in schedule(torch.arange(first, len(schedule) + 1)))
        q: Tensor = (-((sigma / alpha / self.median).log() / self.spread).square() / 2).exp()
        return with_uniform(q)


class AsLinear(Times):
    """`as_linear` for the Gaussian model of the data that the prediction of the reverse process holds.

    Computed once for each reverse process and first t: weights are 1 / q, so that a q which is out of date does not bias.
    """

    def __init__(self) -> None:
        self.known: WeakKeyDictionary[Reverse, dict[int, Tensor]] = WeakKeyDictionary()

    def masses(self, reverse: Reverse, first: int) -> Tensor:
        known = self.known.setdefault(reverse, {})
        if first not in known:
            model = getattr(getattr(reverse, "prediction", None), "model", None)
            if not isinstance(model, GaussianImages):
                raise UserError(
                    "times as_linear follow the Gaussian model of a linear residual; take uniform times with others"
                )
            known[first] = self.of(model, reverse.process, first)
        return known[first]

    def of(self, model: GaussianImages, process: Any, first: int) -> Tensor:
        return as_linear(model, process, first)


class AsLinearNoise(AsLinear):
    """q(t) proportional to E|eps - eps_theta|^2 of the best linear denoiser, and a tenth of the uniform: for L_simple.

    eps_theta = (x_t - alpha_t E_lin[x_0 | x_t]) / sigma_t is off by alpha_t / sigma_t times what x_0 is.
    """

    @torch.no_grad()
    def of(self, model: GaussianImages, process: Any, first: int) -> Tensor:
        t = torch.arange(first, len(process.schedule) + 1, device=model.variances.device)
        alpha, sigma = process.schedule(t)
        errors = torch.cat([model.error(process, part) for part in t.split(50)])  # type: ignore[no-untyped-call]
        return with_uniform((alpha / sigma).double().square() * errors)


@torch.no_grad()
def as_linear(model: GaussianImages, process: Any, first: int) -> Tensor:
    """q(t) proportional to the terms of the bound for a Gaussian model of the data, mixed with a tenth of the uniform.

    The terms span orders of magnitude; the variance of an estimate of their sum is least when q follows them.
    """
    t = torch.arange(first, len(process.schedule) + 1, device=model.variances.device)
    terms = torch.cat([model.terms(process, part) for part in t.split(50)])  # type: ignore[no-untyped-call]
    return with_uniform(terms)


def with_uniform(masses: Tensor) -> Tensor:
    """Nine tenths of these masses, and a tenth of the uniform distribution: no 1 / q exceeds ten times their number."""
    return 0.9 * masses / masses.sum() + 0.1 / len(masses)


def spread(n: int, device: torch.device) -> Tensor:
    """(k + u) / n, k = 0..n-1, with one uniform u for all: increasing, in float64."""
    return (torch.arange(n, device=device) + torch.rand(1, dtype=torch.float64, device=device)) / n


def stratified(masses: Tensor, n: int, first: int) -> tuple[Tensor, Tensor]:
    """n times t >= first, increasing, and 1 / q(t) for each, in float64; each t has the expected count n q(t).

    Times are the quantiles of q at (k + u) / n, k = 0..n-1, with one u for all. Paired with independent examples in
    random order, the mean of term_t / q(t) is unbiased for the sum of the terms over t.
    """
    total = masses.sum()
    index = torch.searchsorted(masses.cumsum(0), spread(n, masses.device) * total, right=True).clamp(max=len(masses) - 1)
    return first + index, total / masses[index]
