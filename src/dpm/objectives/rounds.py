"""Reflow, iterative Markovian and proportional fitting: all rounds at once."""

import torch
from torch import Tensor

from dpm.couplings import AsDrawn, Coupling
from dpm.objectives.matching import Matching
from dpm.reverse.rounds import Follow, Rounds


class InRounds:
    """Sum over rounds of the matching loss of each, shape (B,): of round 0 for pairs of the coupling, of another for pairs that
    the one before makes of the ends of the same batch, as it is now and without gradients.

    Papers train one round after another. At once, a round has the same minimiser given the one before, whose own loss does not
    depend on it: they settle in turn, and the whole is one training, resumed like any other. Pairs are fresh in every step.
    """

    wraps = "coupling"

    def __init__(self, follow: Follow, matching: Matching, coupling: Coupling | None = None) -> None:
        self.follow, self.matching, self.coupling = follow, matching, coupling or AsDrawn()

    def __call__(self, reverse: Rounds, batch: Tensor) -> Tensor:
        losses, pairs = [], self.coupling(batch)
        for number, transport in enumerate(reverse):
            losses.append(self.matching(transport, pairs))
            if number < len(reverse.rounds) - 1:
                with torch.no_grad():
                    pairs = self.follow(transport, batch, number)
        return torch.stack(losses).sum(0)
