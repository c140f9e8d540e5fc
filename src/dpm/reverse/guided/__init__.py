"""Reverse steps guided by an observation: x_0-hat is moved by (sigma_t^2 / alpha_t) grad log p(y | x_t), as approximated.

One file a method: they differ in what they take for the covariance of y given x_t.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from dpm.observations import Observation
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse import Reverse
from dpm.reverse.conditioned import moments

Map = Callable[[Tensor], Tensor]


class Denoising(Protocol):
    """A Gaussian reverse process whose steps have the mean of q(x_s | x_t, x_0) at a predicted x_0."""

    @property
    def process(self) -> GaussianDiffusion: ...

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution: ...

    def predicted(self, x_t: Tensor, t: Tensor) -> Tensor: ...


class Look(NamedTuple):
    """What is seen from x_t: x_0-hat, and how the observation moves it."""

    x_0: Tensor
    shift: Tensor


class Guided(Reverse, ABC):
    """p(x_s | x_t) with its mean where x_0-hat + (sigma_t^2 / alpha_t) grad_{x_t} log N(y; A x_0-hat(x_t), R_t) puts it.

    R_t is held while the gradient is taken: with C = (sigma_t^2 / alpha_t) d x_0-hat / d x_t, which is Cov[x_0 | x_t] for the
    exact x_0-hat, the move is C A^T R_t^-1 (y - A x_0-hat). The variance of the step stays.
    """

    def __init__(self, reverse: Denoising, observation: Observation) -> None:
        self.reverse, self.observation = reverse, observation

    @property
    def process(self) -> GaussianDiffusion:
        return self.reverse.process

    @abstractmethod
    def solved(self, residual: Tensor, covariance: Map, t: Tensor) -> Tensor:
        """R_t^-1 residual; `covariance` is v -> C v on x_0."""

    def look(self, x_t: Tensor, t: Tensor) -> Look:
        """One evaluation of the network, and one product with its Jacobian more than `solved` takes."""
        alpha, sigma = self.process.schedule(t)
        scale = per_example(sigma.square() / alpha, x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            x_0 = self.reverse.predicted(x, t)

        def covariance(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(x_0, x, v, retain_graph=True)
            return scale * product

        residual = self.observation.residual(x_0.detach())
        return Look(x_0.detach(), covariance(self.observation.operator.adjoint(self.solved(residual, covariance, t))))

    def predicted(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_0-hat given y as well."""
        look = self.look(x_t, t)
        return look.x_0 + look.shift

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        return self.moved(self.reverse(x_t, s, t), self.look(x_t, t), s, t)

    def moved(self, p: Distribution, look: Look, s: Tensor, t: Tensor) -> Distribution:
        """The step p of `reverse`, moved by its coefficient of x_0."""
        return shifted(p, per_example(self.process.step(s, t).on_x_0, look.shift) * look.shift)


def shifted(p: Distribution, by: Tensor) -> Distribution:
    """A Gaussian with another mean."""
    if isinstance(p, MultivariateNormal):
        return MultivariateNormal(p.mean + by, scale_tril=p.scale_tril, validate_args=False)
    mean, variance = moments(p)
    return normal(mean + by, variance.sqrt())
