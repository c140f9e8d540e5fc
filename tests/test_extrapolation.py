"""The power law through runs of several budgets: exact laws, a general optimizer, the linear limit, and coverage."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from dpm import schedules
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.against_budget import AgainstBudget
from dpm.figures import render
from dpm.figures.budget import against_budget
from dpm.processes.gaussian import GaussianDiffusion
from dpm.study.claims import Claim, Tolerance, load_claims
from dpm.study.extrapolation import Extrapolation, PowerLaw, of_long_runs, spread
from dpm.study.records import Measurement, Record
from dpm.study.results import selected

ROOT = Path(__file__).resolve().parents[1]
WHOLE = "ho_2020/cifar10_bound"
STEPS = np.array([375.0, 750.0, 1500.0, 6000.0])
LAWS = [PowerLaw(3.55, 0.22, 0.6, 6000.0), PowerLaw(3.3, 0.47, 0.25, 6000.0), PowerLaw(0.0, 3.7, 0.1, 6000.0)]
LARGER = (60_000.0, 8e6, math.inf)


def runs(law: PowerLaw, C: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    return law(C) + sigma * np.random.default_rng(seed).standard_normal(len(C))


def extrapolated(law: PowerLaw = LAWS[0], sigma: float = 0.01, seed: int = 0, **settings: float) -> Extrapolation:
    return Extrapolation(STEPS, runs(law, STEPS, sigma, seed), np.full(4, sigma), **settings)


def distances(C: np.ndarray, L: np.ndarray, sigma: np.ndarray, law: PowerLaw) -> float:
    return float((((L - law(C)) / sigma) ** 2).sum())


# --- the law -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
def test_an_exact_law_is_found(law: PowerLaw) -> None:
    fit = Extrapolation(STEPS, law(STEPS), np.full(4, 1e-3))
    assert (fit.law.L_inf, fit.law.a, fit.law.b) == pytest.approx((law.L_inf, law.a, law.b), abs=1e-4)
    assert fit.S < 1e-4
    for C in LARGER:
        assert float(fit.law(C)) == pytest.approx(float(law(C)), abs=1e-4)


def test_budgets_are_where_the_law_takes_a_value() -> None:
    for C in (100.0, 6000.0, 1e6):
        assert LAWS[0].budget(float(LAWS[0](C))) == pytest.approx(C, rel=1e-9)
    assert LAWS[0].budget(3.55) == LAWS[0].budget(3.0) == math.inf


def test_the_fit_is_that_of_weighted_least_squares() -> None:
    """By scipy.optimize.curve_fit, errors unequal."""
    sigma = np.array([0.03, 0.002, 0.01, 0.02])
    L = LAWS[0](STEPS) + sigma * np.array([1, -1, 0.5, 1.0])
    expected, _ = scipy.optimize.curve_fit(lambda C, *p: PowerLaw(*p, 6000.0)(C), STEPS, L, (3.5, 0.2, 0.5), sigma)
    law = Extrapolation(STEPS, L, sigma).law
    assert (law.L_inf, law.a, law.b) == pytest.approx(tuple(expected), rel=1e-4)
    assert abs(law.b - Extrapolation(STEPS, L, np.full(4, 0.01)).law.b) > 1e-3


@pytest.mark.parametrize(
    ("C", "L"), [(60_000.0, 3.62), (60_000.0, 3.4), (2000.0, 3.97), (60_000.0, 0.0), (math.inf, 3.5), (math.inf, 0.0)]
)
def test_the_misfit_is_the_least_of_all_laws_through_the_point(C: float, L: float) -> None:
    """By a general optimizer over the exponent and L_inf, or a where L_inf is given, from many starts."""
    fit = extrapolated(sigma=0.02)

    def through(p: np.ndarray) -> PowerLaw:
        b = math.exp(p[0])
        if math.isinf(C):
            return PowerLaw(L, math.exp(p[1]), b, 6000.0)
        L_inf = L / (1 + math.exp(-p[1]))
        return PowerLaw(L_inf, (L - L_inf) * (C / 6000) ** b, b, 6000.0)

    def S(p: np.ndarray) -> float:
        return distances(STEPS, fit.L, fit.sigma, through(p))

    starts = [(math.log(b), x) for b in (0.05, 0.2, 0.6, 2) for x in (-3.0, 0.0, 3.0)]
    bounds = [(math.log(0.01), math.log(20)), (-15.0, 15.0)]
    found = [scipy.optimize.minimize(S, start, method="Nelder-Mead", bounds=bounds).fun for start in starts]
    assert fit.misfit(C, L) == pytest.approx(min(found), rel=1e-3)


# --- intervals -----------------------------------------------------------------------------------------------------------


def test_small_errors_give_the_interval_of_the_linearised_law() -> None:
    """estimate +- 1.96 standard errors by the delta method, from curve_fit's covariance."""
    sigma = np.array([4e-4, 2e-4, 2e-4, 1e-4])
    fit = Extrapolation(STEPS, LAWS[0](STEPS), sigma)
    best = np.array([fit.law.L_inf, fit.law.a, fit.law.b])
    _, covariance = scipy.optimize.curve_fit(
        lambda C, *p: PowerLaw(*p, 6000.0)(C), STEPS, fit.L, best, sigma, absolute_sigma=True
    )
    u = 10**-0.6
    gradient = np.array([1, u, -0.22 * math.log(10) * u])
    half = 1.96 * math.sqrt(gradient @ covariance @ gradient)
    low, high = fit.interval(60_000.0)
    assert (low, high) == pytest.approx((LAWS[0](60_000.0) - half, LAWS[0](60_000.0) + half), abs=0.03 * half)


@pytest.mark.parametrize("law", LAWS[:2])
@pytest.mark.parametrize(("C", "known"), [(STEPS, True), (np.array([375.0] * 5 + [750.0, 1500.0, 6000.0]), False)])
def test_intervals_hold_the_truth_as_often_as_they_say(law: PowerLaw, C: np.ndarray, known: bool) -> None:
    """95 % of 200 repetitions, three standard errors allowed, with a known error of the runs and with one from seeds."""
    held = dict.fromkeys(LARGER, 0)
    for seed in range(200):
        L = runs(law, C, 0.006, seed)
        error, dof = (0.006, math.inf) if known else spread([L[c == C] for c in np.unique(C)])
        fit = Extrapolation(C, L, np.full(len(C), error), dof)
        for c in LARGER:
            held[c] += fit.misfit(c, float(law(c))) <= fit.allowed
    for count in held.values():
        assert 0.95 - 3 * 0.0154 <= count / 200 <= 0.995


def test_an_interval_ends_where_the_misfit_does() -> None:
    for seed in range(3):
        fit = extrapolated(seed=seed)
        for C in (375.0, 3000.0, *LARGER):
            low, high = fit.interval(C)
            assert low < float(fit.law(C)) < high
            for end, inside in ((low, 1e-6), (high, -1e-6)):
                assert fit.misfit(C, end) == pytest.approx(fit.allowed, rel=1e-5)
                assert fit.misfit(C, end + inside) < fit.allowed < fit.misfit(C, end - inside)


def test_budgets_of_a_bound_are_those_whose_interval_holds_it() -> None:
    fit = extrapolated()
    low, high = fit.budget_interval(3.7)
    assert low < fit.law.budget(3.7) < high
    for C in (low, high):
        assert min(abs(end - 3.7) for end in fit.interval(C)) < 1e-6
    assert fit.interval(0.98 * low)[0] > 3.7 > fit.interval(1.02 * high)[1]


def test_a_bound_may_be_out_of_reach() -> None:
    fit = extrapolated()
    low, high = fit.interval(math.inf)
    assert fit.budget_interval(low - 0.01) == (math.inf, math.inf)
    least, most = fit.budget_interval((low + fit.law.L_inf) / 2)  # the law does not reach it, others that are allowed do
    assert 6000 < least < math.inf == most
    assert fit.budget_interval(high + 0.01)[1] < math.inf


def test_a_bound_is_never_negative() -> None:
    """Values on a straight line in log C: the limit of laws with b -> 0, whose L_inf would go to minus infinity."""
    L = 3 - 0.4 * np.log(STEPS / 375)
    fit = Extrapolation(STEPS, L, np.full(4, 0.05))
    assert fit.law.L_inf >= 0
    assert fit.interval(math.inf)[0] == 0
    assert fit.interval(60_000.0)[0] > 0


def test_the_quantile_is_that_of_the_degrees_of_freedom() -> None:
    for dof, level in ((2, 0.95), (4, 0.9), (math.inf, 0.95)):
        fit = extrapolated(dof=dof, level=level)
        assert fit.allowed - fit.S == pytest.approx(scipy.stats.t.ppf((1 + level) / 2, dof) ** 2)
    assert scipy.stats.t.ppf(0.975, math.inf) == pytest.approx(1.95996, abs=1e-5)


def test_a_law_that_misses_the_runs_widens_its_interval() -> None:
    """Runs off every power law by ten errors: S / (n - 3) takes the place of 1, Student's quantile with n - 3 that of 1.96."""
    kinked = LAWS[0](STEPS) + np.array([0, 0, 0.1, 0])
    fit = Extrapolation(STEPS, kinked, np.full(4, 0.01))
    assert fit.S > 10
    assert fit.scale == fit.S
    assert fit.allowed == pytest.approx(fit.S * (1 + scipy.stats.t.ppf(0.975, 1) ** 2))
    exact = Extrapolation(STEPS, LAWS[0](STEPS), np.full(4, 0.01))
    assert exact.scale == 1
    assert np.diff(fit.interval(60_000.0)) > 5 * np.diff(exact.interval(60_000.0))


def test_short_runs_off_the_law_are_left_out() -> None:
    """Another regime up to some budget: the law of the others is the one that is found; with no such regime all runs stay."""
    C, sigma = 375.0 * 2 ** np.array([0, 0, 1, 2, 3, 4, 5]), np.full(7, 0.004)
    L = LAWS[0](C)
    fit = of_long_runs(C, L, sigma, 2)
    assert np.array_equal(fit.C, C)
    off = L + np.where(C < 1500, 0.2, 0)
    fit = of_long_runs(C, off, sigma, 2)
    assert np.array_equal(fit.C, C[3:])
    assert fit.allowed == pytest.approx(fit.S + scipy.stats.t.ppf(0.975, 2) ** 2)
    assert float(fit.law(60_000.0)) == pytest.approx(float(LAWS[0](60_000.0)), abs=1e-4)
    kinked = L + np.where(C == 3000, 0.2, 0)  # three budgets always stay
    assert of_long_runs(C, kinked, sigma).C.tolist() == C[4:].tolist()
    assert of_long_runs(C[::-1], off[::-1], sigma).C.tolist() == C[:2:-1].tolist()
    with pytest.raises(UserError, match="three budgets at least, got 2"):
        of_long_runs(C[:3], L[:3], sigma[:3])


def test_what_cannot_be_extrapolated_is_refused_in_one_line() -> None:
    L, sigma, fit = LAWS[0](STEPS), np.full(4, 0.01), extrapolated()
    refused = [
        (lambda: Extrapolation(STEPS[[0, 0, 1, 1]], L, sigma), "three budgets at least, got 2"),
        (lambda: Extrapolation(STEPS, L, 0 * sigma), "must be positive"),
        (lambda: Extrapolation(STEPS, L * math.nan, sigma), "must be positive"),
        (lambda: Extrapolation(STEPS, L, sigma, dof=0), "must be positive"),
        (lambda: of_long_runs(STEPS, L * math.nan, sigma), "must be positive"),
        (lambda: Extrapolation(STEPS, np.full(4, 3.7), sigma), "no more than their errors"),
        (lambda: Extrapolation(STEPS, L[::-1], sigma), "no more than their errors"),
        (lambda: Extrapolation(STEPS, L, 100 * sigma), "no more than their errors"),
        (lambda: fit.interval(100.0), "below that of the shortest run, 375"),
        (lambda: fit.budget_interval(6.0), "takes less than the shortest run"),
        (lambda: spread([L[:1], L[1:2]]), "no budget has runs of two seeds"),
    ]
    for call, message in refused:
        with pytest.raises(UserError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_the_spread_is_pooled_over_the_budgets() -> None:
    """Squared distances from the mean of each group, over the runs less the groups; a group of one adds nothing."""
    found, dof = spread([np.array([1.0, 3.0]), np.array([10.0, 10.0, 16.0]), np.array([5.0])])
    assert (found, dof) == (pytest.approx(math.sqrt((2 + 24) / 3)), 3)


# --- the figure and the record -------------------------------------------------------------------------------------------


def result(experiment: str, folder: str, steps: int, seed: int, value: float, root: Path) -> None:
    about = {"split": "test", "T": 1000, "seed": seed, "terms": "sampled", "decoder": "Discretized"}
    rows = [
        replace(Measurement("nll_bound", value, 0.0025, 10000, "bits/dim", about), quantity=q) for q in ("nll_bound", "rate")
    ]
    spent = {"steps": steps, "examples": 64 * steps, "seconds": 0.9 * steps, "device": "cpu"}
    origin = {"weights_sha256": f"{folder}{seed}"}
    recipe = {"network": "UNet", "steps": steps}
    Record(experiment, seed, "laptop", recipe, spent, origin, tuple(rows)).save(root / folder / f"seed{seed}.json")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    whole = "ho_2020/cifar10_bound"
    L = runs(LAWS[0], np.array([375.0] * 3 + [1500.0, 6000.0]), 0.004, 0)
    for seed in range(3):
        result(f"{whole}_shares", f"{whole}_shares/share=sixteenth", 375, seed, L[seed], tmp_path)
    result(f"{whole}_shares", f"{whole}_shares/share=quarter", 1500, 0, L[3], tmp_path)
    result(whole, whole, 6000, 0, L[4], tmp_path)
    return tmp_path


def measured(root: Path, whole: str = WHOLE, stated: float | None = None) -> Evaluation:
    claims, claim = str(ROOT / "conf" / "claims"), "ho_2020/table1/bound/nll"
    evaluator = AgainstBudget(str(root), whole, f"{whole}_shares/*", claims, claim, 800_000, 128, stated)
    process = GaussianDiffusion(schedules.linear(1000, 1e-4, 0.02))
    return evaluator(SimpleNamespace(process=process), None, torch.zeros(2, 3), 0)


def written(root: Path, **settings: Any) -> tuple[Record, dict[str, np.ndarray]]:
    """As a record, and the arrays as they are read."""
    found = measured(root, **settings)
    return Record(WHOLE, 0, "laptop", {}, dict(found.budget or {}), {}, found.measurements), dict(found.arrays)


def test_the_evaluator_measures_what_the_law_says(results: Path) -> None:
    record, arrays = written(results)
    assert record.budget == {"steps": 3 * 375 + 1500 + 6000, "examples": 64 * 8625, "seconds": 7762.5, "device": "cpu"}
    C = 64 * np.array([6000.0, 1500.0, 375.0, 375.0, 375.0])
    assert np.array_equal(arrays["run_examples"], C)
    L = arrays["run_bound"]
    error = float(np.std(L[2:], ddof=1))
    fit = Extrapolation(C, L, np.full(5, error), 2)

    def value(quantity: str, **protocol: object) -> float:
        (m,) = selected([record], quantity, protocol)
        assert {
            "n_runs": 5,
            "n_budgets": 3,
            "n_shorter_runs_left_out": 0,
            "spread_from": "seeds",
            "spread_dof": 2,
        }.items() <= dict(m.protocol).items()
        return m.value

    for at, budget_ in (("ten_times", 10 * 384_000.0), ("paper_budget", 102_400_000.0), ("limit", math.inf)):
        expected = (float(fit.law(budget_)), *fit.interval(budget_))
        for end, right in zip(("estimate", "lower", "upper"), expected, strict=True):
            assert value("nll_extrapolated", at=at, end=end) == pytest.approx(right, abs=6e-4)
    low, high = fit.budget_interval(load_claims(ROOT / "conf" / "claims")["ho_2020/table1/bound/nll"].value)
    assert value("budget_share", end="lower") == pytest.approx(384_000 / high, rel=0.05)
    assert value("budget_share", end="upper") == pytest.approx(384_000 / low, rel=0.05)
    assert value("nll_spread") == pytest.approx(error, abs=6e-5)
    assert np.allclose(arrays["curve_law"], fit.law(arrays["curve_examples"]))
    assert all(m.claim is None for m in record.measurements)


def test_the_evaluator_leaves_short_runs_out_but_shows_them(results: Path) -> None:
    """Sixteenths off the law of an eighth, a quarter, a half and all: the law is that of four runs, the spread is theirs."""
    shares = "ho_2020/cifar10_bound_shares"
    for name, steps in (("eighth", 750), ("half", 3000)):
        result(shares, f"{shares}/share={name}", steps, 0, float(LAWS[0](np.array(float(steps)))), results)
    for seed in range(3):
        result(shares, f"{shares}/share=sixteenth", 375, seed, 6 + 0.004 * seed, results)
    record, arrays = written(results)
    assert len(arrays["run_examples"]) == 7
    assert arrays["curve_examples"][0] == pytest.approx(64 * 750)
    (m,) = selected([record], "nll_spread", {"n_runs": 4, "n_shorter_runs_left_out": 3})
    assert m.value == pytest.approx(0.004)
    claim = Claim("p/L", "Table 1", "P", "nll_bound", "bits/dim", 3.7, Tolerance(0.1, "why"))
    (axes,) = against_budget(arrays, claim).axes
    hollow = [line.get_xdata() for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [x.tolist() for x in hollow] == [[64 * 375.0] * 3]


def test_a_spread_can_be_stated_and_must_be_without_seeds(results: Path) -> None:
    for seed in (1, 2):
        (results / "ho_2020" / "cifar10_bound_shares" / "share=sixteenth" / f"seed{seed}.json").unlink()
    with pytest.raises(UserError, match="no budget has runs of two seeds"):
        measured(results)
    record, _ = written(results, stated=0.006)
    (m,) = selected([record], "nll_spread", {"spread_from": "stated"})
    assert m.value == pytest.approx(math.hypot(0.006, 0.0025), abs=6e-5)
    with pytest.raises(UserError, match="no records of ho_2020/other"):
        measured(results, whole="ho_2020/other")


def test_the_figure_shows_runs_law_and_interval() -> None:
    C = np.geomspace(24_000, 3e8, 30)
    arrays = {
        **{"run_examples": 64 * STEPS, "run_bound": LAWS[0](STEPS), "run_error": np.full(4, 0.01)},
        **{
            "curve_examples": C,
            "curve_law": LAWS[0](C / 64),
            "curve_low": LAWS[0](C / 64) - 0.1,
            "curve_high": LAWS[0](C / 64) + 0.2,
        },
        **{"paper_examples": np.array([1e8]), "exponent": np.array([0.6])},
    }
    claim = Claim("p/L", "Table 1", "P", "nll_bound", "bits/dim", 3.7, Tolerance(0.1, "why"))
    figure = against_budget(arrays, claim)
    (axes,) = figure.axes
    band = {tuple(point) for point in axes.collections[0].get_paths()[0].vertices}
    assert band == {(x, y) for name in ("curve_low", "curve_high") for x, y in zip(C, arrays[name], strict=True)}
    known, beyond, points, *_, star = (line.get_xydata() for line in axes.lines)
    assert np.array_equal(np.concatenate([known, beyond]), np.stack([C, arrays["curve_law"]], 1))
    assert known[-1, 0] <= 384_000 < beyond[0, 0]
    assert np.array_equal(points, np.stack([64 * STEPS, arrays["run_bound"]], 1))
    assert star.tolist() == [[1e8, 3.7]]
    bars = axes.containers[0].lines[2][0].get_segments()
    assert [end - start for (_, start), (_, end) in bars] == pytest.approx([0.04] * 4)
    assert "bits/dim" in axes.get_ylabel()
    assert render(figure).startswith(b"\x89PNG")
