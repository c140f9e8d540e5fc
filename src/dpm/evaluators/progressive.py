"""Rate and distortion (2020, section 4.3 and Figure 5) in bytes that were written, and read by another process."""

import copy
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm.codes.bits_back import LEVELS
from dpm.codes.progressive import Progressive, Sent
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT, nats_per_unit
from dpm.evaluators.coded import Rival
from dpm.evaluators.distortion import errors, rmse
from dpm.evaluators.generation import grey
from dpm.facts import Scalar
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement

UNIT = "bits/dim"


class ProgressivelyCoded:
    """The first n images as one progressive file, cut after some of the steps: how long, and how far from the images.

    `rate`: what the divergences sum up to (`of=divergence`), and the words that were written (`of=written`), at `stops`, which
    are shares of the steps; `rmse` of x_0-hat there. `block_length`, mean of all blocks: the divergence, the mean length that
    theory promises at most, what was written. `decoded_share`: of the stops whose file gives what the sender had.
    """

    def __init__(
        self,
        n: int,
        grid: Callable[..., Sequence[int]],
        block: float,
        stops: Sequence[float],
        rivals: Mapping[str, Rival],
    ) -> None:
        self.n, self.grid, self.block, self.stops, self.rivals = n, grid, block, stops, rivals

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Any, x_0: Tensor, seed: int) -> Evaluation:
        reverse, x = copy.deepcopy(reverse).cpu(), x_0[: self.n].cpu().double()
        code = Progressive(reverse, self.grid(len(reverse.process.schedule)), self.block, seed)
        sent = list(code.send(x))
        steps = len(sent) - 1
        stops = [sent[max(1, round(share * steps))] for share in self.stops]
        seen = [sharpened(reverse, state) for state in sent]
        squares = [errors(image, x) for image in seen]
        about: dict[str, Scalar] = {"chain_steps": steps, "block": self.block}
        bits = NATS_PER_BIT / nats_per_unit(UNIT, x) / len(x)

        def rate(value: float, which: dict[str, Scalar]) -> Measurement:
            return Measurement("rate", value * bits, None, len(x), UNIT, which)

        found = []
        for state in stops:
            here = {**about, "t": state.t}
            found += [rate(state.divergence, {**here, "of": "divergence"}), rate(8 * size(state), {**here, "of": "written"})]
            found.append(rmse(squares[sent.index(state)], here))
        before = sent[-2]  # the last step has no blocks
        of_blocks = {"divergence": before.divergence, "reached": before.reached, "promised": before.promised}
        for name, value in {**of_blocks, "written": 8.0 * size(before)}.items():
            found.append(Measurement("block_length", value / before.blocks, None, before.blocks, "bits", {**about, "of": name}))
        symbols = list(LEVELS.symbols(x).numpy().astype(np.uint8))
        lengths = {name: 8 * coder(symbols) for name, coder in self.rivals.items()}
        found += [
            *(Measurement("code_length", value * bits, None, len(x), UNIT, {"of": name}) for name, value in lengths.items()),
            Measurement("decoded_share", np.mean(decoded(code, stops)).item(), None, len(stops), "1", about),
        ]
        arrays = {
            "rate_divergence": np.array([state.divergence for state in sent]) * bits,
            "rate_written": np.array([8 * size(state) for state in sent]) * bits,
            "rmse": np.sqrt([float(square.mean()) for square in squares]),
            "stops": np.array([sent.index(state) for state in stops]),
            "times": np.array([state.t for state in sent]),
            "seen": np.stack([grey(seen[sent.index(state)][:4]) for state in stops], 1),
            **{f"rival_{name}": np.array([value * bits]) for name, value in lengths.items()},
        }
        return Evaluation(tuple(found), arrays)


def size(state: Sent) -> int:
    return 4 * len(state.words)


def sharpened(reverse: GaussianReverse, state: Sent) -> Tensor:
    """x_0-hat, in the range of the data, or x_0 itself."""
    return reverse.predicted(state.x, torch.full((len(state.x),), state.t)).clamp(-1, 1) if state.t else state.x


def decoded(code: Progressive, stops: Sequence[Sent]) -> list[bool]:
    """Whether another process, which has the code and a file, finds the very x_t of the sender."""
    spawned = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder, ProcessPoolExecutor(1, spawned) as process:
        right = []
        for state in stops:
            file = Path(folder, str(state.t))
            file.write_bytes(state.words.astype("<u4").tobytes())
            right.append(torch.equal(process.submit(read, code, file, tuple(state.x.shape), state.t).result(), state.x))
    return right


def read(code: Progressive, file: Path, shape: Sequence[int], until: int) -> Tensor:
    return code.receive(np.fromfile(file, "<u4").astype(np.uint32), shape, until)
