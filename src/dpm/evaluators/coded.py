"""Examples as a file: written by bits back, read again, and measured beside the bound and beside ordinary coders."""

import copy
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import constriction
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpm import seeds
from dpm.bound import bound, decoder_edges
from dpm.coding import Code, Stack
from dpm.data import Data
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT, nats_per_unit
from dpm.evaluators.per_example import measured
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.study.records import Measurement

Rival = Callable[["np.ndarray[Any, Any]"], int]  # symbols (n, ...), uint8 -> bytes


class Coded:
    """The length of the first n examples on a chain of few steps, decoded again from the words of the file alone.

    `code_length`: what the stack grew by (`of=stack`), that without bins and rounding (`of=densities`), and the words of a
    file, with those bits that were taken and come back (`of=file`). `length_ratio`: the first over the bound on this grid.
    """

    def __init__(
        self,
        n: int,
        grid: Callable[..., Sequence[int]],
        unit: str,
        together: int = 1,
        draws: int = 2,
        rivals: Mapping[str, Rival] | None = None,
    ) -> None:
        self.n, self.grid, self.unit, self.together, self.draws, self.rivals = n, grid, unit, together, draws, rivals or {}

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        reverse = copy.deepcopy(reverse).cpu() if isinstance(reverse, torch.nn.Module) else reverse  # where the coder is
        x, grid = x_0[: self.n].cpu(), self.grid(len(reverse.process.schedule))[::-1]
        code, start = Code(reverse, grid, tuple(x.shape[1:]), self.together), time.monotonic()
        stack = code.encode(x)
        words, under = stack.words()
        again = Stack(code.start, words, under)
        decoded = code.decode(again, len(x))
        seconds = time.monotonic() - start
        right = (decoded == x).flatten(1).all(1).double()
        L = self.bound(reverse, x, grid, seed)
        about: dict[str, Scalar] = {"chain_steps": len(grid) - 1, "together": self.together}
        of_bound = {**about, "edges": decoder_edges.name, "terms": "all", "draws": self.draws}
        bits = {"stack": stack.bits, "densities": stack.ideal, "file": 32 * len(words)}
        found = [
            measured("nll_bound", L / nats_per_unit(self.unit, x), self.unit, of_bound),
            *(self.length(value, x, {**about, "of": name}) for name, value in bits.items()),
            *(self.length(8 * coder(code.symbols(x)), x, {"of": name}) for name, coder in self.rivals.items()),
            Measurement("length_ratio", stack.bits * NATS_PER_BIT / float(L.sum()), None, len(x), "1", about),
            Measurement("decoded_share", float(right.mean()), None, len(x), "1", about),
            Measurement("restored", float(again.as_at_start), None, len(x), "1", about),
            Measurement("duration", round(seconds, 1), None, len(x), "seconds", {**about, "of": "both"}),
        ]
        return Evaluation(tuple(found))

    def bound(self, reverse: Reverse, x: Tensor, grid: Sequence[int], seed: int) -> Tensor:
        """L of each example on the grid, nats."""
        totals = []
        for draw in range(self.draws):
            seeds.seed_everything(seed, seeds.EVALUATION, draw)
            totals.append(bound(reverse, x, decoder_edges, grid[1:]).total)
        return torch.stack(totals).mean(0)

    def length(self, bits: float, x: Tensor, about: dict[str, Scalar]) -> Measurement:
        value = bits * NATS_PER_BIT / len(x) / nats_per_unit(self.unit, x)
        return Measurement("code_length", value, None, len(x), self.unit, about)


def picture(images: "np.ndarray[Any, Any]", kind: str) -> int:
    """All images (n, 1, H, W) side by side as one picture, the best that PIL's writer of that kind does without loss."""
    rows = math.isqrt(len(images))
    tiled = images[: rows * (len(images) // rows), 0].reshape(rows, -1, *images.shape[2:]).swapaxes(1, 2)
    file = io.BytesIO()
    best: dict[str, dict[str, Any]] = {"PNG": {"optimize": True}, "WEBP": {"lossless": True, "quality": 100, "method": 6}}
    Image.fromarray(tiled.reshape(rows * images.shape[2], -1)).save(file, kind, **best[kind])
    return len(file.getvalue())


def order_0(values: "np.ndarray[Any, Any]") -> int:
    """An arithmetic coder that learns how often each value comes, and nothing else: counts start at one half."""
    counts, encoder = np.full(int(values.max()) + 1, 0.5), constriction.stream.queue.RangeEncoder()
    for value in values.flatten().tolist():
        encoder.encode(value, constriction.stream.model.Categorical(counts / counts.sum(), perfect=False))
        counts[value] += 1
    return 4 * int(encoder.num_words())
