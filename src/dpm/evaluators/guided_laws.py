"""Guided samplers with a Gaussian prior: how far the exact law of each output is from the posterior; nothing is sampled."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.oracles.guided_laws import GaussianProblem
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement

METHODS = ("exact", "tmpd", "pigdm", "dps", "multiplied")


class GuidedLaws:
    """KL(law || posterior) of each method in each number of steps, and for a value known without noise RePaint's by `sweeps`.

    x_0 ~ N(0, [[1, 0.8], [0.8, 1]]), y = x_1 + n / 2 = 3/2; RePaint's is of x_2 alone, given x_1 = 3/2.
    """

    def __init__(self, steps: Sequence[int], sweeps: Sequence[int], sweeps_steps: int) -> None:
        self.steps, self.sweeps, self.sweeps_steps = list(steps), list(sweeps), sweeps_steps

    def __call__(self, reverse: GaussianReverse, data: object, x_0: Tensor, seed: int) -> Evaluation:
        S, A = (torch.tensor(rows, dtype=torch.float64) for rows in ([[1.0, 0.8], [0.8, 1.0]], [[1.0, 0.0]]))
        process, T = copy.deepcopy(reverse.process).cpu(), len(reverse.process.schedule)
        problem = GaussianProblem(process, S, A, 1.5 * A[0, :1], 0.5)
        rows = []

        def row(value: float, steps: int, method: str, sweeps: int) -> None:
            protocol: dict[str, Scalar] = {
                "data": "correlated pair",
                "method": method,
                "sampling_steps": steps,
                "sweeps": sweeps,
            }
            rows.append(Measurement("posterior_divergence", value, 0.0, 1, "nats", protocol, recipe={}))

        def grid(steps: int) -> list[int]:
            return [int(t) for t in np.linspace(T, 0, min(steps, T) + 1).round()]

        for steps in self.steps:
            for method in METHODS:
                row(problem.law(getattr(problem, method), grid(steps)).divergence(problem.posterior()), steps, method, 1)
        for sweeps in self.sweeps:
            mean, C = problem.law(problem.replaced, grid(self.sweeps_steps), sweeps)
            off = torch.distributions.Normal(mean[1], C[1, 1].sqrt())
            known = torch.distributions.Normal(mean.new_tensor(1.2), mean.new_tensor(0.6))
            row(float(torch.distributions.kl_divergence(off, known)), self.sweeps_steps, "repaint", sweeps)
        return Evaluation(tuple(rows))
