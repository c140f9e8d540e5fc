"""Where the units of an RBF network stand before training: (centres (K, d), log widths (K,)), drawn by torch's generator."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dpm.data import Data
from dpm.data.synthetic import SwissRoll
from dpm.errors import UserError


class Start(Protocol):
    def __call__(self, units: int, dimensions: int) -> tuple[Tensor, Tensor]:
        """Centres and log widths."""


class Normal(Start):
    """Centres from N(0, I), the prior of the reverse process."""

    def __init__(self, width: float) -> None:
        self.width = width

    def __call__(self, units: int, dimensions: int) -> tuple[Tensor, Tensor]:
        return torch.randn(units, dimensions, dtype=torch.float64), equal(units, self.width)


class OnData(Start):
    """Centres on training examples."""

    def __init__(self, data: Data, width: float) -> None:
        self.data, self.width = data, width

    def __call__(self, units: int, dimensions: int) -> tuple[Tensor, Tensor]:
        return self.data.batch(units, int(torch.randint(2**31, ())), 0).double(), equal(units, self.width)


class InPairs(Start):
    """Two centres for each of K / 2 points of the roll's curve, `distance` inside and outside of it along the radius.

    The points are a stratified draw, uniform in phi^2, which is all but the length of the curve.
    """

    def __init__(self, roll: SwissRoll, distance: float, width: float) -> None:
        self.roll, self.distance, self.width = roll, distance, width

    def __call__(self, units: int, dimensions: int) -> tuple[Tensor, Tensor]:
        pairs, (low, high) = math.ceil(units / 2), self.roll.PHI
        u = (torch.arange(pairs) + torch.rand(pairs, dtype=torch.float64)) / pairs
        phi = (low**2 + (high**2 - low**2) * u).sqrt()
        radius = torch.stack([phi.cos(), phi.sin()], 1)
        sides = torch.stack([self.roll.curve(phi) + side * self.distance * radius for side in (-1, 1)], 1)
        return sides.flatten(0, 1)[:units], equal(units, self.width)


class OneOf(Start):
    """A start of a kind that is drawn too."""

    def __init__(self, starts: Sequence[Start]) -> None:
        self.starts = starts

    def __call__(self, units: int, dimensions: int) -> tuple[Tensor, Tensor]:
        return self.starts[int(torch.randint(len(self.starts), ()))](units, dimensions)


def equal(units: int, width: float) -> Tensor:
    """The logarithm of one width, for all units."""
    if not width > 0:
        raise UserError(f"the width of a unit is positive, got {width}")
    return torch.full((units,), math.log(width), dtype=torch.float64)
