"""A Gaussian model of images in closed form: the best linear denoiser of the data, as a baseline and a control variate."""

import copy
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import scipy.fft
import torch
from torch import Tensor, nn

from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion

Model = TypeVar("Model")


class CosineBasis(nn.Module):
    """A, an orthonormal basis of images: one of colours, times the cosine transform (DCT-II) of rows and of columns.

    Each entry of A is a product of three, and so is its square: A is never written down. Starts with the given colours. Without
    a width it is a basis of signals, (B, C, L): read (H, W) as (L,) in what follows.
    """

    def __init__(self, channels: int, height: int, width: int | None = None) -> None:
        super().__init__()
        self.register_buffer("colours", torch.eye(channels, dtype=torch.float64))
        self.extents = (height,) if width is None else (height, width)
        for axis, size in enumerate(self.extents):
            cosines = scipy.fft.dct(np.eye(size), axis=0, norm="ortho")
            self.register_buffer(f"cosines_{axis}", torch.from_numpy(cosines), persistent=False)

    colours: Tensor

    def analysed(self, x: Tensor) -> Tensor:
        """A x, (B, C, H, W)."""
        return _product(x, *self._factors(x))

    def synthesised(self, c: Tensor) -> Tensor:
        """A^T c, (B, C, H, W)."""
        colours, *before, last = self._factors(c)
        x: Tensor = torch.einsum("dc,bd...->bc...", colours, c)
        for cosines in before:
            x = cosines.T @ x
        return x @ last

    def at_coefficients(self, v: Tensor) -> Tensor:
        """The diagonal of A diag(v) A^T: sum_i A_ki^2 v_i for each coefficient k, (B, C, H, W)."""
        return _product(v, *(m.square() for m in self._factors(v)))

    def at_pixels(self, v: Tensor) -> Tensor:
        """The diagonal of A^T diag(v) A: sum_k A_ki^2 v_k for each value i of an image, (B, C, H, W)."""
        return _product(v, *(m.square().T for m in self._factors(v)))

    def _factors(self, like: Tensor) -> list[Tensor]:
        cosines = [self.get_buffer(f"cosines_{axis}") for axis in range(len(self.extents))]
        return [m.to(like.dtype) for m in (self.colours, *cosines)]


def _product(x: Tensor, colours: Tensor, *axes: Tensor) -> Tensor:
    """(colours x rows x columns) x for images x, (B, C, H, W)."""
    for rows in axes[:-1]:
        x = rows @ x
    return torch.einsum("dc,bc...->bd...", colours, x @ axes[-1].T)


class GaussianImages(CosineBasis):
    """x_0 ~ N(mean, A^T diag(variances) A), A = an orthonormal basis of colours times the cosine transform (DCT-II) of each.

    Cosines nearly diagonalise the covariance of natural images, so that C H W numbers stand for its square. With
    c = A (x - mean): x_t = alpha x_0 + sigma eps gives, for each coefficient, E[c_0 | c_t] = k c_t and
    Var[c_0 | c_t] = v sigma^2 / (alpha^2 v + sigma^2), k = alpha v / (alpha^2 v + sigma^2). Starts as N(0, I).
    """

    def __init__(self, channels: int, height: int, width: int | None = None) -> None:
        super().__init__(channels, height, width)
        self.register_buffer("mean", torch.zeros(channels, *self.extents, dtype=torch.float64))
        self.register_buffer("variances", torch.ones(channels, *self.extents, dtype=torch.float64))

    mean: Tensor
    variances: Tensor

    @torch.no_grad()
    def fit(self, x_0: Tensor, batch_size: int = 1000) -> None:
        """The mean, the principal colours and the variance of each coefficient of the examples x_0, (n, C, H, W)."""

        def mean(values: Callable[[Tensor], Tensor]) -> Tensor:
            batches = x_0.split(batch_size)  # type: ignore[no-untyped-call]
            return torch.stack([values(b.to(self.mean)).sum(0) for b in batches]).sum(0) / len(x_0)

        self.mean.copy_(mean(lambda b: b))
        colours = mean(lambda b: torch.einsum("nc...,nd...->ncd", b - self.mean, b - self.mean))
        self.colours.copy_(torch.linalg.eigh(colours).eigenvectors.T)
        self.variances.copy_(mean(lambda b: self.coefficients(b).square()))

    def coefficients(self, x: Tensor) -> Tensor:
        """A (x - mean), (B, C, H, W)."""
        return self.analysed(x - self.mean.to(x.dtype))

    def image(self, c: Tensor) -> Tensor:
        """mean + A^T c, (B, C, H, W)."""
        return self.mean.to(c.dtype) + self.synthesised(c)

    def log_density(self, x_0: Tensor) -> Tensor:
        """log N(x_0; mean, A^T diag(variances) A), (B,), nats."""
        c = self.coefficients(x_0)
        return -((c.square() / self.variances + (2 * math.pi * self.variances).log()) / 2).flatten(1).sum(1)

    def posterior_mean(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t], the best linear denoiser, (B, C, H, W)."""
        alpha, _ = (per_example(c, x_t) for c in q.schedule(t))
        k, _ = (m.to(x_t.dtype) for m in self.gain(q, t))
        # alpha mean is what x_t has of the mean
        c_t = self.coefficients(x_t + (1 - alpha) * self.mean.to(x_t.dtype))
        return self.image(k * c_t)

    def whitened(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        """A^T diag(alpha^2 v + sigma^2)^-1/2 A (x_t - alpha mean): white noise if the model is right, (B, C, H, W)."""
        alpha, sigma2 = (per_example(c, x_t) for c in _moments(q, t))
        scale = (alpha.square() * self.variances.to(x_t.dtype) + sigma2).rsqrt()
        c_t = self.coefficients(x_t + (1 - alpha) * self.mean.to(x_t.dtype))
        return self.image(scale * c_t) - self.mean.to(x_t.dtype)

    @torch.no_grad()
    def resized(self, height: int, width: int) -> "GaussianImages":
        """The same process on images of another size: its spectrum, its variance per pixel and its mean colour.

        The variance of a cosine depends on its frequency and, at low ones, on the length of the axis, see `_at_length`. Each
        colour keeps the mean of its variances, which is the variance of a pixel, exactly.
        """
        other = GaussianImages(len(self.mean), height, width).to(self.mean.device)
        variances = self.variances
        for length in (width, height):  # the last axis, then the other one
            variances = _at_length(variances, length).transpose(1, 2)
        before, after = (v.mean((1, 2), keepdim=True) for v in (self.variances, variances))
        other.variances.copy_(variances * before / after)
        other.mean.copy_(self.mean.mean((1, 2), keepdim=True).expand_as(other.mean))
        other.colours.copy_(self.colours)
        return other

    def gain(self, q: GaussianDiffusion, t: Tensor) -> tuple[Tensor, Tensor]:
        """(k, Var[c_0 | c_t]) of each coefficient, (B, C, H, W) in float64."""
        alpha, sigma2 = (per_example(c, self.variances.expand(len(t), *self.variances.shape)) for c in _moments(q, t))
        total = alpha.square() * self.variances + sigma2
        return alpha * self.variances / total, self.variances * sigma2 / total

    def error(self, q: GaussianDiffusion, t: Tensor) -> Tensor:
        """The mean of Var[x_0 | x_t] over the coordinates, (B,), float64."""
        return self.gain(q, t)[1].flatten(1).mean(1)

    def expected_square_error(self, q: GaussianDiffusion, squares: Tensor, t: Tensor) -> Tensor:
        """E |x_0 - E[x_0 | x_t]|^2 over x_t ~ q(x_t | x_0), (B,), for squares = coefficients(x_0)^2, (C, H, W) or a batch.

        The error of a coefficient is (1 - k alpha) c_0 - k sigma eps; linear in the squares, so their mean gives the mean.
        """
        k, _ = self.gain(q, t)
        alpha, sigma2 = (per_example(c, k) for c in _moments(q, t))
        return ((1 - k * alpha).square() * squares + k.square() * sigma2).flatten(1).sum(1)

    def terms(self, q: GaussianDiffusion, t: Tensor) -> Tensor:
        """The bound's terms at the times t for this model of the data and its best reverse process, in nats, (B,), float64.

        1/2 sum log(1 + b^2 Var[c_0 | c_t] / beta-tilde_t) for t >= 2; at t = 1 the same with a grey level's variance, 1/12
        of its square on [-1, 1], in place of beta-tilde: the order of magnitude of a decoder's term.
        """
        step = q.step(t - 1, t)
        known = torch.where(t == 1, (2 / 255) ** 2 / 12, step.posterior_variance)
        ratio = per_example(step.on_x_0.square() / known, self.variances[None]) * self.gain(q, t)[1]
        return torch.log1p(ratio).flatten(1).sum(1) / 2


def _moments(q: GaussianDiffusion, t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_t and sigma_t^2, (B,), float64."""
    alpha, sigma = q.schedule(t)
    return alpha, sigma.square()


def resized(process: Model, height: int, width: int) -> Model:
    """A copy whose Gaussian models of images are for another size: convolutions take images of any size, these do not."""
    process = copy.deepcopy(process)
    for module in list(process.modules()) if isinstance(process, nn.Module) else []:
        for name, child in module.named_children():
            if isinstance(child, GaussianImages):
                setattr(module, name, child.resized(height, width))
    return process


def _at_length(v: Tensor, new: int) -> Tensor:
    """Variances (..., n) of the cosines of n pixels -> (..., new): those of `new` pixels of the same stationary process.

    Cosine k of n pixels has the frequency theta = pi k / n. If covariance c(d) has died out at d = n, with spectral density S

        v_k = S(theta) - (H'(theta) + H(theta) / sin theta) / n,   v_0 = S(0) - H'(0) / n,   H = 2 sum_d>0 c(d) sin(d theta),

    because a pixel has no neighbours beyond the border. For c = sigma^2 exp(-d / l), l >> 1, the bracket is S^2 / sigma^2, so
    that to this order 1 / v = 1 / S + w / (n sigma^2), w = 1/2 at k = 0 and else 1; n sigma^2 is the sum of v. S is even:
    log S is linear in the squared frequency between the known ones, and constant beyond the highest.
    """
    total = v.sum(-1, keepdim=True)
    S = 1 / (1 / v - _edge(v.shape[-1]).to(v) / total)
    at_new = (S.log() @ _interpolation(new, v.shape[-1]).to(v).T).exp()
    return 1 / (1 / at_new + _edge(new).to(v) * v.shape[-1] / (new * total))


def _edge(n: int) -> Tensor:
    """1/2, 1, 1, ..., (n,)."""
    return torch.ones(n, dtype=torch.float64).index_fill(0, torch.tensor(0), 0.5)


def _interpolation(new: int, old: int) -> Tensor:
    """(new, old): weights of the frequencies l / 2 old, l < old, at k / 2 new; linear in their squares, constant at the end."""
    known, wanted = ((np.arange(n) / n) ** 2 for n in (old, new))
    return torch.from_numpy(np.stack([np.interp(wanted, known, one) for one in np.eye(old)], 1))
