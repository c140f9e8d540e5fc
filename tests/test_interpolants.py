"""Stochastic interpolants between mixtures: transport equation, score, and the bound that flows have not."""

import pytest
import torch

from dpm import seeds
from dpm.data.ends import TwoEnds
from dpm.data.mixtures import GaussianMixture
from dpm.data.synthetic import GaussianData
from dpm.errors import UserError
from dpm.evaluators.interpolants import Marginals, PlantedErrors, divergences, known, residual
from dpm.oracles.interpolants import InterpolatedMixtures
from dpm.paths import brownian_bridge, rectified, trigonometric
from dpm.processes import at
from dpm.reverse.transport import Transport

NORMAL = GaussianMixture([1.0], [[0.0]], [[1.0]])
TARGET = GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.09], [0.25]])
PATHS = [trigonometric(0.7), brownian_bridge(1.0), rectified(0.3)]


@pytest.mark.parametrize("path", PATHS)
def test_density_and_drift_obey_the_transport_equation(path) -> None:
    assert residual(InterpolatedMixtures(path, NORMAL, TARGET)) < 1e-10
    wrong = InterpolatedMixtures(path, NORMAL, TARGET)
    wrong.drift = lambda x, t: 1.01 * InterpolatedMixtures.drift(wrong, x, t)  # type: ignore[method-assign]
    assert residual(wrong) > 1e-3


def test_density_score_and_drift_in_the_plane_are_those_of_draws() -> None:
    seeds.seed_everything(0)
    p = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 1.0]], [[[1.0, 0.5], [0.5, 1.0]], [[0.3, 0.0], [0.0, 0.2]]])
    q = GaussianMixture([1.0], [[0.5, -1.0]], [[[0.5, -0.2], [-0.2, 0.4]]])
    exact, path, n = InterpolatedMixtures(trigonometric(0.7), p, q), trigonometric(0.7), 100_000
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    t = torch.full((5,), 0.4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(exact.log_density(x, t).sum(), x)
    torch.testing.assert_close(gradient, exact.score(x, t))
    ends = TwoEnds(p, q).sample(n, seeds.generator(1))
    x_t, velocity, z = path(ends, at(ends, 0.4))
    for feature in (torch.ones(n, 2).double(), x_t, x_t.sin()):  # E[f(x_t) (velocity - b)] = 0, and s = -E[z | x_t] / c
        for left in (velocity - exact.drift(x_t, at(x_t, 0.4)), z + path.noise(t)[0] * exact.score(x_t, at(x_t, 0.4))):
            mean = (feature * left).mean(0)
            assert bool((mean.abs() < 4.5 * (feature * left).std(0) / n**0.5).all())


def test_planted_errors_give_the_table() -> None:
    """Fact sheet, table 2.3: an ODE has no bound, the processes with noise obey theirs."""
    planted, p = PlantedErrors(0.1, [1, 5], [0.0, 0.5], 1200, "a/claim"), Transport(trigonometric(), torch.nn.Identity())
    rows = planted(p, TwoEnds(NORMAL, NORMAL), torch.zeros(1, 2, 1), 0).measurements
    at_0 = [m.value for m in rows if m.quantity == "marginal_divergence" and m.protocol["noise"] == 0]
    assert at_0 == pytest.approx([0.004921, 0.064296], rel=2e-3)
    at_half = [m.value for m in rows if m.quantity == "marginal_divergence" and m.protocol["noise"] == 0.5]
    assert at_half == pytest.approx([0.001715, 0.000400], rel=0.02)
    assert [m.value for m in rows if m.quantity == "drift_error"] == pytest.approx([0.004323, 0.005], rel=1e-3)
    ratio = next(m.value for m in rows if m.quantity == "bound_ratio")
    assert ratio == pytest.approx(0.001715 / 0.002162, rel=0.01)
    assert [(m.value, m.n, m.claim) for m in rows if m.quantity == "bounded_share"] == [(1.0, 2, "a/claim")]


def test_with_the_exact_drift_the_end_is_the_target_whatever_the_noise() -> None:
    exact = InterpolatedMixtures(trigonometric(0.7), NORMAL, TARGET)
    rows = divergences(exact, lambda x, t: exact.drift(x, t) + 1e-3, [0.0, 0.1], (1e-3, 1 - 1e-3), 900, {})
    assert max(abs(m.value) for m in rows if m.quantity == "marginal_divergence") < 2e-4


def test_samples_have_the_marginals_of_the_interpolant() -> None:
    data, path = TwoEnds(NORMAL, TARGET), trigonometric(0.7)
    exact, n = InterpolatedMixtures(path, NORMAL, TARGET), 2000
    p = Transport(path, torch.nn.Identity())
    p.field = exact.drift  # type: ignore[method-assign]
    rows = Marginals(1e-3, [0.0, 1.0], 100, n, 300)(p, data, data.held_out(1), 0).measurements
    for m in rows:
        if m.quantity == "distribution_distance":
            assert m.value < 2.0 / n**0.5  # exceeded by one sample in a thousand
    assert next(m.value for m in rows if m.quantity == "drift_error") < 1e-20
    with pytest.raises(UserError, match="mixtures"):
        known(path, TwoEnds(GaussianData(1), TARGET))
