"""Drawings: what is shown of a trained process. Each is a list of panels, in the order of a row of pictures, or of a film."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from dpm.data import Data

Walk = Callable[[Any, Tensor], Iterator[Tensor]]  # (reverse, x at the end of time) -> its states, the last of them x_0


class Panel(NamedTuple):
    """n examples (n, ...) that are seen side by side, and what they are."""

    title: str
    x: Tensor


class Drawing(Protocol):
    def __call__(self, reverse: Any, data: Data, walk: Walk) -> list[Panel]:
        """Panels of the same number of examples, by any sampler."""


def examples(reverse: Any, data: Data, n: int) -> Tensor:
    """The first n held-out examples where the process is, and in the precision of its network."""
    x_0 = data.held_out(n).to(next(reverse.parameters()).device)
    return x_0 if x_0.ndim == 2 else x_0.float()


def start(reverse: Any, data: Data, n: int) -> Tensor:
    """n draws of pi, where a reverse process starts; for a flow between two ends, n held-out examples of its source."""
    if not hasattr(reverse.process, "prior"):
        return examples(reverse, data, n)[:, 0]
    one = examples(reverse, data, 1)
    x_T: Tensor = reverse.process.prior(one.expand(n, *one.shape[1:])).sample()
    return x_T
