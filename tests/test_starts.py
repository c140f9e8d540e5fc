"""Starts put centres where they say: on the prior, on training examples, in pairs on both sides of the roll."""

import math

import pytest
import torch

from dpm import schedules
from dpm.data.synthetic import QuasiRandomRoll
from dpm.errors import UserError
from dpm.networks.rbf import NormalizedRBF, OrthonormalRBF, scales_of_eq_65, where_x_t_is
from dpm.networks.starts import InPairs, Normal, OnData, OneOf
from dpm.processes.gaussian import GaussianDiffusion

ROLL, T = QuasiRandomRoll(noise_variance=1e-6), 6
PROCESS = GaussianDiffusion(schedules.geometric(T, 1e-4, 1e-3))
REFERENCE = where_x_t_is(PROCESS, ROLL, 64)


def distance_to_the_curve(x: torch.Tensor) -> torch.Tensor:
    low, high = ROLL.PHI
    return torch.cdist(x, ROLL.curve(torch.linspace(low, high, 20_000, dtype=torch.float64))).amin(1)


def test_normal_centres_have_the_priors_moments() -> None:
    centres, log_widths = Normal(0.5)(20_000, 2)
    assert centres.mean(0).abs().max() < 4 / math.sqrt(20_000)
    assert centres.var(0).sub(1).abs().max() < 4 * math.sqrt(2 / 20_000)
    assert torch.equal(log_widths, torch.full((20_000,), math.log(0.5), dtype=torch.float64))


def test_centres_on_data_are_training_examples_and_other_ones_each_time() -> None:
    one, other = (OnData(ROLL, 1.0)(16, 2)[0] for _ in range(2))
    assert distance_to_the_curve(one).max() < 5e-3  # five standard deviations of the roll's noise
    assert (one - other).abs().min(1).values.max() > 0.01


def test_pairs_stand_on_both_sides_of_the_curve_one_pair_in_each_part_of_it() -> None:
    centres, _ = InPairs(ROLL, 0.1, 0.5)(16, 2)
    inside, outside = centres.view(8, 2, 2).unbind(1)
    middle = (inside + outside) / 2
    assert distance_to_the_curve(middle).max() < 1e-3
    assert torch.allclose((outside - inside).norm(dim=1), torch.full((8,), 0.2, dtype=torch.float64))
    assert bool((inside.norm(dim=1) < middle.norm(dim=1)).all())
    (low, high), phi = ROLL.PHI, middle.norm(dim=1) / ROLL.scale
    assert ((phi**2 - low**2) / (high**2 - low**2) * 8).floor().tolist() == list(range(8))
    assert len(InPairs(ROLL, 0.1, 0.5)(5, 2)[0]) == 5


def test_one_of_draws_every_kind() -> None:
    torch.manual_seed(0)
    widths = {round(OneOf([Normal(1.0), Normal(2.0)])(1, 2)[1].exp().item(), 6) for _ in range(20)}
    assert widths == {1.0, 2.0}


def test_a_width_is_positive() -> None:
    with pytest.raises(UserError, match="width of a unit is positive, got 0"):
        Normal(0.0)(3, 2)


def network(units: int = 5, widths: int = 5) -> OrthonormalRBF:
    torch.manual_seed(1)
    one = OrthonormalRBF(2, 4, units, T, widths, Normal(0.7), REFERENCE)
    torch.nn.init.normal_(one.weights)
    torch.nn.init.normal_(one.biases)
    return one


@pytest.mark.parametrize("widths", [1, 5])
def test_the_orthonormal_network_is_the_published_one_with_other_coordinates(widths: int) -> None:
    """The same function of x and t, for whatever order of t, as the network whose read-outs are W_t = L_t^-T V_t."""
    one, published = network(widths=widths), NormalizedRBF(2, 4, 5, T).double()
    with torch.no_grad():
        for name, value in (("centres", one.centres), ("weights", one.read_outs()), ("biases", one.biases)):
            getattr(published, name).copy_(value)
        published.log_widths.copy_(one.log_widths.expand(5))
    x, t = torch.randn(40, 2, dtype=torch.float64), torch.randint(1, T + 1, (40,))
    assert torch.allclose(one(x, t), published(x, t), rtol=1e-8, atol=1e-8)
    assert torch.allclose(one(x, t.sort().values), published(x, t.sort().values), rtol=1e-8, atol=1e-8)
    assert one(x.float(), t).dtype == torch.float32


def test_its_units_are_orthonormal_where_x_t_is() -> None:
    """With V_t = I the outputs are L_t^-1 phi: their second moments over the reference points are all but the identity."""
    one = OrthonormalRBF(2, 4, 4, T, 4, Normal(0.3), REFERENCE)
    with torch.no_grad():
        one.weights.copy_(torch.eye(4).expand(T, 4, 4))
    x, t = REFERENCE.flatten(0, 1), torch.arange(1, T + 1).repeat_interleave(64)
    psi = one(x, t).view(T, 64, 4)
    second = psi.mT @ psi / 64
    assert torch.allclose(second.diagonal(dim1=1, dim2=2), torch.ones(T, 4, dtype=torch.float64), atol=0.02)
    assert torch.allclose(second, torch.eye(4, dtype=torch.float64).expand(T, 4, 4), atol=0.02)


def test_scaled_read_outs_move_the_printed_mean_as_much_as_those_of_the_release() -> None:
    """The same V_t in both forms: what z adds to the mean of a step is the same where Sigma = beta_t."""
    scales = scales_of_eq_65(PROCESS.schedule, 2)
    printed = OrthonormalRBF(2, 4, 5, T, 5, Normal(0.7), REFERENCE, scales)
    release = OrthonormalRBF(2, 4, 5, T, 5, Normal(0.7), REFERENCE)
    torch.nn.init.normal_(release.weights)
    printed.load_state_dict(release.state_dict())
    x, t = torch.randn(30, 2, dtype=torch.float64), torch.arange(30) % T + 1
    beta = PROCESS.schedule.betas[t - 1, None]
    assert torch.allclose(beta * printed(x, t)[:, :2], beta.sqrt() * release(x, t)[:, :2])
    assert torch.equal(printed(x, t)[:, 2:], release(x, t)[:, 2:])


def test_reference_points_have_the_marginals_of_x_t() -> None:
    points = where_x_t_is(PROCESS, ROLL, 2000)
    assert points.shape == (T, 2000, 2)
    assert torch.allclose(points.square().mean((1, 2)), torch.ones(T, dtype=torch.float64), atol=0.05)
    assert distance_to_the_curve(points[0]).mean() < 0.02 < distance_to_the_curve(points[3]).mean()


def test_widths_are_one_or_one_per_unit() -> None:
    with pytest.raises(UserError, match="got widths = 3"):
        network(widths=3)
