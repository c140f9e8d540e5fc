"""The binary heartbeat of 2015: a pulse every few bins, at a phase that is uniform (section 3.1.2, appendix D.1.2)."""

import math

import torch
from torch import Tensor

from dpm.data.synthetic import Synthetic
from dpm.errors import UserError


class BinaryHeartbeat(Synthetic):
    """x_0 has `length` bins with a 1 every `period` bins, the phase uniform on 0..period - 1; float64, shape (n, length).

    The paper's length 20 and period 5 make five equally likely words: log2(1/5) = -2.322 bits per sequence.
    """

    def __init__(self, length: int, period: int) -> None:
        if not 1 <= period <= length:
            raise UserError(f"a heartbeat needs 1 <= period <= length, got period = {period} and length = {length}")
        self.length, self.period = length, period

    def words(self) -> Tensor:
        """Every sequence there is, one row per phase, all equally likely: (period, length)."""
        bins, phases = torch.arange(self.length), torch.arange(self.period)
        return (bins % self.period == phases[:, None]).double()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.words()[torch.randint(self.period, (n,), generator=generator)]

    def is_word(self, x: Tensor) -> Tensor:
        """Which rows of x (B, length) are sequences of this kind, shape (B,)."""
        return (x[:, None] == self.words().to(x)).all(-1).any(1)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x) in nats, shape (B,): -log period for a word, -inf for anything else."""
        return self.is_word(x).double().log() - math.log(self.period)
