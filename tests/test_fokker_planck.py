"""Densities and scores that obey the Fokker-Planck equation; entropy by its rate, by denoising error, and by quadrature."""

import math
from collections.abc import Callable

import mutants
import numpy as np
import pytest
import torch
from mutants import Mutant
from torch import Tensor

from dpm import fokker_planck, information
from dpm.continuous import Rectified, VarianceExploding, VariancePreserving
from dpm.data.mixtures import Coefficient, GaussianMixture, MixtureDenoiser
from dpm.data.synthetic import SwissRoll
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators.path_divergence import PathDivergence
from dpm.evaluators.thermodynamics import Thermodynamics
from dpm.figures.fokker_planck import thermodynamics
from dpm.fokker_planck import CHANG_COOPER, CRANK_NICOLSON, Scheme, cells, coefficients, derivative, evolve, score_residual
from dpm.information import Denoiser, entropy, entropy_from_mmse, excess_divergence, fisher_information
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.schedules import Schedule, linear
from dpm.study.units import unit
from dpm.variances import FixedSmall

MIXTURE = GaussianMixture([0.3, 0.7], [[-1.0], [0.5]], [[0.04], [0.01]])
ORNSTEIN_UHLENBECK, SONG = VariancePreserving(2.0, 2.0), VariancePreserving()
REAL = {name: getattr(module, name) for module, name in ((fokker_planck, "coefficients"), (fokker_planck, "generator"))}


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gaussian(variance: float) -> GaussianMixture:
    return GaussianMixture([1.0], [[0.0]], [[variance]])


def scaled_noise(data: GaussianMixture, delta: float) -> Denoiser:
    """eps-hat = (1 + delta) E[eps | x]."""

    def denoiser(x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        x_0 = data.denoised(x, alpha, sigma)
        return x_0 - delta * (x - alpha * x_0) / alpha

    return denoiser


def density(schedule: Schedule, x: np.ndarray, t: float) -> np.ndarray:
    return MIXTURE.log_density(torch.from_numpy(x)[:, None], *schedule(real(t))).exp().numpy()


def error(scheme: Scheme, schedule: Schedule, number: int, steps: int, start: float, end: float) -> tuple[float, float]:
    """L1 distance from the exact density at the end, and the least density on the way; the mass is kept on all of it."""
    x = cells(5.0, number)
    h, p = x[1] - x[0], density(schedule, x, start)
    path = list(evolve(scheme, schedule, x, p, start, end, steps))
    assert len(path) == steps
    assert np.abs(np.sum(path, 1) * h - p.sum() * h).max() < 1e-12
    return float(np.abs(path[-1] - density(schedule, x, end)).sum() * h), float(np.min(path))


@pytest.mark.parametrize(
    ("scheme", "errors", "order"),
    [
        (CRANK_NICOLSON, [8.068e-4, 2.013e-4, 5.023e-5, 1.252e-5], 2.00),
        (CHANG_COOPER, [1.596e-3, 7.530e-4, 3.656e-4, 1.800e-4], 1.05),  # of the time step
    ],
)
def test_schemes_converge_to_the_exact_density(scheme: Scheme, errors: list[float], order: float) -> None:
    found = [error(scheme, ORNSTEIN_UHLENBECK, N, N // 2, 0.05, 1.05)[0] for N in (100, 200, 400, 800)]
    assert found == pytest.approx(errors, rel=0.01)
    slope = np.polyfit(np.log([100, 200, 400, 800]), np.log(found), 1)[0]
    assert slope == pytest.approx(-order, abs=0.02)


def test_chang_cooper_is_of_second_order_in_space() -> None:
    found = [error(CHANG_COOPER, ORNSTEIN_UHLENBECK, N, N**2 // 100, 0.05, 1.05)[0] for N in (100, 200)]
    assert found == pytest.approx([8.852e-4, 2.208e-4], rel=0.01)


def test_only_chang_cooper_stays_a_density_whatever_the_step() -> None:
    assert error(CRANK_NICOLSON, ORNSTEIN_UHLENBECK, 100, 5, 0.001, 1.05) == pytest.approx((0.22397, -0.586), rel=1e-3)
    distance, least = error(CHANG_COOPER, ORNSTEIN_UHLENBECK, 100, 5, 0.001, 1.05)
    assert least >= 0
    assert distance == pytest.approx(0.016, rel=0.01)


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [(SONG, 0.1, 0.5), (VarianceExploding(), 0.3, 0.9), (Rectified(), 0.3, 0.6), (linear(1000, 1e-4, 0.02), 100.5, 500.5)],
)
def test_every_gaussian_process_has_its_equation(schedule: Schedule, start: float, end: float) -> None:
    coarse, fine = (error(CRANK_NICOLSON, schedule, N, N // 2, start, end)[0] for N in (100, 200))
    assert fine < 2e-3
    assert coarse / fine == pytest.approx(4, abs=0.4)


def test_no_rates_where_time_ends() -> None:
    with pytest.raises(UserError, match="Rectified has no finite"):
        coefficients(Rectified(), real(1.0))
    with pytest.raises(UserError, match="to a later one"):
        next(evolve(CHANG_COOPER, SONG, cells(5.0, 10), np.ones(10), 0.5, 0.5, 3))


def check_the_score_of_a_diffused_density_has_no_residual() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for schedule, t in ((SONG, 0.3), (ORNSTEIN_UHLENBECK, 0.1), (VarianceExploding(), 0.7), (linear(1000, 1e-4, 0.02), 300.5)):

        def score(x: Tensor, t: Tensor, schedule: Schedule = schedule) -> Tensor:
            return MIXTURE.score(x[:, None], *schedule(t))[:, 0]

        assert score_residual(score, schedule, x, torch.full_like(x, t)).abs().max() < 1e-10


def test_the_score_of_a_diffused_density_has_no_residual() -> None:
    check_the_score_of_a_diffused_density_has_no_residual()


@pytest.mark.parametrize("delta", [0.05, -0.2])
def test_a_wrong_score_has_the_residual_of_the_closed_form(delta: float) -> None:
    """-g^2 delta (1 + delta) x / v^2 for 1 + delta times the score of N(0, v)."""
    x, t = real(0.7, -1.5), real(0.3, 0.6)
    found = score_residual(lambda x, t: (1 + delta) * gaussian(0.25).score(x[:, None], *SONG(t))[:, 0], SONG, x, t)
    (alpha, sigma), g2 = SONG(t), 0.1 + 19.9 * t
    assert torch.allclose(found, -g2 * delta * (1 + delta) * x / (alpha**2 / 4 + sigma**2).square(), rtol=1e-9)
    assert delta < 0 or found[0] == pytest.approx(-0.451694, abs=1e-6)


@pytest.mark.parametrize(
    ("tau", "h", "J"),
    [(0.01, 0.37290241, 28.587353), (0.1, 1.07064452, 3.136014), (0.5, 1.31446344, 1.237629), (1.0, 1.38326241, 1.074074)],
)
def test_entropy_grows_at_the_rate_of_de_bruijn(tau: float, h: float, J: float) -> None:
    t = real(tau).squeeze()
    information = fisher_information(MIXTURE, *ORNSTEIN_UHLENBECK(t))
    assert float(entropy(MIXTURE, *ORNSTEIN_UHLENBECK(t))) == pytest.approx(h, abs=1e-8)
    assert float(information) == pytest.approx(J, abs=1e-6)
    assert float(derivative(lambda t: entropy(MIXTURE, *ORNSTEIN_UHLENBECK(t)), t) - (information - 1)) == pytest.approx(
        0, abs=1e-9
    )


def test_every_process_has_its_rate_of_entropy() -> None:
    for schedule in (SONG, VarianceExploding(), Rectified()):
        t = real(0.4).squeeze()
        f, g2 = coefficients(schedule, t)
        rate = f + g2 / 2 * fisher_information(MIXTURE, *schedule(t))
        assert float(derivative(lambda t, s=schedule: entropy(MIXTURE, *s(t)), t)) == pytest.approx(float(rate), rel=1e-9)


def check_entropy_is_an_integral_of_denoising_error() -> None:
    assert entropy_from_mmse(MIXTURE) == pytest.approx(float(entropy(MIXTURE, 1.0, 0.0)), abs=1e-6)


def test_entropy_is_an_integral_of_denoising_error() -> None:
    check_entropy_is_an_integral_of_denoising_error()
    assert float(entropy(MIXTURE, 1.0, 0.0)) == pytest.approx(-0.064839, abs=1e-6)


@pytest.mark.parametrize(("low", "high", "h"), [(-10, 8, -0.052379), (-6, 6, 0.019167)])
def test_a_range_of_noise_levels_that_is_too_narrow_misses_entropy(low: float, high: float, h: float) -> None:
    assert entropy_from_mmse(MIXTURE, low, high) == pytest.approx(h, abs=2e-6)


@pytest.mark.parametrize(("snr", "mmse"), [(0.01, 0.489091), (1.0, 0.312406), (100.0, 0.0059028), (1000.0, 0.00092905)])
def test_denoising_error_of_the_mixture(snr: float, mmse: float) -> None:
    found, excess = information.denoising_error(MIXTURE, MIXTURE.denoised, math.log(snr))
    assert found == pytest.approx(mmse, rel=1e-5)
    assert excess == 0


def check_what_a_wrong_denoiser_loses(variance: float = 0.25, delta: float = 0.05) -> float:
    """(1 + delta) eps on N(0, s^2): delta^2 / 2 log(1 + (e^B - 1) / s^2), delta^2 B / 2 at s = 1."""
    data, B = gaussian(variance), 10.05  # the integral of beta over [0, 1]
    snr = 1 / math.expm1(B)
    loss = excess_divergence(data, scaled_noise(data, delta), math.log(snr))
    assert loss == pytest.approx(delta**2 / 2 * math.log1p(1 / (snr * variance)), rel=1e-6)
    return loss


@pytest.mark.parametrize(
    ("variance", "delta", "h", "bound"),
    [
        *((1.0, 0.05, 1.418939, 1.431501), (1.0, 0.2, 1.418939, 1.619939), (0.25, -0.2, 0.725791, 0.954517)),
        (0.01, 0.05, -0.883647, -0.865328),
    ],
)
def test_what_a_wrong_denoiser_loses_is_a_divergence(variance: float, delta: float, h: float, bound: float) -> None:
    """The continuous bound minus the entropy, but for the 1e-9 of the prior."""
    loss = check_what_a_wrong_denoiser_loses(variance, delta)
    assert float(entropy(gaussian(variance), 1.0, 0.0)) == pytest.approx(h, abs=1e-6)
    assert loss == pytest.approx(bound - h, abs=2e-6)


def test_quadrature_is_over_one_dimension() -> None:
    with pytest.raises(UserError, match="mixtures in one dimension"):
        entropy(GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 1.0]]), 1.0, 0.0)


def check_the_density_is_the_exact_one() -> None:
    assert error(CRANK_NICOLSON, ORNSTEIN_UHLENBECK, 100, 50, 0.05, 1.05)[0] < 1e-3


def changed(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[[Schedule, Tensor], tuple[Tensor, Tensor]]:
    return lambda schedule, t: change(*REAL["coefficients"](schedule, t))


def leaking(scheme: Scheme, f: float, g2: float, x: np.ndarray) -> np.ndarray:
    """Ends where the density is zero in place of ends without flux."""
    rates = REAL["generator"](scheme, f, g2, x)
    rates[1, [0, -1]] -= g2 / (x[1] - x[0]) ** 2
    return rates


MUTANTS = [
    Mutant(
        "drift of the wrong sign",
        fokker_planck,
        "coefficients",
        changed(lambda f, g2: (-f, g2)),
        check_the_density_is_the_exact_one,
    ),
    Mutant(
        "g in place of g^2",
        fokker_planck,
        "coefficients",
        changed(lambda f, g2: (f, g2.sqrt())),
        check_the_density_is_the_exact_one,
    ),
    Mutant(
        "g^2 in place of g^2 / 2",
        fokker_planck,
        "coefficients",
        changed(lambda f, g2: (f, 2 * g2)),
        check_the_density_is_the_exact_one,
    ),
    Mutant(
        *("the score's equation with g", fokker_planck, "coefficients", changed(lambda f, g2: (f, g2.sqrt()))),
        check_the_score_of_a_diffused_density_has_no_residual,
    ),
    Mutant(
        *("noise levels without dSNR = SNR dlog SNR", information, "nodes", lambda *a: np.polynomial.legendre.leggauss(120)),
        check_what_a_wrong_denoiser_loses,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_killed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.check(mutant, monkeypatch)


def exactly_denoised(schedule: Schedule, network: torch.nn.Module | None = None) -> GaussianReverse:
    network = network or MixtureDenoiser(MIXTURE, schedule)
    return GaussianReverse(GaussianDiffusion(schedule), network, X0(), FixedSmall(), Network()).eval()


def test_an_exact_network_loses_nothing_and_another_does() -> None:
    x_0 = MIXTURE.held_out(2)
    for network, low, high in ((None, 0.0, 1e-9), (MixtureDenoiser(gaussian(0.5), SONG), 0.1, 10.0)):
        reverse = exactly_denoised(SONG, network)
        (loss,) = PathDivergence(9.0)(reverse, MIXTURE, x_0, 0).measurements
        assert low <= loss.value <= high
    rows = Thermodynamics([8, 16], 0.1, 0.5)(reverse, MIXTURE, x_0, 0).measurements
    residuals = [m.value for m in rows if m.quantity == "score_residual"]
    assert residuals == pytest.approx([0, 0], abs=1e-9)  # wrong as it is, it is the score of another diffused density


def test_the_evaluation_is_a_record_and_a_figure() -> None:
    reverse, x_0 = exactly_denoised(SONG), MIXTURE.held_out(2)
    parts = [evaluator(reverse, MIXTURE, x_0, 0) for evaluator in (PathDivergence(9.0), Thermodynamics([50, 100], 0.1, 0.5))]
    rows = {(m.quantity, m.protocol.get("scheme"), m.protocol.get("cells")): m for part in parts for m in part.measurements}
    assert all(unit(m.quantity, m.unit) and m.refusal() is None for m in rows.values())
    assert rows["density_error", "crank_nicolson", 100].value < rows["density_error", "crank_nicolson", 50].value / 3.9
    assert rows["convergence_order", "crank_nicolson", None].value == pytest.approx(2, abs=0.02)
    assert abs(rows["entropy_error", None, None].value) < 1e-8
    assert abs(rows["entropy_rate_error", None, None].value) < 1e-9
    figure = thermodynamics({**parts[0].arrays, **parts[1].arrays})
    assert [axes.get_xlabel() for axes in figure.axes] == ["x", "cells N", "log SNR"]
    assert all(axes.get_ylabel() for axes in figure.axes)


def test_other_data_are_one_clear_line() -> None:
    for evaluator in (PathDivergence(9.0), Thermodynamics([50, 100], 0.1, 0.5)):
        with pytest.raises(UserError, match="not SwissRoll"):
            evaluator(exactly_denoised(SONG), SwissRoll(1e-3), torch.zeros(2, 2), 0)
