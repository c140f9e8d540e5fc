"""The Gaussian model of a stationary signal, in the basis of its own covariance instead of cosines."""

import torch
from torch import Tensor

from dpm.baselines.gaussian_images import GaussianImages


class GaussianSignals(GaussianImages):
    """x_0 ~ N(m, C), C_ij = r(|i - j|): the rows of A are the eigenvectors of C, the variances its eigenvalues; (B, 1, L)."""

    def __init__(self, length: int) -> None:
        super().__init__(1, length)
        self.register_buffer("cosines_0", torch.eye(length, dtype=torch.float64))  # part of the weights: it comes from data

    @torch.no_grad()
    def fit(self, x_0: Tensor, batch_size: int = 1000) -> None:
        """The mean and the autocovariance r of windows, each r(d) over all pairs of samples d apart."""
        mean = x_0.mean(dtype=torch.float64)
        batches = x_0[:, 0].split(batch_size)  # type: ignore[no-untyped-call]
        C = torch.stack([(b - mean).double().T @ (b - mean).double() for b in batches]).sum(0) / len(x_0)
        self.mean.fill_(mean)
        self.take(torch.stack([C.diagonal(d).mean() for d in range(len(C))]))

    def take(self, r: Tensor) -> None:
        """This autocovariance r(0), ..., r(L - 1)."""
        index = torch.arange(len(r))
        variances, vectors = torch.linalg.eigh(r[(index[:, None] - index).abs()])
        self.get_buffer("cosines_0").copy_(vectors.T)
        self.variances[0].copy_(variances.clamp(min=1e-6 * float(r[0])))
