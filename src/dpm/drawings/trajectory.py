"""How noise becomes data (2015, Figure 1; 2020, algorithm 2)."""

from typing import Any

from dpm.data import Data
from dpm.drawings import Panel, Walk, start
from dpm.errors import UserError


class Trajectory:
    """A panel for each step of n chains, from x_T to x_0."""

    def __init__(self, n: int) -> None:
        if n < 1:
            raise UserError(f"a trajectory has one example at least, got {n=}")
        self.n = n

    def __call__(self, reverse: Any, data: Data, walk: Walk) -> list[Panel]:
        x_T = start(reverse, data, self.n)
        return [Panel(f"step {k}", x) for k, x in enumerate([x_T, *walk(reverse, x_T)])]
