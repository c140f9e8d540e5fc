"""The choice of steps: the bound on any grid of times, and the grids on which it is best (Watson, Ho, Norouzi, Chan 2021).

On a grid 0 = t_0 < t_1 < ... < t_K = T the bound on -log p(x_0) is L_T and one cost for each pair of neighbours,

    C(s, t) = E KL(q(x_s | x_t, x_0) || p(x_s | x_t)),   C(0, t) = E[-log p(x_0 | x_t)]      (nats, per example)

so that the best grid is a shortest path from 0 to T. Given x_t, the network's output does not depend on s: one evaluation
for each example and t pays for all s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpm import seeds
from dpm.bound import draw, term
from dpm.errors import UserError
from dpm.processes import at
from dpm.reverse import Reverse
from dpm.reverse.gaussian import GaussianReverse

Pair = tuple[int, int]  # s < t


class Remembered(nn.Module):
    """The network itself, which answers the same question twice in a row from memory. For a network without randomness."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.last: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.last is None or not (torch.equal(self.last[0], x) and torch.equal(self.last[1], t)):
            self.last = x.clone(), t.clone(), self.network(x, t)  # clones: the caller may write to its own
        return self.last[2]


def remembering(reverse: GaussianReverse) -> GaussianReverse:
    """The same process; p(x_s | x_t) for one x_t and many s costs one evaluation of the network."""
    return reverse.replacing(network=Remembered(reverse.network))


@dataclass(frozen=True)
class Costs:
    """C(s, t) at one draw of x_t for each example and t: (n,), float64, nats."""

    values: Mapping[Pair, Tensor]

    def total(self, grid: Iterable[int]) -> Tensor:
        """The bound without L_T on a decreasing grid from T to 0, (n,)."""
        return torch.stack([self.values[s, t] for t, s in pairwise(grid)]).sum(0)

    def table(self, times: Sequence[int]) -> "np.ndarray[Any, Any]":
        """Means over the examples, row s, column t; infinite for a pair that was not evaluated."""
        pairs = {pair: float(values.mean()) for pair, values in self.values.items()}
        return np.array([[pairs.get((s, t), np.inf) for t in times] for s in times])


@torch.no_grad()
def costs(reverse: Reverse, x_0: Tensor, pairs: Iterable[Pair], batch_size: int, *key: int) -> Costs:
    """The costs of these pairs on the examples x_0; every draw is a function of (key, batch).

    An example has the same noise at every t: x_t = alpha_t x_0 + sigma_t eps for Gaussian q. Its costs then vary smoothly
    with t, and noise does not decide which times are best, nor much of how two grids differ.
    """
    order = sorted(set(pairs), key=lambda pair: (pair[1], pair[0]))
    values = torch.empty(len(order), len(x_0), dtype=torch.float64)  # at once: many small results keep the heap from shrinking
    for t, own in groupby(enumerate(order), key=lambda numbered: numbered[1][1]):
        rows, first = list(own), 0
        for index, batch in enumerate(x_0.split(batch_size)):  # type: ignore[no-untyped-call]
            seeds.seed_everything(*key, index)
            x_t = draw(reverse.process, batch, at(batch, t))
            for row, (s, _) in rows:
                values[row, first : first + len(batch)] = term(reverse, batch, x_t, at(batch, s), at(batch, t))
            first += len(batch)
    return Costs(dict(zip(order, values, strict=True)))


def pairs_of(grids: Iterable[Iterable[int]]) -> set[Pair]:
    """The steps (s, t) of decreasing grids."""
    return {(s, t) for grid in grids for t, s in pairwise(grid)}


def all_pairs(times: Iterable[int]) -> set[Pair]:
    """All s < t of these times."""
    return set(combinations(sorted(times), 2))


def best_grids(times: Sequence[int], table: "np.ndarray[Any, Any]") -> dict[int, list[int]]:
    """For each K the grid of at most K steps with the least total, decreasing from the last of `times` to the first.

    With D_k(t) the least cost of a path from 0 to t in at most k steps, D_k(t) = min_s D_{k-1}(s) + C(s, t), C(t, t) = 0:
    O(K G^2) for G increasing times. A K for which all paths are infinite is left out.
    """
    if list(times) != sorted(set(times)) or table.shape != (len(times), len(times)) or np.isnan(table).any():
        raise UserError(f"a table of costs has a number for each two of {len(times)} increasing times, got {table.shape}")
    C = np.where(np.triu(np.full(table.shape, True), 1), table, np.inf)
    np.fill_diagonal(C, 0.0)
    total, parents = np.where(np.arange(len(times)) == 0, 0.0, np.inf), []
    grids = {}
    for k in range(1, len(times)):
        through = total[:, None] + C
        parents.append(through.argmin(0))
        total = through.min(0)
        if np.isfinite(total[-1]):
            grids[k] = _path(times, parents)
    return grids


def _path(times: Sequence[int], parents: Sequence["np.ndarray[Any, Any]"]) -> list[int]:
    """From the last time back to the first, without the steps that stay where they are."""
    index = [len(times) - 1]
    for parent in reversed(parents):
        index.append(int(parent[index[-1]]))
    return [times[i] for i in dict.fromkeys(index)]


def quadratic(T: int, steps: int) -> list[int]:
    """T, ..., 1, 0 in `steps` steps (T at most): times in proportion to squares (Song et al. 2021), all different."""
    steps = min(steps, T)
    squares = np.floor(1 + (T - 1) * np.linspace(1, 0, steps) ** 2).astype(int)
    return [*np.maximum(squares, np.arange(steps, 0, -1)).tolist(), 0]
