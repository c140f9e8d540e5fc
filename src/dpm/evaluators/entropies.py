"""The entropy of the reverse step between its bounds (2015, eq. 24 and appendix A), for data whose q(x_t) is known.

H(X_t | X_{t-1}) + H(X_{t-1} | X_0) - H(X_t | X_0) <= H(X_{t-1} | X_t) <= H(X_t | X_{t-1}),  t = 2..T. By the chain rule

    H(X_{t-1} | X_t) = upper - (H(X_t) - H(X_{t-1})) = lower + I(X_0; X_{t-1} | X_t).

So the lower bound always holds, and its distance is the least value of the term of K at t, whatever the reverse process. The
upper one holds where the entropy of x_t does not fall. H(X_t) = E[-log pi(x_t)] - KL(q(x_t) || pi); the divergence never
grows, pi being stationary, and E[-log pi(x_t)] moves towards H_pi: it is enough that E[-log pi(x_0)] <= H_pi. Since the mean
has no part in an entropy, the Gaussian kernel needs no more than variances of the d coordinates that add up to at most d;
2015 asks for 1 each. x_0 ~ N(0, v I) with v > 1 breaks it at every t.

Gaussian kernel, per dimension: 1/2 log(2 pi e beta_t), attained by x_0 ~ N(0, I), and 1/2 log(2 pi e beta-tilde_t), attained
by one single x_0: the entropies of FixedLarge and FixedSmall, the two variances of 2020, section 3.2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.bound import draw
from dpm.data import Data, KnownDensity
from dpm.errors import UserError
from dpm.evaluators import Arrays, Evaluation
from dpm.evaluators.bound import nats_per_unit
from dpm.facts import Scalar
from dpm.oracles.binomial import Enumerable, Enumeration
from dpm.processes import Process
from dpm.processes.binomial import BinomialDiffusion
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse
from dpm.study.records import Measurement, standard_error

ERRORS, ROUNDING = 3, 1e-12  # standard errors, and units, by which an estimate may miss a bound that holds


class Chain(Protocol):
    """The entropies of x_1..x_T under q, in nats."""

    protocol: Mapping[str, Scalar]

    def step(self, t: int) -> float:
        """H(X_t | X_{t-1})."""

    def noise(self, t: int) -> float:
        """H(X_t | X_0)."""

    def surprisal(self, t: int) -> Tensor:
        """-log q(x_t), whose mean is H(X_t): one value per example (n,), or the exact mean ()."""


class SampledChain(Chain):
    """Gaussian steps: q(x_t) by `data.log_density` at one draw of x_t for each x_0, everything else in closed form.

    Every t has the same x_0 and the same noise, so that H(X_t) - H(X_{t-1}) is a mean of differences that vary little.
    """

    protocol: Mapping[str, Scalar] = {"expectation": "sampled", "draws": 1}

    def __init__(self, reverse: Reverse, data: KnownDensity, x_0: Tensor, seed: int) -> None:
        if not isinstance(reverse.process, GaussianDiffusion):
            raise UserError(f"a density needs a Gaussian process, not {type(reverse.process).__name__}")
        self.process, self.data, self.x_0, self.seed = reverse.process, data, x_0, seed

    def step(self, t: int) -> float:
        time = _time(self.x_0, t)
        return float(self.process.kernel(self.x_0, time - 1, time).entropy().mean())  # the same for every x_{t-1}

    def noise(self, t: int) -> float:
        return _noise(self.process, self.x_0, t)

    def surprisal(self, t: int) -> Tensor:
        time = _time(self.x_0, t)
        alpha, sigma = (float(c) for c in self.process.schedule(time[0]))
        seeds.seed_everything(self.seed, seeds.EVALUATION)  # without t
        return -self.data.log_density(draw(self.process, self.x_0, time), alpha, sigma)


class EnumeratedChain(Chain):
    """Binomial steps: expectations over all words and all states, exact."""

    protocol: Mapping[str, Scalar] = {"expectation": "exact"}

    def __init__(self, reverse: Reverse, data: Enumerable, x_0: Tensor, seed: int) -> None:
        if not isinstance(reverse.process, BinomialDiffusion):
            raise UserError(f"words need a binomial process, not {type(reverse.process).__name__}")
        self.process, self.enumeration = reverse.process, Enumeration(reverse.process, data)
        self.words = self.enumeration.words

    def step(self, t: int) -> float:
        """Given x_{t-1}, a bit's entropy is that of a zero or that of a one: the mean number of ones at t - 1 is enough."""
        ones = float(self.process.marginal(self.words, _time(self.words, t - 1)).mean.sum(1).mean())
        bits = self.words.new_tensor([[0.0], [1.0]])
        of_zero, of_one = self.process.kernel(bits, _time(bits, t - 1), _time(bits, t)).entropy().tolist()
        return float((self.words.shape[1] - ones) * of_zero + ones * of_one)

    def noise(self, t: int) -> float:
        return _noise(self.process, self.words, t)

    def surprisal(self, t: int) -> Tensor:
        return self.words.new_tensor(self.enumeration.entropy(t))


def bounds(chain: Chain, t: int) -> tuple[float, float]:
    """(lower, upper) in nats (2015, eq. 24)."""
    upper = chain.step(t)
    return upper + chain.noise(t - 1) - chain.noise(t), upper


def rises(chain: Chain, T: int) -> Tensor:
    """H(X_t) - H(X_{t-1}) for t = 2..T, in nats: one value per example (T - 1, n), or exact ones (T - 1,)."""
    return torch.stack([chain.surprisal(t) for t in range(1, T + 1)]).diff(dim=0)


@dataclass(frozen=True)
class Bounded:
    """An estimate with its standard error between its bounds, all for t = 2..T: (T - 1,)."""

    lower: np.ndarray[Any, Any]
    truth: np.ndarray[Any, Any]
    truth_stderr: np.ndarray[Any, Any]
    upper: np.ndarray[Any, Any]

    @property
    def shares(self) -> dict[str, float]:
        """The share of times at which each bound holds, up to `ERRORS` standard errors of the truth and rounding."""
        slack = ERRORS * self.truth_stderr + ROUNDING
        holds = {"lower": self.truth - self.lower >= -slack, "upper": self.upper - self.truth >= -slack}
        return {side: float(times.mean()) for side, times in holds.items()}

    def arrays(self, prefix: str) -> Arrays:
        times = np.arange(2, len(self.truth) + 2)
        return {f"{prefix}_times": times, **{f"{prefix}_{key}": array for key, array in vars(self).items()}}


class EntropyBounds:
    """H(X_{t-1} | X_t) and its bounds for t = 2..T, the share of times at which each holds, and their summed distances.

    `chain(reverse, data, x_0, seed)` makes the entropies of the process in use. The distances from the truth add up to
    I(X_0; X_1) - I(X_0; X_T) for the lower bound, and to H(X_T) - H(X_1) for the upper one.
    """

    def __init__(self, chain: Callable[[Reverse, Any, Tensor, int], Chain], unit: str) -> None:
        self.chain, self.unit = chain, unit

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        T, scale = len(reverse.process.schedule), nats_per_unit(self.unit, x_0)
        if T < 2:
            raise UserError("T = 1 has no reverse step between two noisy states: set evaluators.entropies=null")
        chain = self.chain(reverse, data, x_0, seed)
        lower, upper = (np.array([bounds(chain, t) for t in range(2, T + 1)]) / scale).T
        rise = rises(chain, T) / scale
        mean, stderr = np.array([mean_and_error(values) for values in rise]).T
        bounded = Bounded(lower, upper - mean, stderr, upper)
        width, total = float((upper - lower).sum()), rise.sum(0)
        gaps = {"lower": width - total, "upper": total}
        measured = [self.measurement(chain, "entropy_gap", side, gap, len(x_0)) for side, gap in gaps.items()]
        for side, share in bounded.shares.items():
            measured.append(Measurement("bounded_share", share, 0.0, T - 1, "1", self.protocol(chain, side, errors=ERRORS)))
        return Evaluation(tuple(measured), bounded.arrays("entropy"))

    def measurement(self, chain: Chain, quantity: str, side: str, values: Tensor, n: int) -> Measurement:
        return Measurement(quantity, *mean_and_error(values), n, self.unit, self.protocol(chain, side))

    @staticmethod
    def protocol(chain: Chain, side: str, **more: Scalar) -> Mapping[str, Scalar]:
        return {"terms": "all", "side": side, **chain.protocol, **more}


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Of one value per example (n,); an exact one () has no error."""
    return float(values.mean()), standard_error(values.cpu().numpy()) if values.ndim else 0.0


def _noise(process: Process, x_0: Tensor, t: int) -> float:
    """H(X_t | X_0)."""
    return float(process.marginal(x_0, _time(x_0, t)).entropy().mean())


def _time(x: Tensor, t: int) -> Tensor:
    return torch.full((len(x),), t, dtype=torch.long, device=x.device)
