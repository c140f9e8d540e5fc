"""Samples, and nothing else."""

from typing import Any

import torch

from dpm.data import Data
from dpm.drawings import Panel, Walk, start
from dpm.errors import UserError
from dpm.samplers import last


class Samples:
    """One panel of n samples, drawn in batches; none is selected."""

    def __init__(self, n: int, batch_size: int = 500) -> None:
        if min(n, batch_size) < 1:
            raise UserError(f"samples: one at least, in batches of one at least, got {n=}, {batch_size=}")
        self.n, self.batch_size = n, batch_size

    def __call__(self, reverse: Any, data: Data, walk: Walk) -> list[Panel]:
        sizes = [min(self.batch_size, self.n - first) for first in range(0, self.n, self.batch_size)]
        return [Panel("", torch.cat([last(walk(reverse, start(reverse, data, size))) for size in sizes]))]
