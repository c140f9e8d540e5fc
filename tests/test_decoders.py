"""The last step p(x_0 | x_1): discretised Gaussian (2020, eq. 13), stationary kernel (2015, eq. 44), the network itself."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from dpm import schedules
from dpm.decoders import Decoder, Discretized, DiscretizedNormal, Network, Stationary
from dpm.errors import UserError
from dpm.predictions.papers import X0
from dpm.processes.binomial import BinomialDiffusion
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.variances import FixedLarge

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
HALF_BIN = 1 / 255
DDPM = GaussianDiffusion(schedules.linear(1000, 1e-4, 0.02))


def discretized(mean: float, std: float, n: int = 1) -> DiscretizedNormal:
    return DiscretizedNormal(torch.full((n,), mean, dtype=torch.float64), torch.full((n,), std, dtype=torch.float64))


def one(n: int) -> Tensor:
    return torch.ones(n, dtype=torch.long)


def reverse(decoder: Decoder) -> GaussianReverse:
    """A network that predicts x_0 = 0.9 x_t."""
    network = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(network.weight, 0.9)

    class Untimed(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            return network(x_t)

    return GaussianReverse(DDPM, Untimed(), X0(), FixedLarge(), decoder)


def log_mass(level: float, mean: float, std: float) -> float:
    """log of the normal probability of a level's bin, by quadrature relative to the largest density in the bin."""
    low = -math.inf if level < -1 + HALF_BIN else (level - HALF_BIN - mean) / std
    high = math.inf if level > 1 - HALF_BIN else (level + HALF_BIN - mean) / std
    peak = min(max(0.0, low), high)
    ends = max(low, peak - 12), min(high, peak + 12)
    integral, _ = quad(lambda z: math.exp((peak**2 - z**2) / 2), *ends, epsabs=0, epsrel=1e-12, points=[peak])
    return math.log(integral) - peak**2 / 2 - math.log(2 * math.pi) / 2


def check_sums_to_one(mean: float, std: float) -> None:
    """The open end bins take what a Gaussian puts outside [-1, 1]."""
    assert discretized(mean, std).log_prob(LEVELS).exp().sum().item() == pytest.approx(1, abs=1e-9)


@given(st.floats(-1.5, 1.5), st.floats(1e-3, 3))
def test_probabilities_of_all_levels_sum_to_one(mean: float, std: float) -> None:
    check_sums_to_one(mean, std)


@pytest.mark.parametrize("level", [-1.0, LEVELS[1].item(), LEVELS[100].item(), 1.0])
@pytest.mark.parametrize("sigmas", [-40.0, -5.0, -0.3, 1.0, 8.0, 40.0])
@pytest.mark.parametrize("std", [2e-3, 0.02])
def test_the_mass_is_exact_in_both_tails(level: float, sigmas: float, std: float) -> None:
    mean, value = level + sigmas * std, torch.tensor([level], dtype=torch.float64)
    assert discretized(mean, std).log_prob(value).item() == pytest.approx(log_mass(level, mean, std), rel=1e-9, abs=1e-9)


def test_the_mass_is_the_difference_of_scipys_cdf_where_nothing_cancels() -> None:
    edges = np.concatenate([[-np.inf], LEVELS.numpy()[1:] - HALF_BIN, [np.inf]])
    assert discretized(0.1, 0.05).log_prob(LEVELS).exp().numpy() == pytest.approx(
        np.diff(norm.cdf(edges, 0.1, 0.05)), abs=1e-14
    )


def test_the_tails_are_finite_in_float32_with_finite_gradients() -> None:
    mean = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    log_p = DiscretizedNormal(mean, torch.full((3,), 0.01)).log_prob(torch.tensor([1.0, -1.0, -1.0]))
    assert bool(log_p.isfinite().all())
    assert bool(torch.autograd.grad(log_p.sum(), mean)[0].isfinite().all())


def test_samples_lie_on_the_levels_and_have_their_frequencies() -> None:
    levels = (discretized(0.99, 0.01, n=100_000).sample() + 1) * 127.5
    counts = torch.bincount(levels.round().long(), minlength=256)
    expected = discretized(0.99, 0.01).log_prob(LEVELS).exp() * 100_000
    assert torch.allclose(levels, levels.round(), atol=1e-9)
    assert bool(((counts - expected).abs() < 5 * expected.sqrt() + 1).all())


def L_0(std: float, rmse: float) -> float:
    """Bits/dim of the discretised decoder in mid-range when its mean misses by a normal error of `rmse` (both on [-1, 1])."""
    errors = torch.linspace(-10 * rmse, 10 * rmse, 4001, dtype=torch.float64)
    weights = torch.softmax(-0.5 * (errors / rmse) ** 2, 0)
    p = DiscretizedNormal(LEVELS[128] - errors, torch.full_like(errors, std))
    return -float(weights @ p.log_prob(LEVELS[128])) / math.log(2)


def check_published_distortion() -> None:
    """2020: L_0 = 1.97 bits/dim at RMSE 0.95136 grey levels, which needs std sqrt(beta-tilde_2) and not sqrt(beta_1).

    For normal errors the density at the pixel gives 1.975 and the mass of its bin, which is what eq. 13 defines, 1.977.
    """
    std = reverse(Network())(torch.zeros(1, 1).double(), one(1) - 1, one(1)).stddev.item()
    rmse, grey = 0.95136 / 127.5, 127.5
    density = math.log2(std * grey * math.sqrt(2 * math.pi)) + 0.5 * (rmse / std) ** 2 * math.log2(math.e)
    assert density == pytest.approx(1.975, abs=5e-4)
    assert L_0(std, rmse) == pytest.approx(1.977, abs=5e-4)


def test_published_distortion() -> None:
    check_published_distortion()


@pytest.mark.parametrize("T", [1, 5, 40])
def test_stationary_is_bayes_with_the_stationary_distribution(T: int) -> None:
    """log p(x_0 | x_1) = log q(x_1 | x_0) + log pi(x_0) - log pi(x_1), for both kernels."""
    schedule = schedules.linear(T, 0.1, 0.5)
    bits = (torch.rand(2, 64, 5) < 0.5).double()
    cases = (GaussianDiffusion(schedule), torch.randn(2, 64, 5).double()), (BinomialDiffusion(schedule, 0.2), bits)
    for q, (x_0, x_1) in cases:
        model = reverse(Stationary())
        model.process = q
        right = q.kernel(x_0, one(64) - 1, one(64)).log_prob(x_1) + q.prior(x_0).log_prob(x_0) - q.prior(x_1).log_prob(x_1)
        assert torch.allclose(model(x_1, one(64) - 1, one(64)).log_prob(x_0), right, rtol=1e-9, atol=1e-9)


def test_stationary_refuses_to_skip_its_step() -> None:
    with pytest.raises(UserError, match="t = 1 to 0"):
        reverse(Stationary())(torch.zeros(2, 1).double(), torch.tensor([0, 0]), torch.tensor([2, 2]))


def test_network_and_discretized_decode_from_the_networks_own_step() -> None:
    x_1 = torch.tensor([[0.5], [-0.2]]).double()
    density = reverse(Network())(x_1, one(2) - 1, one(2))
    assert torch.allclose(density.mean, 0.9 * x_1)
    p = reverse(Discretized(levels=256))(x_1, one(2) - 1, one(2))
    x_0 = LEVELS[torch.tensor([[180], [100]])]
    expected = DiscretizedNormal(0.9 * x_1, density.stddev).log_prob(x_0).sum(1)
    assert torch.allclose(p.log_prob(x_0), expected)
    assert torch.equal(p.mode, density.mean)


def test_data_beside_the_levels_are_refused_and_those_on_them_are_not() -> None:
    levels = torch.arange(256).double() / 127.5 - 1
    for x in (levels, levels.float(), levels[:1]):
        Discretized().require(x)
    off = {
        "half a level": levels + 1 / 255,
        "[0, 1]": (levels + 1) / 2,
        "16 bits": levels * 256,
        "normal": torch.randn(9),
        "nan": levels * math.nan,
    }
    for x in off.values():
        with pytest.raises(UserError, match="256 levels"):
            Discretized().require(x)
