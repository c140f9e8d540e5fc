"""Optimizers that torch does not have; as torch's own, they are called with a closure that gives the loss and its gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS

from dpm.training import Diverged


class QuasiNewton(LBFGS):
    """L-BFGS with strong Wolfe line searches that turn back where the loss is not finite (it counts as infinitely high).

    A step minimises the closure by `max_iter` searches. The memory of `history_size` pairs goes on into the next step, whose
    loss is another estimate of the same expectation.
    """

    def __init__(self, parameters: Any, max_iter: int, history_size: int) -> None:
        super().__init__(
            parameters,
            max_iter=max_iter,
            max_eval=2 * max_iter,
            history_size=history_size,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )

    def step(self, closure: Callable[[], Tensor]) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            closure()  # raises if this is true of the very start

        def height() -> Tensor:
            try:
                return closure()
            except Diverged:  # without a slope the search bisects
                for parameter in self.param_groups[0]["params"]:
                    parameter.grad = torch.full_like(parameter, torch.nan)
                return torch.tensor(torch.inf)

        return super().step(height)  # type: ignore[no-untyped-call]
