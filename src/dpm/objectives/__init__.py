"""Training objectives: (reverse, batch) -> (B,), of x_0 in nats; the trainer takes the mean and knows nothing else."""

from collections.abc import Callable

from torch import Tensor, nn

from dpm.data import Batch

Objective = Callable[[nn.Module, Batch], Tensor]
