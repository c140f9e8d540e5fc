"""Flows and bridges that are learned in rounds, each from pairs that the one before has made."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from dpm.data import Finite
from dpm.facts import Scalar
from dpm.paths import Path
from dpm.reverse.transport import Transport
from dpm.samplers import last
from dpm.samplers.ode import heun
from dpm.samplers.sde import stochastic_heun

Follow = Callable[
    [Transport, Tensor, int], Tensor
]  # (a round, ends (B, 2, ...) to start from, its number) -> pairs for the next


class Rounds(nn.Module):
    """Transports along one path, one for each round, numbered from 0; `network()` makes a network."""

    def __init__(self, process: Path, network: Callable[[], nn.Module], rounds: int) -> None:
        super().__init__()
        self.process = process
        self.rounds = nn.ModuleList(Transport(process, network()) for _ in range(rounds))

    def __iter__(self) -> Iterator[Transport]:
        return iter(self.rounds)  # type: ignore[arg-type]

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**self.process.facts, "rounds": len(self.rounds)}

    @property
    def recipe(self) -> dict[str, Scalar]:
        """Of one round."""
        return next(iter(self)).recipe

    def fit(self, data: Finite) -> None:
        """Nothing in it follows from the data in closed form."""

    def forward(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """A step of the first."""
        step: Distribution = self.rounds[0](x_t, s, t)
        return step


class Reflow:
    """Pairs (x_0, x_1), x_1 where the flow leads from x_0 in Heun's steps (Liu et al. 2023, section 2.1)."""

    def __init__(self, steps: int) -> None:
        self.steps, self.grid = steps, torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()

    def __call__(self, flow: Transport, ends: Tensor, number: int) -> Tensor:
        x_0 = ends[:, 0]
        return torch.stack([x_0, last(heun(flow.field, x_0, self.grid))], 1)


class BackAndForth:
    """The field of a round is the drift of a bridge, from one end in even rounds and from the other in odd ones.

    Pairs have the end of the path first: what it arrived at is where the next round starts. That round sees the bridge
    backwards, which for constant sigma is a bridge of the same kind (Shi et al. 2023, section 3).
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.grid = steps, torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()

    def __call__(self, bridge: Transport, ends: Tensor, number: int) -> Tensor:
        start = ends[:, number % 2]
        path = stochastic_heun(bridge.field, start, self.grid, bridge.process.noise.scale)
        return torch.stack([last(path), start], 1)
