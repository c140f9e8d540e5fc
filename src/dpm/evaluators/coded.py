"""Examples as a file: written by bits back, read again, and measured beside the bound and beside ordinary coders."""

import copy
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpm import seeds
from dpm.bound import bound, decoder_edges
from dpm.codes.bits_back import Code, start
from dpm.codes.counting import Counting
from dpm.codes.stack import Stack
from dpm.data.chorales import Chorales
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT, nats_per_unit
from dpm.evaluators.per_example import measured
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.study.records import Measurement

Array = np.ndarray[Any, Any]
Rival = Callable[[Sequence[Array]], int]  # symbols of each example, uint8 -> bytes


class Coded:
    """The length of the first n examples on a chain of few steps, decoded again from the words of the file alone.

    `code_length`: what the stack grows by if all go by the chain (`of=stack`), that without bins and rounding (`of=densities`),
    and the words of the file, whose first examples are counted (`of=file`). `length_ratio`: the bits of the stack, or of the
    file, over the bound on this grid.
    """

    pieces: Mapping[str, Scalar] = MappingProxyType({})

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
    def __call__(self, reverse: Reverse, data: Any, x_0: Tensor, seed: int) -> Evaluation:
        reverse = copy.deepcopy(reverse).cpu() if isinstance(reverse, torch.nn.Module) else reverse  # where the coder is
        batches, grid = self.batches(data, x_0), self.grid(len(reverse.process.schedule))[::-1]
        n, units = sum(map(len, batches)), torch.cat([nats_per_unit(self.unit, x) * torch.ones(len(x)) for x in batches])
        code = Code(reverse, grid)
        alone, begun = code.encode(batches), time.process_time()
        counted = code.lead(batches)
        file = code.encode(batches, counted)
        words, under = file.words()
        shapes = [tuple(x.shape) for x in batches]
        again = Stack(start(shapes), words, under)
        decoded = code.decode(again, shapes, counted)
        seconds = time.process_time() - begun
        right = [torch.equal(*both) for found, x in zip(decoded, batches, strict=True) for both in zip(found, x, strict=True)]
        symbols = [code.symbols(x) for batch in batches for x in batch]
        L = self.bound(reverse, batches, grid, seed)
        about: dict[str, Scalar] = {**self.pieces, "chain_steps": len(grid) - 1, "together": self.together}
        of_bound = {**about, "edges": decoder_edges.name, "terms": "all", "draws": self.draws}
        in_file = {**about, "of": "file", "counted": sum(map(len, batches[:counted]))}
        lengths: list[tuple[float, dict[str, Scalar]]] = [
            (alone.bits, {**about, "of": "stack"}),
            (alone.ideal, {**about, "of": "densities"}),
            (32 * len(words), in_file),
        ]
        lengths += [(8 * coder(symbols), {**self.pieces, "of": name}) for name, coder in self.rivals.items()]
        mean = L.sum() / units.sum()
        found = [
            measured("nll_bound", mean + (L - mean * units) / units.mean(), self.unit, of_bound),
            *(
                Measurement("code_length", bits * NATS_PER_BIT / float(units.sum()), None, n, self.unit, which)
                for bits, which in lengths
            ),
            *(
                Measurement("length_ratio", bits * NATS_PER_BIT / float(L.sum()), None, n, "1", which)
                for bits, which in (lengths[0], lengths[2])
            ),
            Measurement("decoded_share", float(np.mean(right)), None, n, "1", in_file),
            Measurement("restored", float(again.as_at_start), None, n, "1", in_file),
            Measurement("duration", round(seconds, 1), None, n, "seconds", {**about, "of": "both"}),
        ]
        return Evaluation(tuple(found))

    def batches(self, data: Any, x_0: Tensor) -> list[Tensor]:
        """What is coded, in its order: (b, ...), side by side."""
        return list(x_0[: self.n].cpu().split(self.together))  # type: ignore[no-untyped-call]

    def bound(self, reverse: Reverse, batches: Sequence[Tensor], grid: Sequence[int], seed: int) -> Tensor:
        """L of each example on the grid, nats."""
        totals = []
        for draw in range(self.draws):
            seeds.seed_everything(seed, seeds.EVALUATION, draw)
            totals.append(torch.cat([bound(reverse, x.double(), decoder_edges, grid[1:]).total for x in batches]))
        return torch.stack(totals).mean(0)


class CodedWhole(Coded):
    """The first n pieces of the test set of rolls from their beginning to their end, each as one example."""

    pieces = MappingProxyType({"window": "whole"})

    def batches(self, data: Chorales, x_0: Tensor) -> list[Tensor]:
        return data.whole("test", self.n)


def picture(images: Sequence[Array], kind: str) -> int:
    """All images (1, H, W) side by side as one picture, the best that PIL's writer of that kind does without loss."""
    rows = math.isqrt(len(images))
    tiled = np.stack(images[: rows * (len(images) // rows)])[:, 0].reshape(rows, -1, *images[0].shape[1:]).swapaxes(1, 2)
    file = io.BytesIO()
    best: dict[str, dict[str, Any]] = {"PNG": {"optimize": True}, "WEBP": {"lossless": True, "quality": 100, "method": 6}}
    Image.fromarray(tiled.reshape(rows * images[0].shape[1], -1)).save(file, kind, **best[kind])
    return len(file.getvalue())


def counted(examples: Sequence[Array], neighbours: bool) -> int:
    """An arithmetic coder that learns how often each value comes, or each beside which neighbours (`dpm.codes.counting`)."""
    stack = Stack(8)
    Counting(max(int(x.max()) for x in examples), neighbours).push(stack, examples)
    return math.ceil(stack.bits / 8)
