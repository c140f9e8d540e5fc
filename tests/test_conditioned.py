"""Conditioned reverse processes: each factor against its closed form, and chains against the linear regression they must equal.

The data is a Gaussian texture, so that the posterior given noisy or missing pixels is a regression in closed form.
"""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from dpm import schedules
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.binomial import bernoulli
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse import ReverseStep
from dpm.reverse.conditioned import BitFactor, Conditioned, GaussianFactor, KnownCoordinates, SmoothFactor
from dpm.samplers.ancestral import ancestral

MU, STD = torch.tensor([[0.3, -1.2, 2.0], [0.0, 0.5, -0.4]]).double(), torch.tensor([[0.2, 1.0, 3.0], [0.7, 0.1, 2.0]]).double()
Y = torch.tensor([[1.0, 0.4, -2.0], [0.3, 0.6, -1.0]]).double()
P = normal(MU, STD)


# --- the factors ---------------------------------------------------------------------------------------------------------


def check_gaussian_factor() -> None:
    """Mean and variance of p r by quadrature, to ten digits, for a variance (not a deviation) of 0.09."""
    product, grid = GaussianFactor(Y, 0.09)(P), torch.linspace(-30, 30, 20_001, dtype=torch.float64)[:, None, None]
    log_p, log_r = -((grid - MU) / STD).square() / 2, -(Y - grid).square() / (2 * 0.09)
    weights = torch.softmax(log_p + log_r, 0)
    mean = (weights * grid).sum(0)
    torch.testing.assert_close(product.mean, mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(product.variance, (weights * (grid - mean).square()).sum(0), rtol=0, atol=1e-10)


def check_smooth_factor() -> None:
    """A linear log r is exact for a Gaussian: E_p[x r] / E_p[r] = mu + Sigma slope, the variance as before."""
    shifted = SmoothFactor(lambda x: (Y * x).sum(1))(P)
    torch.testing.assert_close(shifted.mean, MU + STD.square() * Y)
    torch.testing.assert_close(shifted.variance, STD.square())


def test_a_gaussian_factor_is_the_product_of_two_densities() -> None:
    check_gaussian_factor()
    with pytest.raises(UserError, match="above 0, got 0"):
        GaussianFactor(Y, 0)


def test_a_smooth_factor_is_exact_for_a_linear_log_r() -> None:
    check_smooth_factor()


def test_eq_61_agrees_with_the_product_to_first_order_in_sigma() -> None:
    """Both move the mean by Sigma (y - mu) / s^2 + O(Sigma^2): ten times less Sigma, a hundred times less difference."""

    def difference(scale: float) -> Tensor:
        p = normal(MU, scale**0.5 * STD)
        return SmoothFactor(lambda x: -(Y - x).square().sum(1) / (2 * 0.5))(p).mean - GaussianFactor(Y, 0.5)(p).mean

    ratios = (difference(1e-5) / difference(1e-4))[MU != Y]
    torch.testing.assert_close(ratios, torch.full_like(ratios, 0.01), rtol=0.02, atol=0)


def test_eq_61_needs_no_gradient_around_it_and_leaves_none() -> None:
    with torch.no_grad():
        shifted = SmoothFactor(lambda x: x.cos().sum(1))(normal(MU.requires_grad_(), STD))
    MU.requires_grad_(False)
    assert not shifted.mean.requires_grad
    torch.testing.assert_close(shifted.mean, MU - STD.square() * MU.sin())


def test_known_coordinates_have_their_values_and_the_others_keep_their_distribution() -> None:
    known = torch.tensor([True, False, False])
    p = KnownCoordinates(known, Y)(P)
    for x in (p.mean, p.mode, p.sample(), p.sample()):
        assert torch.equal(x[:, 0], Y[:, 0])
    assert torch.equal(p.mean[:, 1:], MU[:, 1:])
    torch.testing.assert_close(p.variance, torch.where(known, 0, STD.square()))
    torch.manual_seed(0)
    x = p.sample((40_000,))
    assert x.shape == (40_000, 2, 3)
    torch.testing.assert_close(x.std(0)[:, 1:], STD[:, 1:], rtol=0.02, atol=0)
    assert not torch.equal(*p.sample((2,)))


def test_bits_times_bits_by_enumeration() -> None:
    """p(x) r(x) / Z over all eight states of three bits, whose rates are c d / (c d + (1 - c)(1 - d))."""
    c, d = torch.tensor([[0.2, 0.9, 0.5]]).double(), torch.tensor([0.7, 0.5, 0.05]).double()
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 3)
    joint = (bernoulli(c.expand(8, 3)).log_prob(states) + bernoulli(d.expand(8, 3)).log_prob(states)).softmax(0)
    torch.testing.assert_close(BitFactor(d)(bernoulli(c)).mean[0], joint @ states)
    known = BitFactor(torch.tensor([1.0, 0.5, 0.0]).double())(bernoulli(c)).mean
    torch.testing.assert_close(known, torch.tensor([[1.0, 0.9, 0.0]]).double())


@pytest.mark.parametrize("factor", [GaussianFactor(Y, 1.0), KnownCoordinates(Y > 0, Y), SmoothFactor(lambda x: x.sum(1))])
def test_a_factor_refuses_a_distribution_that_it_has_no_product_for(factor: Any) -> None:
    for p in (bernoulli(torch.full_like(Y, 0.5)), MultivariateNormal(MU, torch.eye(3).double())):
        with pytest.raises(UserError, match="independent coordinates"):
            factor(p)
    with pytest.raises(UserError, match="independent bits"):
        BitFactor(Y)(P)


# --- chains on a Gaussian texture ----------------------------------------------------------------------------------------

SIDE, NOISE, N = 5, 0.5, 2000
HOLE = torch.zeros(SIDE, SIDE, dtype=torch.bool)
HOLE[1:4, 1:4] = True
HOLE, EVERYWHERE = HOLE.flatten(), torch.ones(SIDE**2, dtype=torch.bool)
ONE = torch.eye(SIDE**2, dtype=torch.float64)


def regression(covariance: Tensor, y: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """Mean (B, d) and covariance (d, d) of x ~ N(0, covariance) given y = x + sqrt(variance) eps."""
    gain = torch.linalg.solve(covariance + variance * ONE, covariance)
    return y @ gain, covariance - covariance @ gain


def kriging(covariance: Tensor, mean: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, h) and covariance (h, h) of the h pixels in the hole given the values around it, for x ~ N(mean, covariance)."""
    around, across = covariance[~HOLE][:, ~HOLE], covariance[~HOLE][:, HOLE]
    gain = torch.linalg.solve(around, across)
    return mean[:, HOLE] + (values - mean)[:, ~HOLE] @ gain, covariance[HOLE][:, HOLE] - across.T @ gain


class Texture:
    """x_0 ~ N(0, Sigma) on SIDE x SIDE pixels, Sigma stationary with unit variance: smooth, and 10 % of white noise."""

    def __init__(self) -> None:
        pixels = torch.cartesian_prod(*[torch.arange(SIDE, dtype=torch.float64)] * 2)
        self.covariance = 0.9 * torch.exp(-torch.cdist(pixels, pixels).square() / (2 * 1.5**2)) + 0.1 * ONE
        generator = torch.Generator().manual_seed(0)
        normals = torch.randn(2, SIDE**2, generator=generator, dtype=torch.float64)
        self.x_0 = torch.linalg.cholesky(self.covariance) @ normals[0]
        self.noisy = self.x_0 + math.sqrt(NOISE) * normals[1]

    def posterior_moments(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """E[x_0 | x] and diag Cov[x_0 | x] for x = alpha x_0 + sigma eps."""
        mean, covariance = regression(self.covariance, x / alpha, (sigma / alpha) ** 2)
        return mean, covariance.diagonal().expand_as(x)


TEXTURE = Texture()


def process(T: int) -> GaussianDiffusion:
    return GaussianDiffusion(schedules.geometric(T, 1e-3, 1e-3))


def covariance_at(q: GaussianDiffusion, t: int) -> Tensor:
    """Cov x_t."""
    alpha, sigma = q.schedule(torch.tensor(t))
    return alpha**2 * TEXTURE.covariance + sigma**2 * ONE


def correlated(mean: Tensor, covariance: Tensor) -> Distribution:
    return MultivariateNormal(mean, covariance, validate_args=False)  # it would look at one covariance per example


class ExactOracle(ReverseStep):
    """q(x_s | x_t) itself, N with a full covariance: a regression of x_s on x_t / alpha = x_s + noise."""

    def __init__(self, q: GaussianDiffusion) -> None:
        super().__init__()
        self.process, self.decoder = q, Stationary()

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        alpha, variance, *_ = (c.item() for c in self.process.step(s[0], t[0]))
        noise = variance / alpha**2
        return correlated(*regression(covariance_at(self.process, int(s[0])), x_t / alpha, noise))


class InHole(Distribution):
    """The values around the hole, and N(mean, covariance) in it."""

    def __init__(self, values: Tensor, mean: Tensor, covariance: Tensor) -> None:
        super().__init__(mean.shape[:1], values.shape, validate_args=False)
        self.values, self.hole = values, correlated(mean, covariance)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.values.repeat(len(self.hole.mean), 1).masked_scatter(HOLE, self.hole.sample())


def exact_denoising(p: Any) -> Distribution:
    mean, covariance = regression(p.covariance_matrix[0], TEXTURE.noisy - p.mean, NOISE)
    return correlated(p.mean + mean, covariance)


def exact_inpainting(p: Any) -> Distribution:
    return InHole(TEXTURE.x_0, *kriging(p.covariance_matrix[0], p.mean, TEXTURE.x_0))


def posterior(task: str, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels are unknown; their mean and covariance, for x ~ N(0, covariance)."""
    if task == "denoising":
        mean, spread = regression(covariance, TEXTURE.noisy[None], NOISE)
        return EVERYWHERE, mean[0], spread
    mean, spread = kriging(covariance, torch.zeros_like(TEXTURE.x_0)[None], TEXTURE.x_0)
    return HOLE, mean[0], spread


def walk(p: Conditioned, grid: Sequence[int], sweeps: int) -> Tensor:
    """N draws of x_1, (N, d)."""
    x_T = p.process.prior(torch.zeros(N, SIDE**2, dtype=torch.float64)).sample()
    *_, x_1 = islice(ancestral(p, x_T, grid, sweeps), len(grid) - 2)
    return x_1


def errors(task: str, p: Conditioned, grid: Sequence[int], sweeps: int) -> tuple[float, float]:
    """Root mean square of the mean's error, in posterior deviations; mean relative error of the variances."""
    pixels, mean, covariance = posterior(task, covariance_at(p.process, 1))
    x, variance = walk(p, grid, sweeps)[:, pixels], covariance.diagonal()
    bias = (x.mean(0) - mean) / variance.sqrt()
    return bias.square().mean().sqrt().item(), (x.var(0) / variance).mean().item() - 1


@pytest.mark.parametrize(("task", "factor"), [("denoising", exact_denoising), ("inpainting", exact_inpainting)])
def test_with_the_exact_reverse_process_big_steps_sample_the_regression(task: str, factor: Any) -> None:
    """Six jumps of 30 sweeps: mean and covariance of all unknown pixels agree with the closed form within errors.

    In coordinates in which the posterior is N(0, 1): N |mean|^2 is chi-square with d degrees of freedom, and the entries
    of the sample covariance are those of 1 within 1 / sqrt N, sqrt 2 times that on the diagonal.
    """
    p, grid = Conditioned(ExactOracle(process(60)), factor), [60, 45, 30, 20, 10, 1, 0]
    pixels, mean, covariance = posterior(task, covariance_at(p.process, 1))
    x = walk(p, grid, 30)[:, pixels]
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (x - mean).T, upper=False)
    d = len(white)
    assert (N * white.mean(1).square()).sum().item() == pytest.approx(d, abs=5 * math.sqrt(2 * d))
    excess = white.cov() - torch.eye(d)
    assert excess.square().mean().sqrt().item() < 1.3 / math.sqrt(N)
    assert errors(task, p, grid, 1)[0] > 0.1


FACTORS = {"denoising": GaussianFactor(TEXTURE.noisy, NOISE), "inpainting": KnownCoordinates(~HOLE, TEXTURE.x_0)}


def diagonal(task: str, T: int) -> Conditioned:
    """The best reverse process with independent coordinates, which is exact only as steps get small, conditioned."""
    return Conditioned(GaussianOracle(process(T), TEXTURE, Stationary()), FACTORS[task])


@pytest.mark.parametrize("task", FACTORS)
def test_with_a_diagonal_reverse_process_small_steps_and_sweeps_sample_the_regression(task: str) -> None:
    """T = 40. One sweep: variances 32 % too small (denoising) or 36 % too large (inpainting), means off by 0.64 and 0.12
    posterior deviations. Eight sweeps: 3 %, and 0.06 and 0.05, of which 0.02 is the error of 2,000 draws.
    """
    p, grid = diagonal(task, 40), range(40, -1, -1)
    (bias_1, excess_1), (bias_8, excess_8) = (errors(task, p, grid, sweeps) for sweeps in (1, 8))
    assert bias_8 < 0.08
    assert abs(excess_8) < 0.05
    assert bias_1 > 0.1
    assert abs(excess_1) > 0.25


# --- every step is conditioned -------------------------------------------------------------------------------------------


def check_known_pixels_are_known_at_every_step(sweeps: int = 2) -> None:
    """From pi(x_T) r(x_T) / Z to x_0: around the hole the values given, in it something else at each step."""
    p = diagonal("inpainting", 4)
    x_T = p.prior(torch.zeros(3, SIDE**2, dtype=torch.float64)).sample()
    states = [x_T, *ancestral(p, x_T, range(4, -1, -1), sweeps)]
    assert len(states) == 5
    for x in states:
        assert torch.equal(x[:, ~HOLE], TEXTURE.x_0[~HOLE].expand(3, -1))
    assert len(torch.stack(states)[:, 0, HOLE].unique()) == 5 * 9


def check_the_last_step_is_conditioned() -> None:
    """N(sqrt(1 - beta_1) x_1, beta_1) times N(y; x, s^2): precisions add up, and so do precisions times means."""
    p, one = diagonal("denoising", 4), torch.ones(3, dtype=torch.long)
    beta, x_1 = p.process.schedule.betas[0].item(), torch.randn(3, SIDE**2, dtype=torch.float64)
    precision = 1 / beta + 1 / NOISE
    last = p(x_1, one - 1, one)
    torch.testing.assert_close(last.mean, (math.sqrt(1 - beta) * x_1 / beta + TEXTURE.noisy / NOISE) / precision)
    torch.testing.assert_close(last.variance, torch.full_like(x_1, 1 / precision))


def test_known_pixels_are_known_at_every_step() -> None:
    check_known_pixels_are_known_at_every_step()


def test_the_last_step_is_conditioned() -> None:
    check_the_last_step_is_conditioned()


def test_the_chain_starts_from_pi_times_r() -> None:
    """N(0, 1) times N(y; x, 0.5): mean y / 1.5, variance 1 / 3. The process is the one that is conditioned."""
    p = diagonal("denoising", 4)
    start = p.prior(torch.zeros(2, SIDE**2, dtype=torch.float64))
    torch.testing.assert_close(start.mean, (TEXTURE.noisy / 1.5).expand(2, -1))
    torch.testing.assert_close(start.variance, torch.full_like(start.mean, 1 / 3))
    assert p.process is p.reverse.process


# --- mutants -------------------------------------------------------------------------------------------------------------

EXACT = {owner: owner.__call__ for owner in (Conditioned, SmoothFactor)}


def deviation_for_variance(self: GaussianFactor, p: Distribution) -> Distribution:
    k = p.variance / (p.variance + math.sqrt(self.variance))
    return normal(p.mean + k * (self.y - p.mean), (k * math.sqrt(self.variance)).sqrt())


def shifted_by_sigma(self: SmoothFactor, p: Distribution) -> Distribution:
    exact = EXACT[SmoothFactor](self, p)
    return normal(p.mean + (exact.mean - p.mean) / p.stddev, p.stddev)


def all_but_the_last_step(self: Conditioned, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
    return self.reverse(x_t, s, t) if (s == 0).all() else EXACT[Conditioned](self, x_t, s, t)


def before_the_step(self: Conditioned, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
    return self.reverse(self.likelihood(normal(x_t, torch.full_like(x_t, 1e-9))).sample(), s, t)


def noise_on_known_pixels(self: KnownCoordinates, p: Distribution) -> Distribution:
    return normal(torch.where(self.known, self.values, p.mean), p.stddev)


MUTANTS = {
    "s for s^2": (GaussianFactor, deviation_for_variance, check_gaussian_factor),
    "sigma for Sigma": (SmoothFactor, shifted_by_sigma, check_smooth_factor),
    "the last step not conditioned": (Conditioned, all_but_the_last_step, check_the_last_step_is_conditioned),
    "known pixels lost at the last step": (Conditioned, all_but_the_last_step, check_known_pixels_are_known_at_every_step),
    "conditioned before the step": (Conditioned, before_the_step, check_known_pixels_are_known_at_every_step),
    "noise on known pixels": (KnownCoordinates, noise_on_known_pixels, check_known_pixels_are_known_at_every_step),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_breaks_the_theorem(name: str, monkeypatch) -> None:
    owner, mutant, theorem = MUTANTS[name]
    theorem()
    monkeypatch.setattr(owner, "__call__", mutant)
    with pytest.raises(AssertionError):
        theorem()
