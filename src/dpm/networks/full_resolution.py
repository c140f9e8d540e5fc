"""A network at full resolution: what an image is like up close, which is all that counts at small t."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm.baselines.causal import zero
from dpm.schedules import Schedule

FREQUENCIES = 8  # of the noise level
EMBEDDED = 64


class Block(nn.Module):
    """h + convolution(convolution(h)), 3 x 3 each, of features scaled and shifted by the noise level; at first it is h."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.level = zero(nn.Linear(EMBEDDED, 2 * width))
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = zero(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.level(e)[..., None, None].chunk(2, 1)
        change: Tensor = self.second(F.silu(self.first(F.silu(h * (1 + scale) + shift))))
        return h + change


class FullResolution(nn.Module):
    """(B, ins, H, W) and log noise levels (B,) -> (B, outs, H, W), 0 at first: residual blocks, every other dilated by 2."""

    def __init__(self, ins: int, outs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.embedding = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, EMBEDDED), nn.SiLU(), nn.Linear(EMBEDDED, EMBEDDED), nn.SiLU()
        )
        self.before = nn.Conv2d(ins, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width, 1 + number % 2) for number in range(blocks))
        self.last = zero(nn.Conv2d(width, outs, 3, padding=1))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        angles = level.to(x)[:, None] * torch.arange(1, FREQUENCIES + 1, device=x.device) / 2
        e = self.embedding(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.before(x)
        for block in self.blocks:
            h = block(h, e)
        output: Tensor = self.last(F.silu(h))
        return output


class AtNoiseLevel(nn.Module):
    """network(x, log(sigma_t / alpha_t)), called like any other network, with (B, C, H, W) and t, (B,)."""

    wraps = "network"

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule(t)
        output: Tensor = self.network(x, (sigma / alpha).log())
        return output
