"""Bits back: a chain as a lossless code whose length is the bound, on the entropy coder of `constriction` (a stack of bits).

To code x_0 on a grid 0 = t_0 < ... < t_K = T, for each pair s < t: take x_t ~ q(x_t | x_s) off the stack, as if its bits
were random, and put x_s on it by p(x_s | x_t); at the end put x_T by pi. Decoding is the same backwards, and gives back the
bits that were taken. Expected length: E_q sum log2 q(x_t | x_s) - log2 p(x_s | x_t), minus log2 pi(x_T), which is the bound
on this grid (2020, eq. 3). A step takes its bits before the last one's give theirs, so that about two layers of latents
are borrowed at a time and not all of them (the order of Bit-Swap, Kingma, Abbeel and Ho 2019), when the file is still empty.
So it starts with a few examples that are coded by counting (`dpm.codes.counting`), which are as good as random bits.

Both sides must compute the same probabilities to the last bit: one thread, batches of one shape, float64 outside the network.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import singledispatch
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm.codes.counting import Counting
from dpm.codes.stack import MODEL, Stack
from dpm.errors import UserError
from dpm.processes import Process, at
from dpm.processes.binomial import BinomialDiffusion
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse

LEAST = 1e-9  # of a bit's probability, for both sides
FINENESS, REACH = 2, 6  # bins in a standard deviation; standard deviations that are drawn from


class Alphabet(Protocol):
    """How values are symbols, and a distribution of values one of symbols."""

    def push(self, stack: Stack, x: Tensor, p: Any) -> None: ...

    def pop(self, stack: Stack, p: Any) -> Tensor: ...


class Data(Alphabet, Protocol):
    """An alphabet of what is given, not drawn: there and back without a rounding error."""

    high: int  # the last symbol

    def symbols(self, x: Tensor) -> Tensor: ...

    def values(self, symbols: Tensor) -> Tensor: ...


class Bits(Data):
    """Independent bits, no probability below LEAST."""

    model, high = MODEL.Bernoulli(perfect=False), 1

    def symbols(self, x: Tensor) -> Tensor:
        return x

    def values(self, symbols: Tensor) -> Tensor:
        return symbols

    def push(self, stack: Stack, x: Tensor, p: Distribution) -> None:
        stack.push(x, self.model, p.mean.clamp(LEAST, 1 - LEAST))

    def pop(self, stack: Stack, p: Distribution) -> Tensor:
        return stack.pop(self.model, p.mean.clamp(LEAST, 1 - LEAST))


class Bins(Data):
    """x = k / density + shift, k = low..high, by the Gaussian's mass in each bin; the end bins are open (2020, eq. 13)."""

    def __init__(self, density: float, low: int, high: int, shift: float = 0.0) -> None:
        self.density, self.low, self.high, self.shift = density, low, high, shift
        self.model = MODEL.QuantizedGaussian(low, high)

    def symbols(self, x: Tensor) -> Tensor:
        symbols = ((x.double() - self.shift) * self.density).round()
        if not bool((symbols.clamp(self.low, self.high) == symbols).all()):
            raise UserError("a value lies outside of the bins of this code: it cannot be coded without loss")
        return symbols

    def values(self, symbols: Tensor) -> Tensor:
        return symbols / self.density + self.shift

    def push(self, stack: Stack, x: Tensor, p: Any) -> None:
        stack.push(self.symbols(x), self.model, *self.scaled(p))

    def pop(self, stack: Stack, p: Any) -> Tensor:
        return self.values(stack.pop(self.model, *self.scaled(p)))

    def scaled(self, p: Any) -> tuple[Tensor, Tensor]:
        return (p.mean.double() - self.shift) * self.density, std(p) * self.density


class Near(Alphabet):
    """The same grid, but only the bins within REACH standard deviations of the mean: what is drawn, not what is given.

    The coder gives each of its symbols 2^-24 at least. With bins far off among them, one draw in a thousand would lie there,
    and the next step would have to code it.
    """

    def __init__(self, density: float, reach: int) -> None:
        self.density, self.model = density, MODEL.QuantizedGaussian(-reach, reach)

    def push(self, stack: Stack, x: Tensor, p: Any) -> None:
        centre, offset = self.split(p)
        stack.push((x * self.density).round() - centre, self.model, offset, std(p) * self.density)

    def pop(self, stack: Stack, p: Any) -> Tensor:
        centre, offset = self.split(p)
        return (centre + stack.pop(self.model, offset, std(p) * self.density)) / self.density

    def split(self, p: Any) -> tuple[Tensor, Tensor]:
        """The bin of the mean, and where in it the mean lies."""
        mean = p.mean.double() * self.density
        return mean.round(), mean - mean.round()


LEVELS = Bins(127.5, 0, 255, -1.0)  # of 8 bits, from -1 to 1


def std(p: Any) -> Tensor:
    base = p.base_dist
    found: Tensor = base.std if hasattr(base, "std") else base.stddev
    return found.double().expand(p.mean.shape)


Alphabets = list[tuple[Alphabet, Data]]  # for x at each time of a grid: as it is drawn by q, as it is coded by p


@singledispatch
def alphabets(process: Process, grid: Sequence[int]) -> Alphabets:
    raise UserError(f"no code for the latents of {type(process).__name__}")


@alphabets.register
def _(process: BinomialDiffusion, grid: Sequence[int]) -> Alphabets:
    return [(Bits(), Bits())] * len(grid)


@alphabets.register
def _(process: GaussianDiffusion, grid: Sequence[int]) -> Alphabets:
    """x_0 on 256 levels from -1 to 1; x_t in bins that are fine beside the noise of the steps on both sides of t."""
    found: Alphabets = [(LEVELS, LEVELS)]
    for s, t, u in zip(grid, grid[1:], [*grid[2:], None], strict=False):
        before = process.step(torch.tensor([s]), torch.tensor([t])).variance
        after = before if u is None else process.step(torch.tensor([t]), torch.tensor([u])).posterior_variance
        alpha, sigma = (float(c) for c in process.schedule(torch.tensor([t])))
        density = FINENESS / math.sqrt(float(torch.minimum(before, after)))
        far = math.ceil((alpha + 1.5 * REACH * sigma) * density)
        found.append((Near(density, math.ceil(REACH * math.sqrt(float(before)) * density)), Bins(density, -far, far)))
    return found


@dataclass(frozen=True)
class Code:
    """A reverse process and a grid of whole times from 0 to T as a code for batches of examples, on one stack.

    The examples of a batch go side by side: faster, and as many times the bits that are taken before any comes back.
    """

    reverse: Reverse
    grid: Sequence[int]
    alphabets: Alphabets = field(init=False)

    def __post_init__(self) -> None:
        grid, T = list(self.grid), len(self.reverse.process.schedule)
        if grid != sorted(set(grid)) or grid[:1] != [0] or grid[-1] != T:
            raise UserError(f"the grid of a code increases from 0 to T = {T}, got {grid[:6]}...")
        object.__setattr__(self, "alphabets", alphabets(self.reverse.process, grid))

    @property
    def given(self) -> Data:
        return self.alphabets[0][1]

    def symbols(self, x_0: Tensor) -> "np.ndarray[Any, Any]":
        """Grey levels or bits of examples, uint8."""
        return self.given.symbols(x_0).numpy().astype(np.uint8)

    def encode(self, batches: Sequence[Tensor], counted: int = 0) -> Stack:
        """The first `counted` batches by counting, which takes no bits and leaves some; the others by the chain."""
        stack = Stack(start([x.shape for x in batches]))
        Counting(self.given.high).push(stack, [self.symbols(x) for batch in batches[:counted] for x in batch])
        with reproducible():
            for x in batches[counted:]:
                self.push(stack, x.double())
        return stack

    def decode(self, stack: Stack, shapes: Sequence[Sequence[int]], counted: int = 0) -> list[Tensor]:
        """The batches, of these shapes, in their order."""
        with reproducible():
            found = [self.pop(stack, shape) for shape in shapes[counted:][::-1]]
        singles = [tuple(shape[1:]) for shape in shapes[:counted] for _ in range(shape[0])]
        values = [self.given.values(torch.from_numpy(x).double()) for x in Counting(self.given.high).pop(stack, singles)]
        sizes = [shape[0] for shape in shapes[:counted]]
        return [torch.stack(values[end - n : end]) for n, end in zip(sizes, accumulate(sizes), strict=True)] + found[::-1]

    def lead(self, batches: Sequence[Tensor]) -> int:
        """How many batches to count: until they leave what the chain takes first, or one costs more than it spares."""
        alone, left = self.encode(batches[:1]), 0
        for counted in range(len(batches)):
            length = self.encode(batches[: counted + 1], counted + 1).bits - left
            if min(length, alone.taken - left) <= length - alone.bits:
                return counted
            left += length
        return len(batches)

    def push(self, stack: Stack, x: Tensor) -> None:
        """Examples side by side; stack.ideal grows by their length in bits without bins and rounding of probabilities."""
        for index, (s, t) in enumerate(pairwise(self.grid)):
            q = self.reverse.process.kernel(x, at(x, s), at(x, t))
            y = self.alphabets[index + 1][0].pop(stack, q)
            p = self.reverse(y, at(y, s), at(y, t))
            self.alphabets[index][1].push(stack, x, p)
            stack.ideal += float((q.log_prob(y) - p.log_prob(x)).sum()) / math.log(2)
            x = y
        prior = self.reverse.process.prior(x)
        self.alphabets[-1][1].push(stack, x, prior)
        stack.ideal -= float(prior.log_prob(x).sum()) / math.log(2)

    def pop(self, stack: Stack, shape: Sequence[int]) -> Tensor:
        y = torch.zeros(*shape, dtype=torch.float64)
        y = self.alphabets[-1][1].pop(stack, self.reverse.process.prior(y))
        for index in range(len(self.grid) - 1, 0, -1):
            s, t = self.grid[index - 1], self.grid[index]
            x = self.alphabets[index - 1][1].pop(stack, self.reverse(y, at(y, s), at(y, t)))
            self.alphabets[index][0].push(stack, y, self.reverse.process.kernel(x, at(x, s), at(x, t)))
            y = x
        return y


def start(shapes: Sequence[Sequence[int]]) -> int:
    """Random words under batches of these shapes: more than are ever taken."""
    return 64 + max(math.prod(shape) for shape in shapes)


@contextmanager
def reproducible() -> Iterator[None]:
    """One thread, so that sums are taken in the same order whatever the machine was told; no gradients."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)
