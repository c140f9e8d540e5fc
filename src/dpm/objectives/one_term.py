"""The bound, estimated from one term per example (2015, section 2.3; 2020, eq. 5)."""

import torch
from torch import Tensor

from dpm.bound import Edges, draw, stationary_edges, term
from dpm.reverse import Reverse
from dpm.times import Steps, Uniform


class OneTerm:
    """prior + term_t / q(t) + reconstruction in closed form, t ~ q, shape (B,): unbiased for the bound, in nats.

    With q uniform, 1 / q is the number of terms: the T - 1 transitions, and 2020's decoder as the term at t = 1. The
    edges in closed form count once per example, not once per step.
    """

    wraps = "times"

    def __init__(self, edges: Edges = stationary_edges, times: Steps | None = None) -> None:
        self.edges, self.times = edges, times or Uniform()

    def __call__(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        prior, first = self.edges.prior(reverse, x_0), self.edges.first
        closed = self.edges.reconstruction(reverse, x_0) if first == 2 else torch.zeros_like(prior)
        if first > len(reverse.process.schedule):  # a chain without transitions
            return prior + closed
        s, t, weights = self.times.draw(reverse, x_0, first)
        return prior + weights.to(x_0.dtype) * term(reverse, x_0, draw(reverse.process, x_0, t), s, t) + closed
