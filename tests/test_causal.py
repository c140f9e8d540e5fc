"""The causal network: a density, the chain rule, the entropy of data whose conditionals are known, and its sampler."""

import math

import pytest
import torch
from helpers import autoregressive, autoregressive_entropy, responses
from scipy.stats import kstest
from torch import Tensor

from dpm.baselines.causal import CausalNetwork, fit
from dpm.errors import UserError


def random_network(reach: int = 1, blocks: int = 1, free: int = 2, away: float = 0.3) -> CausalNetwork:
    """Parameters away from their initial values; float64."""
    network = CausalNetwork(reach, 6, blocks, free)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += away * torch.randn_like(parameter)
    return network.double()


def density(network: CausalNetwork, x: Tensor) -> Tensor:
    """p(x), (B,)."""
    with torch.no_grad():
        return network.log_density(x).sum((1, 2)).exp()


@pytest.mark.parametrize("free", [1, 3])
def test_the_density_of_an_image_integrates_to_one(free: int) -> None:
    """Two pixels, beside each other and above each other: the integral over the plane."""
    network, axis = random_network(free=free, away=0.2), torch.arange(-9, 9, 0.05, dtype=torch.float64)
    for shape in ((1, 2), (2, 1)):
        x = torch.cartesian_prod(axis, axis).view(-1, 1, *shape)
        total = sum(density(network, part).sum().item() for part in x.split(20_000)) * 0.05**2
        assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("reach", "blocks"), [(1, 1), (2, 1), (1, 3)])
def test_a_pixel_depends_on_the_pixels_before_it_and_on_no_other(reach: int, blocks: int) -> None:
    """Changing one pixel changes its own factor, those of its neighbours, and none before it or too far away."""
    network, (height, width) = random_network(reach, blocks), (6, 9)
    x, far = torch.randn(1, 1, height, width).double(), reach + blocks
    for pixel, changed, later, down, aside in responses(network.log_density, x):
        assert not (changed & ~(later & (down <= far) & (aside <= far))).any(), pixel
        near = later & (down <= reach) & (aside <= reach)
        assert changed[near].all(), pixel


def test_an_untrained_network_copies_the_leaf_of_a_neighbour() -> None:
    """Two flat halves: on either side one of the means is the grey level of the half, whichever comes first."""
    x = torch.cat([torch.full((1, 1, 6, 4), -1.0), torch.full((1, 1, 6, 4), 1.0)], 3)
    for image in (x, x.transpose(2, 3)):
        _, means, _ = CausalNetwork(2, 4, 1, 1).conditionals(image)
        for level in (-1.0, 1.0):
            inside = (image == level)[0, 0] & (image.roll(1, 2) == level)[0, 0] & (image.roll(1, 3) == level)[0, 0]
            inside[0], inside[:, 0] = False, False
            assert (means[0, :4, inside] - level).abs().amin(0).max() < 0.1


def test_on_gaussian_images_it_reaches_the_entropy() -> None:
    """Of whole images, first row and column included, within three hundredths of a nat and never above."""
    torch.manual_seed(0)
    network, x = CausalNetwork(1, 16, 1, 1), autoregressive(1500, 8, 8)
    for loss in fit(network, x, steps=250, batch_size=48, rate=0.01, seed=0):
        assert math.isfinite(loss)
    with torch.no_grad():
        mean = network.log_density(autoregressive(3000, 8, 8)).flatten(1).mean(1)
    error, entropy = mean.std().item() / math.sqrt(len(mean)), autoregressive_entropy(8, 8)
    assert -entropy - 0.03 - 4 * error < mean.mean().item() < -entropy + 4 * error


def test_samples_are_from_the_density() -> None:
    """The distribution function of each pixel given those before it, by the whole image, is uniform on [0, 1]."""
    network = random_network(away=0.2)
    x = network.float().sample(300, 6, 7).double()
    with torch.no_grad():
        log_weights, means, log_scales = network.double().conditionals(x)
    u = (log_weights.exp() * torch.distributions.Normal(means, log_scales.exp()).cdf(x)).sum(1)
    assert kstest(u.flatten().numpy(), "uniform").pvalue > 0.01
    assert all(kstest(u[:, i, j].numpy(), "uniform").pvalue > 1e-4 for i in range(6) for j in range(7))


def test_fitting_is_a_function_of_the_seed() -> None:
    x, losses = torch.randn(20, 1, 5, 5), []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        losses.append(list(fit(CausalNetwork(1, 4, 1, 1), x, 3, 8, 0.01, seed)))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("change", [{"reach": 0}, {"channels": 0}, {"blocks": 0}, {"free": 0}])
def test_a_causal_network_of_nothing_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least one of each"):
        CausalNetwork(**({"reach": 1, "channels": 1, "blocks": 1, "free": 1} | change))
