"""The network of the 2015 images: bumps and convolutions against their formulas, what moves with an image, how it starts.

Formulas are taken one example, one pixel and one scale at a time.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm.errors import UserError
from dpm.networks import multiscale
from dpm.networks.multiscale import Bumps, InFloat32, MultiScale, MultiScaleConvolution, Parallel, initialise, leaky_relu
from dpm.networks.wrappers import Autocast

T, J, C, SIDE = 12, 3, 2, 8
ACTIVATIONS = {"softplus": nn.Softplus, "leaky ReLU": leaky_relu}


def networks() -> dict[str, MultiScale]:
    """Both pathways, each alone, and the two together."""
    pathways = {
        "convolutions": multiscale.convolutions(C, 5, 2, 3),
        "dense": multiscale.dense(C, SIDE, 7, 2, 4),
        "both": Parallel({"one": multiscale.convolutions(C, 5, 2, 3), "two": multiscale.dense(C, SIDE, 7, 2, 4)}),
    }
    features = {"convolutions": 5, "dense": 4, "both": 9}
    return {
        name: MultiScale(C, lower, multiscale.pointwise(features[name], 6, 2, 2 * C * J), Bumps(J, T))
        for name, lower in pathways.items()
    }


def randomised(network: nn.Module) -> Any:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def batch(n: int, side: int = SIDE) -> tuple[Tensor, Tensor]:
    return torch.randn(n, C, side, side), torch.arange(n) % T + 1


# --- bumps in time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_bumps_are_normalised_gaussians_in_the_middles_of_equal_parts(width: float) -> None:
    """g_j(t) = exp(-(t - tau_j)^2 / 2 w^2) / sum_k (...), tau_j = (j - 1/2) T / J, w = width T / J (eqs. 62-63)."""
    weights = Bumps(J, T, width).weights(torch.arange(1, T + 1))
    assert (weights.shape, weights.dtype) == ((T, J), torch.float64)
    assert torch.allclose(weights.sum(1), torch.ones(T).double(), rtol=1e-12)
    for t in range(1, T + 1):
        bumps = [math.exp(-((t - tau) ** 2) / (2 * (4 * width) ** 2)) for tau in (2, 6, 10)]
        assert weights[t - 1].tolist() == pytest.approx([bump / sum(bumps) for bump in bumps], rel=1e-12)


def test_the_width_is_the_spacing_in_the_paper_and_half_of_it_in_the_release() -> None:
    """At a centre the next bump is exp(-1/2) as high, or exp(-2); whatever T and J."""
    for steps, bumps in ((1000, 10), (40, 4)):
        centre = torch.tensor([steps // bumps // 2])
        for width, ratio in ((1.0, math.exp(-1 / 2)), (0.5, math.exp(-2))):
            g = Bumps(bumps, steps, width).weights(centre)[0]
            assert float(g[1] / g[0]) == pytest.approx(ratio, rel=1e-12)
        paper, default = Bumps(bumps, steps, 1.0).weights(centre), Bumps(bumps, steps).weights(centre)
        assert torch.equal(paper, default)


@pytest.mark.parametrize(("J", "width"), [(0, 1.0), (-2, 1.0), (3, 0.0), (3, -1.0), (3, math.nan)])
def test_no_bumps_and_no_width_are_refused(J: int, width: float) -> None:
    with pytest.raises(UserError, match="J >= 1 and width > 0") as error:
        Bumps(J, T, width)
    assert "\n" not in str(error.value)


def test_the_read_out_is_the_sum_over_bumps_of_each_pixel() -> None:
    """z_c = sum_j y_cj g_j(t): first all channels of z^mu, then those of z^Sigma, J features for each."""
    network, (x, t) = randomised(networks()["both"]), batch(5)
    with torch.no_grad():
        y, z, g = (tensor.numpy() for tensor in (network.upper(network.lower(x)), network(x, t), network.bumps.weights(t)))
    assert z.shape == (5, 2 * C, SIDE, SIDE)
    for i, c, row, column in np.ndindex(*z.shape):
        expected = sum(y[i, c * J + j, row, column] * g[i, j] for j in range(J))
        assert abs(z[i, c, row, column] - expected) < 1e-4


@pytest.mark.parametrize("name", networks())
def test_features_do_not_see_t(name: str) -> None:
    """One image at all t spans J dimensions: J bumps, and nothing else, depend on time."""
    x = batch(1)[0].expand(T, -1, -1, -1)
    singular = torch.linalg.svdvals(randomised(networks()[name])(x, torch.arange(1, T + 1)).flatten(1).double())
    assert singular[J - 1] > 1e-3 * singular[0]
    assert singular[J] < 1e-5 * singular[0]


# --- the parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", [1, 2, 4])
def test_a_layer_is_the_sum_of_enlarged_convolutions_of_means(scales: int) -> None:
    """Means over squares of 2^k pixels, 3 x 3 products of each with zeros around it, every value repeated 2^k x 2^k times."""
    layer, x = randomised(MultiScaleConvolution(C, 3, scales)).double(), torch.randn(2, C, 16, 24).double()
    expected = torch.zeros(2, 3, 16, 24).double()
    for k, convolution in enumerate(layer.convolutions):
        step = 2**k
        means = x.reshape(2, C, 16 // step, step, 24 // step, step).mean((3, 5))
        padded = F.pad(means, (1, 1, 1, 1))
        part = torch.zeros(2, 3, 16 // step, 24 // step).double()
        for a in range(3):
            for b in range(3):
                shifted = padded[:, :, a : a + 16 // step, b : b + 24 // step]
                part += torch.einsum("oc,bchw->bohw", convolution.weight[:, :, a, b], shifted)
        expected += part.repeat_interleave(step, 2).repeat_interleave(step, 3)
    expected += layer.convolutions[0].bias[:, None, None]
    assert torch.allclose(layer(x), expected, rtol=1e-10, atol=1e-12)
    assert [convolution.bias is not None for convolution in layer.convolutions] == [True, *[False] * (scales - 1)]


def test_pathways_stand_side_by_side() -> None:
    one, two = nn.Identity(), nn.Tanh()
    x = batch(2)[0]
    assert torch.equal(Parallel({"b": one, "a": two})(x), torch.cat([x, x.tanh()], 1))


@pytest.mark.parametrize(("scales", "shift"), [(1, 1), (3, 4), (3, 8)])
def test_features_move_with_the_image_away_from_its_borders(scales: int, shift: int) -> None:
    """By multiples of 2^(scales - 1) pixels, and not by one pixel where there are coarse squares."""
    stack, x = randomised(multiscale.convolutions(C, 4, 2, scales)), torch.randn(1, C, 64, 64)
    inside = slice(24, 40)  # each layer reaches less than 2^scales pixels

    def moved(pixels: int) -> tuple[Tensor, Tensor]:
        there = slice(inside.start + pixels, inside.stop + pixels)
        return stack(x.roll((pixels, pixels), (2, 3)))[..., there, there], stack(x)[..., inside, inside]

    assert torch.allclose(*moved(shift), rtol=1e-5, atol=1e-6)
    assert torch.allclose(*moved(1), rtol=1e-5, atol=1e-6) == (scales == 1)
    assert not torch.allclose(stack(x.roll(shift, 3))[..., -4:], stack(x)[..., -4 - shift : -shift])  # at the border


def test_convolutions_take_images_of_any_size() -> None:
    """A patch of a larger image has the features of the larger image, away from its own border."""
    network = randomised(networks()["convolutions"])
    x, t = torch.randn(1, C, 64, 72), torch.tensor([5])
    whole, patch = network(x, t), network(x[:, :, 16:56, 8:48], t)
    assert (whole.shape, patch.shape) == ((1, 2 * C, 64, 72), (1, 2 * C, 40, 40))
    assert torch.allclose(whole[:, :, 32:40, 24:32], patch[:, :, 16:24, 16:24], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole[:, :, 16:20, 8:12], patch[:, :, :4, :4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(12, 10), (10, 12), (2, 4)])
def test_images_that_the_coarsest_squares_do_not_tile_are_refused(height: int, width: int) -> None:
    network = networks()["convolutions"]
    assert network(torch.randn(1, C, 12, 4), torch.tensor([5])).shape == (1, 2 * C, 12, 4)
    with pytest.raises(UserError, match=f"{height} x {width} pixels .* squares of 4") as error:
        network(torch.randn(1, C, height, width), torch.tensor([5]))
    assert "\n" not in str(error.value)


def test_upper_layers_look_at_one_pixel() -> None:
    layers, x = randomised(multiscale.pointwise(4, 6, 2, 5)), torch.randn(2, 4, 3, 5)
    order = torch.randperm(15)
    shuffled = x.flatten(2)[..., order].reshape(x.shape)
    assert torch.allclose(layers(shuffled), layers(x).flatten(2)[..., order].reshape(2, 5, 3, 5), rtol=1e-5, atol=1e-6)


def test_the_dense_pathway_sees_every_pixel_everywhere() -> None:
    pathway, x = randomised(multiscale.dense(C, 4, 6, 2, 3)).double(), torch.randn(1, C, 4, 4).double().requires_grad_()
    output = pathway(x)
    assert output.shape == (1, 3, 4, 4)
    for value in output.flatten()[::7]:
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        assert bool((gradient != 0).all())


@pytest.mark.parametrize("name", networks())
def test_examples_do_not_meet_and_time_matters(name: str) -> None:
    network, (x, t) = randomised(networks()[name]), batch(5)
    output = network(x, t)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(5)])
    assert torch.allclose(alone, output, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(x, t % T + 1), output)


def test_activations_are_those_of_the_paper_or_of_the_release() -> None:
    """softplus after convolutions, tanh elsewhere (D.2.1); max(h, h / 20) everywhere in the release."""
    h = torch.linspace(-5, 5, 41)
    builders: list[tuple[Callable[..., Any], Tensor]] = [
        (lambda **choice: multiscale.convolutions(C, 4, 3, 2, **choice), torch.log1p(h.exp())),
        (lambda **choice: multiscale.dense(C, 4, 6, 3, 2, **choice), h.tanh()),
        (lambda **choice: multiscale.pointwise(4, 6, 3, 2, **choice), h.tanh()),
    ]
    for build, published in builders:
        for choice, expected in (({}, published), ({"activation": leaky_relu}, torch.maximum(h, h / 20))):
            kinds = [m for m in build(**choice) if not list(m.parameters()) and not isinstance(m, nn.Flatten | nn.Unflatten)]
            layers = sum(isinstance(m, nn.Linear | nn.Conv2d | InFloat32 | MultiScaleConvolution) for m in build(**choice))
            assert len(kinds) == layers - (build is builders[2][0])  # the last 1 x 1 convolution is linear
            for activation in kinds:
                assert torch.allclose(activation(h), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "sizes"),
    [
        (multiscale.convolutions, {"channels": 1, "features": 2, "layers": 2, "scales": 2}),
        (multiscale.dense, {"channels": 1, "side": 2, "hidden": 2, "layers": 2, "outputs": 2}),
        (multiscale.pointwise, {"inputs": 2, "hidden": 2, "layers": 2, "outputs": 2}),
    ],
)
def test_sizes_below_1_are_refused(build: Callable[..., nn.Module], sizes: dict[str, int]) -> None:
    build(**sizes)
    for name in sizes:
        for size in (0, -1):
            with pytest.raises(UserError, match=f"at least 1.*'{name}': {size}") as error:
                build(**{**sizes, name: size})
            assert "\n" not in str(error.value)


# --- how it starts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks())
def test_an_untrained_network_outputs_zero_in_the_precision_of_x_and_can_learn(name: str) -> None:
    network, (x, t) = networks()[name], batch(3)
    for dtype in (torch.float32, torch.float64):
        output = Autocast(network, "float32")(x.to(dtype), t)
        assert (output.shape, output.dtype) == ((3, 2 * C, SIDE, SIDE), dtype)
        assert not output.any()
    (output - 1).square().mean().backward()
    assert bool((network.upper[-1].weight.grad != 0).any())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_unit_variance_is_kept_through_a_stack(activation: str) -> None:
    """White noise into plain convolutions and into dense layers: variance 1 before every activation, away from borders."""
    stack, x = multiscale.convolutions(8, 128, 4, 1, ACTIVATIONS[activation]), torch.randn(2, 8, 32, 32)
    with torch.no_grad():
        for index, layer in enumerate(stack):
            x = layer(x)
            if index % 2 == 0:
                inside = x[..., 6:-6, 6:-6]
                assert inside.var().item() == pytest.approx(1, abs=0.08)
                assert inside.mean().item() == pytest.approx(0, abs=0.1)
    x = torch.randn(200, 8, 8, 8)
    with torch.no_grad():
        for layer in multiscale.dense(8, 8, 300, 4, 2, ACTIVATIONS[activation]):
            x = layer(x)
            if isinstance(layer, nn.Linear):
                assert x.var().item() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("scales", [1, 2, 4])
def test_the_variance_of_a_layer_counts_every_scale_once(scales: int) -> None:
    """Unit variance at every scale gives unit variance; white noise has 4^-k at scale k, so that 1/S sum_k 4^-k is left."""
    layer = MultiScaleConvolution(32, 64, scales)
    initialise(layer.convolutions, nn.Identity())
    flat, white = torch.randn(100, 32, 1, 1).expand(-1, -1, 24, 24), torch.randn(20, 32, 32, 32)
    with torch.no_grad():
        assert layer(flat)[..., 8:16, 8:16].var().item() == pytest.approx(1, rel=0.07)
        expected = sum(4.0**-k for k in range(scales)) / scales
        assert layer(white)[..., 8:-8, 8:-8].var().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_biases_take_away_the_mean_of_the_activation(activation: str) -> None:
    """E f(h) over h ~ N(0, 1), by quadrature, into every input: the output is 0. Weights: variance 1 / fan-in Var f."""
    f = ACTIVATIONS[activation]()
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(200))
    weights, values = weights / weights.sum(), f(nodes)
    mean = float(weights @ values)
    variance = float(weights @ values.square()) - mean**2
    layer = MultiScaleConvolution(32, 16, 3)
    initialise(layer.convolutions, f)
    with torch.no_grad():
        output = layer(torch.full((1, 32, 24, 24), mean))
    assert output[..., 8:16, 8:16].abs().max() < 0.01
    assert output[..., 0, 0].abs().max() > 0.1  # zeros around the image, not the mean
    drawn = torch.cat([convolution.weight.flatten() for convolution in layer.convolutions])
    assert drawn.var().item() * 3 * 9 * 32 * variance == pytest.approx(1, rel=0.05)


# --- precision -----------------------------------------------------------------------------------------------------------


def test_the_first_layer_sees_pixels_in_float32_inside_autocast() -> None:
    """A thousandth in a pixel of value 1, which bfloat16 rounds away, comes out as what the convolution makes of it."""
    lower = multiscale.convolutions(1, 4, 2, 2)
    network = Autocast(MultiScale(1, lower, multiscale.pointwise(4, 4, 1, 2 * J), Bumps(J, T)), "bfloat16")
    seen: list[Tensor] = []
    lower[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    x, change, t = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), torch.tensor([3])
    change[0, 0, 3, 5] = 1e-3
    with torch.no_grad():
        for image in (x, x + change):
            network(image, t)
        before, after = seen
        bias = lower[0].layer.convolutions[0].bias[:, None, None]
        expected = lower[0].layer(change) - bias
        with torch.autocast("cpu", torch.bfloat16):
            rounded = [lower[0].layer(image) for image in (x, x + change)]
    assert before.dtype == after.dtype == torch.float32
    assert torch.allclose(after - before, expected, atol=1e-6)
    assert expected.abs().max() > 1e-4
    assert torch.equal(*rounded)


def test_the_network_in_bfloat16_is_nearly_the_network() -> None:
    network, (x, t) = randomised(networks()["both"]), batch(4)
    exact = network(x, t)
    for precision, error in (("float32", 1e-5), ("bfloat16", 0.03)):
        output = Autocast(network, precision)(x, t)
        assert output.dtype == torch.float32
        assert (output - exact).square().mean().sqrt() < error * exact.square().mean().sqrt()
