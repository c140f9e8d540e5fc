"""Data sets: batches that are pure functions of (seed, step), and held-out examples that no training sees."""

from typing import Any, Protocol

from torch import Tensor

from dpm.errors import UserError
from dpm.facts import Scalar

Batch = Any  # a tensor (size, ...), or a tuple or mapping of such: what data and objective agree on


class Data(Protocol):
    @property
    def facts(self) -> dict[str, Scalar]:
        """What numbers about these data mean: `data`, their name; `split`, what the held-out examples are; and the like."""

    def batch(self, size: int, seed: int, step: int) -> Batch:
        """The training batch of a step; examples x_0, (size, ...), for all but objectives of pairs."""

    def validation(self, n: int) -> Tensor:
        """Examples to choose settings by; disjoint from training and from the held-out ones."""

    def held_out(self, n: int) -> Tensor:
        """The first n held-out examples: the same ones for every seed and every model."""


def refuse_lacking(data: object, kind: object, who: str) -> None:
    """Raise UserError where `data` have not all that the protocol or class `kind` has, which `who` asks for."""
    missing = [name for name in dir(kind) if not name.startswith("_") and not hasattr(data, name)]
    if missing:
        known = kind.__name__ if isinstance(kind, type) else str(kind)
        raise UserError(f"{type(data).__name__} lacks {', '.join(missing)}, which {who} needs: data like {known}")


class Finite(Data, Protocol):
    def training(self) -> Tensor:
        """All training examples, for what is fitted to them in closed form."""


class KnownDensity(Data, Protocol):
    def log_density(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """log q(x) of alpha x_0 + sigma eps, in nats, shape (B,); alpha = 1, sigma = 0 is the data's own."""
