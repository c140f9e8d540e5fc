"""p(x_s | x_t) = N(mu_theta(x_t, t), Sigma_theta(x_t, t)), Sigma diagonal (2015, Table App.1; 2020, section 3.2)."""

from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from dpm.data import Finite
from dpm.decoders import Decoder
from dpm.errors import UserError
from dpm.facts import Scalar, named
from dpm.predictions import DataPrediction, Prediction
from dpm.predictions.papers import Clipped
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse import ReverseStep, require_shape
from dpm.variances import Variance


class GaussianReverse(ReverseStep):
    """The network's output is split by `variance` and read by `prediction`, which also says what the network sees of x_t.

    network(input, t) -> (B, C or 2 C, ...).
    """

    def __init__(
        self,
        process: GaussianDiffusion,
        network: nn.Module,
        prediction: Prediction,
        variance: Variance,
        decoder: Decoder,
    ) -> None:
        super().__init__()
        self.process: GaussianDiffusion = process
        self.network, self.prediction, self.variance, self.decoder = network, prediction, variance, decoder

    @property
    def facts(self) -> dict[str, Scalar]:
        own = {"clip_x_0": isinstance(self.prediction, Clipped), "covariance": self.variance.covariance}
        return {**super().facts, **own, **getattr(self.network, "protocol", {})}

    @property
    def recipe(self) -> dict[str, Scalar]:
        return {**super().recipe, "prediction": named(self.prediction), "variance": named(self.variance)}

    def fit(self, data: Finite) -> None:
        self.prediction.fit(data)

    def replacing(self, **parts: Any) -> "GaussianReverse":
        """The same process with some of its parts replaced, in evaluation mode; the others are shared, not copied."""
        own = {name: getattr(self, name) for name in ("network", "prediction", "variance", "decoder")}
        return GaussianReverse(self.process, **{**own, **parts}).eval()

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        step = self.process.step(s, t)
        output, z = self.split(x_t, t)
        variance = self.variance(self.process, z, s, t, step)
        mean = self.prediction.mean(self.process, output, x_t, t, step, variance)
        return normal(mean, variance.sqrt())

    def predicted(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_0-hat (2020, eq. 15)."""
        if not isinstance(self.prediction, DataPrediction):
            raise UserError(f"{type(self.prediction).__name__} predicts no x_0")
        return self.prediction.x_0(self.process, self.output(x_t, t), x_t, t)

    def output(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What the prediction reads of the network's output, without the variance's part."""
        return self.split(x_t, t)[0]

    def split(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the prediction reads, shaped like x_t, and what the variance reads; any other shape would broadcast silently."""
        output, z = self.variance.split(self.raw(x_t, t))
        require_shape(output, x_t, f"with {type(self.variance).__name__} the network gives")
        return output, z

    def raw(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's output, before it is split."""
        output: Tensor = self.network(self.prediction.input(self.process, x_t, t), t)
        return output


def clipped(reverse: GaussianReverse) -> GaussianReverse:
    """The same process, every prediction of x_0 kept in [-1, 1] (2020's code, for sampling and evaluation)."""
    if not isinstance(reverse.prediction, DataPrediction):
        raise UserError(f"only a prediction of x_0 can be clipped, {type(reverse.prediction).__name__} is none")
    return reverse.replacing(prediction=Clipped(reverse.prediction))
