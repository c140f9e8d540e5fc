"""Binomial diffusion: q(x_t | x_{t-1}) = B((1 - beta_t) x_{t-1} + beta_t r), bits kept or redrawn (2015, Table App.1)."""

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent

from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.processes import per_example
from dpm.schedules import BetaSchedule


class BinomialDiffusion(nn.Module):
    """Every bit is kept with probability keep = alpha_bar_t / alpha_bar_s and otherwise redrawn at the base rate r.

    2015 prints r = 0.5; its heartbeat result fits only r = 0.2, the mean activity of the data (Table 1: K - L_null).
    """

    def __init__(self, schedule: BetaSchedule, rate: float) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise UserError(f"the base rate of binomial diffusion lies between 0 and 1, got {rate}")
        self.schedule, self.rate = schedule, rate

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**self.schedule.facts, "base_rate": self.rate}

    def prior(self, like: Tensor) -> Distribution:
        """pi = B(r), independent bits."""
        return bernoulli(torch.full_like(like, self.rate))

    def marginal(self, x_0: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_0)."""
        return self.kernel(x_0, torch.zeros_like(t), t)

    def kernel(self, x_s: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """q(x_t | x_s) = B(keep x_s + (1 - keep) r)."""
        keep = per_example(self.keep(s, t), x_s)
        return bernoulli(keep * x_s + (1 - keep) * self.rate)

    def posterior(self, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """q(x_s = 1 | x_t, x_0) = a_1 / (a_0 + a_1), a_b = q(x_t | x_s = b) q(x_s = b | x_0) (Bayes)."""
        on_s = self.marginal(x_0, s).mean
        off, on = (self.likelihood(x_t, x_s, s, t) for x_s in (0.0, 1.0))
        return bernoulli(on * on_s / (on * on_s + off * (1 - on_s)))

    def until(self, t: float) -> "BinomialDiffusion":
        return BinomialDiffusion(self.schedule.until(t), self.rate)

    def likelihood(self, x_t: Tensor, x_s: float, s: Tensor, t: Tensor) -> Tensor:
        """q(x_t | x_s) per bit, in the shape of x_t."""
        p = self.kernel(same(x_s, x_t), s, t).mean
        return x_t * p + (1 - x_t) * (1 - p)

    def keep(self, s: Tensor, t: Tensor) -> Tensor:
        """alpha_bar_t / alpha_bar_s, shape (B,), float64."""
        return (self.schedule.log_alpha_bar(t) - self.schedule.log_alpha_bar(s)).exp()


def same(bit: float, like: Tensor) -> Tensor:
    """One bit for all examples and places, (1, ..., 1): what follows from it is computed once for each time."""
    return like.new_full([1] * like.ndim, bit)


def bernoulli(probs: Tensor) -> Distribution:
    """Independent bits; one draw is one example."""
    return Independent(Bernoulli(probs, validate_args=False), probs.ndim - 1, validate_args=False)
