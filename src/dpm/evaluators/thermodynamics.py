"""A mixture in one dimension under the forward process: density, score, entropy and denoising error, each by two ways."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpm.data.mixtures import GaussianMixture
from dpm.errors import UserError
from dpm.evaluators import Array, Arrays, Evaluation
from dpm.evaluators.path_divergence import denoiser
from dpm.facts import Scalar
from dpm.fokker_planck import CHANG_COOPER, CRANK_NICOLSON, Score, cells, coefficients, derivative, evolve, score_residual
from dpm.information import POINTS, Denoiser, entropy, entropy_from_mmse, expectation, fisher_information
from dpm.reverse.gaussian import GaussianReverse
from dpm.schedules import Schedule
from dpm.study.records import Measurement

SCHEMES = {"crank_nicolson": CRANK_NICOLSON, "chang_cooper": CHANG_COOPER}
LIMIT = 5.0  # of the cells


class Thermodynamics:
    """The Fokker-Planck equation from `start` to `end` on each number of `cells`, in half as many steps, and the truth.

    By both schemes: L1 errors, their order in the number of cells, and the largest change of mass. By quadrature: what entropy
    from denoising errors, and its rate at `end` from Fisher information, differ from the exact ones; the root mean square at
    `end` of the residual of the score's equation, of the exact score and of the network's. Arrays: densities at five times.
    """

    def __init__(self, cells: Sequence[int], start: float, end: float) -> None:
        if len(cells) < 2 or min(cells) < 8:
            raise UserError(f"an order of convergence takes two numbers of cells, from 8 on, got {list(cells)}")
        self.cells, self.start, self.end = list(cells), start, end

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: GaussianMixture, x_0: Tensor, seed: int) -> Evaluation:
        reverse = copy.deepcopy(reverse).cpu()  # where quadrature is
        schedule, times = reverse.process.schedule, {"start": self.start, "end": self.end}
        rows, arrays = [], {"cells": np.array(self.cells)}

        def row(
            quantity: str, value: float, unit: str = "1", n: int = POINTS, of_process: bool = True, **about: Scalar
        ) -> None:
            protocol = {**schedule.facts, **times, **about}
            rows.append(Measurement(quantity, value, 0.0, n, unit, protocol, recipe={} if of_process else None))

        t = torch.tensor(self.end, dtype=torch.float64)
        f, g2 = coefficients(schedule, t)
        rate = f + g2 / 2 * fisher_information(data, *schedule(t))
        row("entropy_error", entropy_from_mmse(data) - float(entropy(data, 1.0, 0.0)), "nats", by="denoising errors")
        row("entropy_rate_error", float(rate - derivative(lambda t: entropy(data, *schedule(t)), t)), "nats", by="de Bruijn")
        x, weights = expectation(data, *schedule(t))
        for name, of in (("exact", data.denoised), ("network", denoiser(reverse))):
            residual = score_residual(score(of, schedule), schedule, x[:, 0], t.repeat(len(x)))
            row("score_residual", float(weights @ residual.square()) ** 0.5, of_process=name == "exact", score=name)
        for scheme in SCHEMES:
            errors = [self.error(data, schedule, scheme, number) for number in self.cells]
            for number, (error, _) in zip(self.cells, errors, strict=True):
                row("density_error", error, n=number, scheme=scheme, cells=number)
            distances, masses = np.array(errors).T
            slope, _ = np.polyfit(np.log(self.cells), np.log(distances), 1)
            row("convergence_order", -float(slope), n=len(errors), scheme=scheme)
            row("mass_error", float(masses.max()), n=len(errors), scheme=scheme)
            arrays[f"{scheme}_error"] = distances
        return Evaluation(tuple(rows), {**arrays, **self.densities(data, schedule)})

    def path(self, data: GaussianMixture, schedule: Schedule, scheme: str, number: int) -> tuple[Array, Array]:
        """The cells, and the density in them at all times, (steps + 1, cells)."""
        x, steps = cells(LIMIT, number), number // 2
        p = density(data, schedule, x, self.start)
        return x, np.array([p, *evolve(SCHEMES[scheme], schedule, x, p, self.start, self.end, steps)])

    def error(self, data: GaussianMixture, schedule: Schedule, scheme: str, number: int) -> tuple[float, float]:
        """L1 distance from the exact density at the end, and the largest change of mass."""
        x, path = self.path(data, schedule, scheme, number)
        distance, masses = np.abs(path[-1] - density(data, schedule, x, self.end)).sum(), path.sum(1)
        return float(distance * (x[1] - x[0])), float(np.abs(masses - masses[0]).max() * (x[1] - x[0]))

    def densities(self, data: GaussianMixture, schedule: Schedule) -> Arrays:
        x, path = self.path(data, schedule, "crank_nicolson", self.cells[-1])
        shown = (np.array([0, 0.1, 0.25, 0.5, 1]) * (len(path) - 1)).astype(int)
        times = self.start + (self.end - self.start) * shown / (len(path) - 1)
        exact = np.array([density(data, schedule, x, float(t)) for t in times])
        return {"x": x, "times": times, "density": path[shown], "exact_density": exact}


def density(data: GaussianMixture, schedule: Schedule, x: Array, t: float) -> Array:
    """q_t in the cells x."""
    at: Array = data.log_density(torch.from_numpy(x)[:, None], *schedule(torch.tensor(t, dtype=torch.float64))).exp().numpy()
    return at


def score(denoiser: Denoiser, schedule: Schedule) -> Score:
    """(alpha x_0-hat - x) / sigma^2 (Tweedie)."""

    def of(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        s: Tensor = (alpha * denoiser(x[:, None], alpha, sigma)[:, 0] - x) / sigma.square()
        return s

    return of
