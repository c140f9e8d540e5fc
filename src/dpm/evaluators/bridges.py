"""Samples of a learned bridge between N(m_0, I) and N(m_1, I) against its exact marginals, and what no training would show."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor

from dpm import seeds
from dpm.bridges import GaussianBridges, plan
from dpm.couplings import MiniBatchOT
from dpm.data import Data
from dpm.data.ends import GaussianEnds
from dpm.evaluators import Evaluation
from dpm.facts import Scalar, named
from dpm.flows import Field
from dpm.gaussian_fits import divergence, floor
from dpm.reverse.scored import ScoredTransport
from dpm.samplers.sde import euler_maruyama
from dpm.study.records import Measurement, standard_error

ONE = np.eye(1)


class BridgeMarginals:
    """`gaussian_divergence` of n samples by `steps` of Euler and Maruyama's: KL(Gaussian fitted to them || exact marginal), by
    the full covariance and by variances alone, at the end and as a mean over all steps + 1 times (Tong et al. 2023, eq. 23).

    Its error is the spread that samples of the exact marginal have, its `oracle` their mean, the floor. `covariance` of the
    ends, a mean over coordinates. `means` are those of the two ends, `n` is of the first examples, of all by default; `claims`
    maps "end" and "all", of the full covariance, and "diagonal end" and the like to what they answer.
    """

    def __init__(self, means: list[float], steps: int, n: int | None = None, claims: Mapping[str, str] | None = None) -> None:
        self.means, self.steps, self.n, self.claims = means, steps, n, claims or {}

    def bridge(self, reverse: Any) -> tuple[Field, int]:
        """Its drift and the end that it starts from."""
        return reverse.drift, 0

    @torch.no_grad()
    def __call__(self, reverse: Any, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        reverse, rows = copy.deepcopy(reverse).cpu(), list[Measurement]()
        drift, first = self.bridge(reverse)
        start, (m_0, m_1) = x_0.cpu()[: self.n, first], (self.means[first], self.means[1 - first])
        (n, d), sigma = start.shape, reverse.process.noise.scale
        seeds.seed_everything(seed, seeds.EVALUATION)
        grid, exact = np.linspace(0, 1, self.steps + 1), GaussianBridges(ONE, ONE, plan(ONE, ONE, sigma), sigma)
        path = [start, *euler_maruyama(drift, start, grid.tolist(), sigma)]
        marginals = [(float(exact.covariance(t)[0, 0]), (1 - t) * m_0 + t * m_1) for t in grid]
        about: dict[str, Scalar] = {"solver": "euler_maruyama", "steps_of_solver": self.steps}
        for estimator, diagonal, fitted in (("full", False, d * (d + 3) / 2), ("diagonal", True, 2 * d)):
            kl = [divergence(x.numpy(), *marginal, diagonal) for x, marginal in zip(path, marginals, strict=True)]
            for times, value in (("end", kl[-1]), ("all", float(np.mean(kl)))):
                protocol = {**about, "estimator": estimator, "times": times}
                spread, least = (fitted / 2) ** 0.5 / n, floor(d, n, diagonal=diagonal)
                claim = self.claims.get(f"diagonal {times}" if diagonal else times)
                rows.append(Measurement("gaussian_divergence", value, spread, n, "nats", protocol, claim, oracle=least))
        ends = torch.stack([start, path[-1]], 1) - torch.stack([start, path[-1]], 1).mean(0)
        products = ends.prod(1).mean(1).numpy()
        c = Measurement(
            "covariance", float(products.mean()), standard_error(products), n, "1", about, oracle=float(exact.C[0, 0])
        )
        return Evaluation((*rows, c))


class MarginalsOfLastRound(BridgeMarginals):
    """The same of the last of `dpm.reverse.rounds.Rounds`, whose field is a drift, from either end in turn."""

    def bridge(self, reverse: Any) -> tuple[Field, int]:
        *before, last = reverse
        return last.field, len(before) % 2


class AuditOfTable:
    """What [SF]2M shows in each of `dimensions` with networks that are perfect: mean divergence over 21 times of n samples.

    The `covariance` of a coordinate under the coupling of mini-batches of B points is measured on `batches` of them. Bridges
    between ends with this covariance have linear drifts, whose samples by 20 steps of Euler and Maruyama's are Gaussian with
    variances by recursion. The fitted divergence of n such samples has a closed expectation. By `formula`: with
    the flow target of Tong et al. 2023, eq. 8, and with that of the released runner (`dpm.paths.RunnerBridge`).
    """

    def __init__(
        self,
        means: list[float],
        dimensions: Sequence[int],
        couplings: Mapping[str, MiniBatchOT],
        B: int,
        batches: int,
        n: int,
        sigma: float,
    ) -> None:
        self.means = means
        self.dimensions, self.couplings, self.B, self.batches, self.n, self.sigma = dimensions, couplings, B, batches, n, sigma

    @torch.no_grad()
    def __call__(self, reverse: ScoredTransport, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        rows = []
        for d in self.dimensions:
            for coupling in self.couplings.values():
                generator = seeds.generator(seed, seeds.EVALUATION, d)
                ends = GaussianEnds(d, self.means, [1.0, 1.0])
                found = np.array([covariance(coupling, ends.sample(self.B, generator)) for _ in range(self.batches)])
                c, stderr = float(found.mean()), standard_error(found)
                about: dict[str, Scalar] = {"coupling": named(coupling), "d": d, "B": self.B}
                rows.append(Measurement("covariance", c, stderr, self.batches, "1", about, recipe={}))
                for formula, slips in (("paper", False), ("runner", True)):
                    value, moved = (self.expected(d, each, slips) for each in (c, c + stderr))
                    protocol = {**about, "formula": formula, "times": "all", "estimator": "full"}
                    rows.append(
                        Measurement("gaussian_divergence", value, abs(moved - value), self.n, "nats", protocol, recipe={})
                    )
        return Evaluation(tuple(rows))

    def expected(self, d: int, c: float, slips: bool) -> float:
        """E of the mean divergence for a coupling with covariance c."""
        return float(np.mean([floor(d, self.n, ratio) for ratio in variance_ratios(c, self.sigma, slips)]))


def covariance(coupling: MiniBatchOT, ends: Tensor) -> float:
    """Of x_0 and x_1 under the plan of a batch, a mean over coordinates."""
    x, y = (end.numpy() - end.numpy().mean(0) for end in ends.unbind(1))
    return float(np.sum((coupling.plan(ot.dist(*(end.numpy() for end in ends.unbind(1)))) @ y) * x) / x.shape[1])


def variance_ratios(c: float, sigma: float, slips: bool, steps: int = 20) -> list[float]:
    """Variance / exact variance at all times of [SF]2M's samples between unit Gaussians, for the covariance c of its pairs.

    drift = v + sigma^2 / 2 score; the runner's v has sigma^2 (1 - 2t) z in place of c' z.
    """
    bridges, exact = (GaussianBridges(ONE, ONE, C, sigma) for C in (c * ONE, plan(ONE, ONE, sigma)))
    variance, ratios = 1.0, [1.0]
    for i in range(steps):
        t, V = i / steps, float(bridges.covariance(i / steps)[0, 0])
        slip = sigma**2 * (1 - 2 * t) * (sigma * (t * (1 - t)) ** 0.5 - 0.5) if slips else 0.0
        drift = float(bridges.velocity(t)[0, 0]) + (slip - sigma**2 / 2) / V
        variance = (1 + drift / steps) ** 2 * variance + sigma**2 / steps
        ratios.append(variance / float(exact.covariance((i + 1) / steps)[0, 0]))
    return ratios
