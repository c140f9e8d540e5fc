"""The multilayer perceptron of papers on transport: no features, no residuals."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class PlainMLP(nn.Module):
    """`depth` layers of `width` units on (x, t), a linear one last. (B, d) -> (B, outputs).

    The activation is SELU in Tong et al. 2023, SiLU in Shi et al. 2023; torch's own initialisation.
    """

    def __init__(self, dimensions: int, outputs: int, width: int, depth: int, activation: nn.Module) -> None:
        super().__init__()
        self.facts = {"hidden_layers": depth, "hidden_units": width, "activation": type(activation).__name__}
        layers = [(nn.Linear(i, o), activation) for i, o in pairwise([dimensions + 1, *[width] * depth])]
        self.layers = nn.Sequential(*(module for layer in layers for module in layer), nn.Linear(width, outputs))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Layers in the precision of the weights, output in that of x."""
        output: Tensor = self.layers(torch.cat([x, t[:, None].to(x)], 1).to(next(self.parameters()).dtype))
        return output.to(x.dtype)
