"""Ancestral sampling: an exact reverse process keeps the marginals at any stride, and the last step is without noise.

Sweeps: a reverse process times r gets the marginals p(x_s) r(x_s) / Z at any stride, which one sweep has not.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from dpm import schedules
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network, Stationary
from dpm.errors import UserError
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse
from dpm.reverse.conditioned import Conditioned, GaussianFactor
from dpm.samplers import ancestral as samplers

T, N, MEAN, VARIANCE = 12, 20_000, 0.8, 0.3
Q = GaussianDiffusion(schedules.geometric(T, 1e-3, 1e-2))
ORACLE = GaussianOracle(Q, GaussianData(1, MEAN, VARIANCE), Network())
GRIDS = {
    "every step": range(T, -1, -1),
    "every third": range(T, -1, -3),
    "uneven": (T, 7, 2, 1, 0),
    "one jump": (T, 0),
}


def marginal(t: int) -> tuple[float, float]:
    """Mean and variance of q(x_t)."""
    alpha, sigma = (c.item() for c in Q.schedule(torch.tensor(t)))
    return alpha * MEAN, alpha**2 * VARIANCE + sigma**2


def noise(n: int) -> Tensor:
    """x_T ~ q(x_T)."""
    mean, variance = marginal(T)
    return mean + math.sqrt(variance) * torch.randn(n, 1, dtype=torch.float64)


def check_moments(grid: Sequence[int]) -> None:
    """Every x_s of the walk has the moments of q(x_s), the last one those of E[x_0 | x_t] at the last t before 0."""
    walk = list(samplers.ancestral(ORACLE, noise(N), grid))
    assert len(walk) == len(grid) - 1
    for s, x_s in zip(grid[1:], walk, strict=True):
        mean, variance = marginal(s)
        if s == 0:  # Var E[x_0 | x_t] = alpha_t^2 v^2 / Var x_t
            alpha, _ = Q.schedule(torch.tensor(grid[-2]))
            variance = alpha.item() ** 2 * VARIANCE**2 / marginal(grid[-2])[1]
        assert x_s.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / N))
        assert x_s.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / N))


def check_the_last_step_is_without_noise() -> None:
    """The same x_1 leads to the same x_0 whatever the generator's state: the mean of p(x_0 | x_1)."""
    one, x_1 = torch.ones(50, dtype=torch.long), torch.randn(50, 1, dtype=torch.float64)
    short = GaussianOracle(GaussianDiffusion(schedules.linear(1, 0.3, 0.3)), ORACLE.data, Network())
    (x_0,) = samplers.ancestral(short, x_1, [1, 0])
    assert torch.equal(x_0, short(x_1, one - 1, one).mean)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_an_exact_reverse_process_keeps_the_moments(grid: Sequence[int]) -> None:
    check_moments(grid)


def test_the_last_step_is_without_noise() -> None:
    check_the_last_step_is_without_noise()


def test_the_grid_may_be_a_generator_and_nothing_is_computed_before_it_is_asked_for() -> None:
    walk = samplers.ancestral(ORACLE, noise(4), (t for t in range(T, -1, -4)))
    assert [x.shape for x in walk] == [(4, 1)] * 3
    assert not any(x.requires_grad for x in samplers.ancestral(ORACLE, noise(4), [T, 0]))


@pytest.mark.parametrize("grid", [[], [T], [0], [T, 3], [T - 1, 0], [T, 3, 3, 0], [0, T], [T, 3, 5, 0], [T + 1, 0], [T, 0, -1]])
def test_bad_grids_are_refused(grid: list[int]) -> None:
    with pytest.raises(UserError, match=f"decreases from T = {T} to 0"):
        next(samplers.ancestral(ORACLE, noise(4), grid))


def test_the_fixed_step_of_2015_refuses_a_grid_that_jumps_over_1() -> None:
    reverse = GaussianOracle(Q, ORACLE.data, Stationary())
    with pytest.raises(UserError, match=r"\.\.\., 1, 0"):
        list(samplers.ancestral(reverse, noise(4), [T, 2, 0]))
    assert len(list(samplers.ancestral(reverse, noise(4), [T, 2, 1, 0]))) == 3


# --- sweeps --------------------------------------------------------------------------------------------------------------

Y, NOISE, EARLY = -1.0, 0.2, (T, 10, 9, 6, 3, 0)
TILTED = Conditioned(ORACLE, GaussianFactor(torch.tensor([Y], dtype=torch.float64), NOISE))


def errors(grid: Sequence[int], sweeps: int) -> Tensor:
    """Mean and variance of x_s less those of p(x_s) r(x_s) / Z, in standard errors, for each s > 0 of the walk: (steps, 2)."""
    rows = []
    for s, x_s in zip(grid[1:-1], samplers.ancestral(TILTED, noise(N), grid, sweeps=sweeps), strict=False):
        mean, variance = marginal(s)
        k = variance / (variance + NOISE)
        mean, variance = mean + k * (Y - mean), k * NOISE
        error = x_s.mean().item() - mean, x_s.var().item() - variance
        rows.append([error[0] / math.sqrt(variance / N), error[1] / (variance * math.sqrt(2 / N))])
    return torch.tensor(rows)


def check_sweeps_make_the_marginals(grid: Sequence[int]) -> None:
    assert errors(grid, 40).abs().max() < 4


@pytest.mark.parametrize("grid", [*(GRIDS[name] for name in ("every third", "uneven")), EARLY], ids=str)
def test_sweeps_make_the_marginals_at_any_stride(grid: Sequence[int]) -> None:
    """40 sweeps have the mean and variance of p(x_s) r(x_s) / Z within errors; one sweep is off by 20 errors and more."""
    check_sweeps_make_the_marginals(grid)
    assert errors(grid, 1).abs().max() > 20


def check_data_that_is_noise_already(sweeps: int) -> None:
    """With q(x_t) = pi = N(0, I) for all t, m sweeps of small steps sample p r^(2m / (2m - 1)), twice r for one sweep.

    So N(y; x, s^2) acts like N(y; x, s^2 (1 - 1 / 2m)), and the bias falls as 1 / m. The paper's own chain: m = 1.
    """
    steps, n, y = 250, 4000, 10.0
    white = GaussianOracle(GaussianDiffusion(schedules.linear(steps, 0.02, 0.02)), GaussianData(1), Stationary())
    p = Conditioned(white, GaussianFactor(torch.tensor([y], dtype=torch.float64), 1.0))
    *_, x, _ = samplers.ancestral(p, torch.randn(n, 1, dtype=torch.float64), range(steps, -1, -1), sweeps=sweeps)
    noise = 1 - 1 / (2 * sweeps)
    assert x.mean().item() == pytest.approx(y / (1 + noise), rel=0.01)
    assert x.var().item() == pytest.approx(noise / (1 + noise), rel=0.02 + 4 * math.sqrt(2 / n))


@pytest.mark.parametrize("sweeps", [1, 2, 3])
def test_one_sweep_counts_the_likelihood_twice_and_more_approach_once(sweeps: int) -> None:
    check_data_that_is_noise_already(sweeps)


def check_the_last_step_is_taken_once() -> None:
    """Repeated, the fixed last step of 2015 would drift to pi: the mode is sqrt(1 - beta_1) x_1 whatever the sweeps."""
    fixed = GaussianOracle(GaussianDiffusion(schedules.linear(1, 0.3, 0.3)), ORACLE.data, Stationary())
    x_1 = torch.full((3, 1), 5.0, dtype=torch.float64)
    (x_0,) = samplers.ancestral(fixed, x_1, [1, 0], sweeps=50)
    assert x_0.flatten().tolist() == pytest.approx([math.sqrt(0.7) * 5] * 3)


def test_the_last_step_is_taken_once() -> None:
    check_the_last_step_is_taken_once()


def test_no_sweep_is_refused() -> None:
    with pytest.raises(UserError, match="at least once, got sweeps=0"):
        next(samplers.ancestral(ORACLE, noise(4), [T, 0], sweeps=0))


def swept(forward: Callable[..., Tensor], every: bool = False) -> Any:
    """`ancestral` with another way to go from x_s to x_t, or with a last step that is swept too."""

    def mutant(reverse: Reverse, x_T: Tensor, steps: Any, sweeps: int = 1) -> Iterator[Tensor]:
        x, one = x_T, torch.ones(len(x_T), dtype=torch.long)
        for t, s in pairwise(steps):
            p = reverse(x, one * s, one * t)
            for _ in range(sweeps - 1 if s or every else 0):
                p = reverse(forward(reverse.process, p.sample(), one * s, one * t), one * s, one * t)
            x = p.sample() if s else p.mode
            yield x

    return mutant


def right(q: GaussianDiffusion, x_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
    return q.kernel(x_s, s, t).sample()


MUTANTS = {
    "forward from time 0": swept(lambda q, x, s, t: q.marginal(x, t).sample()),
    "forward by one step": swept(lambda q, x, s, t: q.kernel(x, s, s + 1).sample()),
    "forward from t - 1": swept(lambda q, x, s, t: q.kernel(x, t - 1, t).sample()),
    "not forward at all": swept(lambda q, x, s, t: x),
    "forward without noise": swept(lambda q, x, s, t: q.kernel(x, s, t).mean),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_way_forward_breaks_the_marginals(name: str, monkeypatch) -> None:
    monkeypatch.setattr(samplers, "ancestral", MUTANTS[name])
    with pytest.raises(AssertionError):
        check_sweeps_make_the_marginals(EARLY)


def test_a_swept_last_step_is_noticed_and_the_rest_of_the_mutants_is_right(monkeypatch) -> None:
    monkeypatch.setattr(samplers, "ancestral", swept(right))
    check_the_last_step_is_taken_once()
    check_sweeps_make_the_marginals(EARLY)
    monkeypatch.setattr(samplers, "ancestral", swept(right, every=True))
    with pytest.raises(AssertionError):
        check_the_last_step_is_taken_once()


def test_the_grid_ends_in_the_fixed_step() -> None:
    """All steps or fewer: from T to 1 evenly, then 0."""
    assert samplers.grid(60, 60) == list(range(60, -1, -1))
    assert samplers.grid(60, 999) == list(range(60, -1, -1))
    assert samplers.grid(61, 4) == [61, 41, 21, 1, 0]
    assert samplers.grid(61, 2) == [61, 1, 0]
    assert samplers.grid(1, 5) == [1, 0]
