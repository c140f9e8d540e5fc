"""The U-Net of 2020 as released, block by block; the wrappers around a network; the schedules of the learning rate."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm import schedules
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.networks.unet import Attention, Downsample, Residual, UNet, Upsample, sinusoids
from dpm.networks.wrappers import Autocast, Unshuffled
from dpm.objectives.simple import Simple
from dpm.predictions.papers import Epsilon
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.schedulers import warm_up, warm_up_cosine
from dpm.variances import FixedLarge

CIFAR10 = {"ch": 128, "ch_mult": (1, 2, 2, 2), "num_res_blocks": 2, "attention": (1,)}
LSUN = {"ch": 128, "ch_mult": (1, 1, 2, 2, 4, 4), "num_res_blocks": 2, "attention": (4,)}


def tiny(in_channels: int = 3, out_channels: int = 3, dropout: float = 0.0, ch: int = 32) -> UNet:
    return UNet(in_channels, out_channels, ch, (1, 2), 1, attention=(1,), dropout=dropout)


def awake(network: nn.Module) -> nn.Module:
    """With weights as after some training: nothing is 0 or 1, and what starts at 1e-10 has its say."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, std=0.3)
    return network


def batch(n: int, channels: int = 3, size: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(n, channels, size, size), torch.arange(n) * 37 + 1


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def normalised(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    """Group norm of 32 groups and epsilon 1e-6, written out."""
    groups = x.reshape(len(x), 32, -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, correction=0, keepdim=True)
    return ((groups - mean) / (variance + 1e-6).sqrt()).reshape(x.shape) * layer.weight[:, None, None] + layer.bias[
        :, None, None
    ]


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def dense(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """A 1x1 convolution as a matrix at every pixel."""
    return torch.einsum("oi,bihw->bohw", layer.weight[:, :, 0, 0], x) + layer.bias[:, None, None]


@pytest.mark.parametrize(("settings", "size", "parameters"), [(CIFAR10, 32, 35_746_307), (LSUN, 256, 113_673_219)])
def test_the_released_networks_have_their_number_of_parameters(settings, size: int, parameters: int) -> None:
    with torch.device("meta"):
        network = UNet(3, 3, **settings)
        assert network(torch.zeros(2, 3, size, size), torch.ones(2, dtype=torch.long)).shape == (2, 3, size, size)
    assert count(network) == parameters


def test_attention_follows_every_block_of_its_levels_and_the_middle_has_it_anyway() -> None:
    with torch.device("meta"):
        network = UNet(3, 3, **CIFAR10)
    found = [name for name, module in network.named_modules() if isinstance(module, Attention)]
    # down: 2 blocks and a downsampling per level, 3..4 are level 1; up: 3 blocks per level from level 3, 6..8 are level 1
    assert found == ["down.3.1", "down.4.1", "middle.1", "up.6.1", "up.7.1", "up.8.1"]


def test_every_stage_on_the_way_down_is_a_skip_for_the_way_up() -> None:
    """CIFAR-10: the input convolution, 8 blocks and 3 downsamplings, 12 skips for the 12 blocks on the way up."""
    with torch.device("meta"):
        network = UNet(3, 3, **CIFAR10)
    assert len(network.down) + 1 == len(network.up) == 12
    widths: list[int] = []
    for stage in network.up:
        stage.register_forward_pre_hook(lambda module, inputs: widths.append(inputs[0].shape[1]))
    network(*(part.to("meta") for part in batch(1, size=32)))
    on_the_way_up = [256] * 10 + [128] * 2  # each stage's input: the middle, then the stages before it
    skips = [128, 128, 128, 128, 256, 256, 256, 256, 256, 256, 256, 256]
    assert widths == [a + b for a, b in zip(on_the_way_up, reversed(skips), strict=True)]


def test_the_skips_are_the_outputs_of_the_way_down_in_reverse() -> None:
    network, down, up = awake(tiny()), [], []
    for stage in (network.input, *network.down):
        stage.register_forward_hook(lambda module, inputs, output: down.append(output))
    for stage in network.up:
        stage.register_forward_pre_hook(lambda module, inputs: up.append(inputs[0]))
    network(*batch(2))
    assert len(down) == len(up) == 4
    for skip, h in zip(reversed(down), up, strict=True):
        assert torch.equal(h[:, -skip.shape[1] :], skip)


@pytest.mark.parametrize(("outputs", "height", "width"), [(3, 8, 8), (6, 4, 12), (1, 2, 6)])
def test_the_output_has_the_size_of_the_input(outputs: int, height: int, width: int) -> None:
    assert tiny(2, outputs)(torch.randn(2, 2, height, width), torch.tensor([1, 1000])).shape == (2, outputs, height, width)


def test_an_untrained_network_outputs_almost_zero_so_that_l_simple_is_one() -> None:
    network = tiny()
    x, t = batch(64)
    output = network(x, t)
    assert 0 < output.abs().max() < 1e-3  # 1e-10 of the variance, not zero: as released
    q = GaussianDiffusion(schedules.linear(1000, 1e-4, 0.02))
    losses = Simple()(GaussianReverse(q, network, Epsilon(), FixedLarge(), Network()), x)
    assert losses.mean().item() == pytest.approx(1, abs=4 * math.sqrt(2 / x.numel()))


def test_weights_start_as_variance_scaling_has_them() -> None:
    """Uniform of variance 2 scale / (fan in + fan out), scale 1e-10 where the release says 0; zero biases."""
    small = {"output.2", *(f"{block}.second.3" for block in ("down.0.0", "down.2.0", "middle.0", "middle.2"))}
    small |= {
        "middle.1.project",
        "down.2.1.project",
        *(f"up.{i}.0.second.3" for i in range(4)),
        "up.0.1.project",
        "up.1.1.project",
    }
    seen = set()
    for name, layer in tiny().named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            area = layer.weight[0, 0].numel() if layer.weight.ndim > 2 else 1
            scale = 1e-10 if name in small else 1.0
            variance = 2 * scale / (area * sum(layer.weight.shape[:2]))
            assert layer.weight.max() <= math.sqrt(3 * variance) * 1.0001, name
            n = layer.weight.numel()  # the kurtosis of a uniform is 9 / 5
            assert layer.weight.square().mean().item() == pytest.approx(variance, rel=5 * math.sqrt(0.8 / n)), name
            assert not layer.bias.any()
            seen |= {name} & small
    assert seen == small


@pytest.mark.parametrize("width", [4, 32, 128])
def test_sinusoids(width: int) -> None:
    """[sin, cos] of index 10000^(-i / (width / 2 - 1)), i = 0..width / 2 - 1, in this order."""
    index, half = [0, 1, 7, 999], width // 2
    value = sinusoids(torch.tensor(index), width)
    for row, k in zip(value, index, strict=True):
        angles = [k * 10000 ** (-i / (half - 1)) for i in range(half)]
        expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert row.tolist() == pytest.approx(expected, abs=1e-3 if k == 999 else 1e-5)  # 999 in float32: 24 bits of the angle
    assert torch.equal(value[0], torch.cat([torch.zeros(half), torch.ones(half)]))


def test_the_first_time_has_index_0_and_a_dense_network_of_its_own() -> None:
    """t = 1: sin 0 = 0 and cos 0 = 1, then dense (4 ch), swish, dense (4 ch)."""
    network, x, seen = awake(tiny()), torch.randn(2, 3, 8, 8), []
    network.middle.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    network(x, torch.tensor([1, 500]))
    first, _, second = network.time
    assert (first.in_features, first.out_features, second.in_features, second.out_features) == (32, 128, 128, 128)
    for row, index in ((0, [0.0] * 16), (1, [499 * 10000 ** (-i / 15) for i in range(16)])):
        angles = torch.tensor(index)
        h = swish(first.weight @ torch.cat([angles.sin(), angles.cos()]) + first.bias)
        assert torch.allclose(seen[0][row], second.weight @ h + second.bias, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("before", "width"), [(32, 64), (64, 64)])
@pytest.mark.parametrize("size", [1.0, 1e-3])  # 1e-3: as small as the square root of epsilon
@torch.no_grad()
def test_a_residual_block_is_its_formula(before: int, width: int, size: float) -> None:
    block = awake(Residual(2, before, width, 16, dropout=0.5)).double().eval()
    x, times = size * torch.randn(2, before, 4, 4).double(), torch.randn(2, 16).double()
    h = F.conv2d(swish(normalised(x, block.first[0])), block.first[2].weight, block.first[2].bias, padding=1)
    added = swish(times) @ block.times[1].weight.T + block.times[1].bias
    h = swish(normalised(h + added[:, :, None, None], block.second[0]))
    h = F.conv2d(h, block.second[3].weight, block.second[3].bias, padding=1)
    shortcut = x if before == width else dense(x, block.shortcut)
    assert torch.allclose(block(x, times), shortcut + h, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_attention_is_its_formula() -> None:
    """x + project(softmax(q k / sqrt(C)) v), softmax over all positions, one head."""
    block, x = awake(Attention(2, 64)).double(), torch.randn(2, 64, 3, 4).double()
    q, k, v = (dense(normalised(x, block.norm), part) for part in block.qkv)
    weights = torch.einsum("bchw,bcij->bhwij", q, k).div(math.sqrt(64)).flatten(3).softmax(3).reshape(2, 3, 4, 3, 4)
    expected = x + dense(torch.einsum("bhwij,bcij->bchw", weights, v), block.project)
    assert torch.allclose(block(x, torch.zeros(2, 1)), expected, rtol=1e-9, atol=1e-9)


def test_group_norms_have_32_groups_and_an_epsilon_of_a_millionth() -> None:
    norms = [module for module in tiny().modules() if isinstance(module, nn.GroupNorm)]
    assert {(module.num_groups, module.eps) for module in norms} == {(32, 1e-6)}


@torch.no_grad()
def test_downsampling_pads_below_and_on_the_right_only() -> None:
    """Output (i, j) sees the inputs (2 i + a, 2 j + b), a, b = 0..2: each input of one pixel shows where it arrives."""
    layer = Downsample(2, 1)
    kernel = torch.arange(1.0, 10).reshape(3, 3)
    layer.conv.weight.copy_(kernel[None, None])
    output = layer(torch.eye(24).reshape(24, 1, 4, 6), torch.zeros(24, 1))
    assert output.shape == (24, 1, 2, 3)
    for pixel in range(24):
        y, x = divmod(pixel, 6)
        for i in range(2):
            for j in range(3):
                a, b = y - 2 * i, x - 2 * j
                expected = kernel[a, b] if 0 <= a < 3 and 0 <= b < 3 else 0
                assert output[pixel, 0, i, j] == expected


@torch.no_grad()
def test_upsampling_repeats_every_pixel_and_convolves() -> None:
    layer, x = awake(Upsample(2, 2)), torch.randn(3, 2, 4, 5)
    twice = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(
        layer(x, torch.zeros(3, 1)), F.conv2d(twice, layer.conv.weight, layer.conv.bias, padding=1), atol=1e-6
    )


@torch.no_grad()
def test_a_signal_is_an_image_whose_rows_are_alike() -> None:
    """With two-dimensional kernels that are zero but for their middle row: all levels, skips, norms and attention included."""
    signals = UNet(2, 3, 32, (1, 2, 2), 1, attention=(1,), axes=1)
    for parameter in signals.parameters():
        nn.init.normal_(parameter, std=0.1)
    images, weights = UNet(2, 3, 32, (1, 2, 2), 1, attention=(1,)), signals.state_dict()
    for name, value in images.state_dict().items():
        if value.ndim == 4:
            value.zero_()
            value[:, :, value.shape[2] // 2] = weights[name]
        else:
            value.copy_(weights[name])
    x, t = torch.randn(4, 2, 16), torch.tensor([1, 10, 100, 1000])
    assert torch.allclose(signals(x, t), images(x[:, :, None].expand(-1, -1, 8, -1), t)[:, :, 3], rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="halves its input 2 times"):
        signals(x[..., :6], t)
    with pytest.raises(UserError, match="3 axes"):
        UNet(2, 3, 32, (1, 2), 1, axes=3)


@torch.no_grad()
def test_dropout_is_active_in_training_only() -> None:
    network, (x, t) = awake(tiny(dropout=0.5)), batch(2)
    assert not torch.allclose(network(x, t), network(x, t), rtol=1e-2)
    without = awake(tiny())
    without.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(x, t), without(x, t))
    assert torch.equal(network(x, t), network(x, t))
    blocks = [m for m in network.modules() if isinstance(m, Residual)]
    assert [type(module) for module in blocks[0].second] == [nn.GroupNorm, nn.SiLU, nn.Dropout, nn.Conv2d]
    assert {block.second[2].p for block in blocks} == {0.5}


@torch.no_grad()
def test_examples_do_not_meet_and_time_matters() -> None:
    network, (x, t) = awake(tiny()), batch(5)
    output = network(x, t)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(5)])
    assert torch.allclose(alone, output, rtol=1e-4, atol=1e-4)
    assert (network(x, t + 100) - output).abs().mean() > 0.01


def test_every_parameter_learns() -> None:
    network = awake(tiny())
    network(*batch(2)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert name.endswith("qkv.1.bias") or parameter.grad.any(), name  # the same for all keys: no softmax sees it


@pytest.mark.parametrize(
    ("ch", "ch_mult", "blocks"), [(48, (1, 2), 1), (16, (1,), 1), (32, (), 1), (32, (1, 2), 0), (32, (1, 2), -1)]
)
def test_settings_that_make_no_network_are_refused(ch: int, ch_mult: Sequence[int], blocks: int) -> None:
    with pytest.raises(UserError, match="ch a multiple of 32") as error:
        UNet(3, 3, ch, ch_mult, blocks)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("height", "width"), [(6, 8), (8, 6), (7, 7), (2, 2)])
def test_sizes_that_cannot_be_halved_are_refused(height: int, width: int) -> None:
    network = UNet(3, 3, 32, (1, 1, 1), 1)
    assert network(torch.zeros(1, 3, 8, 4), torch.ones(1)).shape == (1, 3, 8, 4)
    with pytest.raises(UserError, match=rf"3 levels halves its input 2 times: \({height}, {width}\)") as error:
        network(torch.zeros(1, 3, height, width), torch.ones(1))
    assert "\n" not in str(error.value)


class Recorder(nn.Module):
    """The identity, `groups` times; keeps what it was given."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.x, self.t = x, t
        return torch.cat([factor * x for factor in range(1, self.groups + 1)], 1)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_unshuffled_identity_is_the_identity(factor: int) -> None:
    network, (x, t) = Recorder(), batch(3)
    assert torch.equal(Unshuffled(network, factor)(x, t), x)
    assert network.x.shape == (3, 3 * factor**2, 8 // factor, 8 // factor)
    assert torch.equal(network.t, t)
    for channel in range(3):  # each channel of the network is one of the factor^2 grids of a channel of the image
        for a in range(factor):
            for b in range(factor):
                assert torch.equal(network.x[:, (channel * factor + a) * factor + b], x[:, channel, a::factor, b::factor])


def test_unshuffled_keeps_the_halves_of_the_output_apart() -> None:
    """Mean and variance are the first and the second half of the channels, inside and outside."""
    x, t = batch(3)
    mean, z = Unshuffled(Recorder(groups=2), 2)(x, t).chunk(2, dim=1)
    assert torch.equal(mean, x)
    assert torch.equal(z, 2 * x)


@torch.no_grad()
def test_autocast_to_float32_is_the_plain_network() -> None:
    network, (x, t) = awake(tiny()), batch(3)
    expected = network(x, t)
    assert torch.allclose(Autocast(network, "float32")(x, t), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_autocast_to_bfloat16_is_close_and_not_the_same() -> None:
    network, (x, t) = awake(tiny()), batch(3)
    expected = network(x, t)
    miss = Autocast(network, "bfloat16")(x, t) - expected
    assert 1e-4 < miss.norm() / expected.norm() < 0.04  # some twenty roundings to 2^-9, one after the other


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_autocast_keeps_the_type_of_x_and_weights_in_float32(precision: str) -> None:
    network, (x, t), inside = awake(tiny()), batch(2), []
    network.input.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    wrapped = Autocast(network, precision)
    for dtype in (torch.float32, torch.float64):
        output = wrapped(x.to(dtype), t)
        assert output.dtype == dtype
        output.square().sum().backward()
    assert set(inside) == {getattr(torch, precision)}
    for parameter in wrapped.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous_format"])
def test_autocast_takes_the_memory_format_through_the_network(memory_format: str) -> None:
    network, (x, t), inside = awake(tiny()), batch(2), []
    expected = network(x, t)
    network.input.register_forward_hook(lambda module, inputs, output: inside.extend([*inputs, output]))
    output = Autocast(network, "float32", memory_format)(x.to(memory_format=torch.channels_last), t)
    assert all(tensor.is_contiguous(memory_format=getattr(torch, memory_format)) for tensor in inside)
    assert torch.allclose(output, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory_format", ["contiguous", "preserve_format", ""])
def test_other_memory_formats_are_refused(memory_format: str) -> None:
    with pytest.raises(UserError, match=f"channels_last or contiguous_format, not {memory_format}"):
        Autocast(tiny(), "float32", memory_format)


@pytest.mark.parametrize("precision", ["float16", "float64", "int32", "Tensor", "half a byte"])
def test_other_precisions_are_refused(precision: str) -> None:
    with pytest.raises(UserError, match=f"precision is float32 or bfloat16, not {precision}") as error:
        Autocast(tiny(), precision)
    assert "\n" not in str(error.value)


def rates(make, steps: int) -> list[float]:
    """The learning rate of each training step, 1..steps, and the one after, for a rate of 3."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    scheduler, found = make(optimizer), [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_warm_up_is_linear_up_to_its_last_step_and_then_constant() -> None:
    assert rates(lambda o: warm_up(o, 5), 7) == pytest.approx([3 * f for f in (0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1)], rel=1e-12)
    assert rates(lambda o: warm_up(o, 1), 2) == [3.0, 3.0, 3.0]


def test_warm_up_cosine_is_the_product_of_both_and_ends_at_zero() -> None:
    """min(k / 2, 1) at step k = 1..8, times half a cosine from 1 before the first step to 0 after the last."""
    found = rates(lambda o: warm_up_cosine(o, 2, 8), 8)
    cosine = [(1 + math.cos(math.pi * done / 8)) / 2 for done in range(9)]
    assert found == pytest.approx([3 * f * c for f, c in zip([0.5, *[1.0] * 8], cosine, strict=True)], rel=1e-12, abs=1e-12)
    assert found[0] == pytest.approx(1.5)
    assert found[4] == pytest.approx(1.5)  # halfway
    assert found[8] == pytest.approx(0, abs=1e-12)
