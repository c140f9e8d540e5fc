"""Evaluators: the bound of all terms, paired with oracle and ceiling; the truth; 8-bit images; what Figure 1 shows."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import schedules
from dpm.baselines.gaussian_images import GaussianImages
from dpm.bound import entropy_edges, stationary_edges
from dpm.data.images import StandardizedImages
from dpm.data.synthetic import GaussianData, SwissRoll
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.evaluators.bound import AllTerms, all_terms, in_grey_levels, layout_of
from dpm.evaluators.sampled import SampledK
from dpm.evaluators.trajectories import Trajectories
from dpm.evaluators.truth import Truth, log_density_of_x_1
from dpm.oracles.gaussian import GaussianOracle
from dpm.predictions.papers import Epsilon
from dpm.predictions.residual import WhitenedResidual
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement
from dpm.study.units import Layout
from dpm.variances import FixedLarge, LearnedPosterior

T, D, BIT = 6, 2, math.log(2)
DATA = GaussianData(D)
ENTROPY = -0.5 * D * math.log2(2 * math.pi * math.e)  # the log likelihood of N(0, I) in bits
Q = GaussianDiffusion(schedules.linear(T, 0.05, 0.4))
ORACLE = GaussianOracle(Q, DATA, Stationary())
ONE_STEP = GaussianOracle(GaussianDiffusion(schedules.linear(1, 0.3, 0.3)), DATA, Stationary())


class Shrink(nn.Module):
    """eps_theta = x_t / 2: a network that is worse than the oracle, the same at every t."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return x_t / 2


MODEL = GaussianReverse(Q, Shrink(), Epsilon(), FixedLarge(), Stationary())
EDGES = {"stationary": stationary_edges, "entropy": entropy_edges}


def evaluator(**changes: Any) -> AllTerms:
    settings: dict[str, Any] = {"edges": EDGES, "unit": "bits", "draws": 2, "batch_size": 150}
    return AllTerms(**{**settings, "oracle": partial(GaussianOracle, decoder=Stationary()), **changes})


def standardised(n: int) -> Tensor:
    x_0 = DATA.held_out(n)
    return (x_0 - x_0.mean(0)) / x_0.std(0)


def by_name(measurements: tuple[Measurement, ...]) -> dict[tuple[str, object], Measurement]:
    return {(m.quantity, m.protocol.get("edges")): m for m in measurements}


@pytest.mark.parametrize("reverse", [ORACLE, ONE_STEP], ids=["T = 6", "T = 1"])
def test_the_bound_of_a_perfect_model_is_the_log_likelihood_in_bits(reverse: GaussianOracle) -> None:
    x_0 = standardised(3000)
    for m in evaluator(oracle=None)(reverse, DATA, x_0, seed=0).measurements:
        expected = ENTROPY if m.quantity == "log_likelihood_bound" else 0
        assert m.value == pytest.approx(expected, abs=3 * m.stderr + 1e-3), m
        assert (m.n, m.unit, m.protocol["draws"]) == (3000, "bits", 2)


def test_parts_add_up_and_limits_stand_beside_the_bound() -> None:
    x_0 = standardised(300)
    evaluation = evaluator(ceiling=log_density_of_x_1)(MODEL, DATA, x_0, seed=0)
    found = by_name(evaluation.measurements)
    null = Q.prior(x_0).log_prob(x_0).mean().item() / BIT
    for edges in EDGES:
        K, gain = found["log_likelihood_bound", edges], found["gain_over_null", edges]
        assert sum(K.parts.values()) == pytest.approx(-K.value)
        assert gain.value == pytest.approx(K.value - null)
        assert found["gain_over_oracle", edges].value == pytest.approx(K.value - K.oracle)
        assert K.value < K.oracle < K.ceiling + 4 * K.stderr
        assert gain.ceiling == pytest.approx(K.ceiling - null)
    assert found["ceiling", None].value == K.ceiling


def test_a_model_is_compared_with_its_oracle_draw_by_draw() -> None:
    """The same noise for both: the oracle's gain over itself is zero for every example, not only on average."""
    gain = by_name(evaluator()(ORACLE, DATA, standardised(200), seed=3).measurements)["gain_over_oracle", "stationary"]
    assert (gain.value, gain.stderr) == (0, 0)


def test_an_evaluation_is_a_function_of_its_seed() -> None:
    x_0 = standardised(200)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(values))
        values.append(evaluator()(MODEL, DATA, x_0, seed).measurements)
    assert values[0] == values[1] != values[2]


def test_more_draws_make_the_error_of_the_terms_smaller_and_not_their_mean() -> None:
    x_0 = standardised(500)
    few, many = (all_terms(MODEL, x_0, draws, 500, seed=0) for draws in (1, 16))
    assert bool((many.stderr < few.stderr).all())
    assert bool(((many.mean - few.mean).abs() < 5 * few.stderr).all())
    assert torch.allclose(few.total.mean(), few.mean.sum())
    assert (few.total.shape, few.mean.shape) == ((500,), (T - 1,))


def check_errors_are_those_of_the_examples(repetitions: int = 200, n: int = 40) -> None:
    """Several draws of noise for the same examples do not make more examples: K and its terms deviate as stated.

    Of examples that are fresh each time. K and the term at t = 2 depend on the example more than on the noise.
    """
    evaluate = evaluator(edges={"stationary": stationary_edges}, draws=9, oracle=None)
    found = [evaluate(MODEL, DATA, 3 * torch.randn(n, D, dtype=torch.float64), seed) for seed in range(repetitions)]
    K = [(m.value, m.stderr) for m, _ in (evaluation.measurements for evaluation in found)]
    terms = [np.stack([evaluation.arrays[f"term_{name}"] for name in ("mean", "stderr")]) for evaluation in found]
    means, stated = np.concatenate([np.array(K)[..., None], np.stack(terms)], 2).transpose(1, 0, 2)
    ratio = means.std(0, ddof=1) / np.sqrt(np.square(stated).mean(0))
    assert (abs(np.log(ratio)) < math.log(1.3)).all(), ratio  # 3 standard errors of a standard deviation of 200: 1.15


def test_errors_are_those_of_the_examples() -> None:
    check_errors_are_those_of_the_examples()


def test_arrays_hold_the_terms_of_model_and_oracle() -> None:
    arrays = evaluator()(MODEL, DATA, standardised(100), seed=0).arrays
    names = {f"{who}_{what}" for who in ("term", "oracle_term") for what in ("mean", "stderr")}
    assert set(arrays) == {"term_times", *names}
    assert arrays["term_times"].tolist() == list(range(2, T + 1))
    assert bool((arrays["term_mean"] > arrays["oracle_term_mean"]).all())


def test_claims_are_attached_to_the_edges_that_answer_them() -> None:
    claims = {"entropy": {"K": "some/claim"}}
    measured = evaluator(claims=claims)(MODEL, DATA, standardised(50), seed=0).measurements
    assert [(m.quantity, m.protocol["edges"]) for m in measured if m.claim] == [("log_likelihood_bound", "entropy")]


@pytest.mark.parametrize("change", [{"draws": 0}, {"batch_size": 0}])
def test_no_draws_and_no_batches_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least 1"):
        evaluator(**change)


@pytest.mark.parametrize("reverse", [ORACLE, MODEL], ids=["perfect", "worse"])
def test_without_another_ceiling_that_of_the_edges_stands_beside_the_bound(reverse: Any) -> None:
    """K <= H_q(X_T | X_0) - H_q(X_1 | X_0) - H_pi, for the terms between are divergences (2015, eq. 14).

    On data of mean square 1: K - L_null <= D / 2 log((1 - alpha_bar_T) / beta_1).
    """
    x_0 = standardised(300) * math.sqrt(300 / 299)
    schedule = Q.schedule
    most = D / 2 * math.log2((1 - schedule.alpha_bar(torch.tensor(T)).item()) / schedule.betas[0].item())
    found = by_name(evaluator(oracle=None)(reverse, DATA, x_0, seed=0).measurements)
    for edges in EDGES:
        K, gain = found["log_likelihood_bound", edges], found["gain_over_null", edges]
        assert K.ceiling == pytest.approx(-K.parts["prior"] - K.parts["reconstruction"])
        assert K.ceiling - K.value == pytest.approx(K.parts["transitions"])
        assert gain.ceiling == pytest.approx(most)
        assert gain.value < gain.ceiling
    assert ("ceiling", None) not in found


def test_the_truth_of_a_known_density() -> None:
    x_0 = DATA.held_out(4000)
    (truth,) = Truth("bits")(ORACLE, DATA, x_0, seed=0).measurements
    assert truth.value == pytest.approx(ENTROPY, abs=4 * truth.stderr)
    assert truth.value == pytest.approx(Q.prior(x_0).log_prob(x_0).mean().item() / BIT)


def test_the_ceiling_is_the_negative_entropy_of_x_1() -> None:
    """For N(0, 0.3 I): x_1 ~ N(0, (alpha_1^2 0.3 + sigma_1^2) I)."""
    data = GaussianData(D, 0.0, 0.3)
    values = log_density_of_x_1(ORACLE, data, data.held_out(20_000), seed=0)
    variance = 0.95 * 0.3 + 0.05
    expected = -0.5 * D * math.log(2 * math.pi * math.e * variance)
    assert values.mean().item() == pytest.approx(expected, abs=4 * values.std().item() / math.sqrt(20_000))


# --- images of 8 bits ----------------------------------------------------------------------------------------------------


def bytes_at_random(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 2, 2, 2), np.uint8)


def images() -> StandardizedImages:
    """Grey levels that are independent and uniform: 8 bits/dim exactly. With u, uniform between -1/2 and 255 1/2."""
    return StandardizedImages(lambda folder: (bytes_at_random(4000, 0), bytes_at_random(1500, 1)), 1000, 2, 1.0)


class Box:
    """The posterior of data that are uniform over all grey levels: normal distributions cut off at black and at white."""

    def __init__(self, data: StandardizedImages) -> None:
        self.edges = [(grey - data.mean) / data.std for grey in (-0.5, 255.5)]

    def posterior_moments(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        a, b = ((alpha * edge - x) / sigma for edge in self.edges)
        p_a, p_b = (torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) for z in (a, b))
        mass = torch.special.ndtr(b) - torch.special.ndtr(a)
        shift, shrink = (p_a - p_b) / mass, (a * p_a - b * p_b) / mass
        mean, variance = (x + sigma * shift) / alpha, (sigma / alpha) ** 2 * (1 + shrink - shift.square())
        return mean, variance.clamp(min=0)


def bits_per_dim(reverse: Any, data: StandardizedImages, n: int) -> Measurement:
    terms = AllTerms({"stationary": stationary_edges}, "bits/pixel", 1, n, also=[in_grey_levels])
    return terms(reverse, data, data.held_out(n), 0).measurements[-1]


def check_the_bound_of_uniform_bytes_is_8_bits() -> None:
    """The best reverse process in small steps; the bound is of the very x_0 that carries the noise."""
    data, q = images(), GaussianDiffusion(schedules.geometric(60, 1e-6, 1e-3))
    m = bits_per_dim(GaussianOracle(q, Box(data), Stationary()), data, 800)
    assert (m.quantity, m.unit, m.n) == ("nll_bound", "bits/dim", 800)
    assert m.stderr < 0.03
    assert m.value == pytest.approx(8, abs=4 * m.stderr)


def test_the_bound_of_uniform_bytes_is_8_bits() -> None:
    check_the_bound_of_uniform_bytes_is_8_bits()


def test_a_gaussian_model_of_uniform_bytes_has_its_code_length() -> None:
    """1/2 log2(2 pi e 256^2 / 12) = 8.25 bits/dim, more than 8: no bound is below the truth."""

    class Zero(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            return torch.zeros_like(x_t).repeat(1, 2, 1, 1)

    data, q = images(), GaussianDiffusion(schedules.linear(10, 0.05, 0.5))
    prediction = WhitenedResidual(GaussianImages(2, 2, 2))
    m = bits_per_dim(GaussianReverse(q, Zero(), prediction, LearnedPosterior(), Stationary()), data, 1500)
    assert m.value == pytest.approx(math.log2(2 * math.pi * math.e * 256**2 / 12) / 2, abs=4 * m.stderr)
    assert m.value > 8 + 5 * m.stderr


class Scale:
    def __init__(self, std: float) -> None:
        self.std = std


def K(value: float, unit: str = "bits/pixel", stderr: float | None = None) -> Measurement:
    return Measurement("log_likelihood_bound", value, stderr, 7, unit, {"edges": "entropy"}, "a claim", parts={"prior": 1.0})


def test_the_bound_of_2015_on_cifar_10_in_the_terms_of_2020() -> None:
    """5.4 +- 0.2 bits/pixel of three colours at a standard deviation of 64.15 grey levels: 4.20 bits/dim, not 5.40."""
    m = in_grey_levels(K(5.4, stderr=0.2), Scale(64.15), Layout(1024, 3))
    assert m.value == pytest.approx(-5.4 / 3 + math.log2(64.15), rel=1e-12)
    assert round(m.value, 2) == 4.20
    assert m.stderr == pytest.approx(0.2 / 3)
    assert (m.quantity, m.unit, m.n, m.protocol, m.claim) == ("nll_bound", "bits/dim", 7, {"edges": "entropy"}, None)


def test_any_unit_of_the_bound_gives_the_same_bits_per_dim() -> None:
    layout, nats = Layout(16, 3), 40.0
    values = {"nats": nats, "bits": nats / BIT, "nats/pixel": nats / 16, "bits/pixel": nats / 16 / BIT, "nats/dim": nats / 48}
    converted = [in_grey_levels(K(value, unit), Scale(50.0), layout).value for unit, value in values.items()]
    assert converted == pytest.approx([math.log2(50) - nats / 48 / BIT] * len(values), rel=1e-12)


def test_one_pixel_by_brute_force() -> None:
    """Densities of a pixel on both scales: 2^-bits integrates to 1 over grey levels, and is p(x) dx / dg.

    P(g) is the integral over one grey level, of which -log2 is at most the mean of the bits over it (Jensen).
    """
    std, mean = 20.0, 90.0
    grey = torch.arange(-500, 700, 0.01, dtype=torch.float64) + 0.005
    x = (grey - mean) / std
    log_p = -x.abs() - math.log(2)  # Laplace, of no special variance
    bits = torch.tensor([in_grey_levels(K(v / BIT, "bits"), Scale(std), Layout(1, 1)).value for v in log_p[::1000].tolist()])
    assert torch.allclose(bits.double(), -(log_p[::1000] - math.log(std)) / BIT, atol=1e-5)
    every = math.log2(std) - log_p / BIT
    density = torch.exp2(-every)
    assert float(density.sum() * 0.01) == pytest.approx(1, abs=1e-6)
    mass, mean_bits = density.reshape(-1, 100).sum(1) * 0.01, every.reshape(-1, 100).mean(1)
    assert bool((-mass.log2() <= mean_bits).all())
    assert mass.sum().item() == pytest.approx(1, abs=1e-6)


def test_each_bound_is_followed_by_the_same_in_other_terms() -> None:
    """For every convention of the edges, from all terms and from sampled ones."""
    data = images()
    p = GaussianOracle(GaussianDiffusion(schedules.linear(8, 0.05, 0.5)), GaussianData(), Stationary())
    settings = {"edges": EDGES, "unit": "bits/pixel", "batch_size": 100, "also": [in_grey_levels, in_grey_levels]}
    for evaluate in (AllTerms(draws=1, **settings), SampledK(pilot=60, half_width=1.0, passes=1, **settings)):
        found = evaluate(p, data, data.held_out(100), 0).measurements
        bounds = [m for m in found if m.quantity == "log_likelihood_bound"]
        others = [m for m in found if m.quantity == "nll_bound"]
        assert [m.protocol["edges"] for m in bounds] == list(EDGES)
        assert len(others) == 4
        for k, m in enumerate(others):
            of = bounds[k // 2]
            assert m.value == pytest.approx(-of.value / 2 + math.log2(data.std), rel=1e-12)
            assert (m.protocol, m.stderr) == (of.protocol, pytest.approx(of.stderr / 2))


@pytest.mark.parametrize(
    ("shape", "layout"), [((5, 7), Layout(7, 1)), ((5, 3, 4, 6), Layout(24, 3)), ((2, 1, 9, 9), Layout(81, 1))]
)
def test_the_layout_of_examples(shape: tuple[int, ...], layout: Layout) -> None:
    assert layout_of(torch.zeros(shape)) == layout


# --- trajectories --------------------------------------------------------------------------------------------------------


def test_trajectories_have_the_marginals_of_their_process() -> None:
    """Forward and reverse at time t have the moments of q(x_t): here N(0, I) throughout, but for the last step's mode."""
    arrays = Trajectories(n=2000, limit=2.0, side=5)(ORACLE, DATA, DATA.held_out(3000), seed=0).arrays
    assert arrays["times"].tolist() == list(range(T + 1))
    assert arrays["betas"] == pytest.approx(Q.schedule.betas.numpy())
    for name, first in (("forward", 0), ("reverse", 1)):
        path = arrays[name].astype(np.float64)
        assert path.shape == (T + 1, 2000, D)
        assert path.mean(1) == pytest.approx(0, abs=5 / math.sqrt(2000))
        assert path[first:].std(1) == pytest.approx(1, abs=5 / math.sqrt(4000))
    steps = (arrays["forward"][1:].astype(np.float64) * arrays["forward"][:-1]).mean((1, 2))
    assert steps == pytest.approx(np.sqrt(1 - arrays["betas"]), abs=0.1)  # consecutive points belong to one path


def test_of_seeds_that_no_figure_shows_the_betas_alone_are_kept() -> None:
    evaluate = Trajectories(n=10, limit=2.0, side=5, drawn=1)
    shown, other = (evaluate(ORACLE, DATA, DATA.held_out(10), seed=seed).arrays for seed in (1, 0))
    assert list(other) == ["betas"]
    assert np.array_equal(other["betas"], shown["betas"])
    assert shown.keys() > other.keys()


def test_the_drift_is_the_mean_of_the_reverse_step_minus_where_it_starts() -> None:
    """The exact reverse step of N(0, I) leads to sqrt(1 - beta_t) x_t."""
    arrays = Trajectories(n=10, limit=2.0, side=5)(ORACLE, DATA, DATA.held_out(10), seed=0).arrays
    assert arrays["grid"].shape == (25, D)
    assert np.abs(arrays["grid"]).max() == 2
    assert arrays["drift_times"].tolist() == [2, T // 2, T]
    for t, drift in zip(arrays["drift_times"], arrays["drift"], strict=True):
        expected = (math.sqrt(1 - Q.schedule.betas[t - 1].item()) - 1) * arrays["grid"]
        assert drift == pytest.approx(expected, abs=1e-9)


def test_the_roll_and_its_oracle_pass_through_every_evaluator() -> None:
    roll = SwissRoll(1e-4)
    reverse = GaussianOracle(GaussianDiffusion(schedules.geometric(8, 1e-3, 1e-2)), roll, Stationary())
    x_0 = roll.held_out(300)
    K = by_name(
        evaluator(ceiling=log_density_of_x_1, edges={"stationary": stationary_edges})(reverse, roll, x_0, 0).measurements
    )
    (truth,) = Truth("bits")(reverse, roll, x_0, 0).measurements
    assert K["log_likelihood_bound", "stationary"].value < K["ceiling", None].value < truth.value
