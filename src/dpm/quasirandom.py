"""Points that fill the unit cube more evenly than independent ones: means of smooth functions converge almost as 1 / n."""

from functools import cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine


def uniform(n: int, coordinates: slice, shift: Tensor) -> Tensor:
    """u_i = (s_i + shift) mod 1 for the first n points s_i of Sobol's sequence, in (0, 1), float64.

    The shift (..., 1, d) for d coordinates gives (..., n, d). Where it is uniform, so is each point (Cranley and Patterson
    1976). Different coordinates of one sequence belong together: those of the data and those of the noise.
    """
    smallest = torch.finfo(torch.float64).eps
    return ((_sobol(n, coordinates.stop)[:, coordinates] + shift) % 1).clamp(smallest, 1 - smallest)


def normal(u: Tensor) -> Tensor:
    """Phi^-1(u): N(0, 1) for uniform u."""
    z: Tensor = torch.special.ndtri(u)
    return z


@cache
def _sobol(n: int, dimensions: int) -> Tensor:
    return SobolEngine(dimensions).draw(n, dtype=torch.float64)  # type: ignore[no-untyped-call]
