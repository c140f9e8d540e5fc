"""A flow between two ends, dx/dt = v(x, t), 0 <= t <= 1, with its path."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from dpm.data import Finite
from dpm.facts import Scalar, of_network
from dpm.paths import Path
from dpm.processes import per_example
from dpm.processes.gaussian import normal
from dpm.reverse import require_shape


class Transport(nn.Module):
    """The path that is learned, and the field(x, t) that learns its velocity: for solvers and densities a plain function.

    Its steps are those of Euler, in either direction; a point has no density.
    """

    def __init__(self, process: Path, network: nn.Module) -> None:
        super().__init__()
        self.process, self.network = process, network

    @property
    def facts(self) -> dict[str, Scalar]:
        return self.process.facts

    @property
    def recipe(self) -> dict[str, Scalar]:
        return {**of_network(self.network), "prediction": "velocity"}

    def fit(self, data: Finite) -> None:
        """Nothing in it follows from the data in closed form."""

    def field(self, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t), like x; t (B,)."""
        v: Tensor = self.network(x, t)
        require_shape(v, x, "the network of a flow gives")
        return v

    def forward(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        x_s = x_t + per_example(s - t, x_t) * self.field(x_t, t)
        return normal(x_s, torch.zeros_like(x_s))
