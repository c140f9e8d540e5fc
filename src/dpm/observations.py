"""Linear observations y = A x_0 + noise n, n ~ N(0, I): operators with their adjoints, for examples of any shape."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from skimage.transform import radon
from torch import Tensor

from dpm.errors import UserError


class Operator(ABC):
    """A linear map of each example; x is (B, ...), A x is (B, ...)."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y, shaped like x: <A x, y> = <x, A^T y>."""


class Mask(Operator):
    """Some coordinates of an example, as a vector; `known` is a boolean tensor in the shape of one example."""

    def __init__(self, known: Tensor) -> None:
        if known.dtype is not torch.bool or not bool(known.any()):
            raise UserError("a mask is a boolean tensor in the shape of an example, and shows one coordinate at least")
        self.known = known

    def __call__(self, x: Tensor) -> Tensor:
        return x[:, self.known]

    def adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.known.shape)
        x[:, self.known] = y
        return x


class Matrix(Operator):
    """A given as a matrix (m, d), for examples of the given shape of d numbers (by default vectors)."""

    def __init__(self, A: Tensor, shape: tuple[int, ...] | None = None) -> None:
        self.A, self.shape = A, shape or (A.shape[1],)
        if A.ndim != 2 or int(np.prod(self.shape)) != A.shape[1]:
            raise UserError(f"a matrix (m, d) observes examples of d numbers, got {tuple(A.shape)} and {self.shape}")

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.A.mT

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.A).reshape(-1, *self.shape)


class Blur(Operator):
    """Images (B, C, H, W), each colour convolved with a kernel (k, k), k odd, black (0) beyond the edge."""

    def __init__(self, kernel: Tensor) -> None:
        if kernel.ndim != 2 or not all(extent % 2 for extent in kernel.shape):
            raise UserError(f"a kernel has two odd extents, got {tuple(kernel.shape)}")
        self.kernel = kernel

    def __call__(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self._weights(x), padding=self._padding, groups=x.shape[1])

    def adjoint(self, y: Tensor) -> Tensor:
        return F.conv_transpose2d(y, self._weights(y), padding=self._padding, groups=y.shape[1])

    def _weights(self, x: Tensor) -> Tensor:
        """(C, 1, k, k): each colour by itself."""
        return self.kernel.to(x).expand(x.shape[1], 1, -1, -1)

    @property
    def _padding(self) -> list[int]:
        return [extent // 2 for extent in self.kernel.shape]


class Subsampled(Operator):
    """Images (B, C, H, W) as means of blocks of `factor` x `factor` pixels."""

    def __init__(self, factor: int) -> None:
        if factor < 1:
            raise UserError(f"blocks have one pixel at least, got factor {factor}")
        self.factor = factor

    def __call__(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2) / self.factor**2


def gaussian_kernel(width: int, std: float) -> Tensor:
    """(width, width), sums to 1."""
    x = torch.arange(width) - (width - 1) / 2
    line = torch.exp(-0.5 * (x / std).square())
    return torch.outer(line, line) / line.sum() ** 2


def random_projection(m: int, d: int, generator: torch.Generator) -> Matrix:
    """m directions, independent N(0, 1/d): A A^T is about the identity."""
    return Matrix(torch.randn(m, d, generator=generator, dtype=torch.float64) / d**0.5)


def radon_transform(side: int, angles: int) -> Matrix:
    """Line integrals of images (1, side, side) along `angles` directions, in units of `side`: one column for each pixel."""
    theta, pixels = np.arange(angles) * 180 / angles, np.eye(side**2).reshape(-1, side, side)
    columns = [radon(pixel, theta, circle=False).ravel() for pixel in pixels]  # type: ignore[no-untyped-call]
    return Matrix(torch.from_numpy(np.stack(columns, 1) / side).float(), (1, side, side))


@dataclass(frozen=True)
class Observation:
    """y, (1, ...) for one that all examples share or (B, ...), and how it came about; noise > 0."""

    operator: Operator
    y: Tensor
    noise: float

    def __post_init__(self) -> None:
        if not self.noise > 0:
            raise UserError(f"an observation has noise above 0, got {self.noise}")

    def residual(self, x: Tensor) -> Tensor:
        """y - A x."""
        return self.y - self.operator(x)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log N(y; A x, noise^2 I), (B,), in nats."""
        z = self.residual(x).flatten(1) / self.noise
        return -z.square().sum(1) / 2 - z.shape[1] * math.log(self.noise * math.sqrt(2 * math.pi))


def observed(operator: Operator, x_0: Tensor, noise: float) -> Observation:
    """A draw of y for each x_0."""
    clean = operator(x_0)
    return Observation(operator, clean + noise * torch.randn_like(clean), noise)


def conjugate_gradients(apply: Callable[[Tensor], Tensor], b: Tensor, most: int, tolerance: float = 1e-6) -> Tensor:
    """v, like b, with apply(v) = b for a symmetric positive definite map of each example (Hestenes and Stiefel 1952).

    Exact after as many products as b has coordinates; at most `most` of them, and none once all |residual| < tolerance |b|.
    """
    v, residual, direction = torch.zeros_like(b), b, b
    square = norm2(residual)
    enough = tolerance**2 * square
    for _ in range(most):
        if bool((square <= enough).all()):
            break
        image = apply(direction)
        step = torch.where(square > enough, square / norm2(direction, image), 0)
        v, residual = v + step * direction, residual - step * image
        before, square = square, norm2(residual)
        direction = residual + torch.where(before > 0, square / before, 0) * direction
    return v


def norm2(a: Tensor, b: Tensor | None = None) -> Tensor:
    """<a, b> of each example (b = a by default), (B, 1, ...)."""
    product = (a * (a if b is None else b)).flatten(1).sum(1)
    return product.reshape(-1, *[1] * (a.ndim - 1))
