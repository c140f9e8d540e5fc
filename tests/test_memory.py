"""A decoder with memory is a distribution over 8-bit images: by enumeration, by its sampler, factor by factor."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import schedules
from dpm.decoders import Discretized, DiscretizedNormal, Network
from dpm.errors import UserError
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion, Step
from dpm.reverse import facts_of
from dpm.reverse.deep_memory import MaskedConvolution, MaskedRegression, with_deep_memory
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.memory import (
    Linear,
    Memory,
    Raster,
    Regression,
    causal,
    likeliest_scale,
    one_step,
    padded,
    regression,
    with_memory,
)
from dpm.variances import Fixed, FixedLarge

SHAPE = (2, 2, 2)  # colours, rows, columns
Q = GaussianDiffusion(schedules.linear(1000, 1e-4, 0.02))


def weights(channels: int, rows: int = 1, columns: int = 1, spread: float = 0.8, seed: int = 0) -> Tensor:
    """Any w that look back only."""
    mask, generator = causal(channels, rows, columns), torch.Generator().manual_seed(seed)
    return mask * spread * torch.randn(mask.shape, generator=generator, dtype=torch.float64)


def deep(w: Tensor, scale: Tensor) -> MaskedRegression:
    """Any network: none of its weights is 0."""
    network = MaskedRegression(Linear(w, scale), 256, width=3, blocks=2).double()
    generator = torch.Generator().manual_seed(6)
    for parameter in network.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return network.requires_grad_(False)


of_both_kinds = pytest.mark.parametrize("kind", [Linear, deep])
Kind = Callable[[Tensor, Tensor], Regression]


def raster(shape: tuple[int, ...], levels: int, w: Tensor, n: int = 1, kind: Kind = Linear) -> Raster:
    generator = torch.Generator().manual_seed(1)
    mean, std = (torch.rand(n, *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    scale = torch.linspace(0.7, 1.2, shape[0], dtype=torch.float64)
    return Raster(1.6 * mean - 0.8, 0.2 + std, kind(w, scale), levels)


def grid(levels: int) -> Tensor:
    return torch.linspace(-1, 1, levels, dtype=torch.float64)


def every_image(shape: tuple[int, ...], levels: int) -> Tensor:
    return torch.cartesian_prod(*[grid(levels)] * math.prod(shape)).reshape(-1, *shape)


def total(p: Raster, shape: tuple[int, ...], levels: int) -> float:
    return p.log_prob(every_image(shape, levels)).exp().sum().item()


@of_both_kinds
@pytest.mark.parametrize(("shape", "levels"), [((2, 2, 2), 3), ((1, 3, 3), 2), ((3, 1, 3), 2), ((1, 2, 3), 4)])
def test_probabilities_of_all_images_sum_to_one(shape: tuple[int, ...], levels: int, kind: Kind) -> None:
    assert total(raster(shape, levels, weights(shape[0]), kind=kind), shape, levels) == pytest.approx(1, abs=1e-12)


def test_a_memory_of_what_is_not_decoded_yet_is_no_distribution_and_is_refused() -> None:
    """The value itself, a later colour of its pixel, the pixel to the right: one such weight, and the total is not one."""
    for at in ((0, 0, 1, 1), (0, 1, 1, 1), (0, 0, 1, 2)):
        w = weights(2)
        w[at] = 0.5
        assert abs(total(raster(SHAPE, 3, w), SHAPE, 3) - 1) > 1e-3
        with pytest.raises(UserError, match="decoded before"):
            Memory(w, torch.ones(2))


def test_a_network_that_sees_a_value_itself_is_no_distribution() -> None:
    network = deep(weights(2), torch.ones(2))
    network.before = MaskedConvolution(2, 2, 3, 3, 3, itself=True).double()
    assert abs(total(raster(SHAPE, 3, weights(2), kind=lambda w, scale: network), SHAPE, 3) - 1) > 1e-3


@of_both_kinds
def test_a_factor_is_a_distribution_that_knows_only_what_is_before_it(kind: Kind) -> None:
    """At random values of random images of 256 levels: sums to one, and changes with nothing that is decoded later."""
    shape, generator = (3, 6, 5), torch.Generator().manual_seed(2)
    p = raster(shape, 256, weights(3, 3, 3, 0.2), kind=kind)
    x = grid(256)[torch.randint(256, (1, *shape), generator=generator)]
    factors = p.conditionals(x).log_prob(x)
    order = [(k, i, j) for i in range(6) for j in range(5) for k in range(3)]
    for number in torch.randint(len(order), (12,), generator=generator).tolist():
        k, i, j = order[number]
        images = x.repeat(256, 1, 1, 1)
        images[:, k, i, j] = grid(256)
        for later in order[number + 1 :]:
            images[(slice(None), *later)] = grid(256)[torch.randint(256, (256,), generator=generator)]
        found = p.conditionals(images).log_prob(images)
        assert found[:, k, i, j].exp().sum().item() == pytest.approx(1, abs=1e-9)
        for before in order[:number]:
            assert torch.allclose(found[(slice(None), *before)], factors[(slice(None), *before)], rtol=1e-9, atol=1e-12)


@of_both_kinds
def test_samples_have_the_frequencies_that_enumeration_gives(kind: Kind) -> None:
    p, n, shape = raster(SHAPE, 2, weights(2), kind=kind), 40_000, SHAPE
    torch.manual_seed(3)
    x = p.sample((n,))[:, 0]
    expected = n * p.log_prob(every_image(shape, 2)).exp()
    bits = ((x + 1) / 2).round().flatten(1)
    assert torch.equal(p.conditionals(x).bin(x), x)
    counts = torch.bincount((bits * 2 ** torch.arange(7, -1, -1)).sum(1).long(), minlength=256)
    likely = expected > 5
    chi2, dof = ((counts - expected).square() / expected)[likely].sum().item(), likely.sum().item()
    assert dof > 50
    assert abs(chi2 - dof) < 5 * math.sqrt(2 * dof)
    independent = raster(SHAPE, 2, 0 * weights(2)).log_prob(every_image(shape, 2)).exp()
    assert ((counts - n * independent).square() / (n * independent)).sum() > 1000


def test_the_cross_entropy_of_samples_is_their_entropy() -> None:
    """E log P(x) over its own samples, for images of 256 levels and a long memory, is sum of the factors' own entropies."""
    p, levels = raster((3, 5, 4), 256, weights(3, 2, 2, 0.3), n=300), grid(256)
    torch.manual_seed(4)
    x = p.sample()
    of_x = p.conditionals(x)
    every = DiscretizedNormal(of_x.mean[..., None], of_x.std[..., None], 256).log_prob(levels)
    surplus = p.log_prob(x) - (every.exp() * every.clamp(min=-1e9)).sum(-1).flatten(1).sum(1)
    assert abs(surplus.mean().item()) < 4 * surplus.std().item() / math.sqrt(len(x))


def test_no_memory_is_the_discretised_decoder_exactly() -> None:
    p = raster(SHAPE, 256, 0 * weights(2), n=5)
    x = grid(256)[torch.randint(256, (5, *SHAPE))]
    reverse = fixed(p.mode, p.std)
    for decoder in (Memory(0 * weights(2), torch.ones(2)), Discretized()):
        assert torch.equal(
            decoder(reverse, x, torch.ones(5)).log_prob(x), DiscretizedNormal(p.mode, p.std).log_prob(x).flatten(1).sum(1)
        )
    assert torch.equal(Memory(weights(2), torch.ones(2))(reverse, x, torch.ones(5)).mode, p.mode)


def fixed(mean: Tensor, std: Tensor):
    """A reverse process whose step is the same normal distribution everywhere."""

    class Fixed:
        process = Q

        def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> torch.distributions.Normal:
            return torch.distributions.Normal(mean, std)

    return Fixed()


def test_images_of_other_values_have_no_probability_here() -> None:
    p = raster(SHAPE, 256, weights(2))
    p.log_prob(grid(256)[torch.randint(256, (1, *SHAPE))].float().double())  # rounding is no other value
    for wrong in (torch.full((1, *SHAPE), 0.5 / 255), torch.full((1, *SHAPE), 1 + 2 / 255)):
        with pytest.raises(UserError, match="256 grey levels"):
            p.log_prob(wrong.double())


def test_there_are_219_weights() -> None:
    assert causal(3, 3, 3).sum().item() == 219
    assert causal(1, 0, 0).sum().item() == 0


def test_the_regression_is_the_least_squares_of_the_table_written_out() -> None:
    z = torch.randn(7, *SHAPE, dtype=torch.float64)
    w, mask = regression(z, 1, 1, batch_size=3), causal(2, 1, 1)
    around = padded(z, 1, 1)
    for k in range(2):
        rows, values = [], []
        for n, i, j in itertools.product(range(7), range(2), range(2)):
            rows.append(around[n, :, i : i + 2, j : j + 3][mask[k]].numpy())
            values.append(z[n, k, i, j].item())
        assert w[k][mask[k]].numpy() == pytest.approx(np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0])
        assert not w[k][~mask[k]].any()


def test_fitting_recovers_the_decoder_that_drew_the_images() -> None:
    """65,536 levels, so that rounding does not matter; the errors of least squares are about (n H W)^-1/2."""
    truth, n, scale, shape = weights(2, 1, 1, 0.12), 60, torch.tensor([0.8, 1.2]), (2, 16, 16)
    mean, std = torch.zeros(n, *shape).double(), 0.02 + 0.02 * torch.rand(n, *shape, dtype=torch.float64)
    torch.manual_seed(5)
    x = Raster(mean, std, Linear(truth, scale), 65536).sample()
    w = regression((x - mean) / std, 1, 1, 30)
    assert torch.allclose(w, truth, atol=5 / math.sqrt(n * 256))
    found = likeliest_scale(Raster(mean, std, Linear(w, torch.ones(2)), 65536).conditionals(x), x)
    assert torch.allclose(found, scale.double(), rtol=5 / math.sqrt(2 * n * 256))


class Untimed(nn.Module):
    """x_0-hat = x_t."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return x_t


def smooth(n: int, seed: int) -> Tensor:
    """8-bit images of two colours with the same broad shades."""
    generator = torch.Generator().manual_seed(seed)
    shades = torch.rand(n, 1, 2, 2, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return (shades * 255).round().repeat(1, 2, 1, 1).double() / 127.5 - 1


def test_a_memory_is_fitted_to_the_process_and_pays_on_other_images() -> None:
    reverse = GaussianReverse(Q, Untimed(), X0(), FixedLarge(), Discretized())
    one = torch.ones(40, dtype=torch.long)
    x_0 = smooth(40, 1)
    torch.manual_seed(0)
    x_1 = Q.marginal(x_0, one).sample()
    fitted, again = (with_memory(reverse, smooth(100, 0), seed, 2, 2, 32) for seed in (0, 0))
    before, after = (p(x_1, one - 1, one).log_prob(x_0).mean() for p in (reverse, fitted))
    assert after > before + 0.05 * x_0[0].numel()  # nats: neighbours share what the noise hides
    assert torch.equal(fitted.decoder.regression.weights, again.decoder.regression.weights)
    assert isinstance(reverse.decoder, Discretized)
    mean, std = one_step(reverse, x_0, 0, 16)
    assert mean.shape == std.shape == x_0.shape


def test_what_cannot_be_fitted_is_refused() -> None:
    reverse = GaussianReverse(Q, Untimed(), X0(), FixedLarge(), Discretized())
    continuous = GaussianReverse(Q, Untimed(), X0(), FixedLarge(), Network())
    for wrong, rows, batch_size in ((continuous, 1, 8), (reverse, -1, 8), (reverse, 1, 0)):
        with pytest.raises(UserError, match="discretised decoder") as error:
            with_memory(wrong, smooth(8, 0), 0, rows, 1, batch_size)
        assert "\n" not in str(error.value)


def restless(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """8-bit images of two colours, quiet and loud from left to right in turns of random length, and how loud they are."""
    generator = torch.Generator().manual_seed(seed)
    turns = (torch.rand(n, 1, 1, 12, generator=generator) < 0.3).cumsum(-1) % 2
    loud = (0.02 + 0.3 * turns).expand(n, 2, 12, 12).double()
    x = loud * torch.randn(loud.shape, generator=generator, dtype=torch.float64)
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1, loud


class Nothing(nn.Module):
    """x_0-hat = 0."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return 0 * x_t


class Wide(Fixed):
    """sigma = 0.15 everywhere."""

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        return torch.full((len(z), 1, 1, 1), 0.15**2, dtype=z.dtype)


def test_a_deep_memory_knows_how_much_was_missed_before_and_a_linear_one_does_not() -> None:
    """Independent values of two scales, of which the process knows nothing. In nats, beside one who knows the true scales."""
    reverse = GaussianReverse(Q, Nothing(), X0(), Wide(), Discretized())
    (examples, _), (x_0, loud), one = restless(200, 0), restless(60, 1), torch.ones(60, dtype=torch.long)
    settings = {"width": 3, "blocks": 1, "steps": 250, "batch_size": 10, "rate": 1e-2}
    fitted = (
        with_memory(reverse, examples, 0, 3, 3, 20),
        *(with_deep_memory(reverse, examples, 0, **settings) for _ in range(2)),
        with_deep_memory(reverse, examples, 0, precision="bfloat16", **settings),
    )
    flat, network, again, rounded = (p(x_0, one - 1, one).log_prob(x_0).mean().item() for p in fitted)
    known = DiscretizedNormal(torch.zeros_like(x_0), loud).log_prob(x_0).flatten(1).sum(1).mean().item()
    assert flat + 0.5 * (known - flat) < network < known
    assert network == again
    assert rounded != network
    assert abs(rounded - network) < 0.1 * (network - flat)
    numbers = sum(parameter.numel() for parameter in fitted[1].decoder.regression.parameters())
    about = {"decoder": "DeepMemory", "decoder_parameters": numbers, "decoder_examples": 2500}
    assert about.items() <= facts_of(fitted[1]).items()
    assert isinstance(reverse.decoder, Discretized)


def test_an_untrained_deep_memory_is_the_linear_one() -> None:
    w, scale = weights(2, 3, 3), torch.tensor([0.7, 1.2])
    x, mean, std = grid(256)[torch.randint(256, (5, 2, 6, 6))].float(), torch.rand(5, 2, 6, 6), 0.1 + torch.rand(5, 2, 6, 6)
    network = MaskedRegression(Linear(w, scale), 256, width=3, blocks=2)
    assert torch.equal(Raster(mean, std, network, 256).log_prob(x), Raster(mean, std, Linear(w, scale), 256).log_prob(x))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"blocks": 0}, {"steps": 0}, {"batch_size": 0}, {"rate": 0.0}])
def test_a_deep_memory_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    reverse = GaussianReverse(Q, Untimed(), X0(), FixedLarge(), Discretized())
    settings = {"width": 2, "blocks": 1, "steps": 1, "batch_size": 4, "rate": 1e-3}
    with pytest.raises(UserError, match=f"{next(iter(wrong))}=0") as error:
        with_deep_memory(reverse, smooth(8, 0), 0, **(settings | wrong))
    assert "\n" not in str(error.value)
