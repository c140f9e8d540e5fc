"""What a training step and an evaluation cost: the paper's U-Net and the laptop's beside two libraries, on one machine.

    python benchmarks/cost.py [--batch-size 32] [--rounds 9] [--seed 0]

The libraries are diffusers, whose UNet2DModel in the layout of google/ddpm-cifar10-32 is the paper's U-Net too, and
denoising-diffusion-pytorch, whose Unet of the same width and levels is another network. A training step is that of
dpm.training: forward, backward, clipping, Adam, moving average. Every network first tries float32 and bfloat16 (autocast) in
both memory formats and keeps the fastest for training and for evaluation; then all take turns, round after round, together
with the largest rates of bfloat16 convolutions and matrix products. What is compared is compared within a round. A shared
training step is the same one by a process for each thread, which share the batch (torchrun, dpm.runs.parallel). The peak
memory of a step is that of a process of its own. Writes a record below results/yours,
or with `--results results` the shipped one.

    pip install -c requirements.lock -e '.[dev,benchmark]'
"""

import argparse
import os
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpm import seeds
from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.networks.peers import DenoisingDiffusionPytorchUNet, DiffusersUNet
from dpm.networks.unet import UNet
from dpm.runs import app, parallel
from dpm.schedulers import warm_up
from dpm.study.records import Measurement, Record, provenance, standard_error
from dpm.training import Learner, Plan, fit

ROOT, NAME = Path(__file__).resolve().parents[1], "ho_2020/cost"
CLAIM = "ho_2020/text/cifar10/steps_per_second"
COUNTED = {"unet": "ho_2020/text/cifar10/parameters"}
LARGER = {  # the released networks for 256 x 256 pixels: base width, and the claim
    "unet_256": (128, "ho_2020/text/256/parameters"),
    "unet_bedroom_large": (192, "ho_2020/text/bedroom_large/parameters"),
}
SHAPE, T, DROPOUT = (3, 32, 32), 1000, 0.1  # dropout as in the paper; 0 in the laptop's network, which has none
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PRECISIONS = ("float32", "bfloat16")
TRIES = 2  # timed calls of a setting, of which the faster counts
MAPS = ((128, 32), (256, 16), (256, 32), (512, 16))  # (channels, side) of the convolutions among which the peak is sought
SIDES = (1024, 2048, 4096)  # of the matrices
SECONDS = 0.5  # for which a peak is sought in each round

Call = Callable[[], object]
Make = Callable[[], nn.Module]


# The networks: (x, t = 1..T) -> output, each with the paper's dropout


def ours(name: str) -> nn.Module:
    """The network of conf/network/<name>.yaml without its own choice of precision and memory format."""
    config = OmegaConf.load(ROOT / "conf/network" / f"{name}.yaml")
    network: nn.Module = instantiate(config.network)
    return network


NETWORKS: Mapping[str, Make] = {
    "unet": partial(ours, "unet"),
    "diffusers": partial(DiffusersUNet, dropout=DROPOUT),
    "denoising_diffusion_pytorch": partial(DenoisingDiffusionPytorchUNet, dropout=DROPOUT),
    "laptop_unet": partial(ours, "laptop_unet"),
}
RIVALS = ("diffusers", "denoising_diffusion_pytorch")  # of `unet`
SHARED = ("unet", "diffusers", "laptop_unet")  # trained by several processes too


# What is timed


@dataclass(frozen=True)
class Setting:
    precision: str
    memory_format: str


SETTINGS = tuple(Setting(precision, memory_format) for precision in PRECISIONS for memory_format in FORMATS)


class Placed(nn.Module):
    """The network at one setting; bfloat16 is autocast, with float32 weights. Its output is float32."""

    def __init__(self, network: nn.Module, setting: Setting) -> None:
        super().__init__()
        self.format, self.precision = FORMATS[setting.memory_format], getattr(torch, setting.precision)
        self.network: nn.Module = network.to(memory_format=self.format)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision is torch.bfloat16):
            output: Tensor = self.network(x.contiguous(memory_format=self.format), t)
        return output.float()


class Noise:
    """Batches of white noise, (size, *SHAPE)."""

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        return torch.randn(size, *SHAPE)

    def validation(self, n: int) -> Tensor:
        return torch.randn(n, *SHAPE)

    held_out = validation


def squared_error(network: nn.Module, x: Tensor) -> Tensor:
    """|y - network(x, t)|^2 with white noise y, the mean over dimensions, t uniform in 1..T: (B,).

    As in L_simple the error starts at 1. Where it starts at 0, as do the outputs of networks like ours, Adam's moments begin as
    denormal numbers, whose roots take ten times as long.
    """
    output: Tensor = network(x, torch.randint(1, T + 1, (len(x),)))
    return (torch.randn_like(output) - output).square().flatten(1).mean(1)


def training(network: nn.Module, batch: int, seed: int) -> Call:
    """A call is one step of dpm.training.fit."""
    adam, rate = partial(torch.optim.Adam, lr=2e-4), partial(warm_up, steps=5000)
    plan = Plan(sys.maxsize, batch, 0.9999, 1.0, 1, 1, 1)
    steps = fit(Learner(network.train(), adam, rate, plan.ema_decay), Noise(), squared_error, plan, seed)
    return partial(next, steps)


def evaluation(network: nn.Module, batch: int, seed: int) -> Call:
    """A call is one forward pass without gradients."""
    x, t = Noise().batch(batch, seed, 0), torch.arange(batch) % T + 1
    return torch.no_grad()(partial(network.eval(), x, t))


MODES = {"training": training, "evaluation": evaluation}
WORK = {**dict(zip(MODES, MODES, strict=True)), "shared_training": "training"}  # whose operations and setting a mode has


def call_of(name: str, mode: str, setting: Setting, batch: int, seed: int) -> Call:
    """The step of `mode` of a network at a setting, after a first one, for which kernels are made."""
    seeds.seed_everything(seed, seeds.INITIALISATION)
    call = MODES[mode](Placed(NETWORKS[name](), setting), batch, seed)
    call()
    return call


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@contextmanager
def shared_training(name: str, setting: Setting, batch: int, seed: int) -> Iterator[Callable[[], float]]:
    """A call is one training step of a process for each thread, which share the batch: the seconds of the slowest."""
    context, n = get_context("spawn"), torch.get_num_threads()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes, others = zip(*(context.Pipe() for _ in range(n)), strict=True)
    arguments = [(pipe, rank, n, port, name, setting, batch, seed) for rank, pipe in enumerate(others)]
    workers = [context.Process(target=_share, args=own) for own in arguments]
    for worker, pipe in zip(workers, others, strict=True):
        worker.start()
        pipe.close()  # here: the end of a process that dies is then the end of its pipe

    def step() -> float:
        for pipe in pipes:
            pipe.send(True)
        return max(pipe.recv() for pipe in pipes)

    try:
        yield step
    finally:
        for pipe, worker in zip(pipes, workers, strict=True):
            pipe.close()
            worker.join()


def _share(pipe: Connection, rank: int, n: int, port: int, name: str, setting: Setting, batch: int, seed: int) -> None:
    """One of the processes: a step whenever it is asked, until nobody can ask any more."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with parallel.joined("cpu"):
        call = call_of(name, "training", setting, batch, seed)
        with suppress(EOFError):
            while pipe.recv():
                pipe.send(seconds(call))


def fastest(name: str, mode: str, batch: int, seed: int) -> Setting:
    times = {}
    for setting in SETTINGS:
        call = call_of(name, mode, setting, batch, seed)
        times[setting] = min(seconds(call) for _ in range(TRIES))
        print(f"{name}, {mode}: {setting.precision}, {setting.memory_format}: {times[setting]:.2f} s", flush=True)
    return min(times, key=lambda setting: times[setting])


# What it is compared with


@dataclass(frozen=True)
class Size:
    """Parameters, and floating point operations for one image in each mode: 2 for a multiplication and addition."""

    parameters: int
    flops: Mapping[str, int]


def size(make: Make) -> Size:
    """Counted while one image passes, attention as the two products that it is."""
    network, x, t = make(), torch.randn(1, *SHAPE), torch.ones(1, dtype=torch.long)
    flops = {}
    for mode in MODES:
        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
            torch.set_grad_enabled(mode == "training"),
        ):
            output = network(x, t)
            if mode == "training":
                output.sum().backward()
        flops[mode] = counter.get_total_flops()
    return Size(sum(p.numel() for p in network.parameters()), flops)


@dataclass(frozen=True)
class Operation:
    """Something with known operations and nothing else to do."""

    flops: int
    call: Call

    def rate(self, at_least: float = 0.0) -> float:
        """FLOP/s of the fastest call within about `at_least` seconds."""
        times, start = [seconds(self.call)], time.perf_counter()
        while time.perf_counter() - start < at_least:
            times.append(seconds(self.call))
        return self.flops / min(times)


@torch.no_grad()
def convolution(channels: int, side: int, batch: int, memory_format: torch.memory_format) -> Operation:
    """3 x 3, in bfloat16, as many channels out as in."""
    x, w = (torch.randn(n, channels, k, k, dtype=torch.bfloat16) for n, k in ((batch, side), (channels, 3)))
    x, w = (part.contiguous(memory_format=memory_format) for part in (x, w))
    return Operation(2 * w.numel() * side**2 * batch, torch.no_grad()(partial(F.conv2d, x, w, padding=1)))


def product(side: int) -> Operation:
    """Of two square matrices, in bfloat16."""
    a, b = torch.randn(2, side, side, dtype=torch.bfloat16)
    return Operation(2 * side**3, partial(torch.mm, a, b))


def peaks(batch: int) -> dict[str, Operation]:
    """The fastest operation of each kind."""
    convolutions = [convolution(*size, batch, memory_format) for size in MAPS for memory_format in FORMATS.values()]
    kinds = {"convolution": convolutions, "matrix_product": [product(side) for side in SIDES]}
    return {kind: max(operations, key=lambda o: max(o.rate(), o.rate(SECONDS))) for kind, operations in kinds.items()}


def own_peak() -> int:
    """The most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_memory(name: str, mode: str, setting: Setting, batch: int, seed: int) -> int:
    """Bytes, with Python and its libraries, after two steps: to be called in a process of its own."""
    call_of(name, mode, setting, batch, seed)()
    return own_peak()


def in_a_process(function: Callable[..., int], *arguments: object) -> int:
    """The function's value in a new process, whose memory is its own.

    Linux hands the peak of a process on to the program that it starts; a server that is forked while small avoids that.
    """
    with ProcessPoolExecutor(1, get_context("forkserver")) as pool:
        return pool.submit(function, *arguments).result()


# From times to numbers


def middle(values: Sequence[float]) -> tuple[float, float | None]:
    """(median, its error): the standard error of the mean logarithm, times the median; unknown for one value."""
    median = statistics.median(values)
    return median, median * standard_error(torch.tensor(values).double().log().numpy()) if len(values) > 1 else None


def rounds(calls: Mapping[Any, Callable[[], float]], n: int) -> dict[Any, list[float]]:
    """What each call returns in n rounds. Each round starts with the next call, so that nobody always follows the same."""
    found: dict[Any, list[float]] = {key: [] for key in calls}
    for k in range(n):
        order = list(calls)
        order = order[k % len(order) :] + order[: k % len(order)]
        for key in order:
            found[key].append(calls[key]())
        print(f"round {k + 1} of {n}", flush=True)
    return found


def measurements(
    times: Mapping[tuple[str, str], Sequence[float]],
    peak: Mapping[str, Sequence[float]],
    sizes: Mapping[str, Size],
    chosen: Mapping[tuple[str, str], Setting],
    batch: int,
) -> Iterator[Measurement]:
    """Throughput, its fraction of the peaks, and what `unet` is faster than its rivals, each by its values in the rounds.

    times: seconds of a step by (network, mode); peak: FLOP/s by kind. `faster` counts images and, beside it, operations:
    equal for the same network, and the fair comparison for another one.
    """

    def row(quantity: str, values: Sequence[float], unit: str, **about: Scalar) -> Measurement:
        return Measurement(quantity, *middle(values), len(values) * batch, unit, {"statistic": "median of rounds", **about})

    flops = {(name, mode): sizes[name].flops[WORK[mode]] for name, mode in times}
    for key, own in times.items():
        name, mode = key
        about = {"network": name, "mode": mode} | asdict(chosen[name, WORK[mode]])
        rates = [flops[key] * batch / t for t in own]
        yield row("image_rate", [batch / t for t in own], "images/s", **about)
        yield row("flop_rate", [rate / 1e9 for rate in rates], "GFLOP/s", **about)
        for kind, of_kind in peak.items():
            yield row("fraction_of_peak", [a / b for a, b in zip(rates, of_kind, strict=True)], "1", peak=kind, **about)
    steps = row("throughput", [1 / t for t in times["unet", "training"]], "steps/s", network="unet", mode="training")
    yield replace(steps, claim=CLAIM)
    for kind, of_kind in peak.items():
        yield row("peak", [rate / 1e9 for rate in of_kind], "GFLOP/s", peak=kind, precision="bfloat16")
    for mode in WORK:
        for rival in (name for name in RIVALS if (name, mode) in times):
            about = {"network": "unet", "mode": mode, "rival": rival}
            faster = [b / a for a, b in zip(times["unet", mode], times[rival, mode], strict=True)]
            work = flops["unet", mode] / flops[rival, mode]
            yield row("faster", faster, "1", of="images", **about)
            yield row("faster", [work * ratio for ratio in faster], "1", of="operations", **about)


def sizes_and_memory(
    sizes: Mapping[str, Size], memory: Mapping[tuple[str, str], int], chosen: Mapping[tuple[str, str], Setting], batch: int
) -> Iterator[Measurement]:
    for name, own in sizes.items():
        yield Measurement("parameters", own.parameters, None, 1, "parameters", {"network": name}, COUNTED.get(name))
        for mode, flops in own.flops.items():
            yield Measurement("flops", flops / 1e9, None, 1, "GFLOP/image", {"network": name, "mode": mode})
    for (name, mode), peak in memory.items():
        about = {"network": name, "mode": mode, "of": "process", **asdict(chosen[name, mode])}
        yield Measurement("peak_memory", peak / 2**20, None, batch, "MiB", about)


def counts() -> Iterator[Measurement]:
    """Parameters of the networks that nothing here is large enough to run, from tensors without storage."""
    for name, (width, claim) in LARGER.items():
        with torch.device("meta"):
            network = UNet(3, 3, ch=width, ch_mult=(1, 1, 2, 2, 4, 4), num_res_blocks=2, attention=(4,))
        parameters = sum(p.numel() for p in network.parameters())
        yield Measurement("parameters", parameters, None, 1, "parameters", {"network": name}, claim)


def measure(batch: int, n: int, seed: int) -> list[Measurement]:
    sizes = {name: size(make) for name, make in NETWORKS.items()}
    keys = [(name, mode) for name in NETWORKS for mode in MODES]
    chosen = {key: fastest(*key, batch, seed) for key in keys}
    memory = {key: in_a_process(peak_memory, *key, chosen[key], batch, seed) for key in keys}
    calls = {key: partial(seconds, call_of(*key, chosen[key], batch, seed)) for key in keys}
    with ExitStack() as processes:
        for name in SHARED:
            step = processes.enter_context(shared_training(name, chosen[name, "training"], batch, seed))
            calls[name, "shared_training"] = step
        found = rounds(calls | {kind: partial(operation.rate, SECONDS) for kind, operation in peaks(batch).items()}, n)
    peak = {kind: found.pop(kind) for kind in list(found) if isinstance(kind, str)}
    rows = [*measurements(found, peak, sizes, chosen, batch), *sizes_and_memory(sizes, memory, chosen, batch), *counts()]
    libraries = {name: version(name.replace("_", "-")) for name in RIVALS}
    shared: dict[str, Scalar] = {
        "device": "cpu",
        "batch": batch,
        "threads": torch.get_num_threads(),
        "rounds": n,
        "T": T,
        **libraries,
    }
    return [row.with_protocol(shared) for row in rows]


def main() -> None:
    parser = app.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("results/yours"))
    settings = parser.parse_args()
    if min(settings.batch_size, settings.rounds) < 1:
        raise UserError("one image and one round at least")
    if settings.batch_size % torch.get_num_threads():
        raise UserError(f"--batch-size {settings.batch_size}: {torch.get_num_threads()} processes cannot share it equally")
    start = time.monotonic()
    for rival in RIVALS:
        NETWORKS[rival]()  # first: minutes follow
    rows = measure(settings.batch_size, settings.rounds, settings.seed)
    for m in rows:
        error = "" if m.stderr is None else f" +- {m.stderr:.3f}"
        print(f"{m.quantity:17s} {m.value:14,.3f}{error} {m.unit}, {dict(m.protocol)}")
    spent = {"seconds": round(time.monotonic() - start, 1), "device": "cpu"}
    config = {name: (ROOT / "conf/network" / f"{name}.yaml").read_text() for name in ("unet", "laptop_unet")}
    origin = provenance({"batch": settings.batch_size, "rounds": settings.rounds, **config}, b"", b"")
    path = settings.results / NAME / f"seed{settings.seed}.json"
    Record(NAME, settings.seed, "laptop", {}, spent, origin, tuple(rows)).save(path)
    print(path)


if __name__ == "__main__":
    app.run(main)
