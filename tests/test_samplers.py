"""Ancestral sampling: an exact reverse process keeps the marginals at any stride, and the last step is without noise."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from dpm import schedules
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network, Stationary
from dpm.errors import UserError
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.gaussian import GaussianDiffusion
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
