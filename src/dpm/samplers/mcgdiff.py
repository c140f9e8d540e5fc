"""Monte Carlo guided diffusion (Cardoso et al. 2024, MCGDiff): a particle filter, exact in the limit of many particles."""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from dpm.observations import Observation
from dpm.processes import at
from dpm.processes.gaussian import normal
from dpm.reverse import Reverse
from dpm.reverse.conditioned import moments
from dpm.reverse.linear_factor import LinearFactor, matrix


class Population(NamedTuple):
    """Equally weighted particles (B, d), the estimate of log p(y) so far, nats, and 1 / (B sum w^2) of the last weights."""

    x: Tensor
    log_evidence: Tensor
    effective: Tensor


@torch.no_grad()
def mcgdiff(reverse: Reverse, observation: Observation, x_T: Tensor, steps: Iterable[float]) -> Iterator[Population]:
    """Yield the particles for each s of a decreasing grid from `end` to 0; all of them see one y, through a matrix A.

    The factor of x_s is that of the noised observation, r_s(x) = N(alpha_s y; A x, R_s) with R_s = alpha_s^2 noise^2 I +
    sigma_s^2 A A^T: the likelihood itself at s = 0. Particles move by p(x_s | x_t) r_s(x_s) / Z and live on in proportion to
    int p(x_s | x_t) r_s(x_s) dx_s / r_t(x_t), in closed form for steps of independent Gaussians. The product of the mean
    weights is an unbiased estimate of the chain's own p(y).
    """
    A, noise2 = matrix(observation), observation.noise**2
    one = torch.eye(len(A), dtype=A.dtype, device=A.device)
    x, log_evidence, own = x_T, x_T.new_zeros(()), x_T.new_zeros(len(x_T))
    for t, s in pairwise(steps):
        alpha, sigma = (c.to(A.dtype) for c in reverse.process.schedule(at(x, s)[0]))
        factor = LinearFactor(A, alpha * observation.y, alpha**2 * noise2 * one + sigma**2 * A @ A.mT)
        p = reverse(x, at(x, s), at(x, t))
        kept, log_mean, effective = resampled(factor.log_mean(p) - own)
        mean, variance = moments(p)
        x = factor.sample(normal(mean[kept], variance.sqrt()[kept]))
        own, log_evidence = factor.log_r(x), log_evidence + log_mean
        yield Population(x, log_evidence, effective)


def resampled(log_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whom each new particle descends from (systematic resampling), the log of the mean weight, and 1 / (B sum w^2)."""
    n, w = len(log_w), log_w.softmax(0)
    points = (torch.arange(n, device=w.device) + torch.rand((), dtype=w.dtype, device=w.device)) / n
    kept = torch.searchsorted(w.cumsum(0), points).clamp(max=n - 1)
    return kept, log_w.logsumexp(0) - math.log(n), 1 / (n * w.square().sum())
