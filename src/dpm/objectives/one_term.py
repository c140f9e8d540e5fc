"""The bound, estimated from one transition per example (2015, section 2.3; 2020, eq. 5)."""

from torch import Tensor

from dpm.bound import Edges, transition
from dpm.objectives import stratified_times
from dpm.reverse import Reverse


class OneTerm:
    """prior + (T - 1) KL_t + reconstruction with t uniform on 2..T, shape (B,): unbiased for the bound, in nats.

    There are T - 1 transitions, not T, and the edges count once per example, not once per step.
    """

    def __init__(self, edges: Edges) -> None:
        self.edges = edges

    def __call__(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        prior, reconstruction = self.edges(reverse, x_0)
        T = len(reverse.process.schedule)
        if T == 1:  # a chain without transitions
            return prior + reconstruction
        return prior + (T - 1) * transition(reverse, x_0, stratified_times(x_0, 2, T)) + reconstruction
