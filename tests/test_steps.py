"""The choice of steps: costs against closed forms and against the bound of a process with those steps, grids by brute force.

For Gaussian data and the exact reverse process C(s, t) = I(X_0; X_s) - I(X_0; X_t) and C(0, t) = h(X_0) - I(X_0; X_t): every
grid has the same bound. With another variance the grids differ, and there is something to choose.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain, combinations, count, pairwise

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal

from dpm import schedules, seeds
from dpm.baselines.gaussian_images import GaussianImages
from dpm.bound import bound, decoder_edges
from dpm.data.synthetic import GaussianData
from dpm.decoders import Discretized, Network, Stationary
from dpm.errors import UserError
from dpm.evaluators.fewer_steps import FewerSteps, times_to_choose_from
from dpm.figures import render
from dpm.figures import steps as figures
from dpm.oracles.gaussian import GaussianOracle
from dpm.predictions.papers import X0
from dpm.predictions.residual import WhitenedResidual
from dpm.processes import at, per_example
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import steps
from dpm.samplers.ancestral import grid as even
from dpm.samplers.steps import Costs, all_pairs, best_grids, pairs_of, quadratic, remembering
from dpm.schedules import BetaSchedule
from dpm.study.records import standard_error
from dpm.variances import FixedLarge, LearnedPosterior, Variance

T, MEAN, VARIANCE = 8, 0.8, 0.3
SCHEDULE = schedules.geometric(T, 1e-2, 0.05)
Q, DATA = GaussianDiffusion(SCHEDULE), GaussianData(1, MEAN, VARIANCE)
ORACLE = GaussianOracle(Q, DATA, Network())
GRIDS = [(T, *reversed(between), 0) for n in range(T) for between in combinations(range(1, T), n)]
KEY = (0, seeds.EVALUATION)
SIGNS = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)


class Denoiser(nn.Module):
    """E[x_0 | x_t] of DATA times `shrink`, with log(Var[x_0 | x_t] / sigma_t^2) beside it where the variance is learned."""

    def __init__(self, learned: bool, shrink: float = 1.0, times: Tensor | None = None) -> None:
        super().__init__()
        self.learned, self.shrink, self.calls, self.examples = learned, shrink, 0, 0
        self.times = torch.arange(T + 1) if times is None else times  # of a schedule that takes some of the steps only

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls, self.examples = self.calls + 1, self.examples + len(x_t)
        alpha, sigma = (per_example(c, x_t) for c in SCHEDULE(self.times[t]))
        total = alpha**2 * VARIANCE + sigma**2
        mean = MEAN + alpha * VARIANCE / total * (x_t - alpha * MEAN)
        return torch.cat([self.shrink * mean, (VARIANCE / total).log().expand_as(mean)][: 1 + self.learned], 1)


def reverse(variance: Variance, **settings) -> GaussianReverse:
    network = Denoiser(isinstance(variance, LearnedPosterior), **settings)
    return GaussianReverse(Q, network, X0(), variance, Network())


LARGE, LEARNED, WRONG = (
    *(reverse(FixedLarge()), reverse(LearnedPosterior())),
    reverse(LearnedPosterior(), shrink=0.9),
)


def information(t: int) -> float:
    """I(X_0; X_t), nats."""
    alpha, sigma = (c.item() for c in Q.schedule(torch.tensor(t)))
    return 0.5 * math.log1p(alpha**2 * VARIANCE / sigma**2)


ENTROPY = 0.5 * math.log(2 * math.pi * math.e * VARIANCE)


def expected(p: Reverse, s: int, t: int) -> float:
    """C(s, t) without sampling: it is the mean of a quadratic function of x_0 and the noise, so +-1 has it exactly."""
    x_0, eps = (column[:, None] for column in SIGNS.T)
    x_0 = MEAN + math.sqrt(VARIANCE) * x_0
    alpha, sigma = (c.item() for c in Q.schedule(torch.tensor(t)))
    return float(steps.term(p, x_0, alpha * x_0 + sigma * eps, at(x_0, s), at(x_0, t)).mean())


def table(p: Reverse) -> np.ndarray:
    return np.array([[expected(p, s, t) if s < t else math.inf for t in range(T + 1)] for s in range(T + 1)])


def total(costs: np.ndarray, grid: Sequence[int]) -> float:
    return sum(float(costs[s, t]) for t, s in pairwise(grid))


# --- costs ---------------------------------------------------------------------------------------------------------------


def check_costs_of_the_exact_process(p: Reverse) -> None:
    found = table(p)
    for s, t in combinations(range(T + 1), 2):
        right = (ENTROPY if s == 0 else information(s)) - information(t)
        assert found[s, t] == pytest.approx(right, rel=1e-9), (s, t)
    totals = [total(found, grid) for grid in GRIDS]
    assert totals == pytest.approx([ENTROPY - information(T)] * len(GRIDS), rel=1e-9)


@pytest.mark.parametrize("p", [ORACLE, LEARNED], ids=["oracle", "learned posterior"])
def test_with_the_exact_process_every_grid_has_the_same_bound(p: Reverse) -> None:
    check_costs_of_the_exact_process(p)


def test_with_a_fixed_variance_the_grids_differ() -> None:
    """And the one jump is the worst: its variance is beta-tilde_2 still."""
    costs = table(LARGE)
    totals = {grid: total(costs, grid) for grid in GRIDS}
    assert min(totals.values()) > ENTROPY - information(T) + 0.1
    assert max(totals, key=totals.__getitem__) == (T, 0)
    assert max(totals.values()) > min(totals.values()) + 1
    for k, grid in best_grids(range(T + 1), costs).items():
        assert grid == list(min((g for g in GRIDS if len(g) == k + 1), key=totals.__getitem__))


def strided(p: GaussianReverse, grid: Sequence[int]) -> GaussianReverse:
    """The process whose only times are those of the grid, with the same network: beta_k = 1 - alpha_bar_k / alpha_bar_{k-1}."""
    times = torch.tensor(grid).flip(0)
    log_alpha_bar = SCHEDULE.log_alpha_bar(times)
    q = GaussianDiffusion(BetaSchedule(-torch.expm1(log_alpha_bar.diff())))
    return GaussianReverse(q, Denoiser(True, p.network.shrink, times), p.prediction, p.variance, p.decoder)


def check_against_a_process_of_those_steps(grid: Sequence[int], monkeypatch) -> None:
    """With frozen noise, `dpm.bound.bound` on the strided process, term by term; K = T is the usual bound."""
    x_0, eps = DATA.held_out(50), torch.randn(50, 1, dtype=torch.float64)
    monkeypatch.setattr(Normal, "rsample", lambda self, shape=(): self.loc + self.scale * eps)
    right = bound(strided(WRONG, grid), x_0, decoder_edges)
    found = steps.costs(WRONG, x_0, pairs_of([grid]), 50, *KEY)
    assert torch.allclose(decoder_edges.prior(WRONG, x_0) + found.total(grid), right.total, rtol=1e-9)
    later = torch.stack([found.values[s, t] for t, s in zip(grid[-3::-1], grid[-2::-1], strict=False)], 1)
    assert torch.allclose(later, right.transitions, rtol=1e-7)


@pytest.mark.parametrize("grid", [range(T, -1, -1), (T, 5, 2, 0), (T, 3, 1, 0)], ids=["every step", "coarse", "ends in 1, 0"])
def test_the_bound_on_a_grid_is_that_of_a_process_with_these_steps(grid: Sequence[int], monkeypatch) -> None:
    check_against_a_process_of_those_steps(grid, monkeypatch)


def test_the_table_agrees_with_the_direct_bound_within_the_errors_of_both() -> None:
    """Other noise, the same examples: the difference is noise, of independent examples; and the truth is as near."""
    x_0, grid = DATA.held_out(4000), (T, 6, 3, 1, 0)
    of_table = steps.costs(WRONG, x_0, all_pairs(range(T + 1)), 1000, *KEY)
    mean, direct = of_table.table(range(T + 1)), bound(strided(WRONG, grid), x_0, decoder_edges)
    ours, theirs = of_table.total(grid), direct.total - direct.prior
    assert total(mean, grid) == pytest.approx(ours.mean().item(), rel=1e-12)
    difference = (ours - theirs).numpy()
    assert abs(difference.mean()) < 4 * standard_error(difference)
    assert standard_error(difference) < 0.04
    for s, t in all_pairs(range(T + 1)):
        error = standard_error(of_table.values[s, t].numpy())
        assert mean[s, t] == pytest.approx(expected(WRONG, s, t), abs=4 * error), (s, t)


@pytest.mark.slow
def test_the_standard_error_over_examples_covers_the_truth() -> None:
    """Intervals of +-2 standard errors around the bound on a grid, 300 repetitions: 91 to 98 % for 95.4."""
    grid, n = (T, 4, 1, 0), 200
    truth, hits = sum(expected(WRONG, s, t) for s, t in pairs_of([grid])), 0
    for repetition in range(300):
        x_0 = DATA.sample(n, seeds.generator(9, repetition))
        values = steps.costs(WRONG, x_0, pairs_of([grid]), n, *KEY, repetition).total(grid).numpy()
        hits += abs(values.mean() - truth) < 2 * standard_error(values)
    assert 0.91 < hits / 300 < 0.98


def test_costs_are_a_function_of_the_key_and_not_of_what_else_is_asked() -> None:
    x_0, few = DATA.held_out(30), {(0, 2), (2, 5)}
    one, other = (steps.costs(WRONG, x_0, pairs, 10, *KEY, 1).values for pairs in (few, all_pairs(range(T + 1))))
    again = steps.costs(WRONG, x_0, few, 10, *KEY, 2).values
    for pair in few:
        assert torch.equal(one[pair], other[pair])
        assert not torch.equal(one[pair], again[pair])
        assert one[pair].shape == (30,)
        assert len(one[pair].unique()) == 30  # every batch has its own noise


def check_an_example_has_the_same_noise_at_every_time() -> None:
    """And not another example's: eps is read off the x_t that the process is asked about."""

    class Spy(GaussianReverse):
        def forward(self, x_t: Tensor, s: Tensor, t: Tensor):
            alpha, sigma = (per_example(c, x_t) for c in Q.schedule(t))
            seen.append((x_t - alpha * x_0[len(seen) % 2 * 10 :][:10]) / sigma)
            return super().forward(x_t, s, t)

    x_0, seen = DATA.held_out(20), []
    steps.costs(Spy(Q, WRONG.network, X0(), WRONG.variance, Network()), x_0, {(t - 1, t) for t in range(1, T + 1)}, 10, *KEY)
    noise = torch.stack(seen).reshape(T, 20)  # two batches of ten for each t
    assert torch.allclose(noise, noise[:1].expand_as(noise), atol=1e-9)
    assert len(noise[0].unique()) == 20


def test_an_example_has_the_same_noise_at_every_time(monkeypatch) -> None:
    check_an_example_has_the_same_noise_at_every_time()
    calls, seed = count(), seeds.seed_everything
    monkeypatch.setattr(seeds, "seed_everything", lambda *key: seed(*key, 1 + next(calls)))
    with pytest.raises(AssertionError):
        check_an_example_has_the_same_noise_at_every_time()


def test_common_noise_cancels_where_grids_are_compared() -> None:
    """The difference of two grids has a tenth of the variance that it has with independent noise for each."""
    x_0, one, other = DATA.held_out(2000), (T, 7, 5, 3, 1, 0), (T, 6, 4, 2, 1, 0)
    found = steps.costs(WRONG, x_0, pairs_of([one, other]), 2000, *KEY)
    apart = steps.costs(WRONG, x_0, pairs_of([other]), 2000, *KEY, 1)
    common, independent = (found.total(one) - c.total(other) for c in (found, apart))
    assert common.var() < 0.1 * independent.var()


# --- remembering ---------------------------------------------------------------------------------------------------------


def test_the_network_is_evaluated_once_for_each_example_and_time() -> None:
    times, x_0 = (0, 1, 3, 4, T), DATA.held_out(30)
    plain, counted = reverse(LearnedPosterior()), reverse(LearnedPosterior())
    found = steps.costs(remembering(counted), x_0, all_pairs(times), 12, *KEY)
    right = steps.costs(plain, x_0, all_pairs(times), 12, *KEY)
    assert counted.network.examples == 30 * 4
    assert plain.network.examples == 30 * 10
    for pair in all_pairs(times):
        assert torch.equal(found.values[pair], right.values[pair])


def check_memory_is_the_network_itself() -> None:
    """Whatever is asked in turn, also in a tensor that the caller writes to."""
    network = Denoiser(True)
    memory = steps.Remembered(network)
    x, t = torch.randn(5, 1, dtype=torch.float64), torch.full((5,), 3)
    for change in (lambda: None, lambda: x.add_(1), lambda: t.sub_(1), lambda: x.mul_(1), lambda: x[:2].neg_()):
        change()
        assert torch.equal(memory(x, t), network(x, t))
    for size in (3, 1, 5):
        assert torch.equal(memory(x[:size], t[:size]), network(x[:size], t[:size]))


def test_memory_is_the_network_itself() -> None:
    check_memory_is_the_network_itself()


def test_a_prediction_with_its_own_view_of_x_t_is_remembered_too() -> None:
    network = Denoiser(True)
    p = GaussianReverse(Q, network, WhitenedResidual(GaussianImages(1, 2, 2)), LearnedPosterior(), Discretized())
    x_0 = torch.tensor([-1.0, 0.2, 0.6, 1.0]).double().mul(127.5).round().div(127.5).reshape(1, 1, 2, 2)
    found = steps.costs(remembering(p), x_0, all_pairs((0, 2, 5, T)), 1, *KEY)
    assert network.calls == 3
    for pair, value in steps.costs(p, x_0, all_pairs((0, 2, 5, T)), 1, *KEY).values.items():
        assert torch.equal(found.values[pair], value)


# --- the best grids ------------------------------------------------------------------------------------------------------


def brute_force(times: Sequence[int], costs: np.ndarray, k: int) -> float:
    """The least total over all grids of at most k steps."""
    inner = range(1, len(times) - 1)
    subsets = chain.from_iterable(combinations(inner, n) for n in range(k))
    return min(total(costs, [len(times) - 1, *reversed(subset), 0]) for subset in subsets)


tables = st.integers(2, 6).flatmap(
    lambda n: arrays.arrays(np.float64, (n, n), elements=st.floats(-1, 10) | st.just(math.inf), unique=False)
)


def check_against_brute_force(costs: np.ndarray) -> None:
    times = [3 * i**2 for i in range(len(costs))]
    grids = steps.best_grids(times, costs)
    values = []
    for k in range(1, len(times)):
        least = brute_force(times, costs, k)
        assert (k in grids) == math.isfinite(least)
        if k in grids:
            grid = grids[k]
            assert grid == sorted(set(grid), reverse=True)
            assert (grid[0], grid[-1]) == (times[-1], 0)
            assert len(grid) - 1 <= k
            values.append(total(costs, [times.index(t) for t in grid]))
            assert values[-1] == pytest.approx(least, rel=1e-12, abs=1e-12)
    assert values == sorted(values, reverse=True) or np.allclose(np.diff(values).clip(min=0), 0, atol=1e-12)


@given(tables)
def test_the_best_grids_are_those_of_brute_force_and_never_get_worse_with_more_steps(costs: np.ndarray) -> None:
    check_against_brute_force(costs)


def test_a_process_that_is_wrong_still_gains_from_every_step() -> None:
    """On the table of FixedLarge all K are used in full, and the last is the usual bound."""
    costs = table(LARGE)
    grids = best_grids(range(T + 1), costs)
    values = [total(costs, grids[k]) for k in range(1, T + 1)]
    assert [len(grids[k]) - 1 for k in grids] == list(range(1, T + 1))
    assert (np.diff(values) < 0).all()
    assert grids[T] == list(range(T, -1, -1))


def test_a_pair_that_was_not_evaluated_is_never_taken() -> None:
    """The fixed last step of 2015 leads from 1 to 0 only: its grids all end so, and one step cannot be."""
    p = GaussianOracle(Q, DATA, Stationary())
    pairs = {(s, t) for s, t in all_pairs(range(T + 1)) if s > 0 or t == 1}
    grids = best_grids(range(T + 1), steps.costs(p, DATA.held_out(10), pairs, 10, *KEY).table(range(T + 1)))
    assert sorted(grids) == list(range(2, T + 1))
    assert all(grid[-2:] == [1, 0] for grid in grids.values())


@pytest.mark.parametrize(
    ("times", "shape"), [((0, 2, 1), (3, 3)), ((0, 1, 1), (3, 3)), ((0, 1, 2), (3, 2)), ((0, 1), (3, 3))], ids=str
)
def test_tables_that_do_not_fit_are_refused(times: Sequence[int], shape: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="increasing times"):
        best_grids(times, np.zeros(shape))
    with pytest.raises(UserError, match="a number for each"):
        best_grids((0, 1), np.full((2, 2), math.nan))


# --- strides -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("number", [1, 2, 3, 6, 50, 99, 100, 640, 1000])
def test_quadratic_strides_are_grids_of_as_many_steps_as_asked(length: int, number: int) -> None:
    grid = quadratic(length, number)
    assert len(grid) == min(number, length) + 1
    assert grid == sorted(set(grid), reverse=True)
    assert (grid[0], grid[-1]) == (length, 0)
    assert grid[-2] == 1 or number == 1
    assert len(even(length, number)) == len(grid)


def test_quadratic_strides_grow_in_proportion() -> None:
    assert quadratic(1000, 10) == [1000, 790, 605, 445, 309, 198, 112, 50, 13, 1, 0]
    assert quadratic(9, 9) == list(range(9, -1, -1))


# --- mutants -------------------------------------------------------------------------------------------------------------

TERM = steps.term


def of_the_single_step(p: Reverse, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    return TERM(p, x_0, x_t, t - 1, t)


def posterior_of_the_single_step(p: Reverse, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    if s[0] == 0:
        return TERM(p, x_0, x_t, s, t)
    return torch.distributions.kl_divergence(p.process.posterior(x_0, x_t, t - 1, t), p(x_t, s, t))


def seen_at_the_other_end(p: Reverse, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
    return TERM(p, x_0, x_t, (s - 1).clamp(min=0), s.clamp(min=1))


@pytest.mark.parametrize("mutant", [of_the_single_step, posterior_of_the_single_step, seen_at_the_other_end])
def test_a_wrong_cost_is_noticed(mutant: Callable[..., Tensor], monkeypatch) -> None:
    monkeypatch.setattr(steps, "term", mutant)
    with pytest.raises(AssertionError):
        check_costs_of_the_exact_process(LEARNED)
    with pytest.raises(AssertionError):
        check_against_a_process_of_those_steps((T, 5, 2, 0), monkeypatch)


def greedy(times: Sequence[int], costs: np.ndarray) -> dict[int, list[int]]:
    """Adds the time that helps most, one after the other."""
    index, grids = [0, len(times) - 1], {}
    for k in range(1, len(times)):
        grids[k] = [times[i] for i in reversed(index)]
        rest = [i for i in range(len(times)) if i not in index]
        if rest:
            index = sorted([*index, min(rest, key=lambda i: total(costs, sorted([*index, i], reverse=True)))])
    return grids


def test_a_greedy_choice_is_noticed(monkeypatch) -> None:
    costs = np.random.default_rng(0).uniform(0, 10, (6, 6))
    check_against_brute_force(costs)
    monkeypatch.setattr(steps, "best_grids", greedy)
    with pytest.raises(AssertionError):
        check_against_brute_force(costs)


def test_memory_that_looks_at_the_time_only_is_noticed(monkeypatch) -> None:
    class Forgetful(steps.Remembered):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            if self.last is None or not torch.equal(self.last[1], t):
                self.last = x, t.clone(), self.network(x, t)
            return self.last[2]

    monkeypatch.setattr(steps, "Remembered", Forgetful)
    with pytest.raises(AssertionError):
        check_memory_is_the_network_itself()


def test_costs_hold_what_they_were_given() -> None:
    values = {(0, 2): torch.tensor([1.0, 3.0]), (2, 5): torch.tensor([10.0, 20.0])}
    assert Costs(values).total([5, 2, 0]).tolist() == [11.0, 23.0]
    assert Costs(values).table([0, 2, 5])[[0, 1], [1, 2]].tolist() == [2.0, 15.0]
    assert Costs(values).table([0, 2, 5])[0, 2] == math.inf


# --- figures -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn() -> dict[str, np.ndarray]:
    arrays = {"all_K": np.array([50.0]), "all_nll_bound_mean": np.array([3.5]), "chosen_times_10": np.array([50.0, 7, 1, 0])}
    for number, strides in enumerate(("even", "quadratic", "chosen")):
        excess = np.array([2.0, 0.5, 0.1])[: 3 - number] / (1 + number)
        own = {"K": np.array([5.0, 10, 20])[: 3 - number], "nll_bound_mean": 3.5 + excess, "nll_excess_mean": excess}
        arrays |= {f"{strides}_{key}": values for key, values in {**own, "nll_excess_stderr": excess / 10}.items()}
    return {**arrays, "chosen_times_5": np.array([50.0, 2, 0])}


def test_the_figure_shows_every_curve_with_the_error_that_compares_them(drawn: dict[str, np.ndarray]) -> None:
    figure = figures.bound(drawn)
    for axes, quantity in zip(figure.axes, ("nll_bound", "nll_excess"), strict=True):
        for container, strides in zip(axes.containers, ("even", "quadratic", "chosen"), strict=True):
            points = np.stack([drawn[f"{strides}_K"], drawn[f"{strides}_{quantity}_mean"]], 1)
            np.testing.assert_array_equal(container[0].get_xydata(), points)
            lengths = [np.ptp(segment[:, 1]) for segment in container[2][0].get_segments()]
            np.testing.assert_allclose(lengths, 4 * drawn[f"{strides}_nll_excess_stderr"])
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["5", "10", "20"]
    assert {3.5} == {line.get_ydata()[0] for line in figure.axes[0].lines if line.get_label() == "all 50"}
    assert render(figure).startswith(b"\x89PNG")


def test_the_figure_of_the_times_has_a_row_for_each_number_of_steps(drawn: dict[str, np.ndarray]) -> None:
    (axes,) = figures.times(drawn).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["5", "10"]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[50, 0], [2, 0]], [[50, 1], [7, 1], [1, 1]]]


# --- as an evaluator ------------------------------------------------------------------------------------------------------


def fewer_steps(**changes) -> FewerSteps:
    settings = {"lengths": [2, 4], "validation": 300, "candidates": 99, "unit": "bits/dim", "batch_size": 64}
    return FewerSteps(**{**settings, "wrap": lambda process: process, **changes})


def test_the_evaluator_finds_no_excess_for_the_exact_process_and_bounds_the_entropy() -> None:
    found = fewer_steps()(LEARNED, DATA, DATA.held_out(400), 0)
    rows = {(m.quantity, m.protocol["strides"], m.protocol["K"]): m for m in found.measurements}
    assert rows.keys() == {
        *(("nll_bound", strides, K) for strides in ("even", "quadratic", "chosen") for K in (2, 4)),
        *(("nll_excess", strides, K) for strides in ("even", "quadratic", "chosen") for K in (2, 4)),
        ("nll_bound", "all", T),
    }
    for (quantity, *_), m in rows.items():
        truth = ENTROPY / math.log(2) if quantity == "nll_bound" else 0.0
        assert m.value == pytest.approx(truth, abs=4 * m.stderr)
    for key in ((strides, K) for strides in ("even", "quadratic", "chosen") for K in (2, 4)):
        assert rows["nll_excess", *key].value == pytest.approx(
            rows["nll_bound", *key].value - rows["nll_bound", "all", T].value
        )


def test_the_evaluator_chooses_on_validation_what_is_best_there() -> None:
    """With a fixed variance grids differ: the chosen one is that of the exact costs, and better than the others."""
    found = fewer_steps()(LARGE, DATA, DATA.held_out(400), 0)
    best = best_grids(range(T + 1), table(LARGE))
    for K in (2, 4):
        assert found.arrays[f"chosen_times_{K}"].tolist() == best[K]
        excess = {
            m.protocol["strides"]: m.value for m in found.measurements if m.quantity == "nll_excess" and m.protocol["K"] == K
        }
        assert excess["chosen"] <= min(excess.values())
        assert found.arrays["chosen_nll_excess_mean"][(2, 4).index(K)] == excess["chosen"]


def test_times_to_choose_from_are_dense_where_they_are_small() -> None:
    assert times_to_choose_from(1000, 5) == [0, 1, 6, 32, 178, 1000]
    assert times_to_choose_from(T, 99) == list(range(T + 1))


@pytest.mark.parametrize("change", [{"validation": 1}, {"candidates": 1}, {"lengths": []}, {"lengths": [0]}])
def test_a_choice_of_nothing_is_refused(change) -> None:
    with pytest.raises(UserError, match="two images"):
        fewer_steps(**change)
