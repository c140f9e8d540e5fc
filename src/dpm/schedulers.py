"""Learning rates against the training step, where torch has no schedule of that shape."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_up(optimizer: Optimizer, steps: int) -> LambdaLR:
    """lr min(step / steps, 1), step counted from 1 (2020's code: steps = 5000)."""
    return LambdaLR(optimizer, lambda step: min((step + 1) / steps, 1.0))


def warm_up_cosine(optimizer: Optimizer, warm_up: int, steps: int) -> LambdaLR:
    """lr min((k + 1) / warm_up, 1) (1 + cos(pi k / steps)) / 2 for k = 0..steps - 1: a linear start, then half a cosine."""
    return LambdaLR(optimizer, lambda step: min((step + 1) / warm_up, 1.0) * (1 + math.cos(math.pi * step / steps)) / 2)
