"""L_simple: the unweighted regression of the network's target, or of the noise (2020, algorithm 1 and eq. 14)."""

from torch import Tensor

from dpm.errors import UserError
from dpm.predictions import DataPrediction
from dpm.processes import per_example
from dpm.reverse.gaussian import GaussianReverse
from dpm.times import Steps, Uniform


class Simple:
    """Mean over coordinates of |target - network(x_t, t)|^2 with t uniform on 1..T, or drawn by `times`, shape (B,).

    `unbiased`: a loss at t is divided by T q(t), so that whatever `times` draws, the expectation is that of uniform t (for
    times whose weights are 1 / q(t)). Without it the distribution of t is a weighting of the loss.
    """

    def __init__(self, times: Steps | None = None, unbiased: bool = False) -> None:
        self.times, self.unbiased = times or Uniform(), unbiased
        self.wraps = "times" if times else ""  # as printed it is L_simple by that name alone

    def __call__(self, reverse: GaussianReverse, x_0: Tensor) -> Tensor:
        process, prediction = reverse.process, reverse.prediction
        if not isinstance(prediction, DataPrediction):
            raise UserError(f"L_simple regresses a target that x_0 determines; {type(prediction).__name__} has none")
        _, t, weights = self.times.draw(reverse, x_0, 1)
        x_t = process.marginal(x_0, t).sample()
        losses = self.error(reverse, prediction, x_0, x_t, t).square().flatten(1).mean(1)
        return losses * (weights / process.schedule.end).to(losses) if self.unbiased else losses

    def error(self, reverse: GaussianReverse, prediction: DataPrediction, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Of the network's output, in the units of its target."""
        return prediction.target(reverse.process, x_0, x_t, t) - reverse.output(x_t, t)


class OfNoise(Simple):
    """|eps - eps_theta|^2 whatever the network predicts, eps_theta = (x_t - alpha_t x_0-hat) / sigma_t (2020, eq. 14).

    A network that predicts eps has the same loss by both.
    """

    def error(self, reverse: GaussianReverse, prediction: DataPrediction, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = reverse.process.schedule(t)
        return per_example(alpha / sigma, x_t) * (reverse.predicted(x_t, t) - x_0)
