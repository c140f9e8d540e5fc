"""How far samples are from a Gaussian, by the Gaussian that is fitted to them, and how far they seem by their number alone."""

import numpy as np
from scipy.special import digamma

from dpm.bridges import Matrix


def divergence(x: Matrix, variance: float, mean: float, diagonal: bool = False) -> float:
    """KL(N(mean, covariance of the samples x (n, d)) || N(mean, variance I)), nats; of their variances alone if `diagonal`."""
    d, off = x.shape[1], x.mean(0) - mean
    S = np.diag(x.var(0, ddof=1)) if diagonal else np.atleast_2d(np.cov(x.T))
    _, log_det = np.linalg.slogdet(S / variance)
    return float((np.trace(S) / variance + off @ off / variance - d - log_det) / 2)


def floor(d: int, n: int, ratio: float = 1.0, diagonal: bool = False) -> float:
    """The expectation of `divergence` for n draws of N(mean, ratio variance I): not 0, but about d (d + 3) / 4n for ratio 1.

    The sample covariance is Wishart: E log det S = log det + sum_i psi((n - i) / 2) - log((n - 1) / 2).
    """
    i = np.ones(d) if diagonal else np.arange(1, d + 1)
    log_det = d * np.log(ratio) + np.sum(digamma((n - i) / 2) - np.log((n - 1) / 2))
    return float((d * ratio + d * ratio / n - d - log_det) / 2)
