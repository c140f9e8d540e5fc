"""Quasi-random points: each is uniform, together they are even, and the bound's mean over them is nearly its expectation."""

import math

import pytest
import test_bound
import torch
from torch import Tensor

from dpm import quasirandom, schedules
from dpm.bound import stationary_edges
from dpm.data.synthetic import GaussianData, QuasiRandom, QuasiRandomRoll, SwissRoll
from dpm.decoders import Stationary
from dpm.objectives.one_term import OneTerm
from dpm.objectives.quasirandom_terms import QuasiRandomTerms
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.gaussian import GaussianDiffusion

D = test_bound.D
ROLL = QuasiRandomRoll(noise_variance=1e-4)


class QuasiRandomGaussian(QuasiRandom, GaussianData):
    dimensions = uniforms = D

    def at(self, u: Tensor) -> Tensor:
        return self.mean + math.sqrt(self.variance) * quasirandom.normal(u)


def test_points_are_in_the_open_cube_and_each_is_uniform() -> None:
    u = quasirandom.uniform(4, slice(1, 3), torch.rand(20_000, 1, 2, dtype=torch.float64))
    assert u.shape == (20_000, 4, 2)
    assert bool(((u > 0) & (u < 1)).all())
    assert torch.allclose(u.mean(0), torch.full((4, 2), 0.5, dtype=torch.float64), atol=4 * (12 * 20_000) ** -0.5)
    assert torch.allclose(u.square().mean(0), torch.full((4, 2), 1 / 3, dtype=torch.float64), atol=4 * (0.09 / 20_000) ** 0.5)


def test_normal_is_the_quantile_function() -> None:
    z = torch.linspace(-6, 6, 13, dtype=torch.float64)
    assert torch.allclose(quasirandom.normal(torch.special.ndtr(z)), z, atol=1e-6)


def test_a_mean_over_points_is_nearly_its_expectation() -> None:
    """E z_1^2 z_2^2 = 1 for two coordinates: a tenth of the error of as many independent draws, sqrt(8 / n), or less."""
    n = 4096
    z = quasirandom.normal(quasirandom.uniform(n, slice(0, 2), torch.rand(50, 1, 2, dtype=torch.float64)))
    errors = z.square().prod(2).mean(1) - 1
    assert errors.square().mean().sqrt().item() < 0.1 * math.sqrt(8 / n)


def test_a_quasi_random_roll_is_the_roll() -> None:
    """Moments of x_0 over a batch, to its accuracy; batches are functions of (seed, step), other examples the roll's own."""
    roll, (low, high) = SwissRoll(noise_variance=1e-4), SwissRoll.PHI
    phi = low + (high - low) * (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    x = ROLL.batch(4096, 3, 7)
    assert torch.allclose(x.mean(0), roll.curve(phi).mean(0), atol=1e-3)
    assert x.square().mean().item() == pytest.approx(1, abs=1e-3)
    assert (x - ROLL.batch(4096, 3, 8)).abs().max() > 0.01
    assert torch.equal(x, ROLL.batch(4096, 3, 7))
    for name in ("validation", "held_out"):
        assert torch.equal(getattr(ROLL, name)(50), getattr(roll, name)(50))


def test_the_objective_is_nearly_the_expected_bound() -> None:
    """Against the closed form; and with less than a third of the error that one random term per example has."""
    data = QuasiRandomGaussian(D, 0.3, 0.5)
    p = GaussianOracle(GaussianDiffusion(schedules.linear(5, 0.05, 0.4)), data, Stationary())
    exact = test_bound.expected_total(p, 0.3, 0.5, stationary_edges)

    def error(objective: QuasiRandomTerms | OneTerm, source: GaussianData) -> float:
        means = torch.stack([objective(p, source.batch(1024, 0, step)).mean() for step in range(20)])
        return (means - exact).square().mean().sqrt().item()

    quasi = error(QuasiRandomTerms(stationary_edges), data)
    assert quasi < error(OneTerm(stationary_edges), GaussianData(D, 0.3, 0.5)) / 3
    assert quasi < 0.02
