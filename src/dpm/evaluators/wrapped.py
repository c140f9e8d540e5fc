"""An evaluator of another process than the one that was trained."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from dpm.data import Data
from dpm.evaluators import Evaluation, Evaluator
from dpm.reverse import Reverse, facts_of


class Wrapped:
    """`evaluator` on wrap(reverse), for instance `dpm.reverse.gaussian.clipped`, in the place of the trained process."""

    def __init__(self, evaluator: Evaluator, wrap: Callable[[Any], Reverse]) -> None:
        self.evaluator, self.wrap = evaluator, wrap

    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        wrapped = self.wrap(reverse)
        evaluation = self.evaluator(wrapped, data, x_0, seed)
        return replace(evaluation, measurements=tuple(m.with_protocol(facts_of(wrapped)) for m in evaluation.measurements))
