"""A decoder with memory: p(x_0 | x_1) value by value, each given those before it (2020, section 3.3, leaves it to future work).

In raster order, the colours of a pixel one after the other, with z_i = (x_i - mean_i) / std_i and the network's mean and std,

    p(x_0 | x_1) = prod_i N(mean_i + std_i shift_i, (std_i scale_i)^2), integrated over the bin of x_i,

where shift and scale are a regression of z_i on the z_j before it. A product of conditionals is a distribution over images
whatever the regression. Given one, all factors are known at once; a sample takes as many steps as there are values.

Here the regression is linear, shift_i = sum_j w_ij z_j, in a window, with one scale for each colour. A network: `deep_memory`.
"""

import math
from itertools import product
from typing import Protocol

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.distributions import Distribution

from dpm.bound import drawn_at
from dpm.decoders import Decoder, Discretized, DiscretizedNormal, Stepwise
from dpm.errors import UserError
from dpm.reverse.gaussian import GaussianReverse


def causal(channels: int, rows: int, columns: int) -> Tensor:
    """Which w may differ from 0, (C, C, rows + 1, 2 columns + 1): to a colour, from a colour at a pixel of the window.

    The rows above, the pixels to the left, and at the pixel itself the colours before: 219 of them for 3, 3, 3.
    """
    mask = torch.ones(channels, channels, rows + 1, 2 * columns + 1, dtype=torch.bool)
    mask[:, :, rows, columns:] = False
    mask[:, :, rows, columns] = torch.ones(channels, channels, dtype=torch.bool).tril(-1)
    return mask


class Regression(Protocol):
    """What is expected of every z_i given those before it, of which it sees `reach` rows above and columns to either side."""

    reach: tuple[int, int]

    def __call__(self, z: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale, from images (B, C, H, W): like z. All of mean and std is known before."""


class Linear(Regression):
    """shift = w * z, a convolution with weights as in `causal`; scale, (C,), is one number for each colour."""

    def __init__(self, weights: Tensor, scale: Tensor) -> None:
        self.weights, self.scale = weights, scale
        self.reach = (weights.shape[2] - 1, weights.shape[3] // 2)

    def __call__(self, z: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        shift = F.conv2d(padded(z, *self.reach), self.weights.to(z))
        return shift, self.scale.to(z)[:, None, None].expand_as(z)


class Raster(Distribution):
    """The product above over images (B, C, H, W) of `levels` grey levels on [-1, 1]."""

    def __init__(self, mean: Tensor, std: Tensor, regression: Regression, levels: int) -> None:
        self._mean, self.std, self.regression, self.levels = mean, std, regression, levels
        super().__init__(mean.shape[:-3], mean.shape[-3:], validate_args=False)

    @property
    def mode(self) -> Tensor:
        """The network's mean: z = 0, for a linear regression the one image that meets every expectation, before rounding."""
        return self._mean

    def conditionals(self, value: Tensor) -> DiscretizedNormal:
        """p(x_i | all before i) of every value of these images, (B, C, H, W)."""
        shift, scale = self.regression((value - self._mean) / self.std, self._mean, self.std)
        return DiscretizedNormal(self._mean + self.std * shift, scale * self.std, self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P of 8-bit images, (B,), exact; an image that has other values than the levels has no probability here."""
        p = self.conditionals(value)
        if not bool(((value - p.bin(value)).abs() < 0.01 / self.levels).all()):
            raise UserError(f"a decoder with memory gives probabilities to images of {self.levels} grey levels on [-1, 1] only")
        return p.log_prob(value).flatten(1).sum(1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """C H W steps, one after the other, each on the part of the image that the regression sees."""
        shape = self._extended_shape(torch.Size(sample_shape))
        mean, std = (m.expand(shape).reshape(-1, *self._event_shape) for m in (self._mean, self.std))
        x, z = torch.zeros_like(mean), torch.zeros_like(mean)
        (channels, height, width), (rows, columns) = self._event_shape, self.regression.reach
        for i, j, k in product(range(height), range(width), range(channels)):
            top, left = max(0, i - rows), max(0, j - columns)
            seen = (..., slice(top, i + 1), slice(left, j + columns + 1))
            shift, scale = (y[:, k, i - top, j - left] for y in self.regression(z[seen], mean[seen], std[seen]))
            at = (slice(None), k, i, j)
            x[at] = DiscretizedNormal(mean[at] + std[at] * shift, scale * std[at], self.levels).sample()
            z[at] = (x[at] - mean[at]) / std[at]
        return x.reshape(shape)


def padded(z: Tensor, rows: int, columns: int) -> Tensor:
    """Beyond the image nothing is known, z = 0: rows above and columns at both sides, none below."""
    return F.pad(z, (columns, columns, rows, 0))


class Autoregressive(Decoder):
    """p(x_0 | x_1) of the module's formula."""

    def __init__(self, regression: Regression, levels: int = 256) -> None:
        self.regression, self.levels = regression, levels

    def __call__(self, reverse: Stepwise, x_t: Tensor, t: Tensor) -> Distribution:
        p = reverse.step(x_t, torch.zeros_like(t), t)
        return Raster(p.mean, p.stddev, self.regression, self.levels)


class Memory(Autoregressive):
    """The linear one, for given w and scale. With w = 0 and scale = 1 it is `Discretized`."""

    def __init__(self, weights: Tensor, scale: Tensor, levels: int = 256) -> None:
        channels, _, height, span = weights.shape
        if bool(weights[~causal(channels, height - 1, span // 2)].any()):
            raise UserError("a memory holds what was decoded before: weights of later values, or of the value itself, are 0")
        super().__init__(Linear(weights, scale), levels)


@torch.no_grad()
def with_memory(reverse: GaussianReverse, x_0: Tensor, seed: int, rows: int, columns: int, batch_size: int) -> GaussianReverse:
    """The same process with a decoder that remembers, fitted to 8-bit images x_0, (n, C, H, W), each at one draw of x_1."""
    if not isinstance(reverse.decoder, Discretized) or min(rows, columns) < 0 or batch_size < 1:
        raise UserError(f"a memory is added to a discretised decoder; rows, columns >= 0: {rows=}, {columns=}, {batch_size=}")
    mean, std = one_step(reverse, x_0, seed, batch_size)
    found = linear(mean, std, x_0, rows, columns, reverse.decoder.levels, batch_size)
    return reverse.replacing(decoder=Memory(found.weights, found.scale, reverse.decoder.levels))


def linear(mean: Tensor, std: Tensor, x_0: Tensor, rows: int, columns: int, levels: int, batch_size: int) -> Linear:
    """The linear regression of these images: least squares, and then the likeliest scales."""
    weights = regression((x_0 - mean) / std, rows, columns, batch_size)
    p = Raster(mean, std, Linear(weights, torch.ones(len(weights))), levels).conditionals(x_0)
    return Linear(weights, likeliest_scale(p, x_0))


def one_step(reverse: GaussianReverse, x_0: Tensor, seed: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """The network's mean and std of x_0 given one draw of x_1, both like x_0."""
    means, stds = [], []
    for _, x_1, one in drawn_at(reverse.process, x_0, 1, batch_size, seed):
        p = reverse.step(x_1, one - 1, one)
        means.append(p.mean)
        stds.append(p.stddev)
    return torch.cat(means), torch.cat(stds)


def regression(z: Tensor, rows: int, columns: int, batch_size: int) -> Tensor:
    """w, shaped as `causal`: the least squares of z_i on the z_j before it, for each colour, from one table of products."""
    channels, size = z.shape[1], (rows + 1, 2 * columns + 1)
    mask = causal(channels, rows, columns).to(z.device)
    weights = torch.zeros(mask.shape, dtype=torch.float64, device=z.device)
    products = torch.zeros(mask[0].numel(), mask[0].numel(), dtype=torch.float64, device=z.device)
    for batch in z.double().split(batch_size):  # type: ignore[no-untyped-call]
        windows = F.unfold(padded(batch, rows, columns), size)  # (b, C (rows + 1) (2 columns + 1), H W)
        products += torch.einsum("bfl,bgl->fg", windows, windows)
    for k in range(channels):
        here = (k * size[0] + rows) * size[1] + columns
        past = mask[k].flatten()
        weights[k][mask[k]] = torch.linalg.pinv(products[past][:, past], hermitian=True) @ products[past, here]
    return weights


def likeliest_scale(p: DiscretizedNormal, x_0: Tensor) -> Tensor:
    """For each colour the factor of the standard deviation with the largest likelihood, (C,)."""

    def loss(log_scale: float, k: int) -> float:
        scaled = DiscretizedNormal(p.mean[:, k], math.exp(log_scale) * p.std[:, k], p.levels)
        return -float(scaled.log_prob(x_0[:, k]).mean())

    found = [minimize_scalar(loss, bounds=(-3, 3), args=(k,), method="bounded") for k in range(x_0.shape[1])]
    return torch.tensor([math.exp(result.x) for result in found], dtype=torch.float64, device=x_0.device)
