"""Exact likelihoods of piano rolls: notes that know nothing of each other, or the steps before, or the notes below."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm.baselines import maximised

Drawn = Callable[[int, torch.Generator], Tensor]  # -> x_0 (size, keys, steps)
WINDOWS = 8  # in a batch


class IndependentNotes(nn.Module):
    """Every key with its own rate, (count + 1/2) / (steps + 1) of the training rolls."""

    lower = False

    def __init__(self) -> None:
        super().__init__()
        self.logit = torch.zeros(1)

    def fit(self, x_0: Tensor, drawn: Drawn, seed: int) -> None:
        on, steps = x_0.double().sum((0, 2)), x_0.shape[0] * x_0.shape[2]
        self.logit = torch.logit((on + 0.5) / (steps + 1))

    def nll(self, x_0: Tensor) -> Tensor:
        """-log p(x_0) in nats, (B,)."""
        return code_length(self.logit[:, None].expand_as(x_0), x_0)


class LogisticNotes(nn.Module):
    """logit of key i at step l: linear in the `past` steps before l, whether there are any, and (`lower`) keys j < i of step l.

    Fitted to random windows, of which it sees no past, with a penalty on the squares of the weights.
    """

    def __init__(self, keys: int, past: int, lower: bool, steps: int, rate: float = 2e-2, penalty: float = 3e-5) -> None:
        super().__init__()
        self.lower, self.steps, self.rate, self.penalty = lower, steps, rate, penalty
        self.before = nn.Conv1d(keys + 1, keys, past)
        self.below = nn.Parameter(torch.zeros(keys, keys))
        nn.init.zeros_(self.before.weight)
        nn.init.constant_(self.before.bias, -3.0)  # type: ignore[arg-type]

    def logits(self, x_0: Tensor) -> Tensor:
        """(B, keys, L): step l sees the past alone and, of its own keys, those below."""
        seen = torch.cat([x_0, torch.ones_like(x_0[:, :1])], 1)[..., :-1]
        logits: Tensor = self.before(F.pad(seen, (self.before.kernel_size[0], 0)))
        return logits + self.below.tril(-1) @ x_0 if self.lower else logits

    def fit(self, x_0: Tensor, drawn: Drawn, seed: int) -> None:
        def log_density(generator: torch.Generator) -> Tensor:
            x = drawn(WINDOWS, generator)
            squares = self.before.weight.square().sum() + self.below.square().sum()
            return -(self.nll(x) / x.shape[2] + self.penalty * squares)

        for _ in maximised(self, log_density, self.steps, self.rate, seed):
            pass

    def nll(self, x_0: Tensor) -> Tensor:
        """-log p(x_0) in nats, (B,)."""
        x_0 = x_0.to(self.below.dtype)
        return code_length(self.logits(x_0), x_0)


def code_length(logits: Tensor, x_0: Tensor) -> Tensor:
    """-log p(x_0) of independent bits with these logits, (B,), float64."""
    return F.binary_cross_entropy_with_logits(logits.double(), x_0.double(), reduction="none").sum((1, 2))
