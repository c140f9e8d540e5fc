"""Entropy, Fisher information and denoising error of a mixture in one dimension under Gaussian noise, by quadrature, in nats.

All integrands are analytic, and the rules converge faster than any power of their number of points. SNR = alpha^2 / sigma^2.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm.data.mixtures import Coefficient, GaussianMixture
from dpm.errors import UserError

POINTS = 4001  # of x

Array = np.ndarray[Any, Any]
Denoiser = Callable[[Tensor, Coefficient, Coefficient], Tensor]  # (x (B, 1), alpha, sigma) -> x_0-hat, (B, 1)


def expectation(data: GaussianMixture, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor]:
    """x (n, 1) and weights (n,), so that weights @ f(x) is E f(x_t), x_t = alpha x_0 + sigma eps: 12 deviations each way."""
    mean, variance = moments(data)
    deviation = torch.as_tensor(alpha**2 * variance + sigma**2, dtype=torch.float64).sqrt()
    z = torch.linspace(-12, 12, POINTS, dtype=torch.float64)
    x = (alpha * mean + deviation * z)[:, None]
    return x, data.log_density(x, alpha, sigma).exp() * deviation * (z[1] - z[0])


def moments(data: GaussianMixture) -> tuple[float, float]:
    """Mean and variance of x_0."""
    if not isinstance(data, GaussianMixture) or data.dimensions != 1:
        raise UserError(
            f"quadrature is for mixtures in one dimension, take data=mixture and not {type(data).__name__} like this"
        )
    mean = data.weights @ data.means[:, 0]
    return float(mean), float(data.weights @ (data.variances[:, 0] + (data.means[:, 0] - mean).square()))


def entropy(data: GaussianMixture, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """h(x_t) = -E log q(x_t); alpha = 1, sigma = 0 is the data's own."""
    x, weights = expectation(data, alpha, sigma)
    return -weights @ data.log_density(x, alpha, sigma)


def fisher_information(data: GaussianMixture, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """J(x_t) = E score^2; dh/dt = f + g^2 J / 2 (de Bruijn), J - 1 for the Ornstein-Uhlenbeck process."""
    x, weights = expectation(data, alpha, sigma)
    return weights @ data.score(x, alpha, sigma).square().sum(1)


def denoising_error(data: GaussianMixture, denoiser: Denoiser, log_snr: float) -> tuple[float, float]:
    """mmse = E Var[x_0 | x], and what a denoiser errs in excess of it, E |x_0-hat - E[x_0 | x]|^2."""
    alpha, sigma = (math.sqrt(1 / (1 + math.exp(sign * log_snr))) for sign in (-1, 1))
    x, weights = expectation(data, alpha, sigma)
    mean, variance = data.posterior_moments(x, alpha, sigma)
    return float(weights @ variance[:, 0]), float(weights @ (denoiser(x, alpha, sigma) - mean).square().sum(1))


def gaussian_error(variance: float, log_snr: Array) -> Array:
    """mmse of N(0, variance)."""
    return variance / (1 + variance * np.exp(log_snr))


def nodes(low: float, high: float, number: int = 120) -> tuple[Array, Array]:
    """log SNR and weights of Gauss and Legendre's rule, with dSNR = SNR dlog SNR in them."""
    z, weights = np.polynomial.legendre.leggauss(number)
    log_snr = (low + high) / 2 + (high - low) / 2 * z
    return log_snr, weights * (high - low) / 2 * np.exp(log_snr)


def entropy_from_mmse(data: GaussianMixture, low: float = -12.0, high: float = 26.0) -> float:
    """h(x_0) = log(2 pi e v) / 2 - 1/2 int (v / (1 + v SNR) - mmse) dSNR, v = Var x_0 (Guo et al. 2005).

    Outside of low..high, in log SNR, the mmse is taken to be that of a Gaussian: nothing is added there.
    """
    _, v = moments(data)
    log_snr, d_snr = nodes(low, high)
    mmse = np.array([denoising_error(data, data.denoised, each)[0] for each in log_snr])
    return 0.5 * math.log(2 * math.pi * math.e * v) - 0.5 * float(d_snr @ (gaussian_error(v, log_snr) - mmse))


def excess_divergence(data: GaussianMixture, denoiser: Denoiser, low: float, high: float = 26.0) -> float:
    """1/2 int excess dSNR over log SNR in low..high: KL of the paths of data and model (Song et al. 2021b, thm. 1).

    It is what the bound of infinitely many steps lies above the entropy, but for its edges.
    """
    log_snr, d_snr = nodes(low, high)
    return 0.5 * float(d_snr @ np.array([denoising_error(data, denoiser, each)[1] for each in log_snr]))
