"""An arithmetic code that learns by counting: what a file can start with, and what models are held against."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from dpm.codes.stack import MODEL, Stack

Array = np.ndarray[Any, Any]
FIRST = 0.5  # of a count (Krichevsky and Trofimov): k of them cost (k - 1) / 2 log2 n bits over the entropy of n symbols


class Counting:
    """Examples of 0..high: where zeros are, by how often one came beside the same zeros before; then the rest, by its counts.

    The neighbours of a value lie one back along some of the axes. Without them the code knows only how often each value comes.
    """

    def __init__(self, high: int, neighbours: bool = True) -> None:
        self.high, self.neighbours = high, neighbours

    def push(self, stack: Stack, examples: Sequence[Array]) -> None:
        """uint8 arrays, of whatever shapes."""
        given = np.concatenate([np.zeros(0, np.uint8), *(example.ravel() for example in examples)])
        bits, rest = (given > 0).astype(np.int32), given[given > 0].astype(np.int32) - 1
        of_bits: list[float] = []
        of_rest: list[Array] = []
        self.walk([e.shape for e in examples], _recorded(of_bits, bits), _recorded(of_rest, rest))
        if of_rest:
            stack.coder.encode_reverse(rest, MODEL.Categorical(perfect=False), np.stack(of_rest))
        stack.coder.encode_reverse(bits, MODEL.Bernoulli(perfect=False), np.array(of_bits))

    def pop(self, stack: Stack, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        def bit(p: float) -> int:
            return int(stack.coder.decode(MODEL.Bernoulli(p, perfect=False)))

        def other(p: Array) -> int:
            return int(stack.coder.decode(MODEL.Categorical(p, perfect=False)))

        return self.walk(shapes, bit, other)

    def walk(
        self, shapes: Sequence[tuple[int, ...]], bit: Callable[[float], int], other: Callable[[Array], int]
    ) -> list[Array]:
        """The same way for both sides: `bit` and `other` are asked for the next symbol, and are told its probabilities."""
        counts: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [FIRST, FIRST])
        found = []
        for shape in shapes:
            padded = tuple(side + 1 for side in shape)  # by zeros, one before the first along each axis
            cells, flags = np.arange(math.prod(padded)).reshape(padded)[(slice(1, None),) * len(shape)], [0] * math.prod(padded)
            back = [int(np.ravel_multi_index(o, padded)) for o in product((0, 1), repeat=len(shape)) if any(o)]
            for cell in cells.ravel().tolist():
                seen = counts[tuple(flags[cell - step] for step in back) if self.neighbours else ()]
                flags[cell] = bit(seen[1] / (seen[0] + seen[1]))
                seen[flags[cell]] += 1
            found.append(np.array(flags, np.uint8)[cells])
        if self.high > 1:
            often = np.full(self.high, FIRST)
            for example in found:
                for place in zip(*example.nonzero(), strict=True):
                    symbol = other(often / often.sum())
                    example[place] = symbol + 1
                    often[symbol] += 1
        return found


def _recorded(asked: list[Any], symbols: Array) -> Callable[[Any], int]:
    """Answers with the given symbols, and keeps the probabilities that it was told."""
    rest = iter(symbols.tolist())

    def answer(p: Any) -> int:
        asked.append(p)
        return int(next(rest))

    return answer
