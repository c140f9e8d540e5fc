"""q, the forward process: Gaussian or binomial diffusion (2015, Table App.1)."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm.facts import Scalar
from dpm.schedules import Schedule


class Marginals(Protocol):
    """q at one time: all that flows and regressions need. log_prob, entropy and kl_divergence have shape (B,), in nats."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def facts(self) -> dict[str, Scalar]:
        """What claims are compared with: schedule, base rate."""

    def prior(self, like: Tensor) -> Distribution:
        """pi, the stationary distribution of the kernel and the start of the reverse process."""

    def marginal(self, x_0: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_0)."""


class Process(Marginals, Protocol):
    """q at two times, 0 <= s < t <= end: a Markov chain at whatever times, whole or real."""

    def kernel(self, x_s: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_s)."""

    def posterior(self, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """q(x_s | x_t, x_0)."""

    def until(self, t: float) -> "Process":
        """The same process, ended at t."""


def at(like: Tensor, t: float) -> Tensor:
    """(B,), the time t of every example: whole if t is."""
    return torch.full((len(like),), t, dtype=torch.long if isinstance(t, int) else torch.float64, device=like.device)


def by_rows(chosen: Tensor, where: Callable[..., Tensor], elsewhere: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """where(*tensors) in the rows that are chosen, (B,), and elsewhere(*tensors) in the others; neither sees all rows."""
    if bool(chosen.all()):
        return where(*tensors)
    if not bool(chosen.any()):
        return elsewhere(*tensors)
    parts = [f(*(x[rows] for x in tensors)) for f, rows in ((where, chosen), (elsewhere, ~chosen))]
    return torch.cat(parts)[torch.cat([chosen.nonzero(), (~chosen).nonzero()])[:, 0].argsort()]


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1) in like's dtype: the one place where t meets x."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
