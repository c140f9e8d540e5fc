"""Bugs that published code contains, re-created one by one, and for each the theorem that it breaks.

A mutant replaces one attribute of the code; its theorem, which the test of that module runs on the code as it is, must fail.
This is the list of the core, of the Gaussian kernel and of dequantised images. The unnormalised Bernoulli posterior and the
base rate 0.5 of the heartbeat are killed in test_binomial.py, bits/pixel read as bits/dim in test_units.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mutants
import numpy as np
import pytest
import test_bound
import test_decoders
import test_evaluators
import test_gaussian
import test_images
import test_objectives
import test_rivals
import test_runs
import test_sampled
import test_samplers
import test_schedules
import torch
from mutants import Mutant
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from dpm import bound, schedules, times, variances
from dpm.bound import Bound, Edges, transition
from dpm.data.images import StandardizedImages
from dpm.decoders import DiscretizedNormal
from dpm.evaluators import bound as evaluators_bound
from dpm.evaluators import rivals, sampled
from dpm.evaluators.bound import AllTerms, Terms, all_terms
from dpm.evaluators.sampled import LinearError
from dpm.objectives.one_term import OneTerm
from dpm.predictions.papers import Epsilon
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse import Reverse
from dpm.runs import checkpoints
from dpm.samplers import ancestral
from dpm.study.records import Measurement, Record, standard_error
from dpm.times import stratified

REAL = {name: getattr(bound, name) for name in ("bound", "entropy_edges", "stationary_edges", "decoder_edges")}
LOAD_NEWEST, ANCESTRAL, EPSILON_X_0 = checkpoints.load_newest, ancestral.ancestral, Epsilon.x_0
GAIN, MEASUREMENT = rivals.gain, AllTerms.measurement
TERM, VISIT, DIVERGENCE = bound.term, sampled.visit, bound.divergence


def T_times_the_mean(self: OneTerm, reverse: Reverse, x_0: Tensor) -> Tensor:
    (prior, reconstruction), T = self.edges(reverse, x_0), len(reverse.process.schedule)
    return prior + T * transition(reverse, x_0, *uniform_steps(x_0, T)) + reconstruction


def constants_with_every_term(self: OneTerm, reverse: Reverse, x_0: Tensor) -> Tensor:
    (prior, reconstruction), T = self.edges(reverse, x_0), len(reverse.process.schedule)
    return (T - 1) * (prior + transition(reverse, x_0, *uniform_steps(x_0, T)) + reconstruction)


def uniform_steps(x_0: Tensor, T: int) -> tuple[Tensor, Tensor]:
    t, _ = stratified(torch.ones(T - 1).double(), len(x_0), 2)
    return t - 1, t


def constants_once_per_step(self: Bound) -> Tensor:
    steps = max(1, self.transitions.shape[1])
    return steps * (self.prior + self.reconstruction) + self.transitions.sum(1)


def with_a_term_at_1(reverse: Reverse, x_0: Tensor, edges: Edges) -> Bound:
    """A posterior variance that is clipped away from 0 makes the KL at t = 1 finite, and so easy to overlook."""
    real, one = REAL["bound"](reverse, x_0, edges), torch.ones(len(x_0), dtype=torch.long)
    x_1 = reverse.process.marginal(x_0, one).rsample()
    clipped = normal(x_0, reverse.process.step(one, one + 1).posterior_variance.sqrt()[:, None])
    term = kl_divergence(clipped, reverse(x_1, one - 1, one))
    return Bound(real.prior, torch.cat([term[:, None], real.transitions], 1), real.reconstruction)


def with_prior_times(factor: float, edges: str) -> Edges:
    def mutant(reverse: Reverse, x_0: Tensor) -> tuple[Tensor, Tensor]:
        prior, reconstruction = REAL[edges](reverse, x_0)
        return factor * prior, reconstruction

    return mutant


def beta_1_at_the_first_step(q: GaussianDiffusion, s: Tensor, variance: Tensor) -> Tensor:
    return torch.where(s == 0, q.schedule.betas[0], variance)


def without_open_ends(self: DiscretizedNormal, value: Tensor) -> Tensor:
    half_bin = 1 / (self.levels - 1)
    low, high = ((value + edge - self.mean) / self.std for edge in (-half_bin, half_bin))
    return (torch.special.ndtr(high) - torch.special.ndtr(low)).clamp(min=1e-300).log()


def mean_over_dimensions(q: Distribution, p: Distribution) -> Tensor:
    return kl_divergence(q, p) / q.event_shape.numel()


def mean_over_the_batch(q: Distribution, p: Distribution) -> Tensor:
    kl = kl_divergence(q, p)
    return kl.mean().expand_as(kl)


def product_in_float32(betas: Tensor) -> Tensor:
    return torch.cat([torch.ones(1), torch.cumprod(1 - betas.float(), 0)]).log().double()


def clipped_x_0(self: Epsilon, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    return EPSILON_X_0(self, q, output, x_t, t).clamp(-1, 1)


def one_time_for_all(masses: Tensor, n: int, first: int) -> tuple[Tensor, Tensor]:
    index = torch.multinomial(masses, 1).expand(n)
    return first + index, masses.sum() / masses[index]


def nothing(self: LinearError, process: Any, x_0: Tensor, t: Tensor) -> Tensor:
    return torch.zeros(len(t), dtype=torch.float64)


def without_the_decoder(reverse: Reverse, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    return torch.where(s == 0, 0.0, TERM(reverse, x_0, x_t, s, t))


def unweighted(reverse: Reverse, x_0: Tensor, masses: Tensor, *rest: Any) -> sampled.Pass:
    seen = VISIT(reverse, x_0, masses, *rest)
    q = (masses / masses.sum())[seen.t - 1]
    return replace(seen, term=seen.term * q * len(masses))


def last_weights_for_the_average(folder: Path) -> tuple[Any, list[str]]:
    state, complaints = LOAD_NEWEST(folder)
    if state is None:
        return None, complaints
    return {**state, "ema": {f"module.{name}": value for name, value in state["reverse"].items()}}, complaints


def without_the_last_step(reverse: Reverse, x_T: Tensor, steps: Any) -> Iterator[Tensor]:
    walk = list(ANCESTRAL(reverse, x_T, steps))
    yield from walk[:-1]


def noise_at_the_last_step(reverse: Reverse, x_T: Tensor, steps: Any) -> Iterator[Tensor]:
    grid = list(steps)
    *walk, _ = [x_T, *ANCESTRAL(reverse, x_T, grid)]
    s, t = (torch.full((len(x_T),), time) for time in (grid[-1], grid[-2]))
    yield from [*walk[1:], reverse(walk[-1], s, t).sample()]


def noise_divided_by_the_scale(self: StandardizedImages, grey: np.ndarray, generator: torch.Generator) -> Tensor:
    """The release, until the end: 1/255 times the standard deviation of pixels on [0, 1] for the noise of unit variance."""
    g = torch.tensor(grey).double()
    u = self.grain * (self.std / 255) ** 2 * (torch.rand(g.shape, generator=generator, dtype=torch.float64) - 0.5)
    return (g + u - self.mean) / self.std


def divergence_from_data_without_noise(reverse: Reverse, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """The release before October 2015: x_t comes from the image with its noise, the posterior mean from the one without."""
    data = test_evaluators.images()
    return DIVERGENCE(reverse, (data.grey(x_0).round() - data.mean) / data.std, x_t, s, t)


def closed_form(edges: str, schedule: str = "short", mean: float = 0.0, variance: float = 1.0) -> Callable[[], None]:
    return lambda: test_bound.check_closed_form(test_bound.SCHEDULES[schedule], edges, mean, variance)


def never_below_the_entropy() -> None:
    test_bound.check_never_below_the_entropy(bound.entropy_edges)


def evaluation_uses_the_average() -> None:
    with TemporaryDirectory() as root:
        test_runs.check_evaluation_uses_the_average(Path(root))


def with_an_error_of_draws(reverse: Reverse, x_0: Tensor, draws: int, *rest: Any) -> Terms:
    terms = all_terms(reverse, x_0, draws, *rest)
    return replace(terms, stderr=terms.stderr / draws**0.5)


def measured_with_an_error_of_draws(self: AllTerms, *arguments: Any, **details: Any) -> Measurement:
    m = MEASUREMENT(self, *arguments, **details)
    return replace(m, stderr=m.stderr / self.draws**0.5)


def with_one_error(diffusion: Record, whole: Measurement, claim: str | None = None) -> Measurement:
    (K,) = diffusion.measurements
    return replace(GAIN(diffusion, whole, claim), stderr=K.stderr)


def of_patches(values: Tensor, patches_per_image: int) -> tuple[float, int]:
    return standard_error(values.mean(1).numpy()), len(values) // patches_per_image


of_examples = test_evaluators.check_errors_are_those_of_the_examples
unbiased, honest = test_objectives.check_one_term_is_unbiased, test_objectives.check_the_reported_error_is_honest


MUTANTS = [
    Mutant("T times the mean over T - 1 terms", OneTerm, "__call__", T_times_the_mean, unbiased),
    Mutant("constants with every term", OneTerm, "__call__", constants_with_every_term, unbiased),
    Mutant("constants once per step", Bound, "total", property(constants_once_per_step), closed_form("stationary")),
    Mutant("a KL term at t = 1", bound, "bound", with_a_term_at_1, closed_form("decoder")),
    Mutant("2015 edges on any data", bound, "require_stationary", lambda process, x_0: None, never_below_the_entropy),
    *(
        Mutant(f"L_T {how} ({edges})", bound, f"{edges}_edges", with_prior_times(k, f"{edges}_edges"), closed_form(edges))
        for edges in ("entropy", "stationary", "decoder")
        for how, k in (("left out", 0.0), ("of the wrong sign", -1.0))
    ),
    Mutant(
        "beta_1 in the decoder",
        variances,
        "with_first_step",
        beta_1_at_the_first_step,
        test_decoders.check_published_distortion,
    ),
    Mutant(
        "beta_1 for both fixed variances",
        variances,
        "with_first_step",
        beta_1_at_the_first_step,
        test_gaussian.check_first_step,
    ),
    Mutant(
        "the decoder's end bins closed",
        DiscretizedNormal,
        "log_prob",
        without_open_ends,
        lambda: test_decoders.check_sums_to_one(0.9, 0.5),
    ),
    Mutant("a mean over dimensions", bound, "kl_divergence", mean_over_dimensions, closed_form("decoder", "geometric")),
    Mutant("products in float32", schedules, "cumulate", product_in_float32, test_schedules.check_published_constants),
    Mutant("x_0 clipped in training", Epsilon, "x_0", clipped_x_0, lambda: test_gaussian.check_inverse_pair(Epsilon())),
    Mutant("mean from clipped x_0", Epsilon, "x_0", clipped_x_0, lambda: test_gaussian.check_equation_11(Epsilon())),
    Mutant("one t for the whole batch", times, "stratified", one_time_for_all, honest),
    Mutant("a control variate without its mean", LinearError, "expectations", nothing, lambda: test_sampled.check_parts(True)),
    Mutant("the decoder's term not sampled", sampled, "term", without_the_decoder, lambda: test_sampled.check_parts(False)),
    Mutant("terms not divided by q", sampled, "visit", unweighted, lambda: test_sampled.check_parts(False)),
    Mutant("weights not averaged", checkpoints, "load_newest", last_weights_for_the_average, evaluation_uses_the_average),
    Mutant(
        "the last step left out",
        ancestral,
        "ancestral",
        without_the_last_step,
        lambda: test_samplers.check_moments(test_samplers.GRIDS["every step"]),
    ),
    Mutant(
        "noise at the last step",
        ancestral,
        "ancestral",
        noise_at_the_last_step,
        test_samplers.check_the_last_step_is_without_noise,
    ),
    *(
        Mutant(f"noise divided by the scale ({name})", StandardizedImages, "standardised", noise_divided_by_the_scale, theorem)
        for name, theorem in {
            "its law": test_images.check_the_noise_is_one_grey_level,
            "unit variance": test_images.check_standardised,
            "entropy edges": test_images.check_entropy_edges_take_them,
        }.items()
    ),
    Mutant(
        "posterior mean of data without their noise",
        bound,
        "divergence",
        divergence_from_data_without_noise,
        test_evaluators.check_the_bound_of_uniform_bytes_is_8_bits,
    ),
    *(
        Mutant(f"an error divided by the root of the draws ({what})", owner, attribute, replacement, of_examples)
        for what, owner, attribute, replacement in (
            ("terms", evaluators_bound, "all_terms", with_an_error_of_draws),
            ("K", AllTerms, "measurement", measured_with_an_error_of_draws),
        )
    ),
    Mutant(
        "the error of a difference from one of both",
        rivals,
        "gain",
        with_one_error,
        test_rivals.check_the_error_of_a_difference_has_both,
    ),
    Mutant("an error per patch", rivals, "of_images", of_patches, test_rivals.check_patches_of_an_image_are_not_independent),
    Mutant("examples that meet", bound, "kl_divergence", mean_over_the_batch, test_bound.check_examples_do_not_meet),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_theorem_holds_and_the_mutant_breaks_it(mutant: Mutant, monkeypatch) -> None:
    mutants.check(mutant, monkeypatch)
