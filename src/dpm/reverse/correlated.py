"""p(x_s | x_t) = N(mu, D^1/2 A^T diag(v) A D^1/2): steps whose errors at different pixels are correlated (this study).

D is the diagonal covariance of a reverse process, A the cosine basis of images: what a step misses is smooth, or fine, or of
one colour, in every part of the image alike, and as large as D says there.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.distributions.kl import register_kl

from dpm.baselines.gaussian_images import CosineBasis, GaussianImages
from dpm.bound import drawn_at
from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.processes import Process
from dpm.reverse import Reverse, facts_of


class CorrelatedNormal(Distribution):
    """N(mean, S A^T diag(v) A S), S = diag(std): c = A (x - mean) / std has independent coefficients with the variances v.

    mean, std and v (`spectrum`) are (B, C, H, W), one draw is one example. v = 1 is the diagonal Gaussian.
    """

    has_rsample = True

    def __init__(self, mean: Tensor, std: Tensor, spectrum: Tensor, basis: CosineBasis) -> None:
        self._mean, self.std, self.spectrum, self.basis = mean, std, spectrum.to(mean.dtype).expand_as(mean), basis
        super().__init__(mean.shape[:1], mean.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def mode(self) -> Tensor:
        return self._mean

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance."""
        return self.std.square() * self.basis.at_pixels(self.spectrum)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self._mean.dtype, device=self._mean.device)
        z = self.basis.synthesised((self.spectrum.sqrt() * noise).reshape(-1, *self._event_shape))
        return self._mean + self.std * z.reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """-1/2 sum_k (c_k^2 / v_k + log 2 pi v_k) - sum_i log std_i, (B,)."""
        c = self.basis.analysed((value - self._mean) / self.std)
        return -((c.square() / self.spectrum + math.log(2 * math.pi)) / 2 + self._log_scales()).flatten(1).sum(1)

    def entropy(self) -> Tensor:
        return ((1 + math.log(2 * math.pi)) / 2 + self._log_scales()).flatten(1).sum(1)

    def _log_scales(self) -> Tensor:
        """Half the logarithm of the determinant of the covariance, in D parts."""
        return self.spectrum.log() / 2 + self.std.log()


@register_kl(Independent, CorrelatedNormal)  # type: ignore[no-untyped-call, untyped-decorator]
def divergence_from_diagonal(q: "Independent[Any]", p: CorrelatedNormal) -> Tensor:
    """KL(N(m, diag s^2) || p), (B,): with d = A (m - mean) / std and h = diag(A^T diag(1 / v) A)

    1/2 sum_k (d_k^2 / v_k + log v_k) + 1/2 sum_i (h_i s_i^2 / std_i^2 - 1 + log(std_i^2 / s_i^2)).
    """
    if not (isinstance(q.base_dist, Normal) and q.event_shape == p.event_shape):
        raise NotImplementedError(f"a divergence in closed form is from independent normal values, not from {q}")
    ratio, d = q.variance / p.std.square(), p.basis.analysed((q.mean - p.mean) / p.std)
    missed = d.square() / p.spectrum + p.spectrum.log()
    spread = p.basis.at_pixels(1 / p.spectrum) * ratio - 1 - ratio.log()
    return (missed + spread).flatten(1).sum(1) / 2


class Correlated(Reverse):
    """`reverse`, with the correlations of these spectra, (K, C, H, W), in its single steps from t to t - 1, t = 2..K + 1.

    All other steps, longer ones and the decoder's among them, are those of `reverse`.
    """

    def __init__(self, reverse: Reverse, basis: CosineBasis, spectra: Tensor) -> None:
        self.reverse, self.basis, self.spectra = reverse, basis, spectra

    @property
    def process(self) -> Process:
        return self.reverse.process

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**facts_of(self.reverse), "covariance": "cosines", "correlated_until": len(self.spectra) + 1}

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        p, last = self.reverse(x_t, s, t), len(self.spectra) + 1
        known = (s == t - 1) & (s > 0) & (t <= last)
        if not known.any():
            return p
        spectra = self.spectra[(t - 2).long().clamp(0, last - 2)]
        return CorrelatedNormal(p.mean, p.stddev, spectra.where(known[:, None, None, None], 1), self.basis)


@torch.no_grad()
def correlated(reverse: Reverse, x_0: Tensor, seed: int, last: int, batch_size: int) -> Correlated:
    """`reverse` with the correlations of its steps from t = 2..last, fitted to the examples x_0, (n, C, H, W)."""
    T = len(reverse.process.schedule)
    if not 2 <= last <= T or batch_size < 1:
        raise UserError(f"spectra are of steps t = 2..last <= T = {T}, in batches of 1 at least: {last=}, {batch_size=}")
    basis = GaussianImages(*x_0.shape[1:]).to(x_0.device)
    basis.fit(x_0)  # for its principal colours
    steps = [fitted_spectrum(reverse, basis, x_0, t, batch_size, seed) for t in range(2, last + 1)]
    return Correlated(reverse, basis, torch.stack(steps))


def fitted_spectrum(reverse: Reverse, basis: CosineBasis, x_0: Tensor, t: int, batch_size: int, seed: int) -> Tensor:
    """v that minimises the mean KL of the step t, (C, H, W): of d_k^2 + sum_i A_ki^2 s_i^2 / std_i^2, the mean over examples.

    Each x_0 at one draw of x_t, and the mean over x_s ~ q(x_s | x_t, x_0) in closed form.
    """
    total = torch.zeros_like(x_0[0], dtype=torch.float64)
    for x, x_t, times in drawn_at(reverse.process, x_0, t, batch_size, seed):
        q, p = reverse.process.posterior(x, x_t, times - 1, times), reverse(x_t, times - 1, times)
        d = basis.analysed((q.mean - p.mean) / p.stddev)
        total += (d.square() + basis.at_coefficients(q.variance / p.variance)).double().sum(0)
    return total / len(x_0)
