"""Evaluators: (reverse, data, x_0) -> measurements and the arrays that figures are drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from dpm.data import Data
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.study.records import Measurement

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Evaluation:
    """`budget` is what was spent on a model of the evaluator's own, where its numbers are about one."""

    measurements: tuple[Measurement, ...] = ()
    arrays: Arrays = field(default_factory=dict)
    budget: Mapping[str, Scalar] | None = None


class Evaluator(Protocol):
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        """Evaluate on the examples x_0; every draw is a function of `seed`, so two models see the same noise."""
