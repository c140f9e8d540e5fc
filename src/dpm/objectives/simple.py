"""L_simple: the unweighted regression of the network's target (2020, algorithm 1 and eq. 14)."""

from torch import Tensor

from dpm.errors import UserError
from dpm.predictions import DataPrediction
from dpm.reverse.gaussian import GaussianReverse
from dpm.times import Steps, Uniform


class Simple:
    """Mean over coordinates of |target - network(x_t, t)|^2 with t uniform on 1..T, or drawn by `times`, shape (B,)."""

    def __init__(self, times: Steps | None = None) -> None:
        self.times = times or Uniform()
        self.wraps = "times" if times else ""  # as printed it is L_simple by that name alone

    def __call__(self, reverse: GaussianReverse, x_0: Tensor) -> Tensor:
        process, prediction = reverse.process, reverse.prediction
        if not isinstance(prediction, DataPrediction):
            raise UserError(f"L_simple regresses a target that x_0 determines; {type(prediction).__name__} has none")
        _, t, _ = self.times.draw(reverse, x_0, 1)
        x_t = process.marginal(x_0, t).sample()
        return (prediction.target(process, x_0, x_t, t) - reverse.output(x_t, t)).square().flatten(1).mean(1)
