"""Schroedinger bridges between Gaussians, in closed form: the plan, the process, and the iterations that lead to them.

The reference is sigma W, started from N(m_0, S_0). Of all processes from N(m_0, S_0) to N(m_1, S_1) the bridge has the least KL
divergence from it: Brownian bridges between ends with C = Cov(x_0, x_1) (Bunne et al. 2023, Table 1; Mallasto et al. 2022). All
numpy, float64; covariances (d, d), in one dimension (1, 1).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import sqrtm

Matrix = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Times = float | Matrix


def plan(S_0: Matrix, S_1: Matrix, sigma: float) -> Matrix:
    """C = (S_0^1/2 (4 S_0^1/2 S_1 S_0^1/2 + sigma^4 I)^1/2 S_0^-1/2 - sigma^2 I) / 2.

    (sqrt(4 s_0^2 s_1^2 + sigma^4) - sigma^2) / 2 in one dimension: s_0 s_1 for sigma -> 0, the optimal map; 0 for infinity.
    """
    root, one = sqrtm(S_0).real, np.eye(len(S_0))
    C: Matrix = (root @ sqrtm(4 * root @ S_1 @ root + sigma**4 * one).real @ np.linalg.inv(root) - sigma**2 * one) / 2
    return C


@dataclass(frozen=True)
class GaussianBridges:
    """Brownian bridges of scale sigma between ends N(0, S_0), N(0, S_1) with Cov(x_0, x_1) = C: Gaussian at all times."""

    S_0: Matrix
    S_1: Matrix
    C: Matrix
    sigma: float

    def covariance(self, t: Times) -> Matrix:
        """Sigma_t = (1-t)^2 S_0 + t^2 S_1 + t (1-t) (C + C^T + sigma^2 I), (d, d), or (..., d, d) for times (...)."""
        t = np.asarray(t)[..., None, None]
        return (1 - t) ** 2 * self.S_0 + t**2 * self.S_1 + t * (1 - t) * self._between

    def velocity(self, t: Times) -> Matrix:
        """K of E[velocity | x_t] = K x_t: the probability flow."""
        inverse, t = np.linalg.inv(self.covariance(t)), np.asarray(t)[..., None, None]
        with_x_t = (
            t * self.S_1 - (1 - t) * self.S_0 + (1 - 2 * t) / 2 * self._between + (self.C.T - self.C) / 2
        )  # not Sigma'_t / 2 alone
        return with_x_t @ inverse

    def drift(self, t: Times) -> Matrix:
        """A of E[(x_1 - x_t) / (1 - t) | x_t] = A x_t: the Markovian projection (Shi et al. 2023, proposition 2)."""
        inverse, t = np.linalg.inv(self.covariance(t)), np.asarray(t)[..., None, None]
        with_x_t = (1 - t) * (self.C.T - self.S_0) + t * (self.S_1 - self.C - self.sigma**2 * np.eye(len(self.C)))
        return with_x_t @ inverse

    @property
    def _between(self) -> Matrix:
        return self.C + self.C.T + self.sigma**2 * np.eye(len(self.C))

    def projected(self) -> "GaussianBridges":
        """Bridges between the projection's ends, C = S_0 Phi^T with Phi' = A Phi: a round of IMF (Shi et al. 2023, eq. 8)."""
        d = len(self.C)
        flow = solve_ivp(
            lambda t, y: (self.drift(t) @ y.reshape(d, d)).ravel(), (0, 1), np.eye(d).ravel(), rtol=1e-10, atol=1e-12
        )
        return GaussianBridges(self.S_0, self.S_1, self.S_0 @ flow.y[:, -1].reshape(d, d).T, self.sigma)


def markovian_fitting(S_0: Matrix, S_1: Matrix, sigma: float) -> Iterator[Matrix]:
    """C after each round of iterative Markovian fitting, from independent ends; it tends to `plan`.

    Fast at every sigma in one dimension, where proportional fitting stalls for small ones. Where S_0 and S_1 do not commute it
    slows down with sigma too: for sigma = 0 it is reflow, which leaves rotations as they are and need not be optimal.
    """
    bridges = GaussianBridges(S_0, S_1, np.zeros_like(S_0), sigma)
    while True:
        bridges = bridges.projected()
        yield bridges.C


def proportional_fitting(S_0: Matrix, S_1: Matrix, sigma: float) -> Iterator[Matrix]:
    """Cov(x_0, x_1) after each half step of iterative proportional fitting, the first of which gives x_1 its law.

    The precision of the ends is [[A, -I / sigma^2], [-I / sigma^2, B]]: a half step replaces B, or A, by what makes a marginal
    right (Shi et al. 2023, eq. 7). For unit variances and sigma = 1 the results are ratios of Fibonacci numbers, 1/2, 2/3, 3/5.
    """
    one, r = np.eye(len(S_0)), sigma**-2
    A = np.linalg.inv(S_0) + r * one
    while True:
        B = np.linalg.inv(S_1) + r**2 * np.linalg.inv(A)
        yield _cross(A, B, r)
        A = np.linalg.inv(S_0) + r**2 * np.linalg.inv(B)
        yield _cross(A, B, r)


def _cross(A: Matrix, B: Matrix, r: float) -> Matrix:
    """The block above the diagonal of the inverse of [[A, -r I], [-r I, B]]."""
    d, one = len(A), np.eye(len(A))
    inverse: Matrix = np.linalg.inv(np.block([[A, -r * one], [-r * one, B]]))
    return inverse[:d, d:]
