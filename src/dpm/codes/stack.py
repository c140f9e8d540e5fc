"""A stack of bits, on the entropy coder of `constriction` (asymmetric numeral systems): last on, first off."""

from typing import Any

import constriction
import numpy as np
import torch
from torch import Tensor

from dpm.errors import UserError

MODEL: Any = constriction.stream.model
Words = np.ndarray[Any, np.dtype[np.uint32]]


class Stack:
    """The coder, which starts with random words: they stand for bits of other files, and come back.

    What is left of them at the bottom, never touched, is no part of a file: `words` leaves it out, `under` counts it.
    """

    def __init__(self, start: int, words: Words | None = None, under: int = 0) -> None:
        first = np.random.default_rng(0).integers(1, 2**32, start, dtype=np.uint64).astype(np.uint32)
        self.first, content = first, first if words is None else np.concatenate([first[:under], words])
        self.coder = constriction.stream.stack.AnsCoder(content)
        self.bits_at_start, self.ideal = constriction.stream.stack.AnsCoder(first).num_valid_bits(), 0.0

    def push(self, symbols: Tensor, model: Any, *parameters: Tensor) -> None:
        try:
            self.coder.encode_reverse(symbols.flatten().numpy().astype(np.int32), model, *(_flat(p) for p in parameters))
        except KeyError as error:
            raise UserError("a value that cannot be: it was decoded with other probabilities than it was coded with") from error

    def pop(self, model: Any, *parameters: Tensor) -> Tensor:
        flat = self.coder.decode(model, *(_flat(p) for p in parameters))
        return torch.from_numpy(np.asarray(flat)).double().view_as(parameters[0])

    @property
    def bits(self) -> int:
        """What was added since the start. (`num_bits` would count whole words.)"""
        return int(self.coder.num_valid_bits()) - int(self.bits_at_start)

    def words(self) -> tuple[Words, int]:
        """(the words above those that were never touched, the number of these)."""
        content = self.coder.get_compressed()
        shared = min(len(content), len(self.first))
        differing = np.flatnonzero(content[:shared] != self.first[:shared])
        under = int(differing[0]) if len(differing) else shared
        return content[under:], under

    @property
    def taken(self) -> int:
        """Bits of the random words that were touched: a file holds what is there now."""
        return 32 * (len(self.first) - self.words()[1])

    @property
    def as_at_start(self) -> bool:
        return np.array_equal(self.coder.get_compressed(), self.first)


def _flat(parameter: Tensor) -> "np.ndarray[Any, Any]":
    return np.ascontiguousarray(parameter.double().flatten().numpy())
