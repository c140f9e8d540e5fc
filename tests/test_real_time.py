"""The core beyond whole steps: schedules at real t, grids of any times, flows and their solvers, the densities they carry."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import seeds
from dpm.bound import bound, decoder_edges
from dpm.continuous import Rectified, VarianceExploding, VariancePreserving, karras
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.flows import Field, Solve, axes, log_density, noise_level, probability_flow, signs, with_divergence
from dpm.networks.rbf import NormalizedRBF
from dpm.objectives.simple import Simple
from dpm.predictions.papers import X0, Epsilon
from dpm.processes import at
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import ode
from dpm.samplers.ancestral import ancestral
from dpm.samplers.ddim import ddim
from dpm.schedules import LearnedBetaSchedule, Schedule, geometric, linear
from dpm.times import Continuous
from dpm.training import Learner, Plan, fit
from dpm.variances import Fixed, FixedSmall

DDPM = linear(1000, 1e-4, 0.02)
SCHEDULES: dict[str, Schedule] = {
    "2020": DDPM,
    "learned": LearnedBetaSchedule(geometric(40, 1e-3, 1e-3)),
    "preserving": VariancePreserving(),
    "rectified": Rectified(),
    "exploding": VarianceExploding(),
}
TWO = GaussianMixture([0.3, 0.7], [[-1.0], [0.5]], [[0.04], [0.01]])  # G1 of the fact sheet: standard deviations 0.2 and 0.1
G1_POINTS = torch.tensor([-1.5, -1, -0.5, 0, 0.5, 0.8], dtype=torch.float64)[:, None]


class PosteriorVariance(Fixed):
    """beta-tilde at every step, without a first step of its own."""

    def __call__(self, q, z: Tensor, s: Tensor, t: Tensor, step) -> Tensor:
        return step.posterior_variance.to(z.dtype).reshape(-1, *[1] * (z.ndim - 1))


def exact(schedule: Schedule, data: GaussianMixture) -> GaussianReverse:
    return GaussianReverse(GaussianDiffusion(schedule), MixtureDenoiser(data, schedule), X0(), PosteriorVariance(), Network())


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def mixture(d: int, K: int = 3, seed: int = 0) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(K, d, d))
    return GaussianMixture(rng.dirichlet(np.ones(K)), rng.normal(size=(K, d)), A @ A.transpose(0, 2, 1) / d + 0.1 * np.eye(d))


# --- schedules ------------------------------------------------------------------------------------------------------------


def test_between_whole_steps_log_alpha_bar_is_linear_and_at_them_it_is_the_chains() -> None:
    t = torch.arange(1001)
    assert torch.equal(torch.stack(DDPM(t)), torch.stack(DDPM(t.double())))
    assert DDPM.log_alpha_bar(doubles(3.25)) == pytest.approx(
        0.75 * DDPM.log_alpha_bar(torch.tensor(3)).item() + 0.25 * DDPM.log_alpha_bar(torch.tensor(4)).item(), rel=1e-14
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_the_derivatives(name: str) -> None:
    schedule = SCHEDULES[name]
    t, h = schedule.end * doubles(0.0123, 0.3105, 0.7707), schedule.end * 1e-6
    rates, up, down = schedule.rates(t), schedule(t + h), schedule(t - h)
    for rate, above, below in zip(rates, up, down, strict=True):
        assert torch.allclose(rate, (above - below) / (2 * h), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_signal_to_noise_falls_from_data_to_the_prior(name: str) -> None:
    schedule = SCHEDULES[name]
    alpha, sigma = schedule(torch.linspace(0, float(schedule.end), 50, dtype=torch.float64))
    assert (alpha[0].item(), sigma[0].item()) == (1.0, 0.0)
    assert ((sigma / alpha).diff() > 0).all()
    end = GaussianDiffusion(schedule).prior(torch.zeros(1, 1)).stddev.item()
    assert end == pytest.approx(sigma[-1].item(), rel=1e-3)


def test_the_preserving_schedule_is_the_limit_of_the_linear_one() -> None:
    alpha, _ = VariancePreserving()(doubles(1.0))
    assert alpha.item() ** 2 == pytest.approx(math.exp(-10.05), rel=1e-12)
    fine = linear(10**6, 0.1 / 10**6, 20 / 10**6).alpha_bar(torch.tensor(10**6)).item()
    assert fine == pytest.approx(alpha.item() ** 2, rel=2e-4)


def test_who_has_no_steps_and_who_has_no_real_time_says_so_in_one_line() -> None:
    with pytest.raises(UserError, match="Rectified has no steps of its own: give a grid of times"):
        bound(exact(Rectified(), TWO), G1_POINTS, decoder_edges)
    with pytest.raises(UserError, match="NormalizedRBF has weights for t = 1, 2"):
        NormalizedRBF(2, 4, 3, 10)(torch.zeros(1, 2), doubles(1.5))


# --- the mixture ----------------------------------------------------------------------------------------------------------


def test_g1_has_the_densities_of_the_fact_sheet() -> None:
    expected = doubles(-3.638473, -0.513473, -3.638473, -11.278872, 1.026972, -3.473028)
    assert torch.allclose(TWO.log_density(G1_POINTS, 1.0, 0.0), expected, atol=5e-7)


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize(("alpha", "sigma"), [(0.8, 0.6), (1.0, 3.0), (0.1, 0.02)])
def test_score_and_moments_are_derivatives_of_the_log_density(d: int, alpha: float, sigma: float) -> None:
    """Tweedie: E[x_0 | x] = (x + sigma^2 score) / alpha, Cov[x_0 | x] = sigma^2 / alpha^2 (I + sigma^2 Hessian)."""
    data, x = mixture(d), torch.randn(7, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (score,) = torch.func.vjp(lambda x: data.log_density(x, alpha, sigma), x)[1](torch.ones(7, dtype=torch.float64))
    hessian = torch.stack([torch.func.hessian(lambda x: data.log_density(x[None], alpha, sigma)[0])(point) for point in x])
    mean, covariance = data.posterior_covariance(x, alpha, sigma)
    assert torch.allclose(data.score(x, alpha, sigma), score, rtol=1e-9, atol=1e-9)
    assert torch.allclose(mean, (x + sigma**2 * score) / alpha, rtol=1e-8, atol=1e-8)
    second = (sigma / alpha) ** 2 * (torch.eye(d, dtype=torch.float64) + sigma**2 * hessian)
    assert torch.allclose(covariance, second, rtol=1e-6, atol=1e-7)
    assert torch.allclose(data.posterior_moments(x, alpha, sigma)[1], covariance.diagonal(dim1=1, dim2=2))


def test_times_of_their_own_for_every_example() -> None:
    data, x = mixture(2), torch.randn(3, 2, dtype=torch.float64)
    alpha, sigma = DDPM(torch.tensor([1, 300, 900]))
    together = data.log_density(x, alpha, sigma)
    alone = [data.log_density(x[i : i + 1], alpha[i].item(), sigma[i].item()) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-12)


def test_the_posterior_of_an_observation_is_bayes_theorem() -> None:
    data, A, y = mixture(3), torch.randn(2, 3, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    x = torch.randn(50, 3, dtype=torch.float64)
    likelihood = -0.5 * ((y - x @ A.mT) / 0.5).square().sum(1)
    joint = data.log_density(x, 1.0, 0.0) + likelihood
    rest = joint - data.given(A, y, 0.5).log_density(x, 1.0, 0.0)
    assert torch.allclose(rest, rest[0].expand(50), rtol=1e-9)  # log p(y), whatever x


def test_samples_have_the_moments() -> None:
    data = mixture(2)
    x = data.sample(200_000, torch.Generator().manual_seed(1))
    mean = data.weights @ data.means
    second = torch.einsum("k,kij->ij", data.weights, data.covariances + torch.einsum("ki,kj->kij", data.means, data.means))
    error = (x.var(0) / len(x)).sqrt()
    assert ((x.mean(0) - mean).abs() < 4 * error).all()
    assert torch.allclose(x.mT @ x / len(x), second, atol=0.03)


@pytest.mark.parametrize(
    ("weights", "means", "covariances"),
    [([0.5, 0.4], [[0.0], [1.0]], [[1.0], [1.0]]), ([1.0], [[0.0]], [[-1.0]]), ([1.0], [[0.0, 1.0]], [[1.0]])],
)
def test_what_is_no_mixture_is_refused(weights, means, covariances) -> None:
    with pytest.raises(UserError, match="mixture"):
        GaussianMixture(weights, means, covariances)


# --- chains on grids of real times ----------------------------------------------------------------------------------------


def test_a_grid_of_real_times_tightens_the_bound_towards_the_entropy() -> None:
    """The best steps for Gaussian data: every grid that ends in the decoder's step bounds the entropy, a finer one better."""
    data = GaussianMixture([1.0], [[0.3]], [[0.25]])
    p, x_0 = exact(VariancePreserving(), data), data.held_out(4000)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    lost = []
    for steps in (10, 40, 160):
        grid = [1e-3 ** (1 - i / steps) for i in range(steps + 1)]
        transitions = bound(p, x_0, Closed(1e-3), grid)
        lost.append(transitions.total.mean().item() - entropy)
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] < lost[0] / 3
    assert lost[-1] > -4 * transitions.total.std().item() / 4000**0.5


class Closed(type(decoder_edges)):
    """The decoder's edges with the last step from t = `first_time` instead of 1."""

    def __init__(self, first_time: float) -> None:
        self.first_time = first_time

    def reconstruction(self, reverse, x_0: Tensor) -> Tensor:
        """E -log q(x_0 | x_t) for Gaussian data: the entropy of x_0 given x_t."""
        (alpha, sigma), v = reverse.process.schedule(at(x_0, self.first_time)), 0.25
        left = v * sigma**2 / (alpha**2 * v + sigma**2)
        return 0.5 * (2 * math.pi * math.e * left).log()


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_samplers_walk_real_times(sampler: Callable[..., object]) -> None:
    p = exact(Rectified(), TWO)
    torch.manual_seed(0)
    *_, x = sampler(p, torch.randn(20_000, 1, dtype=torch.float64), [*torch.linspace(1, 0.01, 60).tolist(), 0.0])
    mean, variance = float(TWO.weights @ TWO.means[:, 0]), 0.4915
    assert x.mean().item() == pytest.approx(mean, abs=0.03)
    assert x.var().item() == pytest.approx(variance, abs=0.03)


def test_l_simple_in_real_time_is_the_regression_of_its_target() -> None:
    """Its minimum for the exact network is the integral of Var[eps | x_t]."""
    schedule, data = VariancePreserving(), GaussianData(2, 0.0, 0.25)
    one = GaussianMixture([1.0], [[0.0, 0.0]], [[0.25, 0.25]])

    class ExactEpsilon(MixtureDenoiser):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = (c[:, None] for c in schedule(t))
            return (x - alpha * super().forward(x, t)) / sigma

    p = GaussianReverse(GaussianDiffusion(schedule), ExactEpsilon(one, schedule), Epsilon(), FixedSmall(), Network())
    torch.manual_seed(0)
    loss = Simple(Continuous())(p, data.sample(100_000, torch.Generator().manual_seed(0)))
    alpha, sigma = schedule((torch.arange(10_000).double() + 0.5) / 10_000)
    expected = (alpha**2 * 0.25 / (alpha**2 * 0.25 + sigma**2)).mean().item()
    assert loss.mean().item() == pytest.approx(expected, abs=4 * loss.std().item() / len(loss) ** 0.5)


def test_the_trainer_passes_pairs_through() -> None:
    class Pairs:
        def batch(self, size: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
            x = torch.randn(size, 1, generator=seeds.generator(seed, step))
            return x, 3 * x

    network = nn.Linear(1, 1)
    learner = Learner(network, lambda p: torch.optim.SGD(p, 0.1), lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0), 0.0)
    plan = Plan(60, 64, 0.0, None, 1, 1, 1)
    *_, last = fit(learner, Pairs(), lambda f, pair: (f(pair[0]) - pair[1]).square().flatten(1).mean(1), plan, 0)
    assert last.loss < 1e-6
    assert network.weight.item() == pytest.approx(3.0, abs=1e-3)


# --- flows and solvers ----------------------------------------------------------------------------------------------------

STANDARD = GaussianMixture([1.0], [[0.3, -0.2]], [[[0.25, 0.1], [0.1, 0.4]]])
CHAIN = geometric(12, 1e-3, 1e-3)


def affine(data: GaussianMixture, y: Tensor, start: float, end: float) -> Tensor:
    """Where the flow takes y = x_0 + s eps of Gaussian data: m + (C + end^2)^1/2 (C + start^2)^-1/2 (y - m)."""
    values, U = data.variances[0], data.axes[0]
    scale = U @ torch.diag(((values + end**2) / (values + start**2)).sqrt()) @ U.mT
    return data.means[0] + (y - data.means[0]) @ scale.mT


@pytest.mark.parametrize(("solver", "order"), [(ode.euler, 1), (ode.heun, 2)])
def test_solvers_have_their_order(solver: Callable[..., object], order: int) -> None:
    field, y = probability_flow(exact(VariancePreserving(), STANDARD)), STANDARD.held_out(5)
    truth, errors, steps = affine(STANDARD, y, 3.0, 0.1), [], [40, 80, 160, 320]
    for n in steps:
        *_, end = solver(field, y, np.geomspace(3.0, 0.1, n + 1).tolist())
        errors.append((end - truth).abs().max().item())
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(-order, abs=0.1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_adaptive_solver_keeps_its_tolerance_on_every_schedule(name: str) -> None:
    field, y = probability_flow(exact(SCHEDULES[name], STANDARD)), STANDARD.held_out(5)
    for tolerance in (1e-5, 1e-8):
        end = ode.adaptive(field, y, 0.1, 3.0, tolerance)
        assert (end - affine(STANDARD, y, 0.1, 3.0)).abs().max().item() < 20 * tolerance
    assert torch.equal(ode.adaptive(field, y[:1], 0.1, 3.0, tolerance), end[:1])


def test_times_of_noise_levels_are_the_inverse() -> None:
    for schedule in SCHEDULES.values():
        t = schedule.end * doubles(0.0123, 0.31, 0.5, 0.97)
        alpha, sigma = schedule(t)
        assert torch.allclose(schedule.time(sigma / alpha), t, rtol=1e-9)


def test_eulers_steps_are_ddims() -> None:
    p, grid = exact(DDPM, TWO), [1000, 700, 300, 100, 10, 1]
    x = torch.randn(6, 1, dtype=torch.float64)
    (a, _), levels = DDPM(torch.tensor(1000)), [noise_level(DDPM, t) for t in grid]
    *_, y = ode.euler(probability_flow(p), x / a, levels)
    *_, by_ddim, _ = ddim(p, x, [*grid, 0])
    assert torch.allclose(DDPM(torch.tensor(1))[0] * y, by_ddim, rtol=1e-9)


@pytest.mark.parametrize("churn", [0.0, 0.1])
def test_karras_solver_samples_the_mixture_with_and_without_noise(churn: float) -> None:
    p = exact(VarianceExploding(), TWO)
    torch.manual_seed(0)
    x = p.process.prior(torch.zeros(20_000, 1, dtype=torch.float64)).sample()
    *_, x = ode.stochastic_heun(probability_flow(p), x, karras(80.0, 2e-3, 40), churn)
    assert x.mean().item() == pytest.approx(float(TWO.weights @ TWO.means[:, 0]), abs=0.02)
    assert x.var().item() == pytest.approx(0.4915, abs=0.02)
    assert (x < -0.25).double().mean().item() == pytest.approx(0.3, abs=0.015)


def solve(tolerance: float) -> Solve:
    return lambda field, y, start, end: ode.adaptive(field, y, start, end, tolerance)


def test_log_density_of_the_flow_model_of_g1() -> None:
    """Within 1e-5 nats of the model's own truth, and every example whatever stands beside it."""
    truth = doubles(-3.637439, -0.513132, -3.638307, -11.278708, 1.026836, -3.473954)
    p, x = exact(VariancePreserving(), TWO), G1_POINTS
    together = log_density(p, x, 1e-9, solve(1e-8), axes(x))
    assert (together - truth).abs().max() < 1e-5
    assert torch.allclose(log_density(p, x[3:4], 1e-9, solve(1e-8), axes(x[3:4])), together[3:4], rtol=0, atol=1e-12)


def test_the_density_is_one_in_all_and_its_cross_entropy_is_that_of_the_prior() -> None:
    """mean NLL - entropy = KL(q_T || pi) = 5.41e-8: the flow is a bijection. By quadrature, without samples."""
    x = torch.linspace(-2.2, 1.6, 381, dtype=torch.float64)[:, None]
    log_p, h = log_density(exact(VariancePreserving(), TWO), x, 1e-9, solve(1e-11), axes(x)), 3.8 / 380
    q = TWO.log_density(x, 1.0, 0.0)
    assert float(log_p.exp().sum()) * h == pytest.approx(1.0, abs=1e-6)
    assert float((q.exp() * (q - log_p)).sum()) * h == pytest.approx(5.41e-8, abs=1e-8)


@pytest.mark.parametrize("schedule", [CHAIN, DDPM, VarianceExploding()], ids=["chain", "2020", "exploding"])
def test_log_density_of_gaussian_data_at_any_time_of_any_schedule(schedule: Schedule) -> None:
    """Against the affine flow in closed form, to 1e-6; chains between their whole steps among them."""
    t, p, values = 0.3 * schedule.end, exact(schedule, STANDARD), STANDARD.variances[0]
    (alpha, _), (last, _) = (schedule(doubles(time)) for time in (t, schedule.end))
    x, s, end = alpha * STANDARD.held_out(4), noise_level(schedule, t), noise_level(schedule, schedule.end)
    y = last * affine(STANDARD, x / alpha, s, end)
    gained = 0.5 * ((values + end**2) / (values + s**2)).log().sum() + 2 * (last / alpha).log()
    truth = p.process.prior(y).log_prob(y) + gained
    assert torch.allclose(log_density(p, x, t, solve(1e-9), axes(x)), truth, rtol=0, atol=1e-6)


def test_a_schedule_without_a_last_noise_level_has_no_such_density() -> None:
    with pytest.raises(UserError, match="at t = 1 of Rectified nothing is left of the data"):
        log_density(exact(Rectified(), TWO), G1_POINTS, 0.5, solve(1e-5), axes(G1_POINTS))


def test_hutchinsons_estimate_has_its_mean_and_variance() -> None:
    J = torch.from_numpy(np.random.default_rng(0).normal(size=(16, 16)))
    S = (J + J.mT) / 2
    variance = 2 * float(S.square().sum() - S.diagonal().square().sum())
    assert variance == pytest.approx(236.65, abs=0.005)
    torch.manual_seed(0)
    x = torch.zeros(20_000, 16, dtype=torch.float64)
    linear_field: Field = lambda x, t: x @ J.mT  # noqa: E731
    y = torch.cat([x, torch.zeros(len(x), 1)], 1)
    estimates = with_divergence(linear_field, signs(x, 1))(y, at(x, 0.0))[:, -1]
    assert estimates.mean().item() == pytest.approx(float(J.trace()), abs=4 * (variance / len(x)) ** 0.5)
    assert estimates.var().item() == pytest.approx(variance, rel=0.05)
    exactly = with_divergence(linear_field, axes(x[:2]))(y[:2], at(x[:2], 0.0))[:, -1]
    assert torch.allclose(exactly, J.trace().expand(2))
