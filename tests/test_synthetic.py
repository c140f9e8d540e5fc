"""Data whose distribution is known: density and posterior against brute force and Tweedie, the oracle against its rivals."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm import schedules, seeds
from dpm.bound import bound, stationary_edges, transition
from dpm.data.synthetic import GaussianData, SwissRoll
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.gaussian import GaussianDiffusion, normal

ROLL = SwissRoll(noise_variance=1e-4)
NOISES = [(1.0, 0.0), (math.sqrt(1 - 1e-3), math.sqrt(1e-3)), (0.8, 0.6), (0.03, math.sqrt(1 - 0.03**2))]


def points(data: SwissRoll | GaussianData, alpha: float, sigma: float, n: int) -> Tensor:
    """n draws of alpha x_0 + sigma eps."""
    return alpha * data.held_out(n) + sigma * torch.randn(n, 2, dtype=torch.float64)


def brute_force(roll: SwissRoll, x: Tensor, alpha: float, sigma: float, n: int = 100_000) -> tuple[Tensor, Tensor, Tensor]:
    """log q(x), E[x_0 | x] and Var[x_0 | x] as sums over n equally spaced values of phi."""
    (low, high), v = roll.PHI, roll.noise_variance
    variance = alpha**2 * v + sigma**2
    m = roll.curve(low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    rows = []
    for point in x:
        log_weights = -(point - alpha * m).square().sum(1) / (2 * variance)
        weights, given_phi = torch.softmax(log_weights, 0), m + alpha * v / variance * (point - alpha * m)
        mean = weights @ given_phi
        spread = weights @ (given_phi - mean).square() + v * sigma**2 / variance
        rows.append((torch.logsumexp(log_weights, 0) - math.log(2 * math.pi * variance * n), mean, spread))
    log_q, mean, spread = zip(*rows, strict=True)
    return torch.stack(log_q), torch.stack(mean), torch.stack(spread)


@pytest.mark.parametrize("noise_variance", [0.0, 1e-6, 0.1])
def test_the_mean_square_of_the_roll_is_one(noise_variance: float) -> None:
    """By the closed form of E phi^2, against the integral over the curve, and by a sample."""
    roll, (low, high) = SwissRoll(noise_variance), SwissRoll.PHI
    phi = low + (high - low) * (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    assert roll.curve(phi).square().mean().item() + noise_variance == pytest.approx(1, abs=1e-8)
    squares = roll.held_out(100_000).square().mean(1)
    assert squares.mean().item() == pytest.approx(1, abs=4 * squares.std().item() / math.sqrt(len(squares)))


@pytest.mark.parametrize("sigma", [0.15, 0.6])
def test_the_density_integrates_to_one(sigma: float) -> None:
    """The trapezoidal rule is exact here to many digits: the density is smooth and vanishes at the edge."""
    limit, step = 2.6 + 7 * sigma, sigma / 2
    axis = torch.arange(-limit, limit, step, dtype=torch.float64)
    log_q = ROLL.log_density(torch.cartesian_prod(axis, axis), 1.0, sigma)
    assert log_q.exp().sum().item() * step**2 == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("noise_variance", [1e-4, 1e-6])
@pytest.mark.parametrize(("alpha", "sigma"), NOISES)
def test_density_and_posterior_equal_brute_force(noise_variance: float, alpha: float, sigma: float) -> None:
    roll = SwissRoll(noise_variance)
    x = points(roll, alpha, sigma, n=25)
    log_q, mean, variance = brute_force(roll, x, alpha, sigma)
    moments = roll.posterior_moments(x, alpha, sigma)
    assert torch.allclose(roll.log_density(x, alpha, sigma), log_q, rtol=1e-7, atol=1e-7)
    assert torch.allclose(moments[0], mean, rtol=1e-7, atol=1e-7)
    assert torch.allclose(moments[1], variance, rtol=1e-6, atol=1e-12)


def test_pruning_changes_nothing_however_far_a_point_is() -> None:
    """What is left out depends on the distance from the roll: near, far and very far points against the sum of all nodes."""
    far = torch.tensor([[0.0, 0.0], [9.0, 0.0], [-30.0, 40.0], [1e3, 1e3]], dtype=torch.float64)
    x = torch.cat([points(ROLL, 1.0, 0.02, n=300), 6 * torch.rand(300, 2, dtype=torch.float64) - 3, far])
    variance, m, log_share = ROLL.quadrature(1.0, 0.02)
    log_weights = log_share - torch.cdist(x, m, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * variance)
    log_q = torch.logsumexp(log_weights, 1) - math.log(2 * math.pi * variance)
    k = ROLL.noise_variance / variance
    mean = k * x + (1 - k) * torch.softmax(log_weights, 1) @ m
    assert torch.allclose(ROLL.log_density(x, 1.0, 0.02), log_q, rtol=1e-12, atol=1e-9)
    assert torch.allclose(ROLL.posterior_moments(x, 1.0, 0.02)[0], mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("data", [ROLL, GaussianData(2, mean=0.5, variance=0.3)], ids=["roll", "gaussian"])
@pytest.mark.parametrize(("alpha", "sigma"), NOISES[1:])
def test_posterior_moments_are_tweedies(data: SwissRoll | GaussianData, alpha: float, sigma: float) -> None:
    """E[x_0 | x] = (x + sigma^2 d log q) / alpha, Var = sigma^2 / alpha^2 (1 + sigma^2 d^2 log q), by finite differences."""
    x, h = points(data, alpha, sigma, n=10), 1e-3 * sigma
    mean, variance = data.posterior_moments(x, alpha, sigma)
    for i in range(2):
        shift = h * torch.eye(2, dtype=torch.float64)[i]
        right, centre, left = (data.log_density(x + k * shift, alpha, sigma) for k in (1, 0, -1))
        score, curvature = (right - left) / (2 * h), (right - 2 * centre + left) / h**2
        scale = sigma**2 / alpha
        assert torch.allclose(mean[:, i], x[:, i] / alpha + scale * score, rtol=1e-4, atol=1e-4)
        assert torch.allclose(
            variance[:, i], (scale / alpha) * (1 + sigma**2 * curvature), rtol=1e-2, atol=1e-3 * scale / alpha
        )


def test_the_oracle_knows_the_posterior_of_gaussian_data() -> None:
    """Its step is q(x_s | x_t), by Bayes from kernel and marginals of N(0.5, 0.3)."""
    q, s, t, x_t = GaussianDiffusion(schedules.linear(10, 0.1, 0.4)), torch.tensor([4]), torch.tensor([7]), torch.ones(1, 2)
    p = GaussianOracle(q, GaussianData(2, 0.5, 0.3), Stationary())(x_t.double(), s, t)
    (alpha_s, sigma_s), step = q.schedule(s), q.step(s, t)
    prior_mean, prior_variance = alpha_s * 0.5, alpha_s**2 * 0.3 + sigma_s**2
    precision = 1 / prior_variance + step.alpha**2 / step.variance
    mean = (prior_mean / prior_variance + step.alpha / step.variance) / precision
    assert torch.allclose(p.variance, (1 / precision).expand(1, 2))
    assert torch.allclose(p.mean, mean.expand(1, 2))


class Perturbed(GaussianOracle):
    """The oracle with its mean moved by `shift` and its standard deviation multiplied by `factor`."""

    shift, factor = 0.0, 1.0

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        p = super().step(x_t, s, t)
        return normal(p.mean + self.shift * p.stddev, self.factor * p.stddev)


@pytest.mark.parametrize("t", [2, 6, 10])
def test_no_other_mean_or_variance_beats_the_oracle(t: int) -> None:
    q, x_0 = GaussianDiffusion(schedules.geometric(10, 1e-3, 1e-2)), ROLL.held_out(2000)
    terms = {}
    for change in ({}, {"shift": 0.25}, {"shift": -0.25}, {"factor": 1.25}, {"factor": 0.8}):
        rival = Perturbed(q, ROLL, Stationary())
        vars(rival).update(change)
        torch.manual_seed(0)  # the same x_t for all
        terms[str(change)] = transition(rival, x_0, torch.full((2000,), t - 1), torch.full((2000,), t))
    best = terms.pop("{}")
    for change, term in terms.items():
        loss = term - best
        assert loss.mean().item() > 3 * loss.std().item() / math.sqrt(2000), change


def test_the_oracle_stays_below_the_ceiling_and_nears_it_with_T() -> None:
    """K <= -h(X_1), which beta_1 sets; more steps of the same schedule's kind come closer."""
    x_0, K = ROLL.held_out(1000), []
    for T in (5, 20):
        q = GaussianDiffusion(schedules.geometric(T, 1e-2, 1e-3))
        K.append(-bound(GaussianOracle(q, ROLL, Stationary()), x_0, stationary_edges).total)
    one = torch.ones(1000, dtype=torch.long)
    alpha, sigma = (c.item() for c in q.schedule(one[0]))
    ceiling = ROLL.log_density(q.marginal(x_0, one).sample(), alpha, sigma)
    for better, worse in ((K[1], K[0]), (ceiling, K[1])):
        gap = better - worse
        assert gap.mean().item() > 4 * gap.std().item() / math.sqrt(1000)


@pytest.mark.parametrize("data", [ROLL, GaussianData(2)], ids=["roll", "gaussian"])
def test_batches_are_functions_of_seed_and_step_and_held_out_data_of_neither(data: SwissRoll | GaussianData) -> None:
    assert torch.equal(data.batch(5, seed=1, step=2), data.batch(5, seed=1, step=2))
    torch.manual_seed(1)
    assert torch.equal(data.held_out(7), data.held_out(7))
    assert torch.equal(data.validation(7), data.validation(7))
    draws = [data.batch(5, 1, 2), data.batch(5, 1, 3), data.batch(5, 2, 2), data.held_out(5), data.validation(5)]
    assert len(torch.cat(draws).unique(dim=0)) == 25


def test_streams_with_different_keys_differ() -> None:
    assert len({seeds.mix(a, b) for a in range(30) for b in range(30)}) == 900


@pytest.mark.parametrize("noise_variance", [-1e-9, 1.0, float("nan")])
def test_an_impossible_noise_is_refused(noise_variance: float) -> None:
    with pytest.raises(UserError, match="noise_variance"):
        SwissRoll(noise_variance)


def test_a_roll_without_noise_has_no_density_but_can_be_diffused() -> None:
    with pytest.raises(UserError, match="no density"):
        SwissRoll(0.0).log_density(torch.zeros(1, 2).double(), 1.0, 0.0)
    assert bool(SwissRoll(0.0).log_density(torch.zeros(1, 2).double(), 1.0, 0.1).isfinite())
