"""Noisy and masked training data: what each objective has as its minimum, where it is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.data.noisy import Masked, Noisy
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators.masked import Slopes
from dpm.evaluators.noisy import Denoised, LearnedLaw, divergence
from dpm.figures.noisy import FRESH, sample_size
from dpm.networks.mlp import FourierMLP
from dpm.networks.wrappers import WithPattern
from dpm.objectives.ambient import FromMasked
from dpm.objectives.noisy import FromNoisy
from dpm.oracles.from_examples import FittedGaussian, by_heart
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.schedules import BetaSchedule, linear
from dpm.study.records import Record
from dpm.variances import FixedLarge

NOISE = 0.5
CLEAN = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 0.01]])
NOISED = GaussianMixture([1.0], [[0.0, 0.0]], [[1.25, 0.26]])
PROCESS = GaussianDiffusion(linear(1000, 1e-4, 0.02))


class Scaled(nn.Module):
    """A trained factor of x_t for each coordinate."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.factor * x


def reverse(network: nn.Module, process: GaussianDiffusion = PROCESS) -> GaussianReverse:
    return GaussianReverse(process, network, X0(), FixedLarge(), Network())


def one_level(v: float) -> GaussianDiffusion:
    """A chain of one step, with sigma / alpha = v."""
    return GaussianDiffusion(BetaSchedule(torch.tensor([v**2 / (1 + v**2)])))


def test_noisy_data_are_noisy_where_they_are_trained_on() -> None:
    data = Noisy(CLEAN, NOISE)
    y = data.batch(40_000, 0, 3)
    torch.testing.assert_close(y.var(0), torch.tensor([1.25, 0.26], dtype=torch.float64), rtol=0.03, atol=0)
    torch.testing.assert_close(data.held_out(10), CLEAN.held_out(10))
    assert not torch.equal(y, data.batch(40_000, 0, 4))
    few = Noisy(CLEAN, NOISE, number=5)
    assert len(torch.cat([few.batch(50, 0, step) for step in range(3)]).unique(dim=0)) == 5  # each keeps its noise


@pytest.mark.parametrize(("v", "wide", "narrow"), [(0.6, 0.735294, 0.027027), (1.0, 0.5, 0.009901), (2.0, 0.2, 0.002494)])
def test_the_corrected_regression_has_the_clean_estimate_as_its_minimum(v: float, wide: float, narrow: float) -> None:
    """x_0-hat = c x_t / alpha: the loss is a parabola in c, whose vertex three values give."""
    process, objective, n = one_level(v), FromNoisy(NOISE, least=1.001), 400_000
    alpha = process.schedule(torch.tensor([1]))[0]
    y = Noisy(CLEAN, NOISE).batch(n, 0, 0)
    network = Scaled()
    for coordinate, c in enumerate((wide, narrow)):
        losses = []
        for factor in (0.0, 1.0, 2.0):
            torch.manual_seed(0)
            network.factor.data = torch.zeros(2, dtype=torch.float64)
            network.factor.data[coordinate] = factor / alpha
            with torch.no_grad():
                losses.append(objective.regression(reverse(network, process), y, torch.ones(n, dtype=torch.long)).mean())
        curvature = losses[0] - 2 * losses[1] + losses[2]
        vertex = (losses[0] - losses[1]) / curvature + 0.5
        share = 1 - NOISE**2 / v**2  # the error of E[y | x_t] is amplified by 1 / share
        assert vertex.item() == pytest.approx(c, abs=4 * 1.2 / (share * v * n**0.5))


def test_the_exact_denoiser_is_a_martingale_below_the_noise_and_a_wrong_one_is_not() -> None:
    objective, y = FromNoisy(NOISE, least=1.02), Noisy(CLEAN, NOISE).batch(20_000, 0, 0)
    fine = GaussianReverse(PROCESS, MixtureDenoiser(CLEAN, PROCESS.schedule), X0(), FixedLarge(), Network())
    wrong = GaussianReverse(PROCESS, MixtureDenoiser(NOISED, PROCESS.schedule), X0(), FixedLarge(), Network())
    alpha, sigma = PROCESS.schedule(torch.arange(1001))
    low = int((sigma / alpha > 1.02 * NOISE).nonzero()[0])
    values = {}
    for name, model in (("fine", fine), ("wrong", wrong)):
        torch.manual_seed(0)
        drawn = [objective.martingale(model, y, low).detach() for _ in range(6)]
        values[name] = torch.stack([d.mean() for d in drawn]).mean().item()
    assert abs(values["fine"]) < 1e-3  # steps of a coarse grid are Gaussian only nearly
    broken = GaussianReverse(PROCESS, Scaled(), X0(), FixedLarge(), Network())
    broken.network.factor.data += 0.9
    torch.manual_seed(0)
    off = torch.stack([objective.martingale(broken, y, low).detach().mean() for _ in range(6)]).mean()
    assert off > 10 * abs(values["fine"])


def test_naive_training_is_this_far_from_the_clean_law() -> None:
    torch.manual_seed(0)
    x = NOISED.sample(400_000, torch.Generator().manual_seed(0))
    assert divergence(CLEAN.means[0], CLEAN.covariances[0], x) == pytest.approx(1.159851, rel=0.01)


def test_the_learned_law_of_an_exact_denoiser_is_the_clean_one() -> None:
    model = GaussianReverse(PROCESS, MixtureDenoiser(CLEAN, PROCESS.schedule), X0(), FixedLarge(), Network())
    found = LearnedLaw(4000, 100, 0.55)(model, Noisy(CLEAN, NOISE), CLEAN.held_out(200), 0)
    above, end, rmse = found.measurements
    assert rmse.value < 1e-12
    assert above.oracle is None  # of no number of examples
    assert above.protocol["at"] == "above_the_noise"
    assert above.value < 0.005
    assert end.value < 0.02
    assert max(found.arrays["error"]) < 1e-12
    naive = GaussianReverse(PROCESS, MixtureDenoiser(NOISED, PROCESS.schedule), X0(), FixedLarge(), Network())
    _, end, rmse = LearnedLaw(4000, 100, 0.55)(naive, Noisy(CLEAN, NOISE), CLEAN.held_out(200), 0).measurements
    assert end.value == pytest.approx(1.159851, rel=0.03)
    off = [(w / (w + 0.55**2) - s / (s + 0.55**2)) ** 2 * (s + 0.55**2) for s, w in ((1, 1.25), (0.01, 0.26))]
    assert rmse.value == pytest.approx((sum(off) / 2) ** 0.5, rel=0.1)


@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_a_gaussian_that_is_fitted_to_examples_costs_what_the_closed_form_says(noise: float) -> None:
    """Fitted to 400 examples, 3000 times, of correlated coordinates."""
    n, times, v = 400, 3000, 0.55
    clean = GaussianMixture([1.0], [[0.0, 0.0]], torch.tensor([[[1.0, 0.3], [0.3, 0.2]]]))
    S, eye = clean.covariances[0], torch.eye(2, dtype=torch.float64)
    y = Noisy(clean, noise).batch(n * times, 0, 0).reshape(times, n, 2)
    m = y.mean(1)
    found = (y - m[:, None]).mT @ (y - m[:, None]) / (n - 1) + (v**2 - noise**2) * eye
    exact = MultivariateNormal(torch.zeros(2, dtype=torch.float64), S + v**2 * eye)
    off = kl_divergence(exact, MultivariateNormal(m, found))
    fitted = FittedGaussian(S, noise, n)
    assert off.mean().item() == pytest.approx(fitted.divergence(v), rel=0.06)  # 4 / times^1/2, and terms of 1 / n^2
    u = exact.sample((100,))
    matrices = eye - v**2 * torch.linalg.inv(found)
    x_0_hat = m[:, None] + (u - m[:, None]) @ matrices.mT
    right = u @ (eye - v**2 * torch.linalg.inv(S + v**2 * eye))
    assert (x_0_hat - right).square().mean().item() == pytest.approx(fitted.square_error(v), rel=0.06)


def test_what_is_learned_by_heart_is_the_posterior_mean_of_a_law_of_points() -> None:
    y, u, v = Noisy(CLEAN, NOISE, number=7).examples(0), CLEAN.held_out(30), 0.55
    spread = v**2 - NOISE**2
    points = GaussianMixture(torch.full((7,), 1 / 7, dtype=torch.float64), y, torch.full_like(y, 1e-10))
    mean = points.denoised(u, 1.0, spread**0.5)
    torch.testing.assert_close(by_heart(y, NOISE, u, v, batch_size=20), u + v**2 / spread * (mean - u), rtol=1e-5, atol=1e-5)


def test_an_exact_denoiser_is_better_than_what_is_learned_by_heart() -> None:
    model = GaussianReverse(PROCESS, MixtureDenoiser(CLEAN, PROCESS.schedule), X0(), FixedLarge(), Network())
    found = LearnedLaw(400, 20, 0.55)(model, Noisy(CLEAN, NOISE, 100), CLEAN.held_out(200), 0).measurements
    network, by_heart = (m for m in found if m.quantity == "rmse")
    assert network.value < 1e-12 < network.oracle < by_heart.value
    assert by_heart.recipe == {}


def test_the_figure_of_numbers_has_a_point_for_each_and_the_closed_form_as_a_line() -> None:
    model = GaussianReverse(PROCESS, MixtureDenoiser(CLEAN, PROCESS.schedule), X0(), FixedLarge(), Network())
    records, x_0 = [], CLEAN.held_out(100)
    for noise, number in ((0.0, 100), (NOISE, 100), (NOISE, 1000), (NOISE, 0)):
        data = Noisy(CLEAN, noise, number)
        found = [m.with_protocol(data.facts) for m in LearnedLaw(400, 10, 0.55)(model, data, x_0, 0).measurements]
        records.append(Record("daras_2024/corrected", 0, "laptop", {}, {}, {}, tuple(found)))
    left, right = sample_size(records).axes
    points, lines = left.containers[1].lines[0], {line.get_label(): line for line in left.lines}
    assert points.get_xdata().tolist() == [100, 1000, FRESH]
    assert lines["noisy, at $t = 0$"].get_xdata().tolist() == [100, 1000]
    assert lines["noisy, at $t = 0$"].get_ydata()[0] == pytest.approx((1.25**2 + 26**2 + 1.25 * 26 + 27.25) / 200 + 2.5 / 400)
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["clean", "noisy, corrected", "noisy, by heart"]


def test_noise_multiplies_the_examples_that_a_variance_takes() -> None:
    """((v + noise^2) / v)^2 = 676 for v = 0.01; the mean costs (v + noise^2) / v = 26 times as many."""
    v = torch.tensor([[0.01]], dtype=torch.float64)
    clean, noisy = (FittedGaussian(v, noise, 100).divergence(0.0) for noise in (0.0, NOISE))
    assert clean == pytest.approx((1 + 1) / 200)
    assert noisy == pytest.approx((676 + 26) / 200)


def test_an_estimate_that_is_what_it_sees_errs_by_the_noise() -> None:
    """x_0-hat = x_t / alpha_t: the error at each level is the level, and `denoised` is `noisy`."""

    class AsSeen(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x / PROCESS.schedule(t)[0][:, None, None, None]

    x_0 = torch.rand(300, 1, 8, 8, dtype=torch.float64) * 2 - 1
    found = Denoised([0.25, 1.0, 4.0], [0.25], batch_size=100)(reverse(AsSeen()), Noisy(CLEAN, NOISE), x_0, 0)
    for m, level in zip(found.measurements, (0.25, 1.0, 4.0), strict=True):
        assert m.protocol["noise_level"] == level
        assert m.value == pytest.approx(level, abs=4 * m.stderr + 0.01 * level)  # the nearest whole step
        assert m.stderr == pytest.approx(level / (2 * 64 * 300) ** 0.5, rel=0.2)
    assert found.arrays["noisy"].shape == (1, 1, 8, 8)
    np.testing.assert_array_equal(found.arrays["noisy"], found.arrays["denoised"])


PAIR = GaussianMixture([1.0], [[0.0, 0.0]], torch.tensor([[[1.0, 0.8], [0.8, 1.0]]]))


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, seen: Tensor) -> Tensor:
        """By the first coordinate, for the pattern (1, 0) alone."""
        pattern = (seen[:, 0] * (1 - seen[:, 1]))[:, None]
        return pattern * x[:, :1] * self.weight[:, 0]


@pytest.mark.parametrize("delete", [0.1, 0.0])
def test_masked_data_determine_every_coordinate_by_further_deletions(delete: float) -> None:
    """x_0 ~ N(0, [[1, 0.8], [0.8, 1]]) at sigma / alpha = 1/2, half of it seen: coefficients 0.8, 0.64 of pattern (1, 0)."""
    n, process = 400_000, one_level(0.5)
    batch = Masked(PAIR, keep=0.5).batch(n, 0, 0)
    network = Linear()
    torch.manual_seed(0)
    FromMasked(delete)(reverse(network, process), batch).mean().backward()
    slope = network.weight.grad[:, 0].clone()
    network.weight.data += 1
    network.weight.grad = None
    torch.manual_seed(0)
    FromMasked(delete)(reverse(network, process), batch).mean().backward()
    curvature = network.weight.grad[:, 0] - slope
    alpha = process.schedule(torch.tensor([1]))[0].item()
    if delete == 0:
        assert curvature[1] == 0  # a coordinate that is never asked for where it is hidden
        curvature[1] = 1
    coefficients = -slope / curvature * alpha  # of x_t / alpha
    assert coefficients[0].item() == pytest.approx(0.8, abs=0.01)
    assert coefficients[1].item() == pytest.approx(0.64 if delete else 0, abs=0.03)


class Exact(nn.Module):
    """E[x_0 | x_t] of the pair where the first coordinate of x_t alone is seen."""

    def forward(self, x: Tensor, t: Tensor, seen: Tensor) -> Tensor:
        assert torch.equal(seen, torch.tensor([1.0, 0.0]).expand_as(seen))
        alpha, sigma = PROCESS.schedule(t)
        return x[:, :1] * (alpha / (alpha**2 + sigma**2))[:, None] * PAIR.covariances[0, 0]


def test_the_slopes_of_the_exact_estimate_are_its_regression_coefficients() -> None:
    found = Slopes(0.5)(reverse(Exact()), Masked(PAIR, 0.5), PAIR.held_out(1000), 0).measurements
    slopes, errors = ([m for m in found if m.quantity == quantity] for quantity in ("estimate_slope", "rmse"))
    assert [m.oracle for m in slopes] == pytest.approx([0.8, 0.64])
    assert [m.value for m in slopes] == pytest.approx([0.8, 0.64], rel=2e-3)  # the nearest whole step
    assert [m.value for m in errors] == pytest.approx([0, 0], abs=2e-3)


def test_masked_data_know_a_share_of_their_coordinates_and_the_pattern_is_seen() -> None:
    x, known = Masked(PAIR, keep=0.5).batch(10_000, 0, 0)
    assert known.mean().item() == pytest.approx(0.5, abs=0.02)
    assert bool((x[known == 0] == 0).all())
    network = WithPattern(FourierMLP(4, 2, 1000, 8, 2, 0))
    nn.init.normal_(network.network.head.weight)
    t, every = torch.ones(10_000, dtype=torch.long), torch.ones_like(x)
    torch.testing.assert_close(network(x, t), network(x, t, every))
    assert not torch.equal(network(x, t), network(x, t, known))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FromNoisy(0.0),
        lambda: Masked(PAIR, 0.0),
        lambda: Noisy(CLEAN, -1.0),
        lambda: FromNoisy(0.5, least=1.0),
        lambda: FromMasked(1.0),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong) -> None:
    with pytest.raises(UserError):
        wrong()
