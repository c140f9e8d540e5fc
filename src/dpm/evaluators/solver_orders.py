"""How fast solvers of the probability flow converge on a mixture in one dimension, with the exact score and the network's."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dpm.continuous import karras
from dpm.data.mixtures import GaussianMixture
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.consistency import rms
from dpm.facts import Scalar
from dpm.flows import Field, probability_flow
from dpm.oracles.consistency import exact, flow, places
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import last
from dpm.samplers.ode import adaptive, euler, heun
from dpm.study.records import Measurement

Solver = Callable[[Field, Tensor, Iterable[float]], Iterator[Tensor]]
SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun}


class SolverOrders:
    """`map_error` of each number of `steps` from the noise level `last` to `first` on `karras`'s grid, of = solver.

    Against the end of the same field's path, by Euler's and by Heun's method (Karras et al. 2022, algorithm 1), for the exact
    field and the network's; `convergence_order`, the power of the number of steps with which it falls.
    of = score: how far the path of the network's field ends from the exact one's. Arrays: the errors and their evaluations.
    """

    def __init__(self, first: float, last: float, steps: Sequence[int]) -> None:
        if len(steps) < 2:
            raise UserError(f"an order of convergence takes two numbers of steps, got {list(steps)}")
        self.first, self.last, self.steps = first, last, list(steps)

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: GaussianMixture, x_0: Tensor, seed: int) -> Evaluation:
        x, rows, arrays = places(data, self.last), [], {"steps": np.array(self.steps)}
        truth, network = exact(data, self.first, x, self.last), probability_flow(copy.deepcopy(reverse).cpu())
        limits = {"exact": truth, "network": adaptive(network, x, self.last, self.first, tolerance=1e-7)}

        def row(quantity: str, value: float, **about: Scalar) -> None:
            recipe: dict[str, Scalar] | None = {} if about["field"] == "exact" else None
            rows.append(Measurement(quantity, value, 0.0, len(x), "1", about, recipe=recipe))

        for name, field in (("exact", flow(data)), ("network", network)):
            for method, solver in SOLVERS.items():
                errors = np.array([rms(self.end(solver, field, x, number) - limits[name]) for number in self.steps])
                for number, error in zip(self.steps, errors, strict=True):
                    row("map_error", float(error), field=name, method=method, steps_of_solver=number, of="solver")
                power, _ = np.polyfit(np.log(self.steps), np.log(errors), 1)
                row("convergence_order", -float(power), field=name, method=method, steps_from=self.steps[0])
                arrays[f"{name}_{method}"] = errors
        row("map_error", rms(limits["network"] - truth), field="network", of="score")
        return Evaluation(tuple(rows), arrays)

    def end(self, solver: Solver, field: Field, x: Tensor, steps: int) -> Tensor:
        """x after this many steps, at `first`."""
        return last(solver(field, x, karras(self.last, self.first, steps + 1)[:-1]))
