"""Stochastic interpolants between two Gaussian mixtures, independent of each other: density, drift and score in closed form.

x_t = a_t x_0 + b_t x_1 + c_t z (Albergo et al. 2023, arXiv 2303.08797, eq. 2.1) is Gaussian given the
components j of x_0 and k of x_1, and so is its velocity: a mixture again, of one component for each pair.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from dpm.data.mixtures import GaussianMixture
from dpm.paths import Path


class Given(NamedTuple):
    """Of each pair of components, (B, J K, ...): log joint density, score, and E[velocity | x_t, j, k]."""

    log_joint: Tensor
    score: Tensor
    velocity: Tensor


class InterpolatedMixtures:
    """rho_t of `path` from `source` at t = 0 to `target` at t = 1; x (B, d), t (B,), float64."""

    def __init__(self, path: Path, source: GaussianMixture, target: GaussianMixture) -> None:
        self.path, self.source, self.target = path, source, target

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        """log rho_t(x), (B,), in nats."""
        return self.given(x, t).log_joint.logsumexp(1)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log rho_t(x), like x; -E[z | x_t] / c_t where c_t > 0 (Albergo et al. 2023, eq. 2.14)."""
        each = self.given(x, t)
        return (each.log_joint.softmax(1)[..., None] * each.score).sum(1)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """b(x, t) = E[a' x_0 + b' x_1 + c' z | x_t = x], like x (Albergo et al. 2023, eq. 2.10)."""
        each = self.given(x, t)
        return (each.log_joint.softmax(1)[..., None] * each.velocity).sum(1)

    def given(self, x: Tensor, t: Tensor) -> Given:
        """Linear regression of the velocity on x_t in each component: mean + Cov[velocity, x_t] Var[x_t]^-1 (x - E x_t)."""
        (a, b, c), (da, db, dc) = ([k[:, None, None] for k in ks] for ks in (self.path.coefficients(t), self.path.rates(t)))
        p, q, K = self.source, self.target, len(self.target.weights)
        m, n = p.means.repeat_interleave(K, 0), q.means.repeat(len(p.weights), 1)
        C, D = p.covariances.repeat_interleave(K, 0), q.covariances.repeat(len(p.weights), 1, 1)
        unit = torch.eye(p.dimensions, dtype=x.dtype)
        variance = (a**2)[..., None] * C + (b**2)[..., None] * D + (c**2)[..., None] * unit
        covariance = (a * da)[..., None] * C + (b * db)[..., None] * D + (c * dc)[..., None] * unit
        away = x[:, None] - (a * m + b * n)
        root = torch.linalg.cholesky(variance)
        score = -torch.cholesky_solve(away[..., None], root).squeeze(-1)
        velocity = da * m + db * n - (covariance @ score[..., None]).squeeze(-1)
        weights = torch.outer(p.weights, q.weights).flatten()
        density = MultivariateNormal(torch.zeros_like(away), scale_tril=root, validate_args=False).log_prob(away)  # type: ignore[no-untyped-call]
        return Given(weights.log() + density, score, velocity)
