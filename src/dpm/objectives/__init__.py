"""Training objectives: (reverse, x_0) -> (B,) nats; the trainer takes the mean and knows nothing else."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Objective = Callable[[nn.Module, Tensor], Tensor]


def stratified_times(x: Tensor, first: int, last: int) -> Tensor:
    """One t in first..last per example, increasing along the batch and spread evenly; each t has the same expected count.

    A batch of independent examples in random order makes the mean of a term over it unbiased for t uniform.
    """
    u = (torch.arange(len(x), device=x.device) + torch.rand(1, device=x.device, dtype=torch.float64)) / len(x)
    return first + (u * (last - first + 1)).long().clamp(max=last - first)
