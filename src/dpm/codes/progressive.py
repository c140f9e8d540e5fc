"""Progressive coding (2020, Algorithms 3 and 4): x_T, x_t, ..., x_0 as a file whose beginning is a rough picture.

Both sides draw x_T from one seed. For a step from t to s the sender has q = q(x_s | x_t, x_0) and both have p = p(x_s | x_t).
With z_1, z_2, ... ~ p from a shared seed and w_i = q(z_i) / p(z_i), it sends the index of the least e_i / w_i, where
e_1 < e_2 < ... are the order statistics of N exponential variables (ordered random coding, Theis and Yosri 2022, arXiv
2110.12805). The law of z_index tends to q as N grows, and the index takes about KL(q || p) + log2(KL + 1) + O(1) bits
(Li and El Gamal 2018). The step to x_0 is arithmetic coding by p(x_0 | x_t).

N has to be several times 2^KL. So the dimensions of all examples together go in blocks of a few bits each, in a shared random
order; how many bits p itself can tell: where it is right, E KL = sum log2(std of p / std of q), since then the mean of q
spreads about that of p with the variance by which the two differ.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import constriction
import numpy as np
import torch
from torch import Tensor

from dpm.codes.bits_back import LEVELS, reproducible, std
from dpm.codes.stack import MODEL, Words
from dpm.errors import UserError
from dpm.processes import at
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse

Array = np.ndarray[Any, Any]
CHUNK = 1024  # candidates that are drawn at a time
MOST = 2**16  # candidates of a block
MARGIN = 8  # bits: 2^(KL + MARGIN) candidates, if these are not more
SIZES = MOST.bit_length()  # how many binary digits an index has: a number below this


@dataclass(frozen=True)
class Gaussians:
    """Independent ones, float64; [block] are some of them."""

    mean: Array
    std: Array

    def __getitem__(self, block: Array) -> "Gaussians":
        return Gaussians(self.mean[block], self.std[block])


def divergence(q: Gaussians, p: Gaussians) -> float:
    """KL(q || p) in bits."""
    ratio = q.std / p.std
    return float((((q.mean - p.mean) / p.std) ** 2 + ratio**2 - 1 - 2 * np.log(ratio)).sum() / np.log(4))


def candidates(size: int, chunk: int, *key: int) -> Array:
    """(CHUNK, size) standard normal numbers, the same on both sides."""
    generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([*key, chunk])))
    z: Array = generator.standard_normal((CHUNK, size), np.float32)
    return z


def chosen(q: Gaussians, p: Gaussians, count: int, *key: int) -> tuple[int, float]:
    """(The index that is sent, log2 w of it.)"""
    r, d = p.std / q.std, (p.mean - q.mean) / q.std
    square, linear, constant = (1 - r**2) / 2, -r * d, float((np.log(r) - d**2 / 2).sum())
    spacings = np.random.default_rng([*key, 2**32]).exponential(size=count) / np.arange(count, 0, -1)
    arrivals, found = np.log(spacings.cumsum()), []
    for chunk in range(-(-count // CHUNK)):
        z = candidates(len(r), chunk, *key)[: count - chunk * CHUNK]
        found.append(z @ linear.astype(np.float32) + (z * z) @ square.astype(np.float32))
    log_w = np.concatenate(found)
    index = int(np.argmin(arrivals - log_w))
    return index, (float(log_w[index]) + constant) / float(np.log(2))


class Writer:
    """Whole numbers by how many binary digits they have, which is learned by counting, and then the digits."""

    def __init__(self) -> None:
        self.coder, self.counts = constriction.stream.queue.RangeEncoder(), np.full(SIZES, 0.5)

    def index(self, index: int) -> None:
        size = (index + 1).bit_length() - 1
        self.coder.encode(size, _sizes(self.counts))
        if size:
            self.coder.encode(index + 1 - (1 << size), MODEL.Uniform(1 << size))
        self.counts[size] += 1


class Reader:
    def __init__(self, words: Words) -> None:
        self.coder, self.counts = constriction.stream.queue.RangeDecoder(words), np.full(SIZES, 0.5)

    def index(self) -> int:
        size = int(self.coder.decode(_sizes(self.counts)))
        self.counts[size] += 1
        return (1 << size) - 1 + (int(self.coder.decode(MODEL.Uniform(1 << size))) if size else 0)


def _sizes(counts: Array) -> Any:
    return MODEL.Categorical(counts / counts.sum(), perfect=False)


@dataclass(frozen=True)
class Sent:
    """What has been sent when x_t is known: a file of these words, and what its steps have cost so far, in bits."""

    t: int
    x: Tensor
    words: Words
    divergence: float  # what the bound counts
    reached: float  # log2 of q / p at what was chosen: its mean is the divergence, if N is large enough
    promised: float  # KL + log2(KL + 1) + 4 of every block, which bounds an index's mean length (Theis and Yosri)
    blocks: int


@dataclass(frozen=True)
class Progressive:
    """Examples that are sent together, along a grid T > ... > 0 of whole times; blocks of about `block` bits."""

    reverse: Reverse
    grid: Sequence[int]
    block: float = 8.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.reverse.process, GaussianDiffusion):
            raise UserError(f"no progressive code for {type(self.reverse.process).__name__}")

    def send(self, x_0: Tensor) -> Iterator[Sent]:
        """After each step."""
        writer, spent, x_0 = Writer(), np.zeros(4), x_0.double()

        def choose(x: Tensor, s: int, t: int, p: Gaussians) -> Callable[[Array, tuple[int, ...]], int]:
            q = gaussians(self.reverse.process.posterior(x_0, x, at(x, s), at(x, t)))

            def index(block: Array, key: tuple[int, ...]) -> int:
                bits = divergence(q[block], p[block])
                found, reached = chosen(q[block], p[block], min(MOST, int(2 ** np.ceil(bits + MARGIN))), *key)
                writer.index(found)
                spent[:] += bits, reached, bits + np.log2(bits + 1) + 4, 1
                return found

            return index

        def last(p: Any) -> Tensor:
            symbols = LEVELS.symbols(x_0).flatten().numpy().astype(np.int32)
            writer.coder.encode(symbols, LEVELS.model, *(v.flatten().numpy() for v in LEVELS.scaled(p)))
            spent[:3] -= float(p.log_prob(x_0).sum()) / np.log(2)
            return x_0

        for t, x in self.walk(x_0.shape, choose, last):
            bits, reached, promised, blocks = spent.tolist()
            yield Sent(t, x, writer.coder.get_compressed(), bits, reached, promised, int(blocks))

    def receive(self, words: Words, shape: Sequence[int], until: int) -> Tensor:
        """x_t at t = `until`, from the words that were sent up to then."""
        reader = Reader(words)

        def last(p: Any) -> Tensor:
            symbols = reader.coder.decode(LEVELS.model, *(v.flatten().numpy() for v in LEVELS.scaled(p)))
            return LEVELS.values(torch.from_numpy(symbols).double()).view(*shape)

        return next(x for t, x in self.walk(shape, lambda *_: lambda *_: reader.index(), last) if t == until)

    def walk(self, shape: Sequence[int], choose: Any, last: Callable[[Any], Tensor]) -> Iterator[tuple[int, Tensor]]:
        """(t, x_t) along the grid, the same on both sides: `choose` gives the index of a block, `last` gives x_0."""
        with reproducible():
            x = torch.from_numpy(np.random.default_rng(self.seed).standard_normal(shape))
            yield self.grid[0], x
            for number, (t, s) in enumerate(pairwise(self.grid)):
                step = self.reverse(x, at(x, s), at(x, t))
                if s == 0:
                    x = last(step)
                else:
                    p = gaussians(step)
                    index, y = choose(x, s, t, p), np.empty(len(p.mean))
                    for k, block in enumerate(self.blocks(p, x, s, t, number)):
                        chunk, row = divmod(index(block, (self.seed, number, k)), CHUNK)
                        z = candidates(len(block), chunk, self.seed, number, k)[row]
                        y[block] = p.mean[block] + p.std[block] * z
                    x = torch.from_numpy(y).view(*shape)
                yield s, x

    def blocks(self, p: Gaussians, x: Tensor, s: int, t: int, number: int) -> list[Array]:
        """Dimensions in a random order, cut where p expects another `block` bits to be full."""
        beta_tilde = float(self.reverse.process.step(at(x, s), at(x, t)).posterior_variance[0])  # type: ignore[attr-defined]
        order = np.random.default_rng([self.seed, number]).permutation(len(p.std))
        bits = np.maximum(np.log2(p.std / beta_tilde**0.5), 0)[order].cumsum()
        count = max(1, round(bits[-1] / self.block))
        return np.split(order, np.searchsorted(bits, bits[-1] * np.arange(1, count) / count))


def gaussians(p: Any) -> Gaussians:
    return Gaussians(p.mean.double().flatten().numpy(), std(p).flatten().numpy())
