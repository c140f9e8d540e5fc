"""The benchmark of costs: operations against closed forms, ratios of rounds by hand, memory that is a process's own."""

import importlib
import math
import sys
from pathlib import Path

import helpers
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from dpm.errors import UserError
from dpm.figures import cost as figures
from dpm.figures import render
from dpm.networks.unet import Attention, UNet
from dpm.networks.wrappers import Unshuffled
from dpm.study.records import Record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # also for the processes that start from here
cost = importlib.import_module("cost")

MIB = 2**20
NAMES = ("unet", "diffusers", "denoising_diffusion_pytorch", "laptop_unet")
SHARED = [(name, "shared_training") for name in ("unet", "diffusers", "laptop_unet")]
KEYS = [(name, mode) for name in NAMES for mode in ("training", "evaluation")]


def tiny(attention: tuple[int, ...] = (1,)) -> UNet:
    return UNet(3, 3, 32, (1, 2), 1, attention)


# Operations


def by_hand(network: nn.Module, attentions: int) -> tuple[int, int]:
    """(forward, training) of one image: 2 per weight and output pixel, and 4 N^2 C of an attention over N positions.

    Backward costs the same twice, for inputs and for weights. The input convolution and the first layer of the times need
    no gradient of their inputs.
    """
    layers: dict[nn.Module, int] = {}

    def linear(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        layers[module] = 2 * module.weight.numel() * math.prod(output.shape[2:])

    def attention(module: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
        layers[module] = 4 * math.prod(output.shape[2:]) ** 2 * output.shape[1]

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(linear)
        elif isinstance(module, Attention):
            module.register_forward_hook(attention)
    with torch.no_grad():
        network(torch.zeros(1, *cost.SHAPE), torch.ones(1, dtype=torch.long))
    (unet,) = (module for module in network.modules() if isinstance(module, UNet))
    assert sum(isinstance(module, Attention) for module in layers) == attentions
    forward = sum(layers.values())
    return forward, 3 * forward - layers[unet.input] - layers[unet.time[0]]


@pytest.mark.parametrize(
    ("make", "attentions"),
    [
        (tiny, 4),
        (lambda: tiny(()), 1),
        (lambda: Unshuffled(UNet(12, 24, 32, (1, 1), 1), 2), 1),
        (lambda: cost.ours("laptop_unet"), 1),
        (lambda: cost.ours("unet"), 6),
    ],
)
def test_operations_are_those_of_the_layers(make, attentions: int) -> None:
    network = make()
    counted, (forward, training) = cost.size(lambda: network), by_hand(network, attentions)
    assert counted.flops == {"evaluation": forward, "training": training}
    assert counted.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.slow
def test_diffusers_network_is_the_papers() -> None:
    size = cost.size(cost.NETWORKS["diffusers"])
    assert size == cost.size(lambda: cost.ours("unet"))
    assert size.parameters == 35_746_307
    for network in (cost.NETWORKS["diffusers"](), cost.ours("unet")):
        assert {module.p for module in network.modules() if isinstance(module, nn.Dropout) and module.p} == {cost.DROPOUT}


def test_operations_of_convolutions_and_products() -> None:
    for operation in (cost.convolution(4, 6, 2, torch.channels_last), cost.product(6)):
        assert operation.flops == (2 * 9 * 4 * 4 * 36 * 2 if operation.call().ndim == 4 else 2 * 6**3)
        assert operation.call().dtype == torch.bfloat16
        assert 0 < operation.rate() < 1e15


# Steps


@pytest.mark.parametrize("setting", cost.SETTINGS)
def test_a_setting_decides_precision_and_memory_format(setting) -> None:
    network, inside = tiny(), []
    network.input.register_forward_hook(lambda module, inputs, output: inside.append((inputs[0], output)))
    placed = cost.Placed(network, setting)
    output = placed(torch.randn(2, 3, 8, 8), torch.ones(2, dtype=torch.long))
    ((x, h),) = inside
    assert output.dtype == torch.float32
    assert str(h.dtype) == f"torch.{setting.precision}"
    layout = cost.FORMATS[setting.memory_format]
    assert x.is_contiguous(memory_format=layout)
    assert network.middle[0].first[2].weight.is_contiguous(memory_format=layout)


def test_a_training_step_changes_the_weights_and_an_evaluation_does_not() -> None:
    network = tiny()
    before = network.output[2].weight.clone()
    cost.evaluation(network, 2, 0)()
    assert not network.training
    assert torch.equal(before, network.output[2].weight)
    step = cost.training(network, 2, 0)
    assert [step().step, step().step] == [1, 2]
    assert network.training
    assert not torch.equal(before, network.output[2].weight)


def test_a_step_can_be_shared_by_processes() -> None:
    """One thread here, and so one process there; two would share the batch by dpm.runs.parallel, which has its own tests."""
    with cost.shared_training("laptop_unet", cost.SETTINGS[2], 2, 0) as step:
        assert 0 < step() < 60
        assert 0 < step() < 60


def test_a_process_that_dies_does_not_hang() -> None:
    with pytest.raises((EOFError, ConnectionError)), cost.shared_training("no_network", cost.SETTINGS[2], 2, 0) as step:
        step()


def peak_with(mib: int) -> int:
    """The peak, in MiB, of a process that filled so much; nothing is imported there, so that it takes no second."""
    expression = f"(b'x' * ({mib} * 2**20), __import__('resource').getrusage(0).ru_maxrss)[1]"
    return cost.in_a_process(eval, expression) // (MIB if sys.platform == "darwin" else 1024)


def test_the_peak_of_a_process_is_its_own() -> None:
    """Neither what this process holds nor what another one held counts."""
    held = torch.ones(300 * MIB // 4)
    least, more, again = (peak_with(mib) for mib in (0, 200, 0))
    assert cost.own_peak() > 300 * MIB
    assert more - least == pytest.approx(200, abs=10)
    assert again == pytest.approx(least, abs=10)
    assert least < held.nbytes / MIB / 2


# Numbers


def test_rounds_begin_with_another_call_each_time() -> None:
    order: list[str] = []

    def call(name: str):
        return lambda: order.append(name) or float(len(order))

    found = cost.rounds({name: call(name) for name in "abc"}, 4)
    assert "".join(order) == "abcbcacababc"
    assert found == {"a": [1.0, 6.0, 8.0, 10.0], "b": [2.0, 4.0, 9.0, 11.0], "c": [3.0, 5.0, 7.0, 12.0]}


def test_the_middle_is_the_median_with_the_error_of_the_logarithm() -> None:
    assert cost.middle([1.0, math.e**2, math.e]) == pytest.approx((math.e, math.e / math.sqrt(3)))
    assert cost.middle([5.0, 5.0]) == (5.0, 0.0)
    assert cost.middle([5.0]) == (5.0, None)


SIZES = {name: cost.Size(10 * k, {"training": 3 * k * 10**9, "evaluation": k * 10**9}) for k, name in enumerate(NAMES, 1)}
TIMES = {key: [1.0 + k, 2.0 + 2 * k] for k, key in enumerate([*KEYS, *SHARED])}
CHOSEN = dict.fromkeys(KEYS, cost.SETTINGS[2])
PEAK = {"convolution": [100e9, 50e9], "matrix_product": [200e9, 100e9]}


def rows() -> list:
    memory = dict.fromkeys(KEYS, 3 * MIB)
    return [*cost.measurements(TIMES, PEAK, SIZES, CHOSEN, 4), *cost.sizes_and_memory(SIZES, memory, CHOSEN, 4)]


def value(quantity: str, **protocol: str) -> float:
    return figures.one([Record(cost.NAME, 0, "laptop", {}, {}, {}, tuple(rows()))], quantity, **protocol).value


def test_numbers_are_those_of_the_rounds() -> None:
    """Batches of 4; `unet` trains in 1 and 2 s; diffusers, of twice the work, in 3 and 6."""
    own = {"network": "unet", "mode": "training"}
    assert value("image_rate", **own) == pytest.approx((4 + 2) / 2)
    assert value("flop_rate", **own) == pytest.approx((12 + 6) / 2)
    assert value("fraction_of_peak", **own, peak="convolution") == pytest.approx(0.12)
    assert value("fraction_of_peak", **own, peak="matrix_product") == pytest.approx(0.06)
    assert value("peak", peak="convolution") == pytest.approx(75)
    assert value("faster", **own, rival="diffusers", of="images") == pytest.approx(3)
    assert value("faster", **own, rival="diffusers", of="operations") == pytest.approx(1.5)
    assert value("faster", network="unet", mode="evaluation", rival="diffusers", of="images") == pytest.approx(4 / 2)
    shared = {"network": "unet", "mode": "shared_training"}  # in 9 and 18 s, diffusers in 10 and 20
    assert value("flop_rate", **shared) == pytest.approx((12 / 9 + 12 / 18) / 2)
    assert value("faster", **shared, rival="diffusers", of="operations") == pytest.approx(10 / 9 / 2)
    assert value("throughput", **own) == pytest.approx((1 + 1 / 2) / 2)
    assert value("peak_memory", **own) == 3
    assert value("flops", network="laptop_unet", mode="training") == 12
    assert [(m.quantity, m.unit) for m in rows() if m.claim == cost.CLAIM] == [("throughput", "steps/s")]
    assert {m.protocol.get("precision", "bfloat16") for m in rows()} == {"bfloat16"}


def test_what_all_share_in_a_round_cancels() -> None:
    """A round in which the machine is half as fast leaves the ratios, and their error, as they are."""
    ratios = [m for m in rows() if m.quantity in ("faster", "fraction_of_peak") and m.protocol.get("mode") == "training"]
    assert len(ratios) == 4 + 2 * len(NAMES)
    assert [m.stderr for m in ratios] == pytest.approx([0] * len(ratios), abs=1e-12)
    assert all(m.stderr > 0 for m in rows() if m.quantity == "image_rate")


def test_the_figure_shows_the_record() -> None:
    figure = figures.throughput([Record(cost.NAME, 0, "laptop", {}, {}, {}, tuple(rows()))])
    left, right = figure.axes
    assert isinstance(figure, Figure)
    for k, mode in enumerate(("training", "shared_training", "evaluation")):
        for axes, quantity in ((left, "image_rate"), (right, "flop_rate")):
            expected = [value(quantity, network=name, mode=mode) for name in NAMES if (name, mode) in TIMES]
            assert list(axes.containers[k].lines[0].get_xdata()) == pytest.approx(expected)
    assert [line.get_xdata()[0] for line in right.lines if list(line.get_ydata()) == [0, 1]] == [75, 150]
    assert render(figure)[:4] == b"\x89PNG"


# Mistakes


@pytest.mark.parametrize("module", cost.RIVALS)
def test_a_library_that_is_not_there_is_one_line(module: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{module}.*: pip install -c requirements\.lock -e") as error:
        cost.NETWORKS[module]()
    assert helpers.one_line(str(error.value))


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--batch-size", "0"], ["--rounds", "many"]])
def test_a_bad_command_line_is_one_line(arguments: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["cost.py", *arguments])
    with pytest.raises((SystemExit, UserError)) as error:
        cost.main()
    assert helpers.one_line(str(error.value) if isinstance(error.value, UserError) else capsys.readouterr().err.strip())
