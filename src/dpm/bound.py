"""The bound on the log likelihood that both papers train and report: one sum of KL terms, two conventions at its edges.

-log p(x_0) <= prior + sum_{t=2}^T KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) + reconstruction      (nats, per example)

2015 (eq. 14) reports K, the negative of the right-hand side; 2020 (eq. 5) the right-hand side itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from dpm.errors import UserError
from dpm.processes import Process
from dpm.reverse import Reverse


@dataclass(frozen=True)
class Bound:
    """The three parts of the bound on -log p(x_0), one row per example, in nats."""

    prior: Tensor  # (B,)
    transitions: Tensor  # (B, T - 1), for t = 2..T
    reconstruction: Tensor  # (B,)

    @property
    def total(self) -> Tensor:
        return self.prior + self.transitions.sum(1) + self.reconstruction


def transition(reverse: Reverse, x_0: Tensor, t: Tensor) -> Tensor:
    """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) at one draw of x_t ~ q(x_t | x_0), for t >= 2, shape (B,).

    The draw is differentiable where the kernel allows it, so that betas can be learned (2015, "frozen noise").
    """
    process = reverse.process
    marginal = process.marginal(x_0, t)
    x_t = marginal.rsample() if marginal.has_rsample else marginal.sample()
    return kl_divergence(process.posterior(x_0, x_t, t - 1, t), reverse(x_t, t - 1, t))


Edges = Callable[[Reverse, Tensor], tuple[Tensor, Tensor]]  # -> prior (B,), reconstruction (B,)


def entropy_edges(reverse: Reverse, x_0: Tensor) -> tuple[Tensor, Tensor]:
    """H_pi - H_q(X_T | X_0) and H_q(X_1 | X_0), as 2015 has it (eq. 14), for p(x_0 | x_1) = q(x_1 | x_0) pi(x_0) / pi(x_1).

    It takes E_q[-log pi(x_t)] for the entropy of pi at every t, so E[-log pi(x_0)] = H_pi must hold: for the Gaussian
    kernel E x_0^2 = 1, for the binomial one the base rate is the mean of the data. On other data it is off by
    (alpha_bar_T + beta_1) (E[-log pi(x_0)] - H_pi) and above the truth where that is positive; they are refused.
    """
    process, first, last = reverse.process, _time(x_0, 1), _time(x_0, len(reverse.process.schedule))
    require_stationary(process, x_0)
    prior = process.prior(x_0).entropy() - process.marginal(x_0, last).entropy()
    return prior, process.marginal(x_0, first).entropy()


def stationary_edges(reverse: Reverse, x_0: Tensor) -> tuple[Tensor, Tensor]:
    """The same fixed last step as `entropy_edges` without its assumption about the data: exact for every x_0.

    prior = KL(q(x_T | x_0) || pi); reconstruction = E_q[-log p(x_0 | x_1)] = -log pi(x_0) - KL(q(x_1 | x_0) || pi).
    """
    process, first, last = reverse.process, _time(x_0, 1), _time(x_0, len(reverse.process.schedule))
    pi = process.prior(x_0)
    prior = kl_divergence(process.marginal(x_0, last), pi)
    return prior, -pi.log_prob(x_0) - kl_divergence(process.marginal(x_0, first), pi)


def decoder_edges(reverse: Reverse, x_0: Tensor) -> tuple[Tensor, Tensor]:
    """L_T = KL(q(x_T | x_0) || pi) and L_0 = -log p(x_0 | x_1) at one draw of x_1 (2020, eq. 5)."""
    process, first, last = reverse.process, _time(x_0, 1), _time(x_0, len(reverse.process.schedule))
    prior = kl_divergence(process.marginal(x_0, last), process.prior(x_0))
    x_1 = process.marginal(x_0, first).sample()
    return prior, -reverse(x_1, first - 1, first).log_prob(x_0)


@torch.no_grad()
def bound(reverse: Reverse, x_0: Tensor, edges: Edges) -> Bound:
    """Every term of the bound once, each at its own draw of x_t."""
    prior, reconstruction = edges(reverse, x_0)
    steps = range(2, len(reverse.process.schedule) + 1)
    terms = [transition(reverse, x_0, _time(x_0, t)) for t in steps]
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


def _time(x: Tensor, t: int) -> Tensor:
    return torch.full((len(x),), t, dtype=torch.long, device=x.device)
