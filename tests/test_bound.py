"""The bound against the truth: where reverse process and data are Gaussian, both papers' bounds have a closed form.

With the exact reverse process each transition is I(X_0; X_{t-1} | X_t), and the sum telescopes to I(X_0; X_1) - I(X_0; X_T):

    decoder edges      E[bound] = h(X_0) + KL(q_T || pi)
    stationary edges   E[bound] = h(X_0) + KL(q_T || pi) + KL(q_0 || pi) - KL(q_1 || pi)

for q_t the marginal of x_t; entropy edges agree with the latter where E[-log pi(x_0)] = H(pi).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from dpm import bound as bounds
from dpm import schedules
from dpm.bound import Edges
from dpm.data.synthetic import GaussianData
from dpm.decoders import Decoder, Network, Stationary
from dpm.errors import UserError
from dpm.networks.mlp import FourierMLP
from dpm.oracles.gaussian import GaussianOracle
from dpm.predictions.papers import Epsilon
from dpm.processes.binomial import BinomialDiffusion
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse
from dpm.reverse.gaussian import GaussianReverse
from dpm.schedules import BetaSchedule
from dpm.variances import FixedSmall

D = 2
SCHEDULES = {
    "one step": schedules.linear(1, 0.4, 0.4),
    "one step to noise": schedules.constant_erasure(1),
    "constant erasure": schedules.constant_erasure(8),
    "geometric": schedules.geometric(40, 1e-6, 1e-3),
    "short": schedules.linear(3, 0.05, 0.3),  # ends far from noise: L_T counts
}
CONVENTIONS = {  # looked up by name at the time of the call, so that a mutant is what runs
    "entropy": (lambda reverse, x_0: bounds.entropy_edges(reverse, x_0), Stationary()),
    "stationary": (lambda reverse, x_0: bounds.stationary_edges(reverse, x_0), Stationary()),
    "decoder": (lambda reverse, x_0: bounds.decoder_edges(reverse, x_0), Network()),
}


def oracle(schedule: BetaSchedule, decoder: Decoder, mean: float = 0.0, variance: float = 1.0) -> GaussianOracle:
    return GaussianOracle(GaussianDiffusion(schedule), GaussianData(D, mean, variance), decoder)


@contextmanager
def frozen_noise(eps: Tensor) -> Iterator[None]:
    """Every draw of a Normal is mean + std eps."""
    with pytest.MonkeyPatch.context() as patch:
        for method in ("sample", "rsample"):
            patch.setattr(Normal, method, lambda self, shape=(): self.loc + self.scale * eps)
        yield


def expected_total(reverse: Reverse, mean: float, variance: float, edges: Edges) -> float:
    """E[bound] over x_0 ~ N(mean, variance I) and all noise, without sampling.

    For linear Gaussian p every term is a quadratic function of (x_0, eps), for which the mean over +- 1 is exact.
    """
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    x_0, eps = (column[:, None].expand(4, D) for column in signs.T)
    with frozen_noise(eps):
        return float(bounds.bound(reverse, mean + math.sqrt(variance) * x_0, edges).total.mean())


def entropy(variance: float) -> float:
    """h of N(mean, variance I) in D dimensions."""
    return 0.5 * D * math.log(2 * math.pi * math.e * variance)


def kl_to_pi(schedule: BetaSchedule, mean: float, variance: float, t: int) -> float:
    """KL(q(x_t) || pi) for x_0 ~ N(mean, variance I)."""
    alpha, sigma = (c.item() for c in schedule(torch.tensor(t)))
    v = alpha**2 * variance + sigma**2
    return 0.5 * D * (v + (alpha * mean) ** 2 - 1 - math.log(v))


def check_closed_form(schedule: BetaSchedule, convention: str, mean: float, variance: float) -> None:
    """The bound of the exact reverse process is the entropy plus the exact slack, to 1e-9."""
    edges, decoder = CONVENTIONS[convention]
    slack = kl_to_pi(schedule, mean, variance, len(schedule))
    if convention != "decoder":
        slack += kl_to_pi(schedule, mean, variance, 0) - kl_to_pi(schedule, mean, variance, 1)
    value = expected_total(oracle(schedule, decoder, mean, variance), mean, variance, edges)
    assert value == pytest.approx(entropy(variance) + slack, rel=1e-9)


def check_true_entropy(schedule: BetaSchedule, convention: str) -> None:
    """Exact reverse process of N(0, I), sampled: the bound is the entropy within three standard errors."""
    edges, decoder = CONVENTIONS[convention]
    x_0 = GaussianData(D).held_out(4000)
    x_0 = (x_0 - x_0.mean(0)) / x_0.std(0)
    total = bounds.bound(oracle(schedule, decoder), x_0, edges).total
    error = total.std().item() / math.sqrt(len(total))
    assert total.shape == (4000,)
    assert total.mean().item() == pytest.approx(entropy(1), abs=3 * error + 1e-9)


def check_never_below_the_entropy(edges: Edges) -> None:
    """A bound on -log p(x_0) that is below the entropy of the data is no bound: refuse it. Here E x_0^2 = 4."""
    x_0 = GaussianData(D, 0.0, 4.0).held_out(1000)
    with suppress(UserError):
        total = bounds.bound(oracle(SCHEDULES["short"], Stationary(), 0.0, 4.0), x_0, edges).total
        assert total.mean().item() >= entropy(4.0) - 4 * total.std().item() / math.sqrt(1000)


def check_examples_do_not_meet() -> None:
    """An example's bound is the same alone and in any batch."""
    q = GaussianDiffusion(schedules.linear(4, 0.1, 0.5))
    reverse = GaussianReverse(q, FourierMLP(D, D, 4, width=16, depth=2, octaves=2).double(), Epsilon(), FixedSmall(), Network())
    nn.init.normal_(reverse.network.head.weight)
    x_0, eps = torch.randn(2, 6, D, dtype=torch.float64)
    with frozen_noise(eps):
        together = bounds.bound(reverse, x_0, bounds.decoder_edges).total
    for i in range(6):
        with frozen_noise(eps[i : i + 1]):
            assert torch.allclose(bounds.bound(reverse, x_0[i : i + 1], bounds.decoder_edges).total, together[i], rtol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_standard_normal_data_have_their_true_entropy(schedule: BetaSchedule, convention: str) -> None:
    check_true_entropy(schedule, convention)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.0, 0.25), (1.5, 0.1), (-0.5, 4.0)])
@pytest.mark.parametrize("convention", ["stationary", "decoder"])
def test_gaussian_data_have_the_closed_form(schedule: BetaSchedule, convention: str, mean: float, variance: float) -> None:
    check_closed_form(schedule, convention, mean, variance)


@pytest.mark.parametrize("T", [1, 2, 10, 200])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_constants_enter_once_whatever_T(T: int, convention: str) -> None:
    check_closed_form(schedules.linear(T, 0.01, 0.3), convention, 0.0, 1.0)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_each_transition_is_a_conditional_mutual_information(schedule: BetaSchedule) -> None:
    """E KL at t is I(X_0; X_{t-1} | X_t) = I(X_0; X_{t-1}) - I(X_0; X_t), with I(X_0; X_t) = d/2 log(v_t / sigma_t^2)."""
    reverse, eps, variance = oracle(schedule, Stationary(), 0.0, 0.3), torch.tensor([[1.0], [-1.0]]).double().expand(2, D), 0.3
    alpha, sigma = schedule(torch.arange(len(schedule) + 1))
    information = D / 2 * torch.log1p(alpha**2 * variance / sigma**2)
    with frozen_noise(eps):  # x_0 = +- sqrt(variance), independently of eps
        rows = [bounds.bound(reverse, sign * math.sqrt(variance) * eps, bounds.stationary_edges) for sign in (1, -1)]
    transitions = torch.cat([row.transitions for row in rows]).mean(0)
    assert transitions.shape == (len(schedule) - 1,)
    assert torch.allclose(transitions, -information[1:].diff(), rtol=1e-6, atol=1e-12)


def test_an_inexact_reverse_process_is_worse_than_the_exact_one() -> None:
    """Gibbs: the bound of a reverse process for other data exceeds the exact one's."""
    schedule = SCHEDULES["constant erasure"]
    right, wrong = (oracle(schedule, Stationary(), 0.3, v) for v in (0.25, 0.3))
    totals = [expected_total(reverse, 0.3, 0.25, bounds.stationary_edges) for reverse in (right, wrong)]
    assert totals[1] > totals[0] + 1e-3


@pytest.mark.parametrize("edges", [bounds.entropy_edges, bounds.stationary_edges, bounds.decoder_edges])
def test_no_convention_reports_less_than_the_entropy(edges: Edges) -> None:
    check_never_below_the_entropy(edges)


@pytest.mark.parametrize("variance", [0.25, 4.0])
def test_entropy_edges_refuse_data_that_are_not_standardised(variance: float) -> None:
    with pytest.raises(UserError, match="stationary edges"):
        bounds.entropy_edges(oracle(SCHEDULES["short"], Stationary()), GaussianData(D, 0.0, variance).held_out(1000))


def test_entropy_edges_refuse_what_is_not_a_number() -> None:
    with pytest.raises(UserError, match="standardise"):
        bounds.entropy_edges(oracle(SCHEDULES["short"], Stationary()), torch.full((3, D), torch.nan).double())


@pytest.mark.parametrize("mean_square", [0.25, 1.0, 4.0])
def test_what_entropy_edges_would_be_off_by(mean_square: float, monkeypatch) -> None:
    """By d/2 (1 - E x_0^2) (alpha_bar_T + beta_1) nats: data with E x_0^2 > 1 would seem more likely, others less."""
    monkeypatch.setattr(bounds, "require_stationary", lambda process, x_0: None)
    schedule, x_0 = SCHEDULES["short"], math.sqrt(mean_square) * torch.tensor([[1.0, -1.0], [-1.0, -1.0]]).double()
    reverse = oracle(schedule, Stationary())
    entropies, stationary = (sum(edges(reverse, x_0)).mean() for edges in (bounds.entropy_edges, bounds.stationary_edges))
    off = D / 2 * (1 - mean_square) * (schedule.alpha_bar(torch.tensor(3)) + schedule.betas[0])
    assert (entropies - stationary).item() == pytest.approx(off.item(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("n", [10, 100_000])
def test_entropy_edges_accept_standardised_data(n: int) -> None:
    prior, reconstruction = bounds.entropy_edges(oracle(SCHEDULES["short"], Stationary()), GaussianData(D).held_out(n))
    assert (prior.shape, reconstruction.shape) == ((n,), (n,))


def test_both_edges_of_2015_agree_in_expectation_on_standardised_data() -> None:
    """Over +- 1 the mean of x_0^2 is exactly 1, and so must the two conventions agree exactly; for bits, at rate r."""
    q = GaussianDiffusion(SCHEDULES["short"])
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    bits = torch.tensor([[1.0, 0, 0, 0, 0], [0, 0, 1, 0, 0]], dtype=torch.float64)
    for process, x_0 in ((q, signs), (BinomialDiffusion(SCHEDULES["short"], 0.2), bits)):
        reverse = oracle(SCHEDULES["short"], Stationary())
        reverse.process = process
        entropies, stationary = (sum(edges(reverse, x_0)).mean() for edges in (bounds.entropy_edges, bounds.stationary_edges))
        assert entropies.item() == pytest.approx(stationary.item(), rel=1e-9)


def test_examples_do_not_meet() -> None:
    check_examples_do_not_meet()


def test_the_draw_carries_gradients_to_the_betas() -> None:
    """2015's frozen noise: at fixed eps the transition is a differentiable function of the betas."""
    schedule = schedules.LearnedBetaSchedule(schedules.linear(4, 0.1, 0.4))
    reverse = GaussianReverse(GaussianDiffusion(schedule), lambda x, t: 0.1 * x, Epsilon(), FixedSmall(), Network())
    x_0, eps, t = torch.ones(1, D).double(), torch.full((1, D), 0.7).double(), torch.tensor([3])

    def term(logits: Tensor) -> Tensor:
        schedule.logits.data.copy_(logits)
        with frozen_noise(eps):
            return bounds.transition(reverse, x_0, t - 1, t).sum()

    start, step = schedule.logits.detach().clone(), 1e-6
    (gradient,) = torch.autograd.grad(term(start), schedule.logits)
    for u in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[u]
        slope = (term(start + shift) - term(start - shift)).item() / (2 * step)
        assert gradient[u].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(("square", "published"), [(0.25, 7.3e-6), (0.3, 8.7e-6)])
def test_the_prior_term_of_2020(square: float, published: float) -> None:
    """L_T = D/2 (alpha_bar_T x^2 - alpha_bar_T - log(1 - alpha_bar_T)) nats; about 1e-5 bits/dim (2020, section 4.3)."""
    x_0 = torch.full((1, 3, 32, 32), math.sqrt(square), dtype=torch.float64)
    q = GaussianDiffusion(schedules.linear(1000, 1e-4, 0.02))
    p = GaussianReverse(q, nn.Identity(), Epsilon(), FixedSmall(), Network())
    alpha_bar = q.schedule.alpha_bar(torch.tensor(1000)).item()
    per_dim = float(bounds.decoder_edges.prior(p, x_0)) / (3072 * math.log(2))
    assert per_dim == pytest.approx((alpha_bar * square - alpha_bar - math.log1p(-alpha_bar)) / (2 * math.log(2)), rel=1e-9)
    assert per_dim == pytest.approx(published, abs=0.05e-6)
