"""The papers' predictions: x_0, eps and mu-tilde (2020), the perturbed forward step (2015); and v, between x_0 and eps."""

from torch import Tensor, nn

from dpm.data import Finite
from dpm.predictions import DataPrediction, Prediction
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, Step, posterior_mean


class X0(DataPrediction):
    """The network predicts x_0 itself."""

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return x_0

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return output


class Epsilon(DataPrediction):
    """The network predicts eps of x_t = alpha_t x_0 + sigma_t eps (2020, eqs. 11 and 15)."""

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (per_example(c, x_t) for c in q.schedule(t))
        return (x_t - alpha * x_0) / sigma

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (per_example(c, x_t) for c in q.schedule(t))
        return (x_t - sigma * output) / alpha


class Velocity(DataPrediction):
    """The network predicts v = alpha_t eps - sigma_t x_0, which stays well scaled at both ends of the chain."""

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (per_example(c, x_t) for c in q.schedule(t))
        return (alpha * x_t - x_0) / sigma

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (per_example(c, x_t) for c in q.schedule(t))
        return alpha * x_t - sigma * output


class Mean(DataPrediction):
    """The network predicts mu-tilde, the mean of q(x_{t-1} | x_t, x_0); at t = 1 that is x_0 (2020, Table 2)."""

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return posterior_mean(q.step(t - 1, t), x_0, x_t)

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        step = q.step(t - 1, t)
        return (output - per_example(step.on_x_t, x_t) * x_t) / per_example(step.on_x_0, x_t)


class ForwardPerturbation(Prediction):
    """mu = (x_t - z) (1 - Sigma) + z: the forward step, perturbed by the network (2015, eq. 65)."""

    def mean(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor, step: Step, variance: Tensor) -> Tensor:
        return (x_t - output) * (1 - variance) + output


class ScaledForwardPerturbation(Prediction):
    """mu = alpha_{t|s} x_t + sigma_{t|s} z: the release's form of 2015, eq. 65, where z has the scale of the noise."""

    def mean(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor, step: Step, variance: Tensor) -> Tensor:
        return per_example(step.alpha, x_t) * x_t + per_example(step.variance.sqrt(), x_t) * output


class Clipped(nn.Module, DataPrediction):
    """Another prediction with its x_0 kept in [low, high] (for sampling and evaluation, never for training)."""

    def __init__(self, prediction: DataPrediction, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()  # a module, so that a model inside of the prediction is found
        self.prediction, self.low, self.high = prediction, low, high

    def fit(self, data: Finite) -> None:
        self.prediction.fit(data)

    def input(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        return self.prediction.input(q, x_t, t)

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.prediction.target(q, x_0, x_t, t)

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.prediction.x_0(q, output, x_t, t).clamp(self.low, self.high)
