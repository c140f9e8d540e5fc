"""Noise schedules: how much of the data is left at time t. t = 0 is data, t = `end` is noise, T steps for a chain."""

import copy

import torch
from torch import Tensor, nn

from dpm.errors import UserError
from dpm.facts import Scalar, digits


class Schedule(nn.Module):
    """(alpha_t, sigma_t) of x_t = alpha_t x_0 + sigma_t eps for real t in [0, end]; alpha_t / sigma_t falls with t."""

    end: float
    prior_std = 1.0  # of pi, where the reverse process starts

    @property
    def facts(self) -> dict[str, Scalar]:
        """What claims are compared with."""
        return {"schedule": type(self).__name__}

    def __len__(self) -> int:
        """T, the number of steps of a chain."""
        raise UserError(f"{type(self).__name__} has no steps of its own: give a grid of times (sampler=flow)")

    def until(self, t: float) -> "Schedule":
        """The same schedule, ended at t."""
        shorter = copy.copy(self)
        shorter.end = t
        return shorter

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def time(self, noise: Tensor) -> Tensor:
        """t at which sigma_t / alpha_t = noise, in the shape of noise."""
        raise NotImplementedError

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(d alpha / dt, d sigma / dt) at real t, in the shape of t."""
        rates: tuple[Tensor, Tensor] = torch.func.jvp(self, (t,), (torch.ones_like(t),))[1]
        return rates


class BetaSchedule(Schedule):
    """Variances beta_1..beta_T of the forward steps (2015, section 2.1; 2020, eq. 2), kept in float64.

    alpha_bar_t = prod_{u <= t} (1 - beta_u), alpha_bar_0 = 1 (2020, eq. 4), is a product of up to thousands of factors
    close to one: it is summed in the logarithm, and 1 - alpha_bar_t is never a difference. Between whole steps log alpha_bar_t
    is linear: the stochastic differential equation dx = -beta x / 2 dt + beta^1/2 dw with constant beta = -log(1 - beta_t) in
    step t, whose marginals at whole t are exactly those of the chain.
    """

    def __init__(self, betas: Tensor, name: str = "given") -> None:
        super().__init__()
        self.name = name
        if betas.ndim != 1 or len(betas) == 0 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise UserError("a schedule needs at least one beta, and each in (0, 1]")
        self.register_buffer("initial", betas.double())
        self.register_buffer("log_alpha_bars", cumulate(self.initial))

    initial: Tensor
    log_alpha_bars: Tensor

    @property
    def betas(self) -> Tensor:
        """beta_1..beta_T, shape (T,)."""
        return self.initial

    @property
    def facts(self) -> dict[str, Scalar]:
        """What claims are compared with; betas to six digits."""
        betas = self.betas.tolist()
        return {"T": len(self), "schedule": self.name, "beta_1": digits(betas[0]), "beta_T": digits(betas[-1])}

    @property
    def end(self) -> int:  # type: ignore[override]
        return len(self)

    def __len__(self) -> int:
        return len(self.initial)

    def until(self, t: float) -> "BetaSchedule":
        """Its first t steps, t whole; betas that are learned are no parameters of it."""
        return BetaSchedule(self.betas[: int(t)].detach(), self.name)

    def at_steps(self) -> Tensor:
        """log alpha_bar_t for t = 0..T, shape (T + 1,)."""
        return self.log_alpha_bars

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """log alpha_bar_t for whole or real t in 0..T, in the shape of t."""
        known = self.at_steps()
        if not t.is_floating_point():
            return known[t]
        before = t.detach().floor().long().clamp(0, len(self) - 1)
        return torch.lerp(known[before], known[before + 1], t.to(known.dtype) - before)

    def time(self, noise: Tensor) -> Tensor:
        wanted, known = torch.log1p(noise.double().square()), -self.at_steps().detach()
        after = torch.searchsorted(known, wanted).clamp(1, len(self))
        return (after - 1) + (wanted - known[after - 1]) / (known[after] - known[after - 1])

    def alpha_bar(self, t: Tensor) -> Tensor:
        return self.log_alpha_bar(t).exp()

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t) = (sqrt(alpha_bar_t), sqrt(1 - alpha_bar_t)) of x_t = alpha_t x_0 + sigma_t eps."""
        log_alpha_bar = self.log_alpha_bar(t)
        return (log_alpha_bar / 2).exp(), (-torch.expm1(log_alpha_bar)).sqrt()


class LearnedBetaSchedule(BetaSchedule):
    """beta_t = sigmoid(logit_t) for t >= 2 are trained with the network; beta_1 stays fixed (2015, section 2.4.1).

    Gradients flow through reparameterised draws of x_t, which is the paper's "frozen noise".
    """

    def __init__(self, initial: BetaSchedule) -> None:
        super().__init__(initial.betas, "learned")
        if not bool((self.initial[1:] < 1).all()):
            raise UserError("a learned schedule starts from betas below 1: beta = 1 has no finite logit")
        self.logits = nn.Parameter(torch.logit(self.initial[1:]))

    @property
    def betas(self) -> Tensor:
        return torch.cat([self.initial[:1], self.logits.sigmoid()])

    @property
    def facts(self) -> dict[str, Scalar]:
        """What is set: beta_T is the training's."""
        return {key: value for key, value in super().facts.items() if key != "beta_T"}

    def at_steps(self) -> Tensor:
        return cumulate(self.betas)


def cumulate(betas: Tensor) -> Tensor:
    """log alpha_bar_t = sum_{u <= t} log(1 - beta_u) for t = 0..T, shape (T + 1,)."""
    return torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0)])


def linear(T: int, beta_1: float, beta_T: float) -> BetaSchedule:
    """beta_t linear in t (2020, section 4: T = 1000, 1e-4 to 0.02)."""
    return BetaSchedule(torch.linspace(beta_1, beta_T, _steps(T), dtype=torch.float64), "linear")


def rescaled_linear(T: int, beta_1: float, beta_T: float, of: int) -> BetaSchedule:
    """The diffusion of `linear` with `of` steps, in T steps: betas times of / T, so that their sum does not depend on T."""
    return linear(T, beta_1 * of / _steps(T), beta_T * of / T)


def linear_from(T: int, beta_1: float, beta_T: float, of: int) -> BetaSchedule:
    """The same sum of betas in T steps, beta_1 as it is: the last step of the reverse process has as little to do at any T."""
    return linear(T, beta_1, (beta_1 + beta_T) * of / _steps(T) - beta_1)


def constant_erasure(T: int) -> BetaSchedule:
    """beta_t = 1 / (T - t + 1): every step erases 1/T of the signal, alpha_bar_t = (T - t) / T (2015, section 2.4.1)."""
    return BetaSchedule(1 / torch.arange(_steps(T), 0, -1, dtype=torch.float64), "constant erasure")


def geometric(T: int, beta_1: float, alpha_bar_T: float) -> BetaSchedule:
    """Noise-to-signal ratio r_t = (1 - alpha_bar_t) / alpha_bar_t in geometric progression from step 1 to step T.

    beta_t = (r_t - r_{t-1}) / (1 + r_t): each step multiplies the noise by the same factor, at every scale of the data.
    """
    if not 0 < beta_1 < 1 - alpha_bar_T < 1:
        raise UserError(f"geometric schedule: 0 < beta_1 < 1 - alpha_bar_T < 1 must hold, got {beta_1=}, {alpha_bar_T=}")
    first, last = (torch.tensor(sigma2 / (1 - sigma2), dtype=torch.float64) for sigma2 in (beta_1, 1 - alpha_bar_T))
    r = torch.exp(torch.linspace(float(first.log()), float(last.log()), _steps(T), dtype=torch.float64))
    return BetaSchedule(torch.diff(r, prepend=r.new_zeros(1)) / (1 + r), "geometric")


def _steps(T: int) -> int:
    if T < 1:
        raise UserError(f"a schedule needs at least one step, got T = {T}")
    return T
