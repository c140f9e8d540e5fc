"""The bound on the log likelihood that both papers train and report: one sum of KL terms, two conventions at its edges.

-log p(x_0) <= prior + sum_{t=2}^T KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) + reconstruction      (nats, per example)

2015 (eq. 14) reports K, the negative of the right-hand side; 2020 (eq. 5) the right-hand side itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from dpm import seeds
from dpm.errors import UserError
from dpm.processes import Process, at, by_rows
from dpm.reverse import Reverse


@dataclass(frozen=True)
class Bound:
    """The three parts of the bound on -log p(x_0), one row per example, in nats."""

    prior: Tensor  # (B,)
    transitions: Tensor  # (B, T - 1), for t = 2..T, or one for each step of a grid
    reconstruction: Tensor  # (B,)

    @property
    def total(self) -> Tensor:
        return self.prior + self.transitions.sum(1) + self.reconstruction


def draw(process: Process, x_0: Tensor, t: Tensor) -> Tensor:
    """x_t ~ q(x_t | x_0), differentiable where the kernel allows it: betas can be learned (2015, "frozen noise")."""
    marginal = process.marginal(x_0, t)
    return marginal.rsample() if marginal.has_rsample else marginal.sample()


def drawn_at(process: Process, x_0: Tensor, t: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(x_0, x_t, t) of one batch after another: the draws at t to which parts of a reverse process are fitted."""
    for number, x in enumerate(x_0.split(batch_size)):  # type: ignore[no-untyped-call]
        seeds.seed_everything(seed, seeds.VALIDATION, t, number)
        times = torch.full((len(x),), t, device=x.device)
        yield x, draw(process, x, times), times


def term(reverse: Reverse, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """What the step from t to s adds to the bound at x_t, (B,): -log p(x_0 | x_t) to s = 0, else a KL divergence.

    L_{t-1} of 2020, eq. 5, for s = t - 1.
    """
    return by_rows(s == 0, partial(last_term, reverse), partial(divergence, reverse), x_0, x_t, s, t)


def last_term(reverse: Reverse, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """-log p(x_0 | x_t), shape (B,)."""
    return -reverse(x_t, s, t).log_prob(x_0)


def divergence(reverse: Reverse, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) for s > 0, shape (B,)."""
    return kl_divergence(reverse.process.posterior(x_0, x_t, s, t), reverse(x_t, s, t))


def transition(reverse: Reverse, x_0: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """The divergence at one draw of x_t ~ q(x_t | x_0)."""
    return divergence(reverse, x_0, draw(reverse.process, x_0, t), s, t)


class Edges:
    """How a bound treats the ends of the chain, and the first t that needs the network.

    `name` is what protocols call it. `first` is 2 where the reconstruction has a closed form; with 1 it is `term` at t = 1,
    one sample of it here.
    """

    name: str
    first = 2

    def prior(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        """The end at t = T, (B,)."""
        raise NotImplementedError

    def reconstruction(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        """The end at t = 0, (B,)."""
        raise NotImplementedError

    def __call__(self, reverse: Reverse, x_0: Tensor) -> tuple[Tensor, Tensor]:
        """(prior, reconstruction)."""
        return self.prior(reverse, x_0), self.reconstruction(reverse, x_0)


class EntropyEdges(Edges):
    """2015, eq. 14, with p(x_0 | x_1) = q(x_1 | x_0) pi(x_0) / pi(x_1) fixed (eq. 44).

    It takes E_q[-log pi(x_t)] for the entropy of pi at every t, so E[-log pi(x_0)] = H_pi must hold: for the Gaussian
    kernel E x_0^2 = 1, for the binomial one the base rate is the mean of the data. On other data it is off by
    (alpha_bar_T + beta_1) (E[-log pi(x_0)] - H_pi) and above the truth where that is positive; they are refused.
    """

    name = "entropy"

    def prior(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        """H_pi - H_q(X_T | X_0) (2015, eq. 14)."""
        process = reverse.process
        require_stationary(process, x_0)
        return process.prior(x_0).entropy() - process.marginal(x_0, at(x_0, process.schedule.end)).entropy()

    def reconstruction(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        """H_q(X_1 | X_0) (2015, eq. 14)."""
        return reverse.process.marginal(x_0, at(x_0, 1)).entropy()


class StationaryEdges(Edges):
    """The same fixed last step as in `EntropyEdges` without its assumption about the data: exact for every x_0."""

    name = "stationary"

    def prior(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        """L_T = KL(q(x_T | x_0) || pi)."""
        process = reverse.process
        return kl_divergence(process.marginal(x_0, at(x_0, process.schedule.end)), process.prior(x_0))

    def reconstruction(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        """E_q[-log p(x_0 | x_1)] = -log pi(x_0) - KL(q(x_1 | x_0) || pi) for p(x_0 | x_1) = q(x_1 | x_0) pi(x_0) / pi(x_1)."""
        pi = reverse.process.prior(x_0)
        return -pi.log_prob(x_0) - kl_divergence(reverse.process.marginal(x_0, at(x_0, 1)), pi)


class DecoderEdges(StationaryEdges):
    """L_T and L_0 of 2020, eq. 5: the reverse process has a decoder for the step to s = 0."""

    name = "decoder"
    first = 1

    def reconstruction(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        """L_0 = -log p(x_0 | x_1) at one draw of x_1 (2020, eq. 5)."""
        one = at(x_0, 1)
        return term(reverse, x_0, draw(reverse.process, x_0, one), one - 1, one)


entropy_edges, stationary_edges, decoder_edges = EntropyEdges(), StationaryEdges(), DecoderEdges()


@torch.no_grad()
def bound(reverse: Reverse, x_0: Tensor, edges: Edges, grid: Sequence[float] | None = None) -> Bound:
    """Every term of the bound once, each at its own draw of x_t; the chain's steps 1, ..., T, or an increasing grid from 1."""
    prior, reconstruction = edges(reverse, x_0)
    steps = pairwise(grid or range(1, len(reverse.process.schedule) + 1))
    terms = [transition(reverse, x_0, at(x_0, s), at(x_0, t)) for s, t in steps]
    return Bound(prior, torch.stack(terms, 1) if terms else x_0.new_zeros(len(x_0), 0), reconstruction)


def require_stationary(process: Process, x_0: Tensor) -> None:
    """Refuse data whose mean of -log pi(x_0) is more than five standard errors from the entropy of pi."""
    pi = process.prior(x_0)
    surprise = -pi.log_prob(x_0.detach())
    gap, entropy = float(surprise.mean() - pi.entropy().mean()), float(pi.entropy().mean())
    error = float(surprise.std()) / len(x_0) ** 0.5 if len(x_0) > 1 else 0.0
    if not abs(gap) <= 5 * error + 1e-6 * abs(entropy):
        raise UserError(
            f"entropy edges need data with E[-log pi(x_0)] = {entropy:.4g} nats (E x_0^2 = 1, or the base rate as mean), but "
            f"these have {entropy + gap:.4g} +- {error:.2g}: standardise them, or use stationary edges, which hold for any data"
        )
