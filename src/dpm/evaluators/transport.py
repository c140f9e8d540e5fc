"""A flow between two ends in low dimensions: how far from the target it ends, and how far from the least transport it goes."""

import copy
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from dpm import seeds
from dpm.data.synthetic import Synthetic
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.reverse.transport import Transport
from dpm.study.records import Measurement, standard_error
from dpm.transport import Distance, pushed, wasserstein

AGAIN = 1  # random stream of a second sample of the target


class EndsAndEnergy:
    """x_0 of n pairs, pushed to t = 1 in `steps` of Euler's (Tong et al. 2023, appendix F):

    `wasserstein_distance` to x_1 of the pairs (eq. 21), and `wasserstein_floor`, that of x_1 to another n draws of the target:
    what a perfect model shows. `path_energy` E int |v|^2 dt, and `normalised_path_energy`, |energy - W_2^2| / W_2^2 for the
    distance W_2 of the two ends (eq. 22): 0 for the optimal flow, and for some that miss the target. `claims` maps quantities
    to what they answer. Arrays: the first `shown` of source, target and pushed points.
    """

    def __init__(self, steps: int, shown: int = 0, claims: Mapping[str, str] | None = None) -> None:
        if steps < 1:
            raise UserError(f"a path has one step at least, got {steps}")
        self.steps, self.shown, self.claims = steps, shown, claims or {}

    @torch.no_grad()
    def __call__(self, reverse: Transport, data: Synthetic, x_0: Tensor, seed: int) -> Evaluation:
        reverse, (x, y), n = copy.deepcopy(reverse).cpu(), x_0.cpu().unbind(1), len(x_0)  # where pairings are solved
        solver: dict[str, Scalar] = {"solver": "euler", "steps_of_solver": self.steps}
        journey = pushed(reverse.field, x, self.steps)
        again = data.sample(n, seeds.generator(0, seeds.EVALUATION, AGAIN))[:, 1]
        ends, floor = of_data(Sample(x), Sample(y)), of_data(Sample(y), Sample(again))
        energy, distance, W = float(journey.energy.mean()), wasserstein(journey.end, y), ends.value**2
        of_energy = standard_error(journey.energy.numpy())

        def row(quantity: str, value: float, stderr: float) -> Measurement:
            return Measurement(quantity, value, stderr, n, "1", solver, self.claims.get(quantity))

        rows = (
            row("wasserstein_distance", *distance),
            row("normalised_path_energy", abs(energy - W) / W, of_energy / W),
            row("path_energy", energy, of_energy),
            Measurement("wasserstein_floor", *floor, n, "1", {}, recipe={}),
            Measurement("wasserstein_distance", *ends, n, "1", {"between": "ends"}, recipe={}),
        )
        shown = {"source": x, "target": y, "pushed": journey.end}
        return Evaluation(rows, {name: points[: self.shown].float().numpy() for name, points in shown.items()})


class Sample:
    """A sample by its bytes, so that what is known of it is found again."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.key = x, x.numpy().tobytes()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sample) and self.key == other.key


@cache
def of_data(x: Sample, y: Sample) -> Distance:
    """W_2 of held-out samples, which are the same for every seed: in a sweep it is computed once."""
    return wasserstein(x.x, y.x)
