"""A reverse process that starts on the way: whatever begins at x_t and goes to x_0."""

from collections.abc import Callable

from torch import Tensor
from torch.distributions import Distribution

from dpm.processes import Process
from dpm.reverse import Reverse


class FirstSteps(Reverse):
    """What another reverse process does from t on: a process that ends at t. q is the same up to there."""

    def __init__(self, reverse: Reverse, t: float) -> None:
        self.reverse, self.first = reverse, reverse.process.until(t)

    @property
    def process(self) -> Process:
        return self.first

    @property
    def predicted(self) -> Callable[[Tensor, Tensor], Tensor]:
        """x_0-hat, where the process predicts one."""
        return self.reverse.predicted  # type: ignore[attr-defined,no-any-return]

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        return self.reverse(x_t, s, t)
