"""2015's r(x) for a linear observation: p(x_s | x_t) N(y; A x_s, R) / Z, at every step alike (eq. 22)."""

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from dpm.errors import UserError
from dpm.observations import Mask, Matrix, Observation
from dpm.reverse import Reverse
from dpm.reverse.conditioned import Conditioned, GaussianFactor, Likelihood, moments


class LinearFactor(Likelihood):
    """r(x) = N(y; A x, R), A (m, d), y (1, m) or (B, m), R (m, m): Bayes for two Gaussians, exact; x are vectors (B, d)."""

    def __init__(self, A: Tensor, y: Tensor, R: Tensor) -> None:
        self.A, self.y, self.R = A, y, R

    def __call__(self, p: Distribution) -> Distribution:
        prior, gain = covariance(p), self._gain(p)
        mean = p.mean + (gain @ (self.y - p.mean @ self.A.mT)[..., None])[..., 0]
        left = prior - gain @ self.A @ prior
        return MultivariateNormal(mean, (left + left.mT) / 2, validate_args=False)

    def sample(self, p: Distribution) -> Tensor:
        """A draw of p(x) r(x) / Z from one of p, corrected by what it says of y: for singular covariances too."""
        x: Tensor = p.sample()
        e = torch.randn(len(x), len(self.R), dtype=x.dtype, device=x.device) @ torch.linalg.cholesky(self.R).mT
        return x.add((self._gain(p) @ (self.y - x @ self.A.mT - e)[..., None])[..., 0])

    def _gain(self, p: Distribution) -> Tensor:
        """K of the mean mu + K (y - A mu), (B or 1, d, m)."""
        seen = self.A @ covariance(p)
        gain: Tensor = torch.linalg.solve(seen @ self.A.mT + self.R, seen).mT
        return gain

    def log_mean(self, p: Distribution) -> Tensor:
        """log of int p(x) r(x) dx, (B,), nats."""
        return self._log(p.mean, self.A @ covariance(p) @ self.A.mT + self.R)

    def log_r(self, x: Tensor) -> Tensor:
        """log r(x), (B,)."""
        return self._log(x, self.R)

    def _log(self, x: Tensor, S: Tensor) -> Tensor:
        seen = MultivariateNormal(x @ self.A.mT, S, validate_args=False)
        log_p: Tensor = seen.log_prob(self.y)  # type: ignore[no-untyped-call]
        return log_p


def multiplied(reverse: Reverse, observation: Observation) -> Conditioned:
    """p(x_s | x_t) N(y; A x_s, noise^2 I) / Z, A a mask or a matrix."""
    if isinstance(observation.operator, Mask):
        y = observation.operator.adjoint(observation.y)
        return Conditioned(reverse, GaussianFactor(y, observation.noise**2, observation.operator.known))
    A = matrix(observation)
    return Conditioned(reverse, LinearFactor(A, observation.y, observation.noise**2 * torch.eye(len(A), dtype=A.dtype)))


def matrix(observation: Observation) -> Tensor:
    if not isinstance(observation.operator, Matrix):
        raise UserError(f"this factor needs A as a matrix, not {type(observation.operator).__name__}")
    return observation.operator.A


def covariance(p: Distribution) -> Tensor:
    """(B, d, d), or (1, d, d) where all examples have the same."""
    if isinstance(p, MultivariateNormal):
        return p.covariance_matrix
    _, variance = moments(p)
    same = bool((variance == variance[:1]).all())
    return torch.diag_embed(variance[:1] if same else variance)
