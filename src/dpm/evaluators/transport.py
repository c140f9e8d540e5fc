"""A flow between two ends in low dimensions: how far from the target it ends, and how far from the least transport it goes."""

import torch
from torch import Tensor

from dpm import seeds
from dpm.data.synthetic import Synthetic
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.reverse.transport import Transport
from dpm.study.records import Measurement, standard_error
from dpm.transport import pushed, wasserstein

AGAIN = 1  # random stream of a second sample of the target


class EndsAndEnergy:
    """x_0 of n pairs, pushed to t = 1 in `steps` of Euler's (Tong et al. 2023, appendix F):

    `wasserstein_distance` to x_1 of the pairs (eq. 21), and `wasserstein_floor`, that of x_1 to another n draws of the target:
    what a perfect model shows. `path_energy` E int |v|^2 dt, and `normalised_path_energy`, |energy - W_2^2| / W_2^2 for the
    distance W_2 of the two ends (eq. 22): 0 for the optimal flow, and for some that miss the target.
    """

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise UserError(f"a path has one step at least, got {steps}")
        self.steps = steps

    @torch.no_grad()
    def __call__(self, reverse: Transport, data: Synthetic, x_0: Tensor, seed: int) -> Evaluation:
        (x, y), n = x_0.cpu().unbind(1), len(x_0)
        solver: dict[str, Scalar] = {"solver": "euler", "steps_of_solver": self.steps}
        journey = pushed(reverse.field, x, self.steps)
        again = data.sample(n, seeds.generator(0, seeds.EVALUATION, AGAIN))[:, 1]
        ends, floor = wasserstein(x, y), wasserstein(y, again)
        energy, distance, W = float(journey.energy.mean()), wasserstein(journey.end, y), ends.value**2
        of_energy = standard_error(journey.energy.numpy())
        rows = (
            Measurement("wasserstein_distance", *distance, n, "1", solver),
            Measurement("normalised_path_energy", abs(energy - W) / W, of_energy / W, n, "1", solver),
            Measurement("path_energy", energy, of_energy, n, "1", solver),
            Measurement("wasserstein_floor", *floor, n, "1", {}, recipe={}),
            Measurement("wasserstein_distance", *ends, n, "1", {"between": "ends"}, recipe={}),
        )
        few = slice(min(n, 1000))
        return Evaluation(
            rows,
            {"source": x[few].float().numpy(), "target": y[few].float().numpy(), "pushed": journey.end[few].float().numpy()},
        )
