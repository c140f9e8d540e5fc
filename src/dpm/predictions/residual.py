"""This study's own: the network predicts what is left of x_0 when a model of the data has done its part."""

import torch
from torch import Tensor, nn

from dpm.baselines.gaussian_images import GaussianImages
from dpm.data import Finite
from dpm.errors import UserError
from dpm.predictions import DataPrediction
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion


class LinearResidual(nn.Module, DataPrediction):
    """The network predicts what the best linear denoiser misses, in units of its root mean square error r_t.

    x_0 = E_lin[x_0 | x_t] + r_t output. With an output of zero the reverse process is the best linear one for the data's
    covariance, so that training starts from the bound of a Gaussian model and not from nothing.
    """

    def __init__(self, model: GaussianImages) -> None:
        super().__init__()
        self.model = model

    def fit(self, data: Finite) -> None:
        self.model.fit(data.training())

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

    def fit(self, data: Finite) -> None:
        self.model.fit(data.training())

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
