"""Estimators of -log p(x_0): trajectories, the limit of many steps, and the flow, against closed forms for a wrong network."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from dpm.bound import bound, decoder_edges
from dpm.continuous import VariancePreserving
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators.likelihoods import Likelihoods
from dpm.flows import axes, log_density, noise_level
from dpm.predictions.papers import X0, Epsilon
from dpm.processes import at, per_example
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import ode
from dpm.samplers.ancestral import grid
from dpm.schedules import BetaSchedule, linear
from dpm.trajectories import gaussian_transitions, log_mean_exp, log_weights, transitions_in_the_limit
from dpm.variances import Fixed, Variance

S2 = 0.25
DATA, ENTROPY = GaussianData(1, 0.0, S2), 0.5 * math.log(2 * math.pi * math.e * S2)


class Wrong(nn.Module):
    """eps-hat = (1 + delta) E[eps | x_t] for x_0 ~ N(0, s2)."""

    def __init__(self, schedule: nn.Module, delta: float, s2: float = S2) -> None:
        super().__init__()
        self.schedule, self.delta, self.s2 = schedule, delta, s2

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule(t)
        return per_example((1 + self.delta) * sigma / (alpha**2 * self.s2 + sigma**2), x) * x


class Best(Fixed):
    """beta-tilde + b^2 Var[x_0 | x_t], of which 2020's two are the limits."""

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step) -> Tensor:
        alpha, sigma = q.schedule(t)
        left = S2 * sigma**2 / (alpha**2 * S2 + sigma**2)
        return per_example(step.posterior_variance + step.on_x_0**2 * left, z)


class Large(Fixed):
    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step) -> Tensor:
        return per_example(step.variance, z)


def chain(T: int) -> BetaSchedule:
    """2020's linear betas, taken at T points of the 1000."""
    full = linear(1000, 1e-4, 0.02)
    times = torch.arange(1, T + 1) * (1000 // T)
    return BetaSchedule(-torch.expm1(full.log_alpha_bar(torch.cat([torch.zeros(1, dtype=torch.long), times])).diff()))


def process(schedule, variance: Variance, delta: float = 0.0, s2: float = S2) -> GaussianReverse:
    return GaussianReverse(GaussianDiffusion(schedule), Wrong(schedule, delta, s2), Epsilon(), variance, Network())


# --- trajectories (fact sheet 2.3) ------------------------------------------------------------------------------------------


def test_with_the_optimal_variance_weights_have_no_spread() -> None:
    """log w is log p(x_0), whatever the trajectory: the data's own density, but for the prior, which is not quite q(x_T)."""
    p, x_0 = process(chain(20), Best()), DATA.held_out(50)
    log_w = log_weights(p, x_0, grid(20, 20), 8)
    assert log_w.std(1).max().item() < 1e-4
    assert log_weights(process(chain(20), Large()), x_0, grid(20, 20), 8).std(1).min().item() > 0.01
    gap = log_w[:, 0] - DATA.log_density(x_0, 1.0, 0.0)
    assert gap.abs().max().item() < 1e-3  # q(x_T) is not pi


def test_more_trajectories_fall_to_the_law_of_the_chain() -> None:
    """T = 20 with beta: bound 0.050977 above the entropy, the model itself 0.006771."""
    p, x_0 = process(chain(20), Large()), DATA.held_out(2000)
    torch.manual_seed(0)
    log_w = log_weights(p, x_0, grid(20, 20), 64)
    excess = {K: -log_mean_exp(log_w, K) + DATA.log_density(x_0, 1.0, 0.0) for K in (1, 4, 16, 64)}
    means = [value.mean().item() for value in excess.values()]
    assert means == sorted(means, reverse=True)
    for K, expected in ((1, 0.050977), (64, 0.006771)):
        error = excess[K].std().item() / len(x_0) ** 0.5
        assert excess[K].mean().item() == pytest.approx(expected, abs=4 * error + 3e-4)


def test_one_trajectory_is_the_bound() -> None:
    p, x_0 = process(chain(5), Large()), DATA.held_out(40_000)
    torch.manual_seed(0)
    single, terms = -log_weights(p, x_0, grid(5, 5), 1).squeeze(1), bound(p, x_0, decoder_edges).total
    error = (single.var() / len(x_0) + terms.var() / len(x_0)) ** 0.5
    assert abs(float(single.mean() - terms.mean())) < 4 * float(error)
    assert terms.mean().item() - ENTROPY == pytest.approx(0.162087, abs=4 * terms.std().item() / 200)


def test_groups_of_trajectories_use_all_of_them() -> None:
    log_w = torch.tensor([[0.0, 1.0, 2.0, 3.0, 99.0]], dtype=torch.float64)
    assert log_mean_exp(log_w, 1).item() == pytest.approx(21.0)
    expected = (math.log((1 + math.e) / 2) + math.log((math.e**2 + math.e**3) / 2)) / 2
    assert log_mean_exp(log_w, 2).item() == pytest.approx(expected)


# --- one network, three models (fact sheet 2.2) -------------------------------------------------------------------------------

VP = VariancePreserving()
FIRST = 1e-6


def limit(delta: float, s2: float, n: int = 20_000) -> tuple[float, float]:
    """The continuous bound with the data's own posterior as its last step: its error is of first order in FIRST."""
    p, data = process(VP, Large(), delta, s2), GaussianData(1, 0.0, s2)
    x_0 = data.held_out(n)
    torch.manual_seed(0)
    prior = decoder_edges.prior(p, x_0)
    first, end = noise_level(VP, FIRST), noise_level(VP, 1.0)
    total = prior + torch.zeros(n)
    for k in range(40):
        s = (math.log(first) + (math.log(end) - math.log(first)) * (k + torch.rand(n, dtype=torch.float64)) / 40).exp()
        t = VP.time(s)
        x_t = p.process.marginal(x_0, t).sample()
        total += ((x_0 - p.predicted(x_t, t)) / s[:, None]).square().sum(1) * (math.log(end) - math.log(first)) / 40
    left = s2 * first**2 / (s2 + first**2)
    total += 0.5 * math.log(2 * math.pi * math.e * left)
    return total.mean().item(), total.std().item() / n**0.5


@pytest.mark.parametrize(("s2", "delta", "expected"), [(0.25, 0.05, 0.740087), (0.25, -0.2, 0.954517), (1.0, 0.2, 1.619939)])
def test_the_limit_of_the_bound_has_its_closed_form(s2: float, delta: float, expected: float) -> None:
    value, error = limit(delta, s2)
    assert value == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize(
    ("s2", "delta", "expected"),
    [(1.0, 0.05, 1.494113), (1.0, -0.05, 1.472697), (0.25, 0.05, 0.825610), (0.25, -0.2, 1.420205), (1.0, 0.2, 3.645597)],
)
def test_the_flow_has_its_own_cross_entropy(s2: float, delta: float, expected: float) -> None:
    """-log p_flow is quadratic in x: two points have its mean over N(0, s2). No bound on the chain bounds it."""
    p, x = process(VP, Large(), delta, s2), torch.tensor([[0.0], [s2**0.5]], dtype=torch.float64)

    def solve(field, y: Tensor, start: float, end: float) -> Tensor:
        return ode.adaptive(field, y, start, end, 1e-8)

    values = -log_density(p, x, 1e-9, solve, axes(x))
    assert values[1].item() == pytest.approx(expected, abs=2e-5)  # E x^2 = s2


@pytest.mark.parametrize(("delta", "expected"), [(0.05, 0.909092), (0.2, 0.714286)])
def test_the_reverse_chain_in_many_steps_has_the_law_of_the_sde(delta: float, expected: float) -> None:
    """Var under p of x_0, by the recursion of an affine chain: 1 / (1 + 2 delta) for s2 = 1."""
    p, variance = process(VP, Large(), delta, 1.0), torch.ones(1, dtype=torch.float64)
    times = torch.linspace(1, 1e-4, 4000, dtype=torch.float64).tolist()
    one = torch.ones(1, 1, dtype=torch.float64)
    for t, s in pairwise(times):
        step = p(one, at(one, s), at(one, t))
        variance = step.mean.squeeze() ** 2 * variance + step.variance.squeeze()
    assert variance.item() == pytest.approx(expected, rel=3e-3)


# --- on a chain with whole steps ----------------------------------------------------------------------------------------


def test_the_limit_of_the_exact_chain_is_below_its_bound_and_above_the_truth() -> None:
    p, x_0 = process(chain(100), Large()), DATA.held_out(4000)
    torch.manual_seed(0)
    decoded = -p(x_1 := p.process.marginal(x_0, at(x_0, 1)).sample(), at(x_0, 0), at(x_0, 1)).log_prob(x_0)
    del x_1
    total = decoder_edges.prior(p, x_0) + transitions_in_the_limit(p, x_0, 20)[0] + decoded
    error = total.std().item() / len(x_0) ** 0.5
    many = bound(p, x_0, decoder_edges).total.mean().item()
    assert total.mean().item() < many + 4 * error
    assert total.mean().item() > ENTROPY - 4 * error


def test_the_gaussian_difference_has_the_same_mean_and_less_spread() -> None:
    """In many dimensions |x_0|^2 / d is the variance, and the control variate is the integrand of the exact network."""
    schedule, many = chain(100), GaussianData(200, 0.0, S2)
    p, x_0 = process(schedule, Large(), 0.1), many.held_out(400)
    torch.manual_seed(0)
    plain, difference = transitions_in_the_limit(p, x_0, 2)
    gap = plain - difference
    assert abs(gap.mean().item()) < 4 * gap.std().item() / 20
    assert difference.std().item() < 0.25 * plain.std().item()


def test_the_gaussian_error_is_integrated_in_closed_form() -> None:
    v, first, last = torch.tensor([0.3], dtype=torch.float64), 0.01, 100.0
    u = torch.linspace(math.log(first), math.log(last), 20001, dtype=torch.float64)
    expected = torch.trapezoid(7 * v / (v + (2 * u).exp()), u)
    assert gaussian_transitions(v, 7, first, last).item() == pytest.approx(expected.item(), rel=1e-6)


TWO = GaussianMixture([0.3, 0.7], [[-1.0, 0.0], [0.5, 0.2]], [[0.04, 0.09], [0.01, 0.04]])


def table(**changes: object) -> list:
    schedule = chain(50)
    p = GaussianReverse(GaussianDiffusion(schedule), MixtureDenoiser(TWO, schedule), X0(), BestOfTwo(), Network())
    sizes = {"groups": [1, 4], "chain_steps": 50, "trajectories_on": 300, "levels": 10, "flow_on": 300, "again_on": 20}
    flow = {"solve": adaptive, "coarse": coarse, "probes": 0, "batch_size": 150}
    return list(
        Likelihoods("log_likelihood_bound", "bits", **{**sizes, **flow, **changes})(p, TWO, TWO.held_out(600), 0).measurements
    )


def adaptive(field, x: Tensor, start: float, end: float) -> Tensor:
    return ode.adaptive(field, x, start, end, 1e-6)


def coarse(field, x: Tensor, start: float, end: float) -> Tensor:
    return ode.geometric(field, x, start, end, 60)


class BestOfTwo(Fixed):
    """beta-tilde + b^2 of the average posterior variance is near enough."""

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step) -> Tensor:
        alpha, sigma = q.schedule(t)
        return per_example(step.posterior_variance + step.on_x_0**2 * 0.03 * sigma**2 / (alpha**2 * 0.03 + sigma**2), z)


def test_the_table_keeps_the_order_that_theory_asks_for() -> None:
    """Each of them bounds the truth, and more trajectories are better."""
    rows = {(m.protocol["estimator"], m.protocol.get("K")): m for m in table()}
    truth = float(TWO.log_density(TWO.held_out(300), 1.0, 0.0).mean()) / math.log(2)
    one, four, flow = rows["trajectories", 1], rows["trajectories", 4], rows["flow", None]
    for m in (one, four, rows["limit", None], rows["information", None], flow):
        assert m.value < truth + 5 * m.stderr
    assert four.value > one.value
    assert rows["flow_and_back", None].value < 1e-4
    assert abs(rows["coarse_flow", None].value) < 0.06
    assert rows["trajectories", None].quantity == "log_weight_deviation"


def test_settings_below_one_are_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        table(levels=0)
