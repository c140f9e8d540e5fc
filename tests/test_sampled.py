"""Sampled terms: the estimate is unbiased for all terms on the same examples, and its interval covers them as often as it says.

The truth is exact: at every t the KL is a quadratic in the noise, so that its mean over the noise is the mean over +-1 in
each direction. On images of known density K approaches the truth from below as 1 / T.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import schedules
from dpm.baselines.gaussian_images import GaussianImages
from dpm.bound import decoder_edges, entropy_edges, stationary_edges, term
from dpm.data.images import StandardizedImages
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network, Stationary
from dpm.errors import UserError
from dpm.evaluators import sampled as estimators
from dpm.evaluators.bound import AllTerms, all_terms, in_grey_levels, nats_per_unit
from dpm.evaluators.distortion import Distortion
from dpm.evaluators.estimators import Estimators, every_term, needed
from dpm.evaluators.sampled import (
    Control,
    LinearError,
    Sampled,
    SampledK,
    SampledNLL,
    linear_error,
    sampled,
    strategy_from,
    visit,
)
from dpm.evaluators.samples import ImageSamples, LargeSample
from dpm.predictions.papers import X0
from dpm.predictions.residual import WhitenedResidual
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse
from dpm.reverse.gaussian import GaussianReverse, clipped
from dpm.schedules import BetaSchedule
from dpm.times import Uniform
from dpm.variances import FixedLarge, LearnedPosterior

T, SHAPE = 25, (1, 2, 2)


class Shrinking(nn.Module):
    """x_0-hat = 0.9 alpha_t x_t: not far from the best denoiser of N(0, I), and wrong by more for examples far from 0."""

    def __init__(self, schedule: BetaSchedule) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, _ = self.schedule(t)
        return 0.9 * per_example(alpha, x_t) * x_t


def model() -> GaussianReverse:
    schedule = schedules.linear(T, 0.02, 0.4)
    return GaussianReverse(GaussianDiffusion(schedule), Shrinking(schedule), X0(), FixedLarge(), Network())


def examples(n: int, spread: float) -> Tensor:
    """Images of contrasts that differ by `spread`: the larger, the more an example's own mean matters."""
    generator = torch.Generator().manual_seed(1)
    contrast = torch.exp(spread * torch.randn(n, 1, 1, 1, generator=generator, dtype=torch.float64))
    return contrast * torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64)


def corners(dimensions: int) -> Tensor:
    """All vectors of +-1."""
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * dimensions)


def exact_terms(p: Reverse, x_0: Tensor) -> Tensor:
    """E over the noise of every term of every example, (n, T)."""
    columns = []
    for t in range(1, T + 1):
        times = torch.full((len(x_0),), t)
        alpha, sigma = (per_example(c, x_0) for c in p.process.schedule(times))
        noise = corners(x_0[0].numel()).reshape(-1, *SHAPE)
        columns.append(torch.stack([term(p, x_0, alpha * x_0 + sigma * eps, times - 1, times) for eps in noise]).mean(0))
    return torch.stack(columns, 1)


@dataclass(frozen=True)
class Setting:
    """One way to use the estimator."""

    spread: float
    control: bool
    n: int = 2000
    pilot: int = 800
    passes: int = 1

    def run(self, x_0: Tensor, seed: int, control: Control | None) -> Sampled:
        p = model()
        masses = Uniform().masses(p, 1)
        return sampled(p, x_0, 1, masses, control, self.pilot, 1e-9, self.passes, 500, seed)


def fitted(x_0: Tensor) -> LinearError:
    gaussian = GaussianImages(*SHAPE)
    gaussian.fit(x_0)
    return LinearError(gaussian)


SETTINGS = {
    "alike": Setting(spread=0.0, control=False),
    "examples differ": Setting(spread=0.3, control=False),
    "examples differ, control": Setting(spread=0.3, control=True),
    "three passes": Setting(spread=0.3, control=False, passes=3),
    "odd number": Setting(spread=0.3, control=True, n=2001),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_the_interval_covers_the_truth_as_often_as_it_says(name: str) -> None:
    """95 % intervals, 1,200 repetitions: 93 to 97 %; and the bias is below the simulation's own error."""
    setting = SETTINGS[name]
    x_0 = examples(setting.n, setting.spread)
    truth, control = exact_terms(model(), x_0).sum(1).mean().item(), fitted(x_0) if setting.control else None
    results = torch.tensor([setting.run(x_0, seed, control).part(1, T) for seed in range(1200)], dtype=torch.float64)
    errors, reported = results[:, 0] - truth, results[:, 1]
    assert abs(errors.mean().item()) < 3 * errors.std().item() / math.sqrt(len(errors))
    coverage = (errors.abs() <= estimators.Z * reported).double().mean().item()
    assert 0.93 <= coverage <= 0.97, f"{coverage:.3f}, ratio {reported.square().mean().sqrt() / errors.std():.3f}"


@pytest.mark.parametrize("control", [False, True], ids=["plain", "control"])
def test_parts_add_up_and_each_is_the_mean_of_its_terms(control: bool) -> None:
    check_parts(control)


def check_parts(control: bool) -> None:
    x_0 = examples(2000, 0.3)
    exact = exact_terms(model(), x_0).mean(0)
    result = Setting(0.3, control, pilot=800, passes=4).run(x_0, 7, fitted(x_0) if control else None)
    ranges = [(1, 1), (2, 4), (5, 12), (13, T)]
    for low, high in [(1, T), (2, T), *ranges]:
        value, stderr = result.part(low, high)
        assert value == pytest.approx(exact[low - 1 : high].sum().item(), abs=4 * stderr)
    assert sum(result.part(*r)[0] for r in ranges) == pytest.approx(result.part(1, T)[0], rel=1e-12)
    assert result.evaluations == 800 + 4 * 2000


def test_every_example_is_visited_once_in_a_pass_and_times_fill_their_strata() -> None:
    x_0, masses = examples(101, 0.0), torch.linspace(1, 3, T).double()
    one = visit(model(), x_0, masses, 1, None, 101, 16, 0, 1)
    assert sorted(one.examples.tolist()) == list(range(101))
    assert bool((one.t.diff() >= 0).all())
    assert one.shares.sum().item() == pytest.approx(1)
    cumulative, strata = masses.cumsum(0) / masses.sum(), 51
    ends = torch.bucketize(torch.arange(1, strata + 1) / strata, cumulative).clamp(max=T - 1) + 1
    starts = torch.cat([torch.ones(1), ends[:-1]])
    assert bool(((one.t >= starts.repeat_interleave(2)[:101]) & (one.t <= ends.repeat_interleave(2)[:101])).all())


def test_terms_are_those_of_the_examples_that_are_named() -> None:
    """With a network that is exact up to a constant per example, the term identifies the example."""
    p, x_0 = model(), torch.arange(1.0, 41.0).double()[:, None, None, None].expand(40, *SHAPE)
    one = visit(p, x_0, torch.ones(T).double(), 1, None, 40, 7, 3, 1)
    late = one.t == T  # there x_t is noise: the term grows with the example's size
    again = exact_terms(p, x_0)[one.examples, one.t - 1] * T
    assert late.any()
    assert torch.corrcoef(torch.stack([one.term, again]))[0, 1] > 0.99


def test_a_control_that_is_the_term_itself_leaves_no_error() -> None:
    class Itself(Control):
        def __call__(self, process, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
            return term(model(), x_0, x_t, t - 1, t)

        def expectations(self, process, x_0: Tensor, t: Tensor) -> Tensor:
            return exact_terms(model(), x_0).mean(0)[t - 1]

        def masses(self, process, first: int) -> Tensor:
            return torch.ones(T + 1 - first).double()

    x_0 = examples(400, 0.5)
    truth = exact_terms(model(), x_0).mean(0)
    value, stderr = sampled(model(), x_0[:], 1, torch.ones(T).double(), Itself(), 400, 1e-9, 2, 100, 0).part(2, T)
    groups = strategy_from(visit(model(), x_0, torch.ones(T).double(), 1, None, 400, 100, 0, 2), torch.ones(T).double(), 1)
    assert groups.beta.abs().max() == 0  # without a control nothing is subtracted
    assert stderr < 1e-6 * truth[1:].sum().item()
    assert value == pytest.approx(truth[1:].sum().item(), rel=1e-6)


def test_the_control_has_the_mean_that_it_states() -> None:
    """LinearError.expectations against the exact mean over the noise, examples of any kind."""
    x_0, q = examples(50, 0.5), model().process
    control = fitted(examples(500, 0.0))
    t = torch.arange(1, T + 1)
    means = []
    for time in t:
        times = time.expand(len(x_0))
        alpha, sigma = (per_example(c, x_0) for c in q.schedule(times))
        noise = corners(4).reshape(-1, *SHAPE)
        means.append(torch.stack([control(q, x_0, alpha * x_0 + sigma * eps, times) for eps in noise]).mean())
    assert torch.allclose(control.expectations(q, x_0, t), torch.stack(means), rtol=1e-10)


def test_a_control_and_the_allocation_pay() -> None:
    """On examples that are alike the same number of evaluations gives less error, and the estimate does not move beyond it."""
    x_0 = examples(2000, 0.0)
    plain = sampled(model(), x_0, 1, torch.ones(T).double(), None, 500, 1e-9, 1, 500, 0)
    helped = sampled(model(), x_0, 1, torch.ones(T).double(), fitted(x_0), 500, 1e-9, 1, 500, 0)
    assert helped.part(1, T)[1] < 0.8 * plain.part(1, T)[1]
    truth = exact_terms(model(), x_0).sum(1).mean().item()
    assert helped.part(1, T)[0] == pytest.approx(truth, abs=4 * helped.part(1, T)[1])


def test_it_stops_at_the_requested_width_or_after_the_last_pass() -> None:
    x_0 = examples(500, 0.0)

    def passes(half_width: float, most: int) -> Sampled:
        return sampled(model(), x_0, 1, torch.ones(T).double(), None, 200, half_width, most, 500, 0)

    assert len(passes(1e9, 5).visits) == 1
    assert len(passes(1e-9, 3).visits) == 3
    wanted = 0.6 * estimators.Z * passes(1e9, 1).part(1, T)[1]
    reached = passes(wanted, 9)
    assert estimators.Z * reached.part(1, T)[1] <= wanted
    assert estimators.Z * replace(reached, visits=reached.visits[:-1]).part(1, T)[1] > wanted


def test_sampled_terms_agree_with_all_terms_on_the_same_examples() -> None:
    p, x_0 = model(), examples(1500, 0.3)
    scale = nats_per_unit("bits/dim", x_0)
    terms = all_terms(p, x_0, 1, 1500, 0, scale)
    evaluator = SampledNLL(unit="bits/dim", control=None, pilot=500, half_width=1e-9, passes=3, batch_size=500)
    bound, rate, distortion, prior = evaluator(p, GaussianData(), x_0, 0).measurements
    quantities = ("nll_bound", "rate", "distortion", "prior_kl")
    assert tuple(m.quantity for m in (bound, rate, distortion, prior)) == quantities
    assert (prior.value, prior.stderr) == (bound.parts["prior"], 0.0)
    noise = terms.stderr.square().sum().sqrt().item()  # of the noise and the examples; the examples are the same here
    assert rate.value == pytest.approx(terms.mean.sum().item() + bound.parts["prior"], abs=4 * math.hypot(rate.stderr, noise))
    assert bound.value == pytest.approx(rate.value + distortion.value, rel=1e-12)
    assert bound.value == pytest.approx(sum(bound.parts.values()), rel=1e-12)
    assert bound.protocol["evaluations"] == 500 + 3 * 1500
    exact = exact_terms(p, x_0).mean(0) / scale
    assert distortion.value == pytest.approx(exact[0].item(), abs=4 * distortion.stderr)


def test_the_rate_at_a_reverse_time_is_paid_before_its_prediction() -> None:
    """At s = T - t + 1: L_T and the terms of T - s + 2 .. T, so that nothing but L_T is paid at s = 1 and all but L_0 at T."""
    p, x_0 = model(), examples(2000, 0.3)
    exact = exact_terms(p, x_0).mean(0) / nats_per_unit("bits/dim", x_0)
    evaluator = SampledNLL(
        unit="bits/dim",
        control=None,
        pilot=500,
        half_width=1e-9,
        passes=3,
        batch_size=500,
        points=T,
        point_claim="table4/{}/rate",
    )
    bound, total, _, _, *paid = evaluator(p, GaussianData(), x_0, 0).measurements
    assert [(m.protocol["reverse_step"], m.claim) for m in paid] == [(s, f"table4/{s}/rate") for s in range(1, T + 1)]
    assert (paid[0].value, paid[0].stderr) == (bound.parts["prior"], 0)
    assert (paid[-1].value, paid[-1].stderr) == (total.value, total.stderr)
    for m in paid[1:]:
        expected = bound.parts["prior"] + float(exact[T - m.protocol["reverse_step"] + 1 :].sum())
        assert m.value == pytest.approx(expected, abs=4.5 * m.stderr)
        assert 0 < m.stderr < 0.2 * m.value


def test_the_curve_is_the_mean_term_of_each_bin() -> None:
    p, x_0 = model(), examples(2000, 0.0)
    evaluation = SampledNLL(unit="bits/dim", control=None, pilot=500, half_width=1e-9, passes=2, batch_size=500)(
        p, GaussianData(), x_0, 0
    )
    low, high = evaluation.arrays["term_low"], evaluation.arrays["term_high"]
    assert (low[0], high[-1]) == (1, T)
    assert (low[1:] == high[:-1] + 1).all()
    exact = exact_terms(p, x_0).mean(0) / nats_per_unit("bits/dim", x_0)
    for a, b, mean, error in zip(*(evaluation.arrays[f"term_{k}"] for k in ("low", "high", "mean", "stderr")), strict=True):
        assert mean == pytest.approx(exact[a - 1 : b].mean().item(), abs=4.5 * error)
    widths = high - low + 1
    assert (widths * evaluation.arrays["term_mean"]).sum() == pytest.approx(
        evaluation.measurements[0].value - evaluation.measurements[0].parts["prior"], rel=1e-9
    )


def test_two_models_see_the_same_draws_and_another_seed_others() -> None:
    x_0 = examples(50, 0.0)
    one, same, other = (visit(model(), x_0, torch.ones(T).double(), 1, None, 50, 20, seed, 1) for seed in (0, 0, 1))
    assert torch.equal(one.term, same.term)
    assert torch.equal(one.t, same.t)
    assert not torch.equal(one.examples, other.examples)


def test_bits_per_dim_pixel_and_example() -> None:
    images, points = torch.zeros(2, 3, 4, 5), torch.zeros(2, 7)
    ratios = [nats_per_unit(unit, images) / math.log(2) for unit in ("bits", "bits/pixel", "bits/dim")]
    assert ratios == pytest.approx([1, 20, 60])
    assert nats_per_unit("nats/dim", points) == pytest.approx(7)
    values = [AllTerms({"stationary": stationary_edges}, unit, 1, 9) for unit in ("bits", "bits/dim")]
    p = replace_decoder(model())
    in_bits, per_dim = (a(p, GaussianData(), examples(9, 0.0), 0).measurements[0] for a in values)
    assert in_bits.value == pytest.approx(4 * per_dim.value, rel=1e-12)
    assert in_bits.stderr == pytest.approx(4 * per_dim.stderr, rel=1e-12)


def replace_decoder(p: GaussianReverse) -> GaussianReverse:
    return GaussianReverse(p.process, p.network, p.prediction, p.variance, Stationary())


def test_clipping_wraps_the_prediction_and_leaves_the_trained_process_alone() -> None:
    p, x_t, t = model(), 9 * torch.ones(2, *SHAPE).double(), torch.full((2,), 3)
    inside = clipped(p)
    assert p(x_t, t - 1, t).mean.max() > inside(x_t, t - 1, t).mean.max()
    assert inside.prediction.x_0(p.process, inside.network(x_t, t), x_t, t).max() == 1
    assert isinstance(p.prediction, X0)


@pytest.mark.parametrize("wrong", [{"pilot": 3}, {"half_width": 0.0}, {"passes": 0}, {"batch_size": 0}])
def test_settings_that_cannot_be_meant_are_refused(wrong) -> None:
    settings = {"unit": "bits/dim", "pilot": 10, "half_width": 0.1, "passes": 1, "batch_size": 5}
    with pytest.raises(UserError, match="pilot"):
        SampledNLL(**{**settings, **wrong})
    with pytest.raises(UserError, match="closed form"):
        SampledK(edges={"decoder": decoder_edges}, **settings)


def test_K_by_sampled_terms_is_K_by_all_terms() -> None:
    """The conventions of 2015 on standardised data: same edges to the last digit, transitions within the joint error."""
    p, x_0 = replace_decoder(model()), examples(3000, 0.0)
    conventions = {"entropy": entropy_edges, "stationary": stationary_edges}
    all_of_them = AllTerms(conventions, "bits/pixel", draws=1, batch_size=3000)(p, GaussianData(), x_0, 0).measurements
    settings = {"unit": "bits/pixel", "pilot": 800, "half_width": 1e-9, "passes": 2, "batch_size": 500}
    few = SampledK(edges=conventions, claims={"entropy": {"K": "a claim"}}, **settings)(p, GaussianData(), x_0, 0)
    assert [m.claim for m in few.measurements] == ["a claim", None, None, None]
    for one, other in zip(few.measurements, all_of_them, strict=True):
        assert (one.quantity, one.unit, one.protocol["edges"]) == (other.quantity, other.unit, other.protocol["edges"])
        assert one.value == pytest.approx(other.value, abs=4 * math.hypot(one.stderr, 0.3 * other.stderr))
        assert one.value < one.ceiling == pytest.approx(other.ceiling, rel=1e-9)
        if one.parts:
            assert one.parts["prior"] == pytest.approx(other.parts["prior"], rel=1e-9)
            assert one.parts["reconstruction"] == pytest.approx(other.parts["reconstruction"], rel=1e-9)


@pytest.mark.parametrize("left", [1, 2, 3])
def test_the_edges_judge_all_examples_together(left: int) -> None:
    """Standardised as a whole and not in parts: contrast rises from the first to the last, and the last batch is small."""
    n = 300 + left
    x_0 = examples(n, 0.0) * torch.linspace(0.5, 1.5, n).double()[:, None, None, None]
    x_0 = (x_0 - x_0.mean()) / x_0.std()
    K = SampledK(edges={"entropy": entropy_edges}, unit="bits", pilot=50, half_width=1.0, passes=1, batch_size=100)
    measured = K(replace_decoder(model()), GaussianData(), x_0, 0).measurements[0]
    prior, reconstruction = entropy_edges(model(), x_0)
    assert measured.parts["prior"] == pytest.approx(prior.mean().item() / math.log(2))
    assert measured.parts["reconstruction"] == pytest.approx(reconstruction.mean().item() / math.log(2))
    with pytest.raises(UserError, match="standardise them"):
        K(replace_decoder(model()), GaussianData(), x_0[:200], 0)


# --- images of a known density -------------------------------------------------------------------------------------------

SIDE = 4


def texture(height: int, width: int) -> GaussianImages:
    """Mean 120 and standard deviation 30 grey levels; the larger the detail, the more of it there is."""
    truth = GaussianImages(1, height, width)
    frequencies = torch.arange(height)[:, None] / height * 2.8 + torch.arange(width) / width * 1.6
    truth.variances.copy_(torch.exp(-frequencies))
    truth.variances.mul_(30**2 / truth.variances.mean())
    truth.mean.fill_(120)
    return truth


def drawn(truth: GaussianImages, n: int, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, *truth.mean.shape, generator=generator, dtype=torch.float64)
    return truth.image(truth.variances.sqrt() * noise).numpy()


def photographs(height: int, width: int, side: int, n: int = 20_000) -> StandardizedImages:
    truth = texture(height, width)
    return StandardizedImages(lambda folder: (drawn(truth, n, 1), drawn(truth, 2000, 2)), n // 20, side, 0.0)


class BestVariance(nn.Module):
    """0 for the mean and, for the variance, what the Gaussian model misses on average: the best that it allows."""

    def __init__(self, model: GaussianImages, process: GaussianDiffusion) -> None:
        super().__init__()
        self.error, self.process = [lambda t: model.error(process, t)], process

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        _, sigma = self.process.schedule(t)
        z = per_example((self.error[0](t) / sigma.square()).log(), x_t)
        return torch.cat([torch.zeros_like(x_t), z.expand_as(x_t)], 1)


def linear(data: StandardizedImages, T: int) -> GaussianReverse:
    """The best linear reverse process of the training images."""
    process, gaussian = GaussianDiffusion(schedules.geometric(T, 1e-4, 1e-3)), GaussianImages(*data.tiles(data.test).shape[1:])
    network = BestVariance(gaussian, process)
    reverse = GaussianReverse(process, network, WhitenedResidual(gaussian), LearnedPosterior(), Stationary())
    reverse.fit(data)
    return reverse


def test_K_of_gaussian_images_approaches_their_log_likelihood_as_1_over_T() -> None:
    """From grey levels to bits/pixel and back: standardised, fitted, bounded, and compared with the density that drew them."""
    data, truth = photographs(SIDE, SIDE, SIDE), texture(SIDE, SIDE)
    x_0, gaps = data.held_out(2000), []
    c = truth.coefficients(data.grey(x_0))
    density = -(c.square() / truth.variances + torch.log(2 * math.pi * truth.variances)).flatten(1).sum(1).mean().item() / 2
    bits = density / SIDE**2 / math.log(2)  # of grey levels
    settings = {"pilot": 400, "half_width": 5e-4, "passes": 4, "batch_size": 1000, "control": linear_error}
    evaluate = SampledK(edges={"stationary": stationary_edges}, unit="bits/pixel", also=[in_grey_levels], **settings)
    for T in (50, 200):
        K, _, grey = evaluate(linear(data, T), data, x_0, 0).measurements
        assert K.stderr < 1e-3
        assert grey.value == pytest.approx(math.log2(data.std) - K.value)
        assert K.value < K.ceiling
        gaps.append(bits - -grey.value)
        assert gaps[-1] > 3 * K.stderr  # below the truth
    assert gaps[1] < 0.006
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.25)


def test_a_large_sample_has_the_texture_of_the_small_patches() -> None:
    """Fitted to 8 x 8, drawn at 32 x 32: neighbours in rows and in columns covary as the model of that size says."""
    data, whole = photographs(8, 8, 8, 4000), drawn(texture(40, 40), 2, 3)
    reverse = linear(data, 40)
    data.train = whole
    arrays = [LargeSample(side=32, steps=40)(reverse, data, data.held_out(3), seed).arrays for seed in (*range(5), 0)]
    for images in arrays:
        assert np.array_equal(images["training"], whole[0, :, :32, :32].round().clip(0, 255))
        assert {name: (image.dtype, image.shape) for name, image in images.items()} == dict.fromkeys(
            ("sample", "training"), (np.dtype(np.uint8), (1, 32, 32))
        )
    assert np.array_equal(arrays[0]["sample"], arrays[5]["sample"])
    assert not np.array_equal(arrays[0]["sample"], arrays[1]["sample"])
    found = covariances(np.concatenate([images["sample"] for images in arrays[:5]]).astype(float))
    expected = covariances(drawn(texture(8, 8).resized(32, 32), 400, 5)[:, 0])
    assert found == pytest.approx(expected, abs=0.12 * expected["none"])
    assert expected["rows"] > expected["columns"] + 0.12 * expected["none"]


def covariances(images: np.ndarray) -> dict[str, float]:
    d = images - images.mean()
    pairs = {"none": (d, d), "rows": (d[:, 1:], d[:, :-1]), "columns": (d[..., 1:], d[..., :-1])}
    return {name: float((a * b).mean()) for name, (a, b) in pairs.items()}


@pytest.mark.parametrize(("side", "steps"), [(0, 5), (4, 1)])
def test_large_samples_refuse_what_cannot_be_meant(side: int, steps: int) -> None:
    with pytest.raises(UserError, match=f"side={side}, steps={steps}") as error:
        LargeSample(side, steps)
    assert "\n" not in str(error.value)


def test_memory_is_one_batch() -> None:
    """No call of the network, the noise or the control ever sees more than a batch, whatever n and T are."""
    sizes: list[int] = []

    class Watched(Shrinking):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            sizes.append(len(x_t))
            return super().forward(x_t, t)

    p = model()
    p.network = Watched(p.process.schedule)
    SampledNLL(unit="bits/dim", control=None, pilot=60, half_width=1e-9, passes=1, batch_size=32)(
        p, GaussianData(), examples(200, 0.0), 0
    )
    assert max(sizes) <= 32
    assert sum(sizes) == 260


@pytest.mark.parametrize("steps", [1, 7, T, 1000])
def test_image_samples_are_grey_levels_of_whole_chains(steps: int) -> None:
    """At any number of steps up to T, from x_T to x_0; the draw is a function of the seed."""
    seen: list[int] = []

    class Watched(Shrinking):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            seen.append(int(t[0]))
            return super().forward(x_t, t)

    p = model()
    p.network = Watched(p.process.schedule)
    one, again, other = (ImageSamples(6, steps, clipped)(p, GaussianData(), examples(4, 0.0), k).arrays for k in (0, 0, 1))
    assert (one["samples"].shape, one["samples"].dtype) == ((6, *SHAPE), np.uint8)
    assert (one["samples"] == again["samples"]).all()
    assert (one["samples"] != other["samples"]).any()
    chain = seen[: len(seen) // 3]
    assert chain == sorted(set(chain), reverse=True)
    assert (len(chain), chain[0]) == (min(steps, T), T)


def test_image_samples_refuse_what_cannot_be_meant() -> None:
    with pytest.raises(UserError, match="n=0"):
        ImageSamples(0, 5, clipped)


def test_distortion_is_the_error_of_the_prediction_in_grey_levels() -> None:
    """x_0-hat = 0.9 alpha x_t on N(0, I): E (x_0 - x_0-hat)^2 = (1 - 0.9 alpha^2)^2 + (0.9 alpha sigma)^2 per dimension."""
    p, x_0 = model(), examples(4000, 0.0)
    evaluator = Distortion(n=4000, points=5, batch_size=700, wrap=lambda reverse: reverse, claim="table4/{}/rmse")
    evaluation = evaluator(p, GaussianData(), x_0, 0)
    assert evaluation.arrays["rmse_step"].tolist() == [5, 10, 15, 20, 25]
    assert [m.protocol["reverse_step"] for m in evaluation.measurements] == [5, 10, 15, 20, 25]
    assert [m.claim for m in evaluation.measurements] == [f"table4/{s}/rmse" for s in (5, 10, 15, 20, 25)]
    for m in evaluation.measurements:
        alpha, sigma = (float(c) for c in p.process.schedule(torch.tensor(T - m.protocol["reverse_step"] + 1)))
        expected = 127.5 * math.sqrt((1 - 0.9 * alpha**2) ** 2 + (0.9 * alpha * sigma) ** 2)
        assert m.value == pytest.approx(expected, abs=4 * m.stderr)
        assert 0 < m.stderr < 0.02 * m.value
    with pytest.raises(UserError, match="points"):
        Distortion(n=10, points=1, batch_size=5, wrap=clipped)


# --- what estimators cost -------------------------------------------------------------------------------------------------


def test_every_term_is_the_bound_term_by_term() -> None:
    x_0 = examples(400, 0.3)
    missed = every_term(model(), x_0, 0, 0) - exact_terms(model(), x_0)
    assert bool((missed.mean(0).abs() < 5 * missed.std(0) / math.sqrt(400)).all())


def test_a_narrower_interval_costs_the_square() -> None:
    assert needed(2.0, 0.1) == pytest.approx((1.96 * 2.0 / 0.1) ** 2, rel=1e-4)
    assert needed(2.0, 0.05, 2) == pytest.approx(8 * needed(2.0, 0.1))


def test_estimators_agree_and_a_uniform_time_costs_what_its_deviation_says() -> None:
    x_0 = examples(3000, 0.3)
    bound = SampledNLL(300, 0.01, 2, 500, control=lambda data, device: fitted(x_0))
    found = Estimators(bound, 0.01, 20)(model(), None, x_0, 0).measurements
    by = {(m.quantity, m.protocol["estimator"]): m for m in found}
    exact, scale = exact_terms(model(), x_0), nats_per_unit("bits/dim", x_0)
    L = float(exact.sum(1).mean()) / scale
    for name in ("sampled", "sampled_without_control"):
        assert by["nll_bound", name].value == pytest.approx(L, abs=4 * by["nll_bound", name].stderr)
    few = float(exact[:20].sum(1).mean()) / scale
    for name in ("all_terms_first_images", "sampled_first_images"):
        assert by["nll_bound", name].value == pytest.approx(few, abs=4 * by["nll_bound", name].stderr)
    uniform = by["evaluations", "uniform"]
    spread = torch.stack([every_term(model(), x_0, 1, k) for k in range(3)]).flatten() * T  # T L_t at a uniform t
    assert uniform.value == pytest.approx(needed(float(spread.std()) / scale, 0.01), rel=0.4)  # of a variance
    reached = by["evaluations", "sampled"]
    ratio = by["evaluation_ratio", "uniform"]
    assert ratio.value == pytest.approx(uniform.value * (0.01 / reached.protocol["half_width"]) ** 2 / reached.value, rel=0.02)
    assert by["evaluations", "all_terms"].value == 3000 * T


def test_estimators_need_a_control_variate() -> None:
    with pytest.raises(UserError, match="a control variate"):
        Estimators(SampledNLL(300, control=None), 0.01, 20)
