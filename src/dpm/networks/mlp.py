"""Multilayer perceptrons for points in a few dimensions."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


class FourierMLP(nn.Module):
    """SiLU layers on (x, sin 2^k x, cos 2^k x for k < octaves, an embedding of t / T). (B, d) -> (B, outputs).

    Octaves let a small network draw fine detail at every scale of x (Tancik et al. 2020, arXiv 2006.10739).
    """

    def __init__(self, dimensions: int, outputs: int, T: int, width: int, depth: int, octaves: int, times: int = 8) -> None:
        super().__init__()
        self.T, self.times, self.facts = T, times, {"hidden_layers": depth, "hidden_units": width}
        self.register_buffer("frequencies", 2.0 ** torch.arange(octaves))
        sizes = [dimensions * (1 + 2 * octaves) + 1 + 2 * times, *[width] * depth]
        layers = [module for i, o in pairwise(sizes) for module in (nn.Linear(i, o), nn.SiLU())]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    frequencies: Tensor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Features in the precision of x, layers in that of the weights, output in the precision of x."""
        angles = (x[..., None] * self.frequencies).flatten(1)
        tau = (t.to(x.dtype) / self.T)[:, None]
        phases = math.pi * tau * torch.arange(1, self.times + 1, dtype=x.dtype, device=x.device)
        features = torch.cat([x, angles.sin(), angles.cos(), tau, phases.sin(), phases.cos()], 1)
        output: Tensor = self.head(self.body(features.to(self.head.weight.dtype)))
        return output.to(x.dtype)
