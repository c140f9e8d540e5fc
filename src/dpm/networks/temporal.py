"""Residual convolutions over one axis, time or place: (B, C, L) of any length L."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TemporalBlock(nn.Module):
    """h + conv(silu(scale(t) conv(silu(norm(h))) + shift(t))), convolutions of `width` taps, `dilation` apart."""

    def __init__(self, features: int, width: int, dilation: int, times: int, dropout: float) -> None:
        super().__init__()
        padding = dilation * (width - 1) // 2
        self.norm = nn.GroupNorm(1, features)
        self.first = nn.Conv1d(features, features, width, padding=padding, dilation=dilation)
        self.second = nn.Conv1d(features, features, width, padding=padding, dilation=dilation)
        self.of_t, self.dropout = nn.Linear(times, 2 * features), nn.Dropout(dropout)
        nn.init.zeros_(self.second.weight)

    def forward(self, h: Tensor, of_t: Tensor) -> Tensor:
        scale, shift = self.of_t(of_t)[..., None].chunk(2, 1)
        inner = self.first(F.silu(self.norm(h))) * (1 + scale) + shift
        out: Tensor = h + self.second(self.dropout(F.silu(inner)))
        return out


class Temporal(nn.Module):
    """Blocks of dilated convolutions between two of one tap; the output starts at zero. Every channel sees every other.

    The time enters as sines and cosines of pi k t / T, k = 1..times.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        T: int,
        features: int,
        width: int,
        dilations: tuple[int, ...],
        times: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.T, self.times = T, times
        self.facts = {"hidden_layers": 2 * len(dilations), "hidden_units": features}
        self.enter, self.leave = nn.Conv1d(in_channels, features, 1), nn.Conv1d(features, out_channels, 1)
        self.blocks = nn.ModuleList(TemporalBlock(features, width, d, 2 * times, dropout) for d in dilations)
        self.norm = nn.GroupNorm(1, features)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Layers in the precision of the weights, output in that of x."""
        dtype = self.leave.weight.dtype
        phases = math.pi * (t.to(x.dtype) / self.T)[:, None] * torch.arange(1, self.times + 1, device=x.device)
        of_t, h = torch.cat([phases.sin(), phases.cos()], 1).to(dtype), self.enter(x.to(dtype))
        for block in self.blocks:
            h = block(h, of_t)
        output: Tensor = self.leave(F.silu(self.norm(h)))
        return output.to(x.dtype)
