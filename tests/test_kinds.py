"""Whether a value of a configuration is of the kind that an annotation declares: nothing is converted."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import Tensor, nn

from dpm.runs.kinds import fits, wanted

NODE = {"_target_": "torch.nn.Identity"}
FIT = [
    (1, int), (1, float), (1.5, float), (True, bool), ("a", str), ("a", Path), (None, int | None), (2, int | None),
    ("b", Literal["a", "b"]), (0.1, float | Tensor), (NODE, nn.Module), (NODE, Callable[..., Any]), (NODE, int), (3, Any),
    ([1, 2], Sequence[int]), ([0.9, 1], tuple[float | Tensor, float | Tensor]), ({"a": 1}, Mapping[str, int]),
    ({"a": {"b": "c"}}, Mapping[str, Mapping[str, str]]), ([], Sequence[int]), ({"a": 1}, dict), (3, "int | None"),
]  # fmt: skip
MISFIT = [
    (True, int), (True, float), (1, bool), (1.0, int), ("1", int), ("1e-3", float), (None, int), (1, str), (1, str | None),
    ("c", Literal["a", "b"]), (None, nn.Module), (3, nn.Module), ("a", Callable[..., Any]), ([1, 2.5], Sequence[int]),
    ([True], list[int]), ({"a": True}, Mapping[str, int]), ([1], Mapping[str, int]), (3, Sequence[int]), ("abc", Sequence[int]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind"), FIT)
def test_what_fits(value: Any, kind: Any) -> None:
    assert fits(value, kind)


@pytest.mark.parametrize(("value", "kind"), MISFIT)
def test_what_does_not(value: Any, kind: Any) -> None:
    assert not fits(value, kind)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (int, "give a whole number"),
        (float | Tensor, "give a number"),
        (str | None, "give text or null"),
        (Literal["a", "b"], "give a or b"),
        (Sequence[int], "give a list of a whole number each"),
        (Mapping[str, int] | None, "give a mapping, {key: value} or null"),
        (nn.Module, "give what it is made of (Module), {_target_: ...}"),
    ],
)
def test_what_is_wanted_is_said(kind: Any, said: str) -> None:
    assert wanted(kind) == said
