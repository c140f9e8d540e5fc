"""What the network's output means, and the mean of the reverse step that follows from it (2020, section 3.2)."""

from abc import ABC, abstractmethod

from torch import Tensor

from dpm.data import Finite
from dpm.processes.gaussian import GaussianDiffusion, Step, posterior_mean


class Prediction(ABC):
    """Tensors are shaped like x_t, times (B,); `step` leads from s to t, and `variance` is that of the reverse step."""

    @abstractmethod
    def mean(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor, step: Step, variance: Tensor) -> Tensor:
        """The mean of p(x_s | x_t)."""

    def input(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        """What the network sees: x_t itself, or a one-to-one function of it."""
        return x_t

    def fit(self, data: Finite) -> None:  # noqa: B027
        """Before training: what in it follows from the training examples in closed form. Most predictions have nothing."""


class DataPrediction(Prediction):
    """Outputs that determine x_0: the reverse mean is the posterior's at the predicted x_0. x_0(target(x_0)) == x_0."""

    @abstractmethod
    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """What a perfect network would output if it knew x_0."""

    @abstractmethod
    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The data that the output stands for."""

    def mean(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor, step: Step, variance: Tensor) -> Tensor:
        return posterior_mean(step, self.x_0(q, output, x_t, t), x_t)
