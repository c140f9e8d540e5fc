"""The variance of the Gaussian reverse step: fixed (2020, section 3.2) or learned (2015, eq. 64; 2020, Table 2)."""

from typing import Protocol

import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, Step


class Variance(Protocol):
    covariance: str = "pixels"  # in a protocol: of a diagonal Sigma

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The network's output: (what is the prediction's, what is the variance's)."""

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        """The variance of p(x_s | x_t), which broadcasts against x_t, of its part z of the output."""


class Fixed(Variance):
    """All of the output is the prediction's."""

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return output, output


class Halved(Variance):
    """The second half of the output's channels is the variance's."""

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        left, z = output.chunk(2, dim=1)
        return left, z


class FixedLarge(Fixed):
    """sigma_t^2 = beta_t, the upper bound (2020, section 3.2); beta-tilde_2 at the first step."""

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        return per_example(with_first_step(q, s, step.variance), z)


class FixedSmall(Fixed):
    """sigma_t^2 = beta-tilde_t, the lower bound (2020, section 3.2); beta-tilde_2 at the first step."""

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        return per_example(with_first_step(q, s, step.posterior_variance), z)


class Learned(Halved):
    """z = log sigma^2 (2020, Table 2)."""

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        return z.exp()


class LearnedPosterior(Halved):
    """sigma^2 = beta-tilde + b^2 sigma_t^2 exp(z), b the posterior's coefficient of x_0.

    The best diagonal Gaussian has beta-tilde + b^2 Var[x_0 | x_t] (oracles.gaussian), so z = log(Var[x_0 | x_t] / sigma_t^2),
    0 where x_0 ~ N(0, I). It is never below beta-tilde, the smallest that helps, and serves the decoder (s = 0) too.
    """

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        _, sigma = q.schedule(t)
        scale = per_example(step.on_x_0.square() * sigma.square(), z)
        return per_example(step.posterior_variance, z) + scale * z.clamp(-16, 16).exp()


class SigmoidPerturbation(Halved):
    """Sigma = sigmoid(z + logit(beta_t)): beta_t, perturbed (2015, eq. 64)."""

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        return torch.sigmoid(z + per_example(torch.logit(step.variance), z))


def with_first_step(q: GaussianDiffusion, s: Tensor, variance: Tensor) -> Tensor:
    """The step to x_0 has posterior variance 0; the release uses beta-tilde_2 there for both of its fixed variances."""
    if len(q.schedule) < 2:
        raise UserError("the fixed variances of 2020 take beta-tilde_2 for the first step: T = 1 has none")
    one = torch.ones_like(s)
    return torch.where(s == 0, q.step(one, one + 1).posterior_variance, variance)
