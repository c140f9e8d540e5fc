"""Regression of a path's velocity: flow matching, rectified flows, stochastic interpolants, for any path and coupling."""

from torch import Tensor

from dpm.couplings import AsDrawn, Coupling
from dpm.errors import UserError
from dpm.reverse.transport import Transport
from dpm.times import spread


class Matching:
    """Mean over coordinates of |velocity - network(x_t, t)|^2, shape (B,), for pairs (B, 2, ...) of a batch, as coupled.

    The minimiser is E[velocity | x_t], whose flow has the marginals of the path (Lipman et al. 2023, theorem 2; Liu et al.
    2023, theorem 3.3). With x_1 ~ N(0, I), independent, it is `Simple` with a `FlowVelocity`. t is uniform on
    (margin, 1 - margin), for paths whose velocity grows without limit at their ends.
    """

    wraps = "coupling"

    def __init__(self, coupling: Coupling | None = None, margin: float = 0.0) -> None:
        if not 0 <= margin < 0.5:
            raise UserError(f"0 <= margin < 1/2 leaves times to look at, got {margin}")
        self.coupling, self.margin = coupling or AsDrawn(), margin

    def __call__(self, reverse: Transport, batch: Tensor) -> Tensor:
        ends = self.coupling(batch)
        t = self.times(ends)
        x_t, velocity, _ = reverse.process(ends, t)
        return (velocity - reverse.field(x_t, t)).square().flatten(1).mean(1)

    def times(self, ends: Tensor) -> Tensor:
        """One for each pair, stratified, (B,)."""
        return self.margin + (1 - 2 * self.margin) * spread(len(ends), ends.device)
