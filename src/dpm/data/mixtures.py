"""Gaussian mixtures: everything about q(x_t), and about x_0 given x_t or a linear observation, in closed form."""

import math

import torch
from torch import Tensor

from dpm.data.synthetic import Synthetic
from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.processes import per_example

Coefficient = float | Tensor  # one for all examples, or (B,)


class GaussianMixture(Synthetic):
    """x_0 ~ sum_k weights_k N(means_k, covariances_k); float64, examples (n, d).

    weights (K,), means (K, d), covariances (K, d, d), or (K, d) for diagonal ones. For x = alpha x_0 + sigma eps all is done
    in the axes of each component, where covariances are diagonal: alpha^2 l + sigma^2.
    """

    def __init__(self, weights: list[float] | Tensor, means: list[list[float]] | Tensor, covariances: object) -> None:
        w, m, C = (torch.as_tensor(values, dtype=torch.float64) for values in (weights, means, covariances))
        C = torch.diag_embed(C) if C.ndim == 2 else C
        (K, d), close = (m.shape if m.ndim == 2 else (0, 0)), abs(float(w.sum()) - 1) < 1e-9
        if w.shape != (K,) or C.shape != (K, d, d) or not close or bool((w < 0).any()):
            raise UserError(
                "a mixture has weights (K,) that sum to 1, means (K, d) and covariances (K, d, d) or (K, d), got "
                f"{tuple(w.shape)}, sum {float(w.sum()):g}; {tuple(m.shape)}; {tuple(C.shape)}"
            )
        self.weights, self.means, self.covariances, self.dimensions = w, m, C, d
        self.variances, self.axes = torch.linalg.eigh(C)  # (K, d), (K, d, d): columns
        if not bool((self.variances > 0).all()):
            raise UserError("covariances of a mixture are symmetric and positive definite")

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**super().facts, "components": len(self.weights), "dimensions": self.dimensions}

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        k = self.components(n, generator)
        noise = torch.randn(n, self.dimensions, generator=generator, dtype=torch.float64)
        return self.means[k] + torch.einsum("nij,nj->ni", self.axes[k], self.variances[k].sqrt() * noise)

    def components(self, n: int, generator: torch.Generator) -> Tensor:
        """Of each of n examples, (n,)."""
        return torch.multinomial(self.weights, n, replacement=True, generator=generator)

    def log_density(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """log q(x), (B,), in nats; alpha = 1, sigma = 0 is the data's own."""
        log_joint, _, _ = self._components(x, alpha, sigma)
        return log_joint.logsumexp(1)

    def score(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """grad log q(x), like x."""
        log_joint, z, variance = self._components(x, alpha, sigma)
        return -torch.einsum("bk,kij,bkj->bi", log_joint.softmax(1), self.axes.to(x.device), z / variance)

    def posterior_moments(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor]:
        """E[x_0 | x] and the diagonal of Cov[x_0 | x], (B, d)."""
        mean, covariance = self.posterior_covariance(x, alpha, sigma)
        return mean, covariance.diagonal(dim1=1, dim2=2)

    def denoised(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x_0 | x], (B, d)."""
        shares, means, _ = self.posterior_components(x, alpha, sigma)
        return torch.einsum("bk,bki->bi", shares, means)

    def posterior_covariance(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor]:
        """E[x_0 | x], (B, d), and Cov[x_0 | x], (B, d, d): law of total covariance over the components."""
        shares, means, left = self.posterior_components(x, alpha, sigma)
        mean = torch.einsum("bk,bki->bi", shares, means)
        axes = self.axes.to(x.device)
        within = torch.einsum("bk,kij,bkj,klj->bil", shares, axes, left, axes)
        between = torch.einsum("bk,bki,bkl->bil", shares, means - mean[:, None], means - mean[:, None])
        return mean, within + between

    def given(self, A: Tensor, y: Tensor, noise: float) -> "GaussianMixture":
        """The law of x_0 given y = A x_0 + noise n, n ~ N(0, I): a mixture again, noise > 0; A (m, d), y (m,)."""
        if not noise > 0:
            raise UserError(f"an observation has noise above 0, got {noise}")
        S = A @ self.covariances @ A.mT + noise**2 * torch.eye(len(A), dtype=A.dtype)
        seen = torch.distributions.MultivariateNormal(self.means @ A.mT, S)
        gain = torch.linalg.solve(S, A @ self.covariances).mT  # (K, d, m)
        means = self.means + torch.einsum("kdm,km->kd", gain, y - self.means @ A.mT)
        covariances = self.covariances - gain @ A @ self.covariances
        weights = (self.weights.log() + seen.log_prob(y)).softmax(0)  # type: ignore[no-untyped-call]
        return GaussianMixture(weights, means, (covariances + covariances.mT) / 2)

    def posterior_components(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor, Tensor]:
        """P(k | x), (B, K); E[x_0 | x, k], and the variances of x_0 given x and k in the axes of k, (B, K, d)."""
        log_joint, z, variance = self._components(x, alpha, sigma)
        a, s2 = _coefficients(x, alpha, sigma)
        _, means, variances, axes = self._on(x.device)
        means = means + torch.einsum("kij,bkj->bki", axes, a * variances / variance * z)
        return log_joint.softmax(1), means, variances * s2 / variance

    def _components(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor, Tensor]:
        """log weights_k q_k(x), (B, K); x - alpha m_k in the axes of k, and its variances there, (B, K, d)."""
        a, s2 = _coefficients(x, alpha, sigma)
        weights, means, variances, axes = self._on(x.device)
        z = torch.einsum("kji,bkj->bki", axes, x[:, None] - a * means)
        variance = a**2 * variances + s2
        log_q = -0.5 * (z.square() / variance + (2 * math.pi * variance).log()).sum(2)
        return weights.log() + log_q, z, variance

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights, means, variances and axes where the points are."""
        weights, means, variances, axes = (p.to(device) for p in (self.weights, self.means, self.variances, self.axes))
        return weights, means, variances, axes


def _coefficients(x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor]:
    """alpha and sigma^2, each (B, 1, 1) or (1, 1, 1)."""
    a, s = (per_example(torch.as_tensor(c, dtype=torch.float64).reshape(-1), x[:, None]) for c in (alpha, sigma))
    return a, s.square()


class MixtureDenoiser(torch.nn.Module):
    """E[x_0 | x_t] of a mixture as a network(x_t, t), for the prediction X0."""

    def __init__(self, data: GaussianMixture, schedule: torch.nn.Module) -> None:
        super().__init__()
        self.data, self.schedule = data, schedule

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.data.denoised(x, *self.schedule(t))


def grid_of_modes(dimensions: int, weights: list[float] | None = None, apart: float = 8.0) -> GaussianMixture:
    """25 modes at apart (i, j, i, j, ...), i, j = -2..2, of unit covariance (Cardoso et al. 2024); weights 1..25 by default."""
    if dimensions % 2:
        raise UserError(f"pairs of coordinates: an even number of dimensions, got {dimensions}")
    i, j = torch.cartesian_prod(torch.arange(-2.0, 3.0), torch.arange(-2.0, 3.0)).double().T
    means = apart * torch.stack([i, j], 1).repeat(1, dimensions // 2)
    w = torch.arange(1.0, 26.0, dtype=torch.float64) if weights is None else torch.tensor(weights, dtype=torch.float64)
    return GaussianMixture(w / w.sum(), means, torch.ones_like(means))
