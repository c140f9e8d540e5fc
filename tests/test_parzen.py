"""Parzen windows: the density is one, its width and its mean are those of closed forms, and the score is on the scale stated.

The reverse process of the last part is exact on N(0, I), so that its samples, in grey levels, are N(MEAN, STD^2), and the
expected score of test images from the same distribution has a closed form.
"""

import math
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import mutants
import numpy as np
import pytest
import torch
from mutants import Mutant
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.distributions import Distribution

from dpm import schedules
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network, Stationary
from dpm.errors import UserError
from dpm.evaluators import parzen
from dpm.evaluators.parzen import SIGMAS, ParzenWindow
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.gaussian import GaussianDiffusion
from dpm.samplers.ancestral import ancestral
from dpm.study.records import Measurement

LOG_DENSITY, UNIT_INTERVAL = parzen.log_density, parzen.unit_interval
T, BETA_1, SHAPE, MEAN, STD = 6, 0.3, (1, 1, 2), 128.0, 40.0


def direct(x: Tensor, samples: Tensor, sigma: float) -> Tensor:
    """The density's definition, pair by pair, from differences in float64."""
    square = torch.stack([(x.double() - s).square().sum(1) for s in samples.double()], 1)
    mean = (-square / (2 * sigma**2)).logsumexp(1) - math.log(len(samples))
    return mean - x.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))


def pixels(n: int, seed: int) -> Tensor:
    """Float32 points in [0, 1]^784, most coordinates at the ends, as those of digits are."""
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(n, 784, generator=generator) + 0.5).clamp(0, 1)


# --- The density ----------------------------------------------------------------------------------------------------------


def check_definition() -> None:
    """As far as float64 goes, also for pairs that all but coincide, at the least sigma, from float32 values."""
    samples = pixels(40, 0)
    x = torch.cat([pixels(20, 1), samples[:20] + 1e-3 * pixels(20, 2)])
    for sigma in (SIGMAS[0], SIGMAS[-1]):
        value = parzen.log_density(x, samples, sigma)
        assert value.dtype == torch.float64
        assert torch.allclose(value, direct(x, samples, sigma), rtol=0, atol=1e-8)


def check_scipy() -> None:
    """A mixture of scipy's normal distributions, in nats."""
    x, samples, sigma = torch.randn(9, 3), torch.randn(5, 3), 0.4
    parts = [multivariate_normal(s.numpy(), sigma**2).logpdf(x.numpy()) for s in samples]
    expected = logsumexp(np.stack(parts), axis=0) - math.log(len(samples))
    assert parzen.log_density(x, samples, sigma).numpy() == pytest.approx(expected, rel=1e-6)


def test_the_density_integrates_to_one() -> None:
    samples, grid = torch.tensor([[-1.0], [0.2], [2.5]]), torch.linspace(-8, 9, 4001, dtype=torch.float64)
    for sigma in (0.1, 1.0):
        density = parzen.log_density(grid[:, None], samples, sigma).exp()
        assert torch.trapezoid(density, grid).item() == pytest.approx(1, rel=1e-9)


def test_blocks_change_nothing_and_bound_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    x, samples = torch.randn(23, 4), torch.randn(10, 4)
    whole = parzen.log_density(x, samples, 0.5)
    tables: list[int] = []
    real = torch.addmm
    monkeypatch.setattr(parzen, "ENTRIES", 35)
    monkeypatch.setattr(torch, "addmm", lambda *a, **k: tables.append(len(a[1]) * a[2].shape[1]) or real(*a, **k))
    assert torch.allclose(parzen.log_density(x, samples, 0.5), whole, rtol=1e-14)
    assert (max(tables), sum(tables)) == (30, 230)


def test_the_mean_of_one_window_and_of_many_is_that_of_the_closed_form() -> None:
    """E log N(x; s, sigma^2 I) over x ~ N(0, tau^2 I), exactly; and the limit of many samples, log N(x; 0, tau^2 + sigma^2)."""
    n, D, tau, sigma = 20_000, 2, 0.8, 0.5
    x, s = tau * torch.randn(n, D, dtype=torch.float64), torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    square = D * tau**2 + s.square().sum().item()
    one = parzen.log_density(x, s, sigma)
    expected = -square / (2 * sigma**2) - D * math.log(sigma * math.sqrt(2 * math.pi))
    assert one.mean().item() == pytest.approx(expected, abs=4 * one.std().item() / math.sqrt(n))
    many = torch.stack([parzen.log_density(x[:2000], tau * torch.randn(2000, D), sigma).mean() for _ in range(20)])
    test = x[:2000].square().sum(1)
    variance = tau**2 + sigma**2
    limit = -test.mean().item() / (2 * variance) - D / 2 * math.log(2 * math.pi * variance)
    assert many.mean().item() == pytest.approx(limit, abs=4 * many.std().item() / math.sqrt(20) + 1e-3)  # Jensen: O(1 / 2000)


def test_examples_of_another_size_than_the_samples_are_refused() -> None:
    with pytest.raises(UserError, match="4 dimensions, samples of 9"):
        parzen.log_density(torch.zeros(2, 4), torch.zeros(3, 9), 0.5)


# --- The bandwidth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", range(10))
def test_the_bandwidth_is_the_most_likely_of_the_ten(best: int) -> None:
    """One sample: log p is largest where sigma^2 is the mean square of the distance per dimension; of the others, less."""
    assert pytest.approx([10 ** (-1 + k / 9) for k in range(10)]) == SIGMAS
    direction = torch.nn.functional.normalize(torch.randn(30, 7, dtype=torch.float64), dim=1)
    validation = SIGMAS[best] * math.sqrt(7) * direction
    assert parzen.bandwidth(validation, torch.zeros(1, 7), SIGMAS) == SIGMAS[best]
    assert parzen.bandwidth(validation, torch.zeros(1, 7), SIGMAS[::-1]) == SIGMAS[best]


# --- Samples of the reverse process -----------------------------------------------------------------------------------------


class Exact(GaussianOracle):
    """Exact on N(0, I) images; notes the steps that it takes, the size of batches and how many of its inputs are alive."""

    def __init__(self, decoder: Any) -> None:
        super().__init__(GaussianDiffusion(schedules.linear(T, BETA_1, 0.5)), GaussianData(), decoder)
        self.steps: list[tuple[int, int, int]] = []
        self.inputs: list[weakref.ref[Tensor]] = []
        self.alive = 0

    def forward(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        self.steps.append((int(t[0]), int(s[0]), len(x_t)))
        self.inputs.append(weakref.ref(x_t))
        self.alive = max(self.alive, sum(seen() is not None for seen in self.inputs))
        return super().forward(x_t, s, t)


def drawn(reverse: Exact, n: int, steps: int, batch_size: int, seed: int) -> Tensor:
    return torch.cat(list(parzen.draws(reverse, torch.zeros(1, *SHAPE), n, steps, batch_size, seed)))


@pytest.mark.parametrize("steps", [2, 4, T, 1000])
def test_a_chain_takes_its_steps_from_T_to_1_and_to_0(steps: int) -> None:
    reverse = Exact(Stationary())
    assert drawn(reverse, 8, steps, 5, 0).shape == (8, *SHAPE)
    taken = min(steps, T)
    for batch, size in ((reverse.steps[:taken], 5), (reverse.steps[taken:], 3)):
        assert len(batch) == taken
        assert (batch[0][0], batch[-1][:2]) == (T, (1, 0))
        assert all(one[1] == other[0] for one, other in pairwise(batch))
        assert {n for *_, n in batch} == {size}


def test_one_step_leads_to_0_where_the_decoder_can() -> None:
    reverse = Exact(Network())
    assert drawn(reverse, 3, 1, 5, 0).shape == (3, *SHAPE)
    assert reverse.steps == [(T, 0, 3)]


def test_memory_is_one_batch_at_one_time() -> None:
    reverse = Exact(Stationary())
    for _ in parzen.draws(reverse, torch.zeros(1, *SHAPE), 50, T, 10, 0):
        pass
    assert len(reverse.inputs) == 5 * T
    assert reverse.alive <= 3  # x_T, x_t and the last batch, however long the chain is


def test_a_batch_is_a_function_of_the_seed_and_its_number() -> None:
    whole = drawn(Exact(Stationary()), 12, T, 4, 0)
    torch.manual_seed(5)
    assert torch.equal(drawn(Exact(Stationary()), 8, T, 4, 0), whole[:8])
    assert len({tuple(x.flatten().tolist()) for x in whole}) == 12
    assert not torch.equal(drawn(Exact(Stationary()), 12, T, 4, 1), whole)


def check_samples_are_true() -> None:
    """Of variance 1, the data's; the modes of p(x_0 | x_1) have 1 - beta_1."""
    x_0 = drawn(Exact(Stationary()), 10_000, T, 10_000, 0)
    assert x_0.var().item() == pytest.approx(1, rel=4 * math.sqrt(2 / x_0.numel()))
    assert x_0.mean().item() == pytest.approx(0, abs=4 / math.sqrt(x_0.numel()))


# --- The measurement --------------------------------------------------------------------------------------------------------


class Grey:
    """Images N(MEAN, STD^2) in grey levels, of which a model sees (g - MEAN) / STD."""

    def __init__(self, train: np.ndarray, kept: np.ndarray, test: np.ndarray) -> None:
        self.train, self.kept, self.test = train, kept, test

    def grey(self, x: Tensor) -> Tensor:
        return MEAN + STD * x


def gaussian(n: int, seed: int) -> np.ndarray:
    noise = MEAN + STD * np.random.default_rng(seed).standard_normal((n, *SHAPE))
    return noise.round().clip(0, 255).astype(np.uint8)


def constant(n: int, level: int) -> np.ndarray:
    return np.full((n, *SHAPE), level, np.uint8)


def evaluated(data: Grey, n: int, n_test: int, seed: int = 0, **settings: Any) -> tuple[Measurement, Measurement]:
    evaluator = ParzenWindow(n, **{"steps": T, "batch_size": 1000, "validation": 500, "shown": 5, **settings})
    model, perfect = evaluator(Exact(Stationary()), data, torch.zeros(n_test, *SHAPE, dtype=torch.float64), seed).measurements
    return model, perfect


def check_the_score_of_a_perfect_model() -> None:
    """-E log p in bits, for samples and test images from one N(MEAN, STD^2) in D dimensions, all divided by 255:

    D/2 log2(2 pi (tau^2 + sigma^2)) + D/2 tau^2 / (tau^2 + sigma^2) log2 e, tau = STD / 255; both rows have it.
    """
    n, D, tau = 4000, 2, STD / 255
    for m in evaluated(Grey(gaussian(5000, 0), gaussian(500, 1), gaussian(6000, 2)), n, n):
        variance = tau**2 + m.protocol["sigma"] ** 2
        expected = -D / 2 * (math.log(2 * math.pi * variance) + tau**2 / variance) / math.log(2)
        noise = math.sqrt(D / 2) / math.log(2) / math.sqrt(n)  # of the test images, and about as much of the samples
        assert m.value == pytest.approx(expected, abs=4 * math.hypot(noise, noise))
        assert m.stderr == pytest.approx(noise * tau**2 / variance, rel=0.1)
        assert (m.quantity, m.unit, m.n) == ("parzen_log_likelihood", "bits", n)


def check_samples_are_training_images_only() -> None:
    """All training images at one level, all kept ones at another, all test images at a third: the score is one Gaussian's."""
    data = Grey(constant(60, 100), constant(30, 130), constant(40, 90))
    _, perfect = evaluated(data, 50, 30)
    distances = {level: 2 * ((level - 100) / 255) ** 2 for level in (90, 130)}

    def log_p(level: int, sigma: float) -> float:
        return -distances[level] / (2 * sigma**2) - 2 * math.log(sigma * math.sqrt(2 * math.pi))

    sigma = max(SIGMAS, key=lambda sigma: log_p(130, sigma))  # near 30 / 255, not the least, which level 90 would take
    assert sigma == SIGMAS[1]
    assert perfect.protocol["sigma"] == sigma
    assert perfect.value == pytest.approx(log_p(90, sigma) / math.log(2), rel=1e-12)
    assert (perfect.n, perfect.protocol["samples"], perfect.protocol["validation"]) == (30, 50, 30)


def check_training_images_are_drawn_once_each() -> None:
    """As many as there are, in whatever order, are all of them; of fewer, the seed says which."""
    data = Grey(gaussian(40, 0), gaussian(30, 1), gaussian(50, 2))
    _, every = evaluated(data, 40, 50)
    test, train = (torch.tensor(a).double().flatten(1) / 255 for a in (data.test, data.train))
    expected = direct(test, train, every.protocol["sigma"]).mean().item() / math.log(2)
    assert every.value == pytest.approx(expected, rel=1e-12)
    some = [evaluated(data, 20, 50, seed)[1].value for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]


def test_the_first_test_images_and_the_first_kept_ones_count() -> None:
    data = Grey(
        gaussian(40, 0),
        np.concatenate([constant(3, 128), constant(9, 255)]),
        np.concatenate([constant(4, 128), constant(9, 0)]),
    )
    _, first = evaluated(data, 40, 4, validation=3)
    _, fewer = evaluated(Grey(data.train, data.kept[:3], data.test[:4]), 40, 4)
    assert (first.value, first.protocol) == (fewer.value, fewer.protocol)


def test_a_measurement_says_how_it_was_made() -> None:
    data = Grey(gaussian(200, 0), gaussian(100, 1), gaussian(100, 2))
    claims = {"model": "a claim", "training_images": "another"}
    model, perfect = evaluated(data, 150, 100, steps=1000, claims=claims)
    shared = {"estimator": "parzen", "samples": 150, "validation": 100, "clipped": False, "test_noise": "none"}
    for m, source, claim in ((model, "model", "a claim"), (perfect, "training_images", "another")):
        assert shared.items() <= m.protocol.items()
        assert (m.protocol["source"], m.claim) == (source, claim)
        assert m.protocol["sigma"] in SIGMAS
    assert (model.protocol["sampler"], model.protocol["sampling_steps"], model.protocol["last_step"]) == (
        "ancestral",
        T,
        "drawn",
    )
    assert not {"sampler", "sampling_steps", "last_step"} & perfect.protocol.keys()


def test_samples_are_scored_as_they_are_and_shown_as_grey_levels() -> None:
    """Scored unclipped: values far outside 0..255 cost; the array is 8-bit, of the first chains."""

    class Wide(Grey):
        def grey(self, x: Tensor) -> Tensor:
            return MEAN + 1000 * x

    data = Wide(gaussian(50, 0), gaussian(50, 1), gaussian(50, 2))
    result = ParzenWindow(50, T, 20, 50, 5)(Exact(Stationary()), data, torch.zeros(50, *SHAPE), 0)
    x_0 = drawn(Exact(Stationary()), 50, T, 20, 0)
    test, samples = torch.tensor(data.test).double().flatten(1) / 255, (MEAN + 1000 * x_0).double().flatten(1) / 255
    model, shown = result.measurements[0], result.arrays["samples"]
    expected = direct(test, samples, model.protocol["sigma"]).mean().item() / math.log(2)
    assert model.value == pytest.approx(expected, rel=1e-5)
    assert (shown.shape, shown.dtype) == ((5, *SHAPE), np.uint8)
    assert (shown == (MEAN + 1000 * x_0[:5]).clamp(0, 255).round().numpy()).all()
    assert {0, 255} <= set(shown.flatten().tolist())


def test_what_cannot_be_meant_is_refused() -> None:
    for wrong in ("n", "steps", "batch_size", "validation", "shown"):
        with pytest.raises(UserError, match=f"{wrong}=0"):
            ParzenWindow(**{**dict.fromkeys(("n", "steps", "batch_size", "validation", "shown"), 1), wrong: 0})
    with pytest.raises(UserError, match="there are 40"):
        evaluated(Grey(gaussian(40, 0), gaussian(30, 1), gaussian(50, 2)), 41, 50)
    with pytest.raises(UserError, match="patches"):
        evaluated(Grey(*(np.zeros((50, 1, 4, 4), np.uint8) for _ in range(3))), 50, 50)


# --- Mutants ----------------------------------------------------------------------------------------------------------------


def in_float32(x: Tensor, samples: Tensor, sigma: float) -> Tensor:
    product = x.square().sum(1)[:, None] - 2 * x.float() @ samples.float().T + samples.square().sum(1)
    mean = (-product / (2 * sigma**2)).logsumexp(1).double() - math.log(len(samples))
    return mean - x.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))


def common_logarithm(x: Tensor, samples: Tensor, sigma: float) -> Tensor:
    return LOG_DENSITY(x, samples, sigma) / math.log(10)


def sum_over_samples(x: Tensor, samples: Tensor, sigma: float) -> Tensor:
    return LOG_DENSITY(x, samples, sigma) + math.log(len(samples))


def one_constant_for_all_dimensions(x: Tensor, samples: Tensor, sigma: float) -> Tensor:
    return LOG_DENSITY(x, samples, sigma) + (x.shape[1] - 1) * math.log(sigma * math.sqrt(2 * math.pi))


def modes(reverse: Exact, like: Tensor, n: int, steps: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    *_, x_0 = ancestral(reverse, reverse.process.prior(like.expand(n, *SHAPE)).sample(), range(T, -1, -1))
    yield x_0


def with_replacement(n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(n, (n,), generator=generator)


def standardised(self: Grey, x: Tensor) -> Tensor:
    return x


def not_on_the_unit_interval(grey: Tensor) -> Tensor:
    return 255 * UNIT_INTERVAL(grey)


def of_held_out_images(attribute: str) -> Callable[..., Measurement]:
    real = ParzenWindow.measured

    def mutant(self: ParzenWindow, source: str, samples: Tensor, data: Grey, n: int, **about: Any) -> Measurement:
        return real(self, source, torch.tensor(getattr(data, attribute)), data, n, **about)

    return mutant


MUTANTS = [
    Mutant("a product in float32", parzen, "log_density", in_float32, check_definition),
    Mutant("log10", parzen, "log_density", common_logarithm, check_scipy),
    Mutant("a sum over the samples", parzen, "log_density", sum_over_samples, check_scipy),
    Mutant("the constant once, not D times", parzen, "log_density", one_constant_for_all_dimensions, check_scipy),
    Mutant("the score in log10", parzen, "log_density", common_logarithm, check_the_score_of_a_perfect_model),
    Mutant("nats called bits", parzen, "NATS_PER_BIT", 1.0, check_the_score_of_a_perfect_model),
    Mutant("standardisation not undone", Grey, "grey", standardised, check_the_score_of_a_perfect_model),
    Mutant("0..255 for [0, 1]", parzen, "unit_interval", not_on_the_unit_interval, check_the_score_of_a_perfect_model),
    Mutant("modes for samples", parzen, "draws", modes, check_samples_are_true),
    Mutant(
        "test images as samples", ParzenWindow, "measured", of_held_out_images("test"), check_samples_are_training_images_only
    ),
    Mutant(
        "kept images as samples", ParzenWindow, "measured", of_held_out_images("kept"), check_samples_are_training_images_only
    ),
    Mutant("drawn with replacement", torch, "randperm", with_replacement, check_training_images_are_drawn_once_each),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_theorem_holds_and_the_mutant_breaks_it(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.check(mutant, monkeypatch)
