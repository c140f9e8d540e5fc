"""Exercises say what an answer is: right, open, a known mistake, so far off, or no number."""

import math

import numpy as np
import pytest
import torch

from dpm.errors import UserError
from dpm.labs import Exercise

BOUND = Exercise(2.5, "bits", 0.01, {"the edges": 2.81, "the unit: these are nats": 2.5 * math.log(2)})


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (2.5, "right: 2.5 bits"),
        (torch.tensor(2.509), "right: 2.509 bits"),
        (np.float64(2.8101), "0.31 bits above the truth, as with a known mistake: look at the edges"),
        (torch.tensor([1.7329]), "0.77 bits below the truth, as with a known mistake: look at the unit: these are nats"),
        (2.6, "0.1 bits above the truth"),
        (-1234.5, "1237 bits below the truth"),
        (None, "not answered yet"),
        (..., "not answered yet"),
        (math.nan, "one number is asked for, not nan"),
        (math.inf, "one number is asked for, not inf"),
        ("2.5 bits", "one number is asked for, not str"),
        (math.sqrt, "one number is asked for, not builtin_function_or_method"),
        (torch.zeros(3, 2), "one number is asked for, not Tensor[3, 2]"),
        (np.zeros(3), "one number is asked for, not ndarray[3]"),
    ],
)
def test_an_answer_gets_one_line(answer: object, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    BOUND.judge(answer)
    assert capsys.readouterr().out == f"{line}\n"
    assert BOUND.right(answer) == line.startswith("right")


def test_a_pure_number_has_no_unit() -> None:
    share = Exercise(0.0, "", 1e-9, {"the axes": 0.4})
    assert [share.verdict(answer) for answer in (0.0, 0.1)] == ["right: 0", "0.1 above the truth"]
    assert share.verdict(0.4).endswith("look at the axes")


@pytest.mark.parametrize("number", [2.515, 2.485, 2.5, math.nan])
def test_a_mistake_that_looks_like_the_truth_is_refused(number: float) -> None:
    with pytest.raises(UserError, match=r'"the truth" .* and "the edges" .* cannot be told apart'):
        Exercise(2.5, "bits", 0.01, {"the edges": number})


def test_two_mistakes_with_one_number_are_refused() -> None:
    with pytest.raises(UserError, match=r'"this" .* and "that" .* cannot be told apart'):
        Exercise(2.5, "bits", 0.01, {"this": 3.0, "that": 3.01})
