"""Training objectives: (reverse, x_0) -> (B,) nats; the trainer takes the mean and knows nothing else."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Objective = Callable[[nn.Module, Tensor], Tensor]


def stratified_times(x: Tensor, first: int, last: int) -> Tensor:
    """One t in first..last per example: each uniform, together spread evenly over the range, in random order."""
    n = len(x)
    u = (torch.randperm(n, device=x.device) + torch.rand(1, device=x.device, dtype=torch.float64)) / n
    return first + (u * (last - first + 1)).long().clamp(max=last - first)
