"""The Gaussian mixture benchmark of Cardoso et al. 2024 (MCGDiff) on shipped instances, and its DPS baseline as it is coded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm import seeds
from dpm.data.mixtures import GaussianMixture, grid_of_modes
from dpm.evaluators import Evaluation
from dpm.evaluators.inverse import Filtered, OnePass, PosteriorSampler, of_parts
from dpm.facts import Scalar
from dpm.observations import Matrix, Observation
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse.guided.dps import NormDPS
from dpm.samplers import last
from dpm.samplers.ancestral import ancestral
from dpm.schedules import BetaSchedule
from dpm.study.records import Measurement


class RightCoefficients:
    """N(a x_t + b E[x_0 | x_t], eta^2 beta-tilde I) with a and b of the posterior q(x_s | x_t, x_0) (2020, eq. 7)."""

    def __init__(self, process: GaussianDiffusion, data: GaussianMixture, eta: float) -> None:
        self.process, self.data, self.eta = process, data, eta

    def coefficients(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        step = self.process.step(s, t)
        return step.on_x_t, step.on_x_0

    def predicted(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.data.denoised(x_t, *self.process.schedule(t))

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        a, b = (per_example(c, x_t) for c in self.coefficients(s, t))
        std = self.eta * per_example(self.process.step(s, t).posterior_variance.sqrt(), x_t)
        return normal(a * x_t + b * self.predicted(x_t, t), std)


class AsCoded(RightCoefficients):
    """Both coefficients with alpha_t, where alpha_t / alpha_s (of x_t) and alpha_s (of x_0) belong."""

    def coefficients(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        a, b = super().coefficients(s, t)
        (alpha_s, _), (alpha_t, _) = self.process.schedule(s), self.process.schedule(t)
        return a * alpha_s, b * alpha_t / alpha_s


class StoredBenchmark:
    """Max-sliced W2 (100 random directions) of n samples from 10 n exact ones, for each instance (A, y, noise), d_x = 8.

    999 betas that fall from 0.02 to 1e-4, 100 steps, eta = 0.6, zeta = 1 of the squared norm over the norm. Rows: exact samples
    (`posterior`), the prior's, DPS as coded and with the right coefficients, and `particles` (eta = 1); with no observation the
    two samplers' distance from the prior and their standard deviation in x_1.
    """

    ETA, ZETA, STEPS = 0.6, 2.0, 100  # the gradient of a squared norm over the norm is twice that of the norm

    def __init__(
        self,
        weights: list[float],
        instances: Sequence[Mapping[str, Any]],
        particles: Filtered,
        n: int,
        claims: Mapping[str, str] | None = None,
    ) -> None:
        self.data, self.instances, self.particles, self.n = grid_of_modes(8, weights), list(instances), particles, n
        self.claims = claims or {}
        self.process = GaussianDiffusion(BetaSchedule(torch.linspace(0.02, 1e-4, 999, dtype=torch.float64), "falling"))

    @torch.no_grad()
    def __call__(self, reverse: object, data: object, x_0: Tensor, seed: int) -> Evaluation:
        coded, right = (kind(self.process, self.data, self.ETA) for kind in (AsCoded, RightCoefficients))
        times = np.linspace(0, 999, self.STEPS).astype(int)[::-1].tolist()
        prior = self.data.sample(10 * self.n, seeds.generator(seed, seeds.EVALUATION))
        rows: list[Measurement] = []

        def row(quantity: str, value: float, error: float = 0.0, **about: Scalar) -> None:
            rows.append(Measurement(quantity, value, error, self.n, "1", {"data": "mcgdiff", **about}, recipe={}))

        dps = {"dps_as_coded": coded, "dps_right": right}
        for name, process in dps.items():
            seeds.seed_everything(seed, seeds.SAMPLING, 0)
            x = last(ancestral(process, torch.randn(self.n, 8, dtype=torch.float64), times))
            row("sample_deviation", float(x[:, 0].std()), method=name, d_y=0)
            row("max_sliced_distance", distance(x, prior, seed), method=name, d_y=0)
        row("sample_deviation", float(prior[:, 0].std()), method="prior", d_y=0)
        kept = []
        for instance in self.instances:
            A, y = (torch.tensor(instance[key], dtype=torch.float64) for key in ("A", "y"))
            posterior = self.data.given(A, y, instance["noise"])
            truth, floor = (posterior.sample(k * self.n, seeds.generator(seed, seeds.EVALUATION, k)) for k in (10, 1))
            found = {"posterior": distance(floor, truth, seed), "prior": distance(prior[: self.n], truth, seed)}
            errors: dict[str, float] = {}
            samplers: dict[str, tuple[RightCoefficients, PosteriorSampler]] = {
                k: (p, OnePass(dps_norm)) for k, p in dps.items()
            }
            samplers["particles"] = RightCoefficients(self.process, self.data, 1.0), self.particles
            for name, (process, method) in samplers.items():
                seeds.seed_everything(seed, seeds.SAMPLING, len(y))
                x = method(process, Matrix(A), y[None], instance["noise"], self.n, times)[0]
                found[name] = distance(x, truth, seed)
                errors[name] = of_parts(lambda part, truth=truth: distance(part, truth, seed), x)  # type: ignore[misc]
            for name, value in found.items():
                row("max_sliced_distance", value, errors.get(name, 0.0), method=name, d_y=len(y))
            kept.append(found["particles"] < found["dps_as_coded"])
        about: dict[str, Scalar] = {"data": "mcgdiff", "nearer": "particles", "than": "dps_as_coded", "d_x": 8}
        share, claim = float(np.mean(kept)), self.claims.get("order")
        rows.append(Measurement("order_share", share, 0.0, len(kept), "1", about, claim, recipe={}))
        return Evaluation(tuple(rows))


def dps_norm(reverse: RightCoefficients, observation: Observation) -> NormDPS:
    return NormDPS(reverse, observation, StoredBenchmark.ZETA)


def distance(x: Tensor, truth: Tensor, seed: int) -> float:
    """A maximum over random directions only: at d_y = 1 it varies by a factor with their seed."""
    return float(ot.max_sliced_wasserstein_distance(x.numpy(), truth.numpy(), n_projections=100, p=2, seed=seed))
