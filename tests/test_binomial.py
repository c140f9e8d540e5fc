"""Binomial diffusion and its bound, by enumeration: every state of a few bits, every path of a short chain, no sampling.

-log p(x_0) = prior + sum of the transitions + reconstruction - KL(q(x_1..T | x_0) || p(x_1..T | x_0))      (nats)
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import mutants
import pytest
import torch
from mutants import Mutant
from torch import Tensor, nn
from torch.distributions import kl_divergence

from dpm import bound as bounds
from dpm.bound import Bound
from dpm.data.heartbeat import BinaryHeartbeat
from dpm.decoders import Network, Stationary
from dpm.errors import UserError
from dpm.objectives.one_term import OneTerm
from dpm.oracles.binomial import BinomialOracle
from dpm.processes.binomial import BinomialDiffusion, bernoulli
from dpm.reverse import Reverse
from dpm.reverse.binomial import BinomialReverse
from dpm.schedules import constant_erasure, linear

BITS = 3
SCHEDULES = {"constant erasure": constant_erasure(4), "ends far from noise": linear(3, 0.05, 0.3)}
CASES = [(schedule, rate) for schedule in SCHEDULES for rate in (0.2, 0.5)]
every_case = pytest.mark.parametrize(("schedule", "rate"), CASES)


def states(bits: int = BITS) -> Tensor:
    """All 2^bits values of x, (2^bits, bits)."""
    return torch.tensor(list(product((0.0, 1.0), repeat=bits)), dtype=torch.float64)


def matrix(p: Callable[[Tensor], torch.distributions.Distribution], given: Tensor, values: Tensor) -> Tensor:
    """p(value | given) for each pair, (given, values)."""
    pairs = given.repeat_interleave(len(values), 0)
    return p(pairs).log_prob(values.repeat(len(given), 1)).exp().reshape(len(given), len(values))


def kernel(q: BinomialDiffusion, s: int, t: int) -> Tensor:
    """q(x_t | x_s), rows x_s, columns x_t."""
    x = states()
    return matrix(lambda x_s: q.kernel(x_s, at(s, x_s), at(t, x_s)), x, x)


def at(t: int, like: Tensor) -> Tensor:
    return torch.full((len(like),), t)


def process(schedule: str = "constant erasure", rate: float = 0.2) -> BinomialDiffusion:
    return BinomialDiffusion(SCHEDULES[schedule], rate)


def pairs(q: BinomialDiffusion, first: int = 0) -> list[tuple[int, int]]:
    T = len(q.schedule)
    return [(s, t) for s in range(first, T) for t in range(s + 1, T + 1)]


# --- the process -----------------------------------------------------------------------------------------------------


@every_case
def test_one_step_keeps_a_bit_or_redraws_it(schedule: str, rate: float) -> None:
    """q(x_t = 1 | x_{t-1}) = x_{t-1} (1 - beta_t) + r beta_t (2015, Table App.1, r in the place of 0.5)."""
    q, x = process(schedule, rate), states()
    for t, beta in enumerate(q.schedule.betas, 1):
        torch.testing.assert_close(q.kernel(x, at(t - 1, x), at(t, x)).mean, x * (1 - beta) + rate * beta)


@every_case
def test_steps_compose_to_every_stride(schedule: str, rate: float) -> None:
    """Chapman-Kolmogorov: sum over x_s of q(x_t | x_s) q(x_s | x_r) = q(x_t | x_r)."""
    q = process(schedule, rate)
    for s, t in pairs(q, first=1):
        for r in range(s):
            torch.testing.assert_close(kernel(q, r, s) @ kernel(q, s, t), kernel(q, r, t))
            torch.testing.assert_close(kernel(q, r, t).sum(1), torch.ones(2**BITS, dtype=torch.float64))


@every_case
def test_pi_is_stationary_and_the_chain_reversible(schedule: str, rate: float) -> None:
    """Detailed balance, pi(x) q(y | x) = pi(y) q(x | y); the fixed last step of 2015, eq. 44, rests on it."""
    q, x = process(schedule, rate), states()
    pi = q.prior(x).log_prob(x).exp()
    for s, t in pairs(q):
        flow = pi[:, None] * kernel(q, s, t)
        torch.testing.assert_close(flow, flow.T)
    last_step = matrix(lambda x_1: Stationary()(reverse(q), x_1, at(1, x_1)), x, x)
    torch.testing.assert_close(last_step * pi[:, None], (kernel(q, 0, 1) * pi[:, None]).T)


def test_constant_erasure_ends_in_pi_exactly() -> None:
    q, x = process("constant erasure", 0.2), states()
    assert kl_divergence(q.marginal(x, at(4, x)), q.prior(x)).abs().max() < 1e-12


def check_bayes(q: BinomialDiffusion) -> None:
    """q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0), for every x_0, x_s, x_t, s < t."""
    x = states()
    for s, t in pairs(q):
        joint = kernel(q, 0, s)[:, :, None] * kernel(q, s, t)[None]  # x_0, x_s, x_t
        expected = (joint / joint.sum(1, keepdim=True)).permute(0, 2, 1)
        for x_0, of_x_0 in zip(x, expected, strict=True):
            posterior = matrix(
                lambda x_t, x_0=x_0, s=s, t=t: q.posterior(x_0.expand_as(x_t), x_t, at(s, x_t), at(t, x_t)), x, x
            )
            torch.testing.assert_close(posterior, of_x_0)


@every_case
def test_the_posterior_is_bayes(schedule: str, rate: float) -> None:
    check_bayes(process(schedule, rate))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.2, math.nan])
def test_a_rate_without_noise_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="base rate"):
        BinomialDiffusion(constant_erasure(3), rate)


# --- the bound -------------------------------------------------------------------------------------------------------


class Table(nn.Module):
    """A network that can be anything: an independent logit for every bit of every x_t at every t."""

    def __init__(self, T: int) -> None:
        super().__init__()
        self.logits = 3 * torch.randn(T + 1, *[2] * BITS, BITS, dtype=torch.float64)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.logits[(t, *x_t.long().unbind(1))]


def reverse(q: BinomialDiffusion, decoder: Any = None) -> BinomialReverse:
    return BinomialReverse(q, Table(len(q.schedule)), decoder or Stationary())


def steps_of(p: Reverse) -> list[Tensor]:
    """p(x_{t-1} | x_t) for t = 1..T, rows x_t, columns x_{t-1}."""
    x, T = states(), len(p.process.schedule)
    return [matrix(lambda x_t, t=t: p(x_t, at(t - 1, x_t), at(t, x_t)), x, x) for t in range(1, T + 1)]


def log_likelihood(p: Reverse) -> Tensor:
    """log p(x_0) for every x_0: the sum over all paths."""
    x = states()
    probability = p.process.prior(x).log_prob(x).exp()
    for step in reversed(steps_of(p)):
        probability = probability @ step
    return probability.log()


def evidence_bound(p: Reverse) -> tuple[Tensor, Tensor]:
    """E_q[log p(x_0..T) - log q(x_1..T | x_0)] and KL(q(x_1..T | x_0) || p(x_1..T | x_0)), path by path, for every x_0."""
    q, x, T = p.process, states(), len(p.process.schedule)
    forward, backward = [kernel(q, t - 1, t).log() for t in range(1, T + 1)], [step.log() for step in steps_of(p)]
    log_pi, log_p = q.prior(x).log_prob(x), log_likelihood(p)
    log_q = sum(axes(forward[t], t, t + 1, T) for t in range(T))
    path = axes(log_pi[:, None], T, T - 1, T) + sum(axes(backward[t].T, t, t + 1, T) for t in range(T))
    bound = (log_q.exp() * (path - log_q)).flatten(1).sum(1)
    gap = (log_q.exp() * (log_q - path)).flatten(1).sum(1) + log_p
    return bound, gap


def axes(values: Tensor, rows: int, columns: int, T: int) -> Tensor:
    """A matrix over (x_rows, x_columns) as a tensor over all of (x_0, ..., x_T)."""
    values = values if rows < columns else values.T
    shape = [1] * (T + 1)
    shape[min(rows, columns)], shape[max(rows, columns)] = values.shape
    return values.reshape(shape)


def expected_total(p: Reverse, x_0: Tensor, edges: bounds.Edges) -> Tensor:
    """`bound` with the mean over all x_t in the place of a draw, (B,)."""
    q, x = p.process, states(x_0.shape[1])

    def transition(p: Reverse, x_0: Tensor, s: Tensor, t: Tensor) -> Tensor:
        given, x_t, time = x_0.repeat_interleave(len(x), 0), x.repeat(len(x_0), 1), t[:1].expand(len(x_0) * len(x))
        kl = kl_divergence(q.posterior(given, x_t, time - 1, time), p(x_t, time - 1, time))
        return (q.marginal(given, time).log_prob(x_t).exp() * kl).reshape(len(x_0), -1).sum(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "transition", transition)
        return bounds.bound(p, x_0, edges).total


def check_bound_is_that_of_all_paths(q: BinomialDiffusion, edges: bounds.Edges = bounds.stationary_edges) -> None:
    """prior + transitions + reconstruction = -E_q[log p(x_0..T) - log q(x_1..T | x_0)] for an arbitrary reverse process, and
    it misses -log p(x_0) by a KL divergence, which is never negative.
    """
    p = reverse(q)
    (bound, gap), total = evidence_bound(p), expected_total(p, states(), edges)
    torch.testing.assert_close(-total, bound)
    torch.testing.assert_close(log_likelihood(p) - bound, gap)
    assert bool((gap > 0).all())


@every_case
def test_the_bound_is_that_of_all_paths(schedule: str, rate: float) -> None:
    check_bound_is_that_of_all_paths(process(schedule, rate))


@every_case
def test_the_bound_with_a_decoder_is_that_of_all_paths(schedule: str, rate: float) -> None:
    """decoder_edges draws x_1; here it is every x_1 in turn."""
    p, x = reverse(process(schedule, rate), Network()), states()
    T = len(p.process.schedule)
    prior = kl_divergence(p.process.marginal(x, at(T, x)), p.process.prior(x))
    reconstruction = -(kernel(p.process, 0, 1) * steps_of(p)[0].T.log()).sum(1)
    total = expected_total(p, x, lambda p, x_0: (prior, reconstruction))
    torch.testing.assert_close(-total, evidence_bound(p)[0])


def test_an_exact_reverse_process_leaves_no_gap() -> None:
    """All words equally likely, rate 0.5: bits are independent at every t, so factorised steps are the exact reverse."""

    class Anything:
        def words(self) -> Tensor:
            return states()

    p = BinomialOracle(process("constant erasure", 0.5), Anything(), Stationary())
    _, gap = evidence_bound(p)
    assert gap.abs().max() < 1e-12
    torch.testing.assert_close(log_likelihood(p), torch.full((2**BITS,), -BITS * math.log(2), dtype=torch.float64))


@every_case
def test_the_sampled_bound_is_unbiased(schedule: str, rate: float) -> None:
    p = reverse(process(schedule, rate))
    x_0 = states().repeat(2500, 1)
    total = bounds.bound(p, x_0, bounds.stationary_edges).total
    error = total.std() / len(x_0) ** 0.5
    assert abs(total.mean() - expected_total(p, states(), bounds.stationary_edges).mean()) < 4.5 * error


def check_one_term_is_the_sum_of_all(q: BinomialDiffusion) -> None:
    """prior + (T - 1) E_t[KL_t] + reconstruction: edges once, T - 1 terms."""
    p = reverse(q)
    x_0 = states().repeat(5000, 1)
    x_0 = x_0[torch.randperm(len(x_0))]
    values = OneTerm(bounds.stationary_edges)(p, x_0)
    error = values.std() / len(x_0) ** 0.5
    assert abs(values.mean() - expected_total(p, states(), bounds.stationary_edges).mean()) < 4.5 * error


@every_case
def test_one_term_is_the_sum_of_all(schedule: str, rate: float) -> None:
    check_one_term_is_the_sum_of_all(process(schedule, rate))


# --- the two conventions of 2015's edges ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1 / 3, 0.5])
def test_entropy_edges_are_the_stationary_ones_on_average_if_the_rate_is_the_datas(rate: float) -> None:
    """E[-log pi(x_t)] is the same at every t if the base rate is the mean of the data, or if pi is uniform."""
    q, words = process("ends far from noise", rate), BinaryHeartbeat(BITS, 3).words()
    p = reverse(q)
    entropy, stationary = (expected_total(p, words, edges) for edges in (bounds.entropy_edges, bounds.stationary_edges))
    torch.testing.assert_close(entropy.mean(), stationary.mean())


def test_entropy_edges_refuse_a_rate_that_is_not_the_datas() -> None:
    """With base rate 0.2 and a third of the bits on they would report more than log p(x_0) allows."""
    q, words = process("ends far from noise", 0.2), BinaryHeartbeat(BITS, 3).words()
    with pytest.raises(UserError, match="base rate"):
        bounds.entropy_edges(reverse(q), words)


# --- the bugs of published code that concern this kernel --------------------------------------------------------------


def unnormalised(self: BinomialDiffusion, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Any:
    """a_1 without / (a_0 + a_1)."""
    return bernoulli(self.likelihood(x_t, 1.0, s, t) * self.marginal(x_0, s).mean)


def printed_rate(self: BinomialDiffusion, like: Tensor) -> Any:
    """pi at the 0.5 of Table App.1, whatever the rate of the kernel."""
    return bernoulli(torch.full_like(like, 0.5))


def constants_once_per_step(self: Bound) -> Tensor:
    return self.transitions.shape[1] * (self.prior + self.reconstruction) + self.transitions.sum(1)


def T_times_the_mean(self: Bound) -> Tensor:
    terms = self.transitions.shape[1]
    return self.prior + (terms + 1) / terms * self.transitions.sum(1) + self.reconstruction


def with_a_term_at_1(p: Reverse, x_0: Tensor, edges: bounds.Edges) -> Bound:
    """KL(q(x_0 | x_1, x_0) || p(x_0 | x_1)), a code length of x_0 in disguise, beside the reconstruction."""
    real, one = REAL_BOUND(p, x_0, edges), torch.ones(len(x_0), dtype=torch.long)
    x_1 = p.process.marginal(x_0, one).sample()
    term = kl_divergence(p.process.posterior(x_0, x_1, one - 1, one), p(x_1, one - 1, one))
    return Bound(real.prior, torch.cat([term[:, None], real.transitions], 1), real.reconstruction)


REAL_BOUND = bounds.bound


def on_bits(theorem: Callable[[BinomialDiffusion], None]) -> Callable[[], None]:
    return lambda: theorem(process("ends far from noise", 0.2))


MUTANTS = [
    Mutant("an unnormalised posterior", BinomialDiffusion, "posterior", unnormalised, on_bits(check_bayes)),
    Mutant("base rate 0.5 at the start", BinomialDiffusion, "prior", printed_rate, on_bits(check_bound_is_that_of_all_paths)),
    Mutant(
        "constants once per step",
        Bound,
        "total",
        property(constants_once_per_step),
        on_bits(check_bound_is_that_of_all_paths),
    ),
    Mutant(
        "T times the mean of T - 1 terms",
        Bound,
        "total",
        property(T_times_the_mean),
        on_bits(check_bound_is_that_of_all_paths),
    ),
    Mutant("a KL term at t = 1", bounds, "bound", with_a_term_at_1, on_bits(check_bound_is_that_of_all_paths)),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_theorem_holds_and_the_mutant_breaks_it(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.check(mutant, monkeypatch)
