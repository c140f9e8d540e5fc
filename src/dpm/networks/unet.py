"""The U-Net of 2020 (appendix B), as released: residual blocks with the time added, attention, skips by concatenation.

For images, or with axes = 1 for signals (B, C, L) by the same code: "3x3" is then 3, and every other word stays.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm.errors import UserError

Convolution = nn.Conv1d | nn.Conv2d
CONVOLUTIONS: Mapping[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}  # by the number of axes
GROUPS, EPSILON = 32, 1e-6  # of the group norms (TensorFlow's default; PyTorch's epsilon is 1e-5)


class UNet(nn.Module):
    """(B, in_channels, H, W), t = 1..T -> (B, out_channels, H, W); H and W, or L, are divisible by 2^(levels - 1).

    Level l has ch * ch_mult[l] channels at 1/2^l of the resolution: num_res_blocks residual blocks on the way down, one
    more on the way up, and attention after each where l is in `attention`; the middle block always has attention.
    CIFAR-10 in the paper: ch 128, ch_mult (1, 2, 2, 2), 2 blocks, attention at level 1 (16 x 16): 35,746,307 parameters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        axes: int = 2,
    ) -> None:
        super().__init__()
        if axes not in CONVOLUTIONS:
            raise UserError(f"a U-Net for data with {axes} axes: there are those with {' and '.join(map(str, CONVOLUTIONS))}")
        if ch % GROUPS or not ch_mult or num_res_blocks < 1:
            raise UserError(
                f"U-Net: ch a multiple of {GROUPS}, a level and a block at least, got {ch=}, {ch_mult=}, {num_res_blocks=}"
            )
        widths, times = [ch * factor for factor in ch_mult], 4 * ch
        self.levels, self.ch = len(widths), ch
        self.time = nn.Sequential(linear(ch, times), nn.SiLU(), linear(times, times))
        self.input = conv(axes, in_channels, ch)

        def block(level: int, before: int) -> list[nn.Module]:
            attend = [Attention(axes, widths[level])] if level in attention else []
            return [Residual(axes, before, widths[level], times, dropout), *attend]

        down, skips = [], [ch]
        for level, width in enumerate(widths):
            for _ in range(num_res_blocks):
                down.append(Chain(block(level, skips[-1])))
                skips.append(width)
            if level < self.levels - 1:
                down.append(Chain([Downsample(axes, width)]))
                skips.append(width)
        bottom, up = skips[-1], []
        middle = [
            Residual(axes, bottom, bottom, times, dropout),
            Attention(axes, bottom),
            Residual(axes, bottom, bottom, times, dropout),
        ]
        for level, width in reversed(list(enumerate(widths))):
            for index in range(num_res_blocks + 1):
                last = index == num_res_blocks and level > 0
                up.append(Chain([*block(level, bottom + skips.pop()), *([Upsample(axes, width)] if last else [])]))
                bottom = width
        self.down, self.middle, self.up = nn.ModuleList(down), Chain(middle), nn.ModuleList(up)
        self.output = nn.Sequential(norm(bottom), nn.SiLU(), conv(axes, bottom, out_channels, scale=0))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if any(side % 2 ** (self.levels - 1) for side in x.shape[2:]):
            raise UserError(
                f"a U-Net of {self.levels} levels halves its input {self.levels - 1} times: {tuple(x.shape[2:])} cannot be"
            )
        times = self.time(sinusoids(t - 1, self.ch))
        skips = [self.input(x)]
        for stage in self.down:
            skips.append(stage(skips[-1], times))
        h = self.middle(skips[-1], times)
        for stage in self.up:
            h = stage(torch.cat([h, skips.pop()], 1), times)
        output: Tensor = self.output(h)
        return output


class Chain(nn.ModuleList):
    """Modules of (h, times), one after the other."""

    def forward(self, h: Tensor, times: Tensor) -> Tensor:
        for module in self:
            h = module(h, times)
        return h


class Residual(nn.Module):
    """GN, swish, conv 3x3, + time; GN, swish, dropout, conv 3x3 (starts at 0); + x, by a 1x1 convolution if channels change."""

    def __init__(self, axes: int, before: int, width: int, times: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(norm(before), nn.SiLU(), conv(axes, before, width))
        self.times = nn.Sequential(nn.SiLU(), linear(times, width))
        self.second = nn.Sequential(norm(width), nn.SiLU(), nn.Dropout(dropout), conv(axes, width, width, scale=0))
        self.shortcut = conv(axes, before, width, kernel=1) if before != width else nn.Identity()

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        h = self.first(x)
        h = h + self.times(times).reshape(*h.shape[:2], *[1] * (h.ndim - 2))
        output: Tensor = self.shortcut(x) + self.second(h)
        return output


class Attention(nn.Module):
    """x + projection of softmax(q k / sqrt(C)) v over all positions, one head, after a group norm."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.project = (
            norm(width),
            nn.ModuleList(conv(axes, width, width, 1) for _ in "qkv"),
            conv(axes, width, width, 1, 0),
        )

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (part(h).flatten(2).transpose(1, 2) for part in self.qkv)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        output: Tensor = x + self.project(h)
        return output


class Downsample(nn.Module):
    """3x3 convolution of stride 2, padded below and on the right only (TensorFlow's SAME for even sizes)."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.conv = conv(axes, width, width, stride=2, padding=0)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        output: Tensor = self.conv(F.pad(x, (0, 1) * (x.ndim - 2)))
        return output


class Upsample(nn.Module):
    """Every pixel twice along each axis, then a 3x3 convolution."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.conv = conv(axes, width, width)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        output: Tensor = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return output


def sinusoids(index: Tensor, width: int) -> Tensor:
    """[sin(index f_i), cos(index f_i)], f_i = 10000^(-i / (width / 2 - 1)), index = t - 1 in the release; (B, width)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half, device=index.device))
    angles = index.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, eps=EPSILON)


def conv(
    axes: int, before: int, after: int, kernel: int = 3, scale: float = 1, stride: int = 1, padding: int | None = None
) -> Convolution:
    """Glorot-uniform weights times sqrt(scale), 1e-10 in place of 0 as in the release; zero bias."""
    layer = CONVOLUTIONS[axes](before, after, kernel, stride, kernel // 2 if padding is None else padding)
    initialise(layer, scale)
    return layer


def linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    initialise(layer, 1)
    return layer


def initialise(layer: Convolution | nn.Linear, scale: float) -> None:
    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(scale or 1e-10))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
