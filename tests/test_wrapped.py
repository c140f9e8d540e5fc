"""An evaluator sees the wrapped process, and everything else as it was given; clipped, that is the process of 2020."""

from typing import Any

import torch
from torch import nn

from dpm import schedules
from dpm.decoders import Discretized
from dpm.evaluators import Evaluation
from dpm.evaluators.wrapped import Wrapped
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse, clipped
from dpm.variances import FixedLarge


class Threes(nn.Module):
    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, 3.0)


def test_the_evaluator_gets_the_wrapped_process_and_its_result_is_returned() -> None:
    trained = GaussianReverse(GaussianDiffusion(schedules.linear(4, 0.1, 0.5)), Threes(), X0(), FixedLarge(), Discretized())
    seen: list[tuple[Any, ...]] = []

    def evaluator(*given: Any) -> Evaluation:
        seen.append(given)
        return Evaluation(arrays={"a": torch.ones(2).numpy()})

    x_0, t, data = torch.zeros(2, 1, 3, 3), torch.tensor([2, 3]), object()
    result = Wrapped(evaluator, clipped)(trained, data, x_0, 7)
    ((reverse, *rest),) = seen
    assert list(result.arrays) == ["a"]
    assert rest == [data, x_0, 7]
    assert (trained.predicted(x_0, t) == 3).all()
    assert (reverse.predicted(x_0, t) == 1).all()
