"""Consistency models on mixtures in one dimension: what the grid of times, and what the training, make of the exact map."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dpm import samplers, seeds
from dpm.data.mixtures import GaussianMixture
from dpm.errors import UserError
from dpm.evaluators import Arrays, Evaluation
from dpm.facts import Scalar
from dpm.objectives.consistency import levels
from dpm.oracles.consistency import QUANTILES, distilled, exact, expectation, trained
from dpm.processes import at
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.consistency import multistep
from dpm.samplers.ode import euler, heun
from dpm.study.records import Measurement

Map = Callable[[GaussianMixture, Sequence[float]], tuple[Tensor, Tensor]]
POINTS: dict[str, Map] = {
    "euler": partial(distilled, solver=euler),
    "heun": partial(distilled, solver=heun),
    "training": trained,
}
ASYMPTOTIC = 36  # steps from which an error follows its power
SHOWN = slice(None, None, 20)  # of the points of a map


class FixedPoints:
    """Where distillation by Euler's and Heun's steps, and training, tend to on grids of `steps` times; no network is asked.

    For each: `map_error` against the exact map, `map_slope` on a Gaussian, `deviation` of one step; `convergence_order`, that
    of the error in the number of steps from 36 on; the distance of training from Euler's distillation. Arrays: the errors.
    """

    def __init__(self, first: float, last: float, steps: Sequence[int], claims: Mapping[str, str] | None = None) -> None:
        if sum(number >= ASYMPTOTIC for number in steps) < 2:
            raise UserError(f"an order of convergence takes two numbers of steps from {ASYMPTOTIC} on, got {list(steps)}")
        self.first, self.last, self.steps, self.claims = first, last, list(steps), claims or {}

    def __call__(self, reverse: GaussianReverse, data: GaussianMixture, x_0: Tensor, seed: int) -> Evaluation:
        rows, errors = [], np.empty((len(POINTS), len(self.steps)))

        def row(quantity: str, value: float, claim: str | None = None, **about: Scalar) -> None:
            rows.append(Measurement(quantity, value, 0.0, len(QUANTILES), "1", about, self.claims.get(claim or ""), recipe={}))

        for number, steps in enumerate(self.steps):
            times, maps = levels(self.first, self.last, steps), {}
            for method, (name, point) in enumerate(POINTS.items()):
                x, maps[name] = point(data, times)
                truth = exact(data, self.first, x, self.last)
                errors[method, number] = rms(maps[name] - truth)
                row("map_error", errors[method, number], method=name, times=steps, of="grid")
                if len(data.weights) == 1:
                    row("map_slope", slope(x, maps[name]), method=name, times=steps)
                row("deviation", deviation(maps[name]), method=name, times=steps, model="fixed_point")
            row(
                "map_error",
                rms(maps["training"] - maps["euler"]),
                f"training_{steps}",
                method="training",
                times=steps,
                of="theorem_2",
            )
        far = np.array(self.steps) >= ASYMPTOTIC
        for name, error in zip(POINTS, errors, strict=True):
            power, _ = np.polyfit(np.log(np.array(self.steps)[far]), np.log(error[far]), 1)
            row("convergence_order", -float(power), name, method=name, times_from=ASYMPTOTIC)
        if len(data.weights) == 1:
            row("map_slope", slope(x, truth), method="flow")
        row("deviation", deviation(truth), method="flow", model="fixed_point")
        return Evaluation(tuple(rows), {"steps": np.array(self.steps), "grid_error": errors})


class MapErrors:
    """The map of the network at the last of `times`, and what it is made of, as `map_error`.

    of = training: network minus the fixed point of its own method; of = grid: that minus the exact map; of = both. Then what
    f(x, start) misses x by (of = boundary), and `deviation` of n samples in one step and in two, by way of `again`.
    Arrays: the three maps.
    """

    def __init__(self, times: Sequence[float], fixed_point: Map, again: float, n: int) -> None:
        self.times, self.fixed_point, self.again, self.n = times, fixed_point, again, n

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: GaussianMixture, x_0: Tensor, seed: int) -> Evaluation:
        reverse, (first, last) = copy.deepcopy(reverse).cpu(), (self.times[0], self.times[-1])  # where quadrature is
        x, fixed = self.fixed_point(data, self.times)
        truth, network = exact(data, first, x, last), reverse.predicted(x, at(x, last))
        differences = {"training": network - fixed, "grid": fixed - truth, "both": network - truth}
        differences["boundary"] = reverse.predicted(x, at(x, first)) - x
        about: dict[str, Scalar] = {"times": len(self.times), "model": "network"}
        rows = [Measurement("map_error", rms(d), 0.0, len(x), "1", {**about, "of": of}) for of, d in differences.items()]
        seeds.seed_everything(seed, seeds.SAMPLING)
        noise = reverse.process.prior(x.new_zeros(self.n, 1)).sample()
        for number, grid in enumerate(([last], [last, self.again]), 1):
            samples = samplers.last(multistep(reverse, noise, grid, first))
            value = float(samples.std())
            error = value / (2 * self.n) ** 0.5
            rows.append(Measurement("deviation", value, error, self.n, "1", {**about, "evaluations": number}))
        return Evaluation(tuple(rows), shown(x=x, fixed_point=fixed, exact=truth, network=network))


def rms(f: Tensor) -> float:
    return math.sqrt(expectation(f.square()))


def deviation(f: Tensor) -> float:
    return rms(f - expectation(f))


def slope(x: Tensor, f: Tensor) -> float:
    """From end to end."""
    return float((f[-1] - f[0]) / (x[-1] - x[0]))


def shown(**maps: Tensor) -> Arrays:
    return {name: values[SHOWN, 0].float().numpy() for name, values in maps.items()}
