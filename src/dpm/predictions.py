"""What the network's output means, and the mean of the reverse step that follows from it (2020, section 3.2)."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dpm.errors import UserError
from dpm.image_model import GaussianImages
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, Step, posterior_mean


class Prediction(ABC):
    """Tensors are shaped like x_t, times (B,); `step` leads from s to t, and `variance` is that of the reverse step."""

    @abstractmethod
    def mean(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor, step: Step, variance: Tensor) -> Tensor:
        """The mean of p(x_s | x_t)."""

    def input(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        """What the network sees: x_t itself, or a one-to-one function of it."""
        return x_t


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


class LinearResidual(nn.Module, DataPrediction):
    """The network predicts what the best linear denoiser misses, in units of its root mean square error r_t.

    x_0 = E_lin[x_0 | x_t] + r_t output. With an output of zero the reverse process is the best linear one for the data's
    covariance, so that training starts from the bound of a Gaussian model and not from nothing.
    """

    def __init__(self, model: GaussianImages) -> None:
        super().__init__()
        self.model = model

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return (x_0 - self.model.posterior_mean(q, x_t, t)) / per_example(self.model.error(q, t).sqrt(), x_t)

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.model.posterior_mean(q, x_t, t) + per_example(self.model.error(q, t).sqrt(), x_t) * output


class WhitenedResidual(LinearResidual):
    """The same, and the network sees x_t in the coordinates in which the Gaussian model of the data makes it white.

    Fine detail, which is a hundredth of an image, then counts as much as its shades: a network without normalisation would
    have to find weights of a hundred first.
    """

    def input(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        return self.model.whitened(q, x_t, t)


class Noiseless(nn.Module, DataPrediction):
    """The network predicts u of x_0 = u + N(0, noise^2), images with white noise of their own, from all that is known of it.

    With y = x_t / alpha_t, s = sigma_t / alpha_t and c = s^2 / (s^2 + noise^2): E[x_0 | x_t] = y + c (E[u | x_t] - y), exactly,
    since y - u is noise of variance s^2 + noise^2, of which the share c is not the images'. It sees x_t in white coordinates,
    y, E_lin[x_0 | x_t] and the noise of y, (s^2 + noise^2)^1/2, as channels.
    """

    def __init__(self, model: GaussianImages, noise: float) -> None:
        super().__init__()
        if not noise > 0:
            raise UserError(f"images with noise of their own: noise > 0, in the units of x_0, must hold, got {noise}")
        self.model, self.noise = model, noise

    def input(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        y, variance = self._observation(q, x_t, t)
        tau = (variance + self.noise**2).sqrt().expand_as(x_t[:, :1])
        return torch.cat([self.model.whitened(q, x_t, t), y, self.model.posterior_mean(q, x_t, t), tau], 1)

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        y, variance = self._observation(q, x_t, t)
        return y + (1 + self.noise**2 / variance) * (x_0 - y)

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        y, variance = self._observation(q, x_t, t)
        return y + variance / (variance + self.noise**2) * (output - y)

    def _observation(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """y and s^2."""
        alpha, sigma = (per_example(c, x_t) for c in q.schedule(t))
        return x_t / alpha, (sigma / alpha).square()


class Mean(DataPrediction):
    """The network predicts mu-tilde, the mean of q(x_{t-1} | x_t, x_0); at t = 1 that is x_0 (2020, Table 2)."""

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return posterior_mean(q.step(t - 1, t), x_0, x_t)

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        step = q.step(t - 1, t)
        return (output - per_example(step.on_x_t, x_t) * x_t) / per_example(step.on_x_0, x_t)


class Clipped(nn.Module, DataPrediction):
    """Another prediction with its x_0 kept in [low, high] (for sampling and evaluation, never for training)."""

    def __init__(self, prediction: DataPrediction, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()  # a module, so that a model inside of the prediction is found
        self.prediction, self.low, self.high = prediction, low, high

    def input(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        return self.prediction.input(q, x_t, t)

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.prediction.target(q, x_0, x_t, t)

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.prediction.x_0(q, output, x_t, t).clamp(self.low, self.high)


class ForwardPerturbation(Prediction):
    """mu = (x_t - z) (1 - Sigma) + z: the forward step, perturbed by the network (2015, eq. 65)."""

    def mean(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor, step: Step, variance: Tensor) -> Tensor:
        return (x_t - output) * (1 - variance) + output


class ScaledForwardPerturbation(Prediction):
    """mu = alpha_{t|s} x_t + sigma_{t|s} z: the release's form of eq. 65, where z has the scale of the noise at every t."""

    def mean(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor, step: Step, variance: Tensor) -> Tensor:
        return per_example(step.alpha, x_t) * x_t + per_example(step.variance.sqrt(), x_t) * output
