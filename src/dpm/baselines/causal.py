"""Masked convolutions (van den Oord et al. 2016) with mixtures of Gaussians: a model of images whose likelihood is exact.

Stronger than an MCGSM, which sees the pixels of a small window and no others: how much can any model gain?
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm.baselines import maximised
from dpm.errors import UserError
from dpm.facts import Scalar

Layer = TypeVar("Layer", bound=nn.Module)
WIDTH = 0.1  # where the scales of components and of similarity start, in standard deviations of the images


class CausalConvolution(nn.Module):
    """(B, C, H, W) -> the same: of the 3 x 3 pixels around each, the three above, the one to the left and the pixel itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.above, self.here = nn.Conv2d(channels, channels, (1, 3)), nn.Conv2d(channels, channels, (1, 2), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        above: Tensor = self.above(F.pad(x, (1, 1, 1, 0))[:, :, :-1])
        here: Tensor = self.here(F.pad(x, (1, 0)))
        return above + here


class Residual(nn.Module):
    """x + output(convolution(x)), each after an activation; starts as the identity where `output` starts at zero."""

    def __init__(self, convolution: nn.Module, output: nn.Module) -> None:
        super().__init__()
        self.convolution, self.output = convolution, output

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.output(F.silu(self.convolution(F.silu(x))))
        return x + change


def zero(layer: Layer) -> Layer:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class CausalNetwork(nn.Module):
    """p(x) = product over the pixels of p(pixel | pixels before it in the order of reading) for grey images (B, 1, H, W).

    Each factor is a mixture of 4 + `free` Gaussians. The mean of a free one is an output of the network. That of the others is
    an average over the D = 2 reach (reach + 1) pixels j before this one in a window, most of those that look like the
    neighbour a (to the left; above to the left, above, above to the right), which may be of the same leaf,

        mean_a = m_a + sum_j w_aj x_j,   w_a = softmax_j(h_aj + (4 + g_a) exp(-(x_j - x_a)^2 / 2 r_a^2)),

    with learned widths r. m, g, h, and the logarithms of scales and weights are outputs of `blocks` residual blocks of masked
    convolutions on all x_j and exp(-(x_j - x_a)^2 / 2 r_a^2). Pixels off the image are 0, and are said to be none.
    """

    def __init__(self, reach: int, channels: int, blocks: int, free: int) -> None:
        super().__init__()
        if min(reach, channels, blocks, free) < 1:
            raise UserError(f"causal network: at least one of each, got {reach=}, {channels=}, {blocks=}, {free=}")
        side, self.reach, self.size = 2 * reach + 1, reach, 2 * reach * (reach + 1)
        self.adjacent = [self.size - 1, *(self.size - reach - side + shift for shift in (-1, 0, 1))]
        copies = len(self.adjacent)
        self.components = copies + free
        self.facts: dict[str, Scalar] = {"reach": reach, "channels": channels, "blocks": blocks, "components": copies + free}
        self.log_width = nn.Parameter(torch.full((copies, 1, 1, 1), math.log(WIDTH)))
        self.first = nn.Conv2d((2 + copies) * self.size, channels, 1)
        self.blocks = nn.Sequential(
            *(Residual(CausalConvolution(channels), zero(nn.Conv2d(channels, channels, 1))) for _ in range(blocks))
        )
        self.last = zero(nn.Conv2d(channels, 3 * self.components + copies * (1 + self.size), 1))
        starts = torch.zeros(3, self.components)  # of log weights, means and log scales
        starts[1, copies:], starts[2, :copies] = torch.linspace(-1, 1, free + 2)[1:-1], math.log(WIDTH)
        self.last.bias = nn.Parameter(F.pad(starts.flatten(), (0, copies * (1 + self.size))))

    def neighbours(self, x: Tensor) -> Tensor:
        """(B, D, H, W): the first D pixels of a window of side 2 reach + 1 around each pixel, 0 off the image."""
        r = self.reach
        windows = F.unfold(F.pad(x, (r, r, r, 0)), (r + 1, 2 * r + 1))
        return windows[:, : self.size].view(len(x), self.size, *x.shape[2:])

    def conditionals(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(log weights, means, log scales) of the mixtures, (B, 4 + free, H, W) each."""
        near, there = self.neighbours(x), self.neighbours(torch.ones_like(x[:1]))
        distances = (near[:, None] - near[:, self.adjacent][:, :, None]) / self.log_width.exp()
        alike = there * (-distances.square() / 2).exp()
        seen = torch.cat([near, there.expand_as(near), alike.flatten(1, 2)], 1)
        sizes = [self.components] * 3 + [len(self.adjacent), len(self.adjacent) * self.size]
        logits, means, log_scales, g, h = self.last(self.blocks(self.first(seen))).split(sizes, 1)
        w = h.reshape(len(x), -1, self.size, *x.shape[2:]) + (4 + g)[:, :, None] * alike - 1e4 * (1 - there)
        copied = (w.softmax(2) * near[:, None]).sum(2)
        return logits.log_softmax(1), means + F.pad(copied, (0, 0, 0, 0, 0, self.components - copied.shape[1])), log_scales

    def log_density(self, x: Tensor) -> Tensor:
        """(B, H, W): the logarithm of each factor in nats; their sum is log p(x)."""
        log_weights, means, log_scales = self.conditionals(x)
        errors = (x - means) * (-log_scales).exp()
        return (log_weights - log_scales - errors.square() / 2).logsumexp(1) - math.log(2 * math.pi) / 2

    @torch.no_grad()
    def sample(self, n: int, height: int, width: int) -> Tensor:
        """(n, 1, H, W), pixel by pixel, each from the network on the part of the image that the pixel depends on."""
        x, far = torch.zeros(n, 1, height, width), self.reach + len(self.blocks)
        for i, j in product(range(height), range(width)):
            top, left = max(0, i - far), max(0, j - far)
            parts = self.conditionals(x[:, :, top : i + 1, left : j + far + 1])
            log_weights, means, log_scales = (part[:, :, i - top, j - left] for part in parts)
            k = torch.multinomial(log_weights.exp(), 1)
            x[:, 0, i, j] = torch.normal(means.gather(1, k), log_scales.gather(1, k).exp())[:, 0]
        return x


def fit(model: CausalNetwork, x: Tensor, steps: int, batch_size: int, rate: float, seed: int) -> Iterator[float]:
    """Maximise the mean log density of the pixels of the images x, in batches of images."""

    def log_density(generator: torch.Generator) -> Tensor:
        return model.log_density(x[torch.randint(len(x), (batch_size,), generator=generator)])

    yield from maximised(model, log_density, steps, rate, seed)
