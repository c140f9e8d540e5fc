"""Mutants: bugs that are planted in the code, one at a time, to see that a theorem notices each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch


@dataclass(frozen=True)
class Mutant:
    """`replacement` in the place of `owner.attribute` breaks `theorem`."""

    name: str
    owner: Any
    attribute: str
    replacement: Any
    theorem: Callable[[], None]


def check(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The theorem holds for the code as it is, and fails for the mutant on the same random numbers."""
    torch.manual_seed(0)
    mutant.theorem()
    torch.manual_seed(0)
    monkeypatch.setattr(mutant.owner, mutant.attribute, mutant.replacement)
    with pytest.raises(AssertionError):
        mutant.theorem()
