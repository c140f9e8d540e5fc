"""Networks around a network: another clock."""

import math

import torch
from torch import Tensor, nn


class Clock(nn.Module):
    """network(x, factor t + 1): a network that counts steps from 1 sees real times from 0 on as that many."""

    wraps = "network"

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.network(x, self.factor * t + 1)
        return output


class LogClock(nn.Module):
    """network(x, log(t / first) / log(last / first)): noise levels by their order of magnitude, on [0, 1]."""

    wraps = "network"

    def __init__(self, network: nn.Module, first: float, last: float) -> None:
        super().__init__()
        self.network, self.first, self.span = network, first, math.log(last / first)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.network(x, torch.log(t / self.first) / self.span)
        return output
