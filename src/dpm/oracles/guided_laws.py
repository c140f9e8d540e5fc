"""The law of a guided sampler's output for Gaussian data: every step is affine, so mean and covariance follow a recursion.

Nothing is sampled. Data N(0, S), y = A x_0 + noise n; each method is a function of the step (s, t) -> (F, g, Q) with
x_s = F x_t + g + N(0, Q). The last step is drawn from like the others.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from dpm.processes.gaussian import GaussianDiffusion

Affine = tuple[Tensor, Tensor, Tensor]
Law = Callable[[Tensor, Tensor], Affine]


class Moments(NamedTuple):
    """Of a Gaussian: mean (d,) and covariance (d, d)."""

    mean: Tensor
    covariance: Tensor

    def divergence(self, other: "Moments") -> float:
        """KL(self || other), nats."""
        p, q = (MultivariateNormal(law.mean, (law.covariance + law.covariance.mT) / 2) for law in (self, other))
        return float(kl_divergence(p, q))


class GaussianProblem:
    """Covariance S (d, d), A (m, d), y (m,), all float64."""

    def __init__(self, process: GaussianDiffusion, S: Tensor, A: Tensor, y: Tensor, noise: float) -> None:
        self.process, self.S, self.A, self.y, self.noise2 = process, S, A, y, noise**2

    def posterior(self) -> Moments:
        """Of p(x_0 | y)."""
        gain = self.S @ self.A.mT @ torch.linalg.inv(self.A @ self.S @ self.A.mT + self.noise2 * torch.eye(len(self.A)))
        return Moments(gain @ self.y, self.S - gain @ self.A @ self.S)

    def free(self, s: Tensor, t: Tensor) -> tuple[Affine, Tensor, Tensor]:
        """The exact step without an observation; G of E[x_0 | x_t] = G x_t, and Cov[x_0 | x_t]."""
        step, (alpha, sigma) = self.process.step(s, t), self.process.schedule(t)
        one = torch.eye(len(self.S), dtype=self.S.dtype)
        G = alpha * self.S @ torch.linalg.inv(alpha**2 * self.S + sigma**2 * one)
        P = self.S - alpha * G @ self.S
        Q = step.posterior_variance * one + step.on_x_0**2 * P
        return (step.on_x_t * one + step.on_x_0 * G, torch.zeros_like(self.S[0]), Q), G, P

    def dps(self, s: Tensor, t: Tensor) -> Affine:
        return self.guided(s, t, torch.zeros_like(self.S))

    def pigdm(self, s: Tensor, t: Tensor) -> Affine:
        _, sigma = self.process.schedule(t)
        return self.guided(s, t, sigma**2 * torch.eye(len(self.S), dtype=self.S.dtype))

    def tmpd(self, s: Tensor, t: Tensor) -> Affine:
        return self.guided(s, t, self.free(s, t)[2])

    def exact(self, s: Tensor, t: Tensor) -> Affine:
        """TMPD with the covariance of x_0 given x_t and y in the step's own."""
        F, g, Q = self.tmpd(s, t)
        P, b = self.free(s, t)[2], self.process.step(s, t).on_x_0
        seen = self.A @ P
        return F, g, Q - b**2 * seen.mT @ torch.linalg.solve(seen @ self.A.mT + self.noise2 * torch.eye(len(self.A)), seen)

    def guided(self, s: Tensor, t: Tensor, spread: Tensor) -> Affine:
        """R = noise^2 I + A spread A^T."""
        (F, g, Q), G, _ = self.free(s, t)
        alpha, sigma = self.process.schedule(t)
        R = self.A @ spread @ self.A.mT + self.noise2 * torch.eye(len(self.A))
        D = self.process.step(s, t).on_x_0 * sigma**2 / alpha * G.mT @ self.A.mT @ torch.linalg.inv(R)
        return F - D @ self.A @ G, g + D @ self.y, Q

    def multiplied(self, s: Tensor, t: Tensor) -> Affine:
        """2015, eq. 22, with r(x) = N(y; A x, noise^2 I) at every step."""
        (F, _, Q), _, _ = self.free(s, t)
        Q_r = torch.linalg.inv(torch.linalg.inv(Q) + self.A.mT @ self.A / self.noise2)
        return Q_r @ torch.linalg.inv(Q) @ F, Q_r @ self.A.mT @ self.y / self.noise2, Q_r

    def replaced(self, s: Tensor, t: Tensor) -> Affine:
        """Known coordinates (rows of the identity in A) from q(x_s | y); the noise of y is none."""
        (F, _, Q), _, _ = self.free(s, t)
        alpha, sigma = self.process.schedule(s)
        known = self.A.mT @ self.A
        E = torch.eye(len(self.S), dtype=self.S.dtype) - known
        return E @ F, alpha * self.A.mT @ self.y, E @ Q @ E + sigma**2 * known

    def law(self, method: Law, grid: Sequence[float], sweeps: int = 1) -> Moments:
        """Of x_0 from x_T ~ N(0, I) on a decreasing grid, with `sweeps` of `dpm.samplers.ancestral`."""
        m, C = torch.zeros_like(self.S[0]), torch.eye(len(self.S), dtype=self.S.dtype)
        for t, s in pairwise(torch.as_tensor(grid).unbind()):
            F, g, Q = method(s, t)
            step = self.process.step(s, t)
            for repeat in range(sweeps if s > 0 else 1):
                if repeat:
                    m, C = step.alpha * m, step.alpha**2 * C + step.variance * torch.eye(len(C))
                m, C = F @ m + g, F @ C @ F.mT + Q
        return Moments(m, C)
