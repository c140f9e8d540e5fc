"""Data whose distribution is known, so that a bound can be compared with the truth."""

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dpm import quasirandom, seeds
from dpm.errors import UserError
from dpm.facts import Scalar


class Synthetic:
    """An endless source: training draws fresh examples, held-out ones come from a stream of their own."""

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def facts(self) -> dict[str, Scalar]:
        return {"data": self.name, "split": "held-out"}

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        return self.sample(size, seeds.generator(seed, seeds.TRAINING, step))

    def validation(self, n: int) -> Tensor:
        return self.sample(n, seeds.generator(0, seeds.VALIDATION))

    def held_out(self, n: int) -> Tensor:
        return self.sample(n, seeds.generator(0, seeds.HELD_OUT))


class QuasiRandom(Synthetic):
    """Batches that fill the distribution more evenly than independent draws; validation and held-out examples are independent.

    Sobol's sequence behind the coordinates of the noise (`objectives.quasirandom_terms`), with a shift of their own at every
    step: there is no training set that could be learned by heart.
    """

    dimensions: int  # of an example
    uniforms: int  # that it is a function of

    def at(self, u: Tensor) -> Tensor:
        """x_0 (n, dimensions) at u (n, uniforms) in (0, 1); u uniform gives the distribution."""
        raise NotImplementedError

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        shift = torch.rand(1, self.uniforms, generator=seeds.generator(seed, seeds.TRAINING, step), dtype=torch.float64)
        return self.at(quasirandom.uniform(size, slice(self.dimensions, self.dimensions + self.uniforms), shift))


class SwissRoll(Synthetic):
    """x_0 = c phi (cos phi, sin phi) + sqrt(v) n, phi uniform on [1.5 pi, 4.5 pi], n ~ N(0, I); float64, shape (n, 2).

    One constant c makes the mean of x_0^2 over both coordinates equal to 1: c^2 E phi^2 / 2 + v = 1. `noise_variance` v is
    in these scaled units. Everything about q(x_t) = integral of N(x_t; alpha m(phi), alpha^2 v + sigma^2) d phi is
    computed by Gauss-Legendre quadrature of order 16 on panels no longer than eight standard deviations.
    """

    PHI = (1.5 * math.pi, 4.5 * math.pi)

    def __init__(self, noise_variance: float) -> None:
        if not 0 <= noise_variance < 1:
            raise UserError(f"noise_variance is a part of the unit variance: 0 <= v < 1, got {noise_variance}")
        (low, high), self.noise_variance = self.PHI, noise_variance
        mean_square_phi = (high**3 - low**3) / (3 * (high - low))
        self.scale = math.sqrt(2 * (1 - noise_variance) / mean_square_phi)

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**super().facts, "noise_variance": self.noise_variance}

    def curve(self, phi: Tensor) -> Tensor:
        """m(phi) = c phi (cos phi, sin phi), shape (..., 2)."""
        return self.scale * phi[..., None] * torch.stack([phi.cos(), phi.sin()], -1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        low, high = self.PHI
        phi = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return self.curve(phi) + math.sqrt(self.noise_variance) * noise

    def log_density(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """log q(x) of alpha x_0 + sigma eps at the points x, in nats, shape (B,); alpha = 1, sigma = 0 is the data itself."""
        variance, m, log_share = self.quadrature(alpha, sigma, x.device)
        log_sum = x.new_empty(len(x))
        for points, log_weights, _ in self.log_weights(x, alpha * m, log_share, variance):
            log_sum[points] = torch.logsumexp(log_weights, 1)
        return log_sum - math.log(2 * math.pi * variance)

    def posterior_moments(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """E[x_0 | x] and the diagonal of Cov[x_0 | x] for x = alpha x_0 + sigma eps, each of shape (B, 2).

        Given phi, x_0 is Gaussian: mean m + k (x - alpha m), variance v (1 - alpha k), k = alpha v / (alpha^2 v + sigma^2).
        """
        (variance, m, log_share), v = self.quadrature(alpha, sigma, x.device), self.noise_variance
        k = alpha * v / variance
        mean, spread = torch.empty_like(x), torch.empty_like(x)
        for points, log_weights, near in self.log_weights(x, alpha * m, log_share, variance):
            weights = torch.softmax(log_weights, 1)
            mean[points] = weights @ m[near]
            spread[points] = (weights @ m[near].square() - mean[points].square()).clamp(min=0)
        return mean + k * (x - alpha * mean), (1 - alpha * k) ** 2 * spread + v * (1 - alpha * k)

    def quadrature(self, alpha: float, sigma: float, device: torch.device | None = None) -> tuple[float, Tensor, Tensor]:
        """(alpha^2 v + sigma^2, the curve at the nodes, log of each node's share of the probability)."""
        variance, (low, high) = alpha**2 * self.noise_variance + sigma**2, self.PHI
        if variance <= 0:
            raise UserError("a roll without noise has no density; give noise_variance > 0 or look at t >= 1")
        length = alpha * self.scale * math.sqrt(1 + high**2) * (high - low)
        nodes, log_share = _gauss_legendre(panels=4 + math.ceil(length / (8 * math.sqrt(variance))))
        return variance, self.curve(low + (high - low) * nodes).to(device=device), log_share.to(device=device)

    def expectation(self, alpha: float, sigma: float, panels: int = 16, order: int = 8) -> tuple[Tensor, Tensor]:
        """Points x (n, 2) and weights (n,) of E f(x) = sum w f(x) for x = alpha x_0 + sigma eps: no draws, f smooth.

        Gauss-Hermite over the noise, and Gauss-Legendre over v in phi = low + (high - low) (1 - cos pi v) / 2, whose nodes are
        dense at the ends of the curve, where the density falls within one standard deviation.
        """
        v, log_share = _gauss_legendre(panels)
        low, high = self.PHI
        m = self.curve(low + (high - low) * (1 - (math.pi * v).cos()) / 2)
        nodes, shares = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(order))
        noise, shares = torch.cartesian_prod(nodes, nodes), torch.outer(shares, shares).flatten() / (2 * math.pi)
        along = log_share.exp() * math.pi / 2 * (math.pi * v).sin()
        x = alpha * m[:, None] + math.sqrt(alpha**2 * self.noise_variance + sigma**2) * noise
        return x.flatten(0, 1), torch.outer(along, shares).flatten()

    @staticmethod
    def log_weights(x: Tensor, nodes: Tensor, log_share: Tensor, variance: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(points, log share + log N(x[points]; nodes[near], variance) + const, near) for one chunk after another.

        A node that is left out is farther from every point of the chunk than its nearest node by a factor exp(-40) in weight.
        """
        coarse = torch.cdist(x, nodes[:: max(1, len(nodes) // 500)]).min(1)
        for points in coarse.indices.argsort().split(100):  # type: ignore[no-untyped-call]
            reach = (coarse.values[points].max() ** 2 + 80 * variance).sqrt()
            box = x[points].amin(0) - reach, x[points].amax(0) + reach
            near = ((nodes > box[0]) & (nodes < box[1])).all(1).nonzero().squeeze(1)
            offsets = x[points][:, None] - nodes[near]
            yield points, log_share[near] - offsets.square().sum(-1) / (2 * variance), near


class QuasiRandomRoll(QuasiRandom, SwissRoll):
    """The Swiss roll in quasi-random batches."""

    dimensions, uniforms = 2, 3

    @property
    def name(self) -> str:
        return SwissRoll.__name__  # its examples are independent draws

    def at(self, u: Tensor) -> Tensor:
        """x_0 at phi = low + (high - low) u_1 and n = Phi^-1(u_2, u_3)."""
        low, high = self.PHI
        return self.curve(low + (high - low) * u[:, 0]) + math.sqrt(self.noise_variance) * quasirandom.normal(u[:, 1:])


@cache
def _gauss_legendre(panels: int, order: int = 16) -> tuple[Tensor, Tensor]:
    """Nodes on (0, 1) and the logarithms of their weights, which sum to one, for equal panels of the given order."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(order))
    starts = torch.arange(panels, dtype=torch.float64)[:, None]
    return ((starts + (nodes + 1) / 2) / panels).flatten(), (weights / (2 * panels)).log().repeat(panels)


class GaussianData(Synthetic):
    """x_0 ~ N(mean, variance I): the case in which everything has a closed form."""

    def __init__(self, dimensions: int = 2, mean: float = 0.0, variance: float = 1.0) -> None:
        self.dimensions, self.mean, self.variance = dimensions, mean, variance

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, self.dimensions, generator=generator, dtype=torch.float64)
        return self.mean + math.sqrt(self.variance) * noise

    def log_density(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        variance = alpha**2 * self.variance + sigma**2
        return -0.5 * ((x - alpha * self.mean).square() / variance + math.log(2 * math.pi * variance)).sum(1)

    def posterior_moments(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """E[x_0 | x] = mean + k (x - alpha mean), Var = v (1 - alpha k), k = alpha v / (alpha^2 v + sigma^2)."""
        k = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        return self.mean + k * (x - alpha * self.mean), torch.full_like(x, self.variance * (1 - alpha * k))
