"""What is missing of an example, drawn given the rest (2015, section 2.5 and Figure 5)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpm.data import Data
from dpm.drawings import Panel, Walk, examples, start
from dpm.errors import UserError
from dpm.observations import Mask, Observation
from dpm.reverse import Reverse
from dpm.samplers import last
from dpm.stored import read_array

Method = Callable[[Any, Tensor, Tensor], Any]  # (reverse, known, values) -> the process given the known coordinates


class Inpainting:
    """The first n held-out examples, what is known of them, and `draws` completions by `method`.

    `known` is a file of numpy.save, a boolean array in the shape of an example; by default the middle is missing: half the
    extent of images, signals and rolls, the second half of points and bits.
    """

    def __init__(self, n: int, draws: int, method: Method, known: str | None = None) -> None:
        if min(n, draws) < 1:
            raise UserError(f"inpainting: one example and one draw at least, got {n=}, {draws=}")
        self.n, self.draws, self.method, self.known = n, draws, method, known

    def __call__(self, reverse: Any, data: Data, walk: Walk) -> list[Panel]:
        x = examples(reverse, data, self.n)
        known = outside(x.shape[1:]) if self.known is None else mask(Path(self.known), x.shape[1:])
        process = self.method(reverse, known.to(x.device), x)
        drawn = [last(walk(process, start(reverse, data, self.n))) for _ in range(self.draws)]
        known_only = Panel("known", torch.where(known.to(x.device), x, 0))
        return [Panel("example", x), known_only, *(Panel(f"draw {k}", each) for k, each in enumerate(drawn, 1))]


def outside(shape: tuple[int, ...]) -> Tensor:
    """True but for the middle half along every axis behind the first, or the second half of a vector."""
    known = torch.ones(shape, dtype=torch.bool)
    middle = (slice(extent // 4, extent - extent // 4) for extent in shape[1:])
    known[(slice(None), *middle) if len(shape) > 1 else slice(shape[0] // 2, None)] = False
    return known


def mask(path: Path, shape: tuple[int, ...]) -> Tensor:
    array = read_array(path)
    if array.dtype != bool or array.shape != shape or not 0 < array.sum() < array.size:
        raise UserError(f"{path}: {array.dtype} {array.shape}; a boolean array {tuple(shape)} is wanted, in part True")
    return torch.from_numpy(array)


def guided(reverse: Any, known: Tensor, values: Tensor, by: Callable[[Any, Observation], Reverse], noise: float) -> Reverse:
    """The process guided by y = the known coordinates + noise n (`dpm.reverse.guided`), for every sampler by x_0-hat."""
    A = Mask(known)
    return by(reverse, Observation(A, A(values), noise))
