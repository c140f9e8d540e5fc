"""Training objectives: (reverse, x_0) -> (B,) nats; the trainer takes the mean and knows nothing else."""

from collections.abc import Callable

from torch import Tensor, nn

Objective = Callable[[nn.Module, Tensor], Tensor]
