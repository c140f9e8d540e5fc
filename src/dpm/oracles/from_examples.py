"""What n noisy examples are worth: to who fits a Gaussian to them, and to who learns them by heart."""

import torch
from torch import Tensor


class FittedGaussian:
    """Errors, to first order in 1 / n, of a Gaussian with mean and covariance S of n examples y = x_0 + noise e.

    S = Sigma + noise^2 I, (d, d), and Sigma-hat = S-hat - noise^2 I.
    The mean errs by S / n, and E dS A dS = (S A S + S tr(S A)) / n for the covariance. At a noise level v, where
    x_t / alpha_t has C = Sigma + v^2 I, all follows from M = C^-1 S: at v = 0 a coordinate has r = (Sigma + noise^2) / Sigma,
    and what its variance costs is r^2 / (2 n) nats. A law that puts a point at each y has the same moments.
    """

    def __init__(self, covariance: Tensor, noise: float, n: int) -> None:
        self.covariance, self.noise, self.n = covariance, noise, n
        self.eye = torch.eye(len(covariance), dtype=covariance.dtype)

    def divergence(self, level: float) -> float:
        """E KL(N(0, C) || fitted) = ((tr M)^2 + tr M^2 + 2 tr M) / (4 n), nats."""
        M = self._relative(level)
        return float(M.trace().square() + (M @ M).trace() + 2 * M.trace()) / (4 * self.n)

    def square_error(self, level: float) -> float:
        """E |x_0-hat - E[x_0 | x_t]|^2 / d for the fitted x_0-hat = m + Sigma-hat C-hat^-1 (u - m), u = x_t / alpha_t.

        Its matrix errs by v^2 C^-1 dS C^-1: v^4 (tr M N + (1 + tr M) tr N) / (n d), N = C^-1 S C^-1.
        """
        M, C = self._relative(level), self.covariance + level**2 * self.eye
        N = torch.linalg.solve(C, M, left=False)
        return float(level**4 * ((M @ N).trace() + (1 + M.trace()) * N.trace())) / (self.n * len(M))

    def _relative(self, level: float) -> Tensor:
        M: Tensor = torch.linalg.solve(self.covariance + level**2 * self.eye, self.covariance + self.noise**2 * self.eye)
        return M


def by_heart(y: Tensor, noise: float, u: Tensor, level: float, batch_size: int = 500) -> Tensor:
    """x_0-hat at u = x_t / alpha_t (B, d) where the law of y is one of points, the examples y (n, d); level v > noise.

    E[y | u] has the weights exp(-|u - y|^2 / (2 (v^2 - noise^2))), x_0-hat = (v^2 E[y | u] - noise^2 u) / (v^2 - noise^2): the
    minimum of `objectives.noisy` over all functions, for these examples.
    """
    spread = level**2 - noise**2
    batches = u.split(batch_size)  # type: ignore[no-untyped-call]
    mean = torch.cat([(-torch.cdist(x, y).square() / (2 * spread)).softmax(1) @ y for x in batches])
    return (level**2 * mean - noise**2 * u) / spread
