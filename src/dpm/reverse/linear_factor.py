"""2015's r(x) for a linear observation: p(x_s | x_t) N(y; A x_s, noise^2 I) / Z, at every step alike (eq. 22)."""

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from dpm.errors import UserError
from dpm.observations import Matrix, Observation
from dpm.reverse import Reverse
from dpm.reverse.conditioned import Conditioned, Likelihood, moments


class LinearFactor(Likelihood):
    """r(x) = N(y; A x, noise^2 I) for a matrix A: Bayes for two Gaussians, exact; vectors (B, d), covariances (d, d)."""

    def __init__(self, observation: Observation) -> None:
        if not isinstance(observation.operator, Matrix):
            raise UserError(f"this factor needs A as a matrix, not {type(observation.operator).__name__}")
        self.observation, self.A = observation, observation.operator.A

    def __call__(self, p: Distribution) -> Distribution:
        prior, A = covariance(p), self.A
        S = A @ prior @ A.mT + self.observation.noise**2 * torch.eye(len(A), dtype=A.dtype)
        gain = torch.linalg.solve(S, A @ prior).mT
        mean = p.mean + (gain @ self.observation.residual(p.mean)[..., None])[..., 0]
        left = prior - gain @ A @ prior
        return MultivariateNormal(mean, (left + left.mT) / 2, validate_args=False)


def multiplied(reverse: Reverse, observation: Observation) -> Conditioned:
    """p(x_s | x_t) r(x_s) / Z."""
    return Conditioned(reverse, LinearFactor(observation))


def covariance(p: Distribution) -> Tensor:
    """(B, d, d), or (1, d, d) where all examples have the same."""
    if isinstance(p, MultivariateNormal):
        return p.covariance_matrix
    _, variance = moments(p)
    same = bool((variance == variance[:1]).all())
    return torch.diag_embed(variance[:1] if same else variance)
