"""Images as the models see them: grey levels on another scale, exact (2020) or with noise that makes them continuous (2015)."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.data.files import default_folder
from dpm.errors import UserError
from dpm.facts import Scalar

HALF_RANGE = 127.5  # grey levels in one unit of the data of 2020
Source = Callable[[Path | str], tuple[np.ndarray, np.ndarray]]  # folder -> (training, test), grey levels, (n, C, H, W)


def name_of(source: Source) -> str:
    """What a source calls itself, or the name of the function, which may come as a `functools.partial` without arguments."""
    source = getattr(source, "func", source)
    return str(getattr(source, "name", None) or getattr(source, "__name__", type(source).__name__))


def facts_of(source: Source) -> dict[str, Scalar]:
    """Its name, and whatever else it says of itself."""
    return {"data": name_of(source), **getattr(source, "facts", {})}


class DiscreteImages:
    """x_0 = g / 127.5 - 1 for grey levels g = 0..255 (2020, section 3.3): float32 for training, float64 to evaluate.

    The last `n_validation` training images are kept for validation; the test images are the held-out ones, in their order.
    A training batch takes images at random with replacement, each mirrored with probability 1/2 if `flip`. The files lie in
    the data folder of `dpm.data.files`.
    """

    def __init__(self, source: Source, n_validation: int, flip: bool) -> None:
        images, test = source(default_folder())
        if not 0 < n_validation < len(images):
            raise UserError(f"n_validation = {n_validation}: keep some of the {len(images)} training images, and train on some")
        self.train, self.kept, self.test, self.flip = images[:-n_validation], images[-n_validation:], test, flip
        self.name = name_of(source)

    @property
    def facts(self) -> dict[str, Scalar]:
        return {"data": self.name, "split": "test"}

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        generator = seeds.generator(seed, seeds.TRAINING, step)
        index = torch.randint(len(self.train), (size,), generator=generator).numpy()
        x_0 = self.scaled(self.train[index]).float()
        mirrored = torch.rand(size, generator=generator) < (0.5 if self.flip else 0)
        return torch.where(mirrored[:, None, None, None], x_0.flip(3), x_0)

    def training(self) -> Tensor:
        """All training images, not mirrored."""
        return self.scaled(self.train).float()

    def validation(self, n: int) -> Tensor:
        return self.scaled(self.first(self.kept, n))

    def held_out(self, n: int) -> Tensor:
        return self.scaled(self.first(self.test, n))

    @staticmethod
    def scaled(grey: np.ndarray) -> Tensor:
        return torch.tensor(grey).double() / HALF_RANGE - 1

    @staticmethod
    def grey(x: Tensor) -> Tensor:
        """Back to grey levels, the inverse of `scaled`: neither rounded nor clipped."""
        return (x + 1) * HALF_RANGE

    @staticmethod
    def first(images: np.ndarray, n: int) -> np.ndarray:
        if not 0 <= n <= len(images):
            raise UserError(f"{n} images asked for, there are {len(images)}")
        return images[:n]


class StandardizedImages:
    """x_0 = (g + u - mean) / std for grey levels g, u ~ Uniform(-grain / 2, grain / 2) for each value; patches of side x side.

    mean and std are two numbers, from all values of the training images and with the variance grain^2 / 12 of u, so that
    E x_0 = 0 and E x_0^2 = 1 (2015, Table 1: "multiplied by a constant"). With grain 1, one grey level, the density of x_0 is a
    bound for 8-bit images (v8, footnote 3); data that are continuous have grain 0. u is fresh in every training batch and fixed
    for validation and held-out examples. `turned` says that images have no direction: each training patch is then turned and
    mirrored at random, one of the eight ways of the square.

    `source(folder) -> (training, test)`: (n, C, H, W) in grey levels, H, W >= side. The last `n_validation` training images are
    kept for validation. Training patches lie anywhere; those of the other two sets tile their images, in order.
    """

    def __init__(self, source: Source, n_validation: int, side: int, grain: float, turned: bool = False) -> None:
        images, test = source(default_folder())
        if not 0 < n_validation < len(images):
            raise UserError(f"n_validation = {n_validation}: keep some of the {len(images)} training images, and train on some")
        if not 0 < side <= min(*images.shape[2:], *test.shape[2:]):
            raise UserError(f"side = {side}: patches are smaller than the images, {images.shape[2:]} and {test.shape[2:]}")
        if grain < 0:
            raise UserError(
                f"grain = {grain}: the width of the noise in grey levels, 1 for 8-bit images, 0 for continuous ones"
            )
        self.train, self.kept, self.test = images[:-n_validation], images[-n_validation:], test
        self.side, self.grain, self.turned, self.source_facts = side, grain, turned, facts_of(source)
        self.mean = float(self.train.mean(dtype=np.float64))
        self.std = math.sqrt(float(self.train.var(dtype=np.float64)) + grain**2 / 12)

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**self.source_facts, "split": "test", "dequantisation": "uniform" if self.grain else "none"}

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        generator = seeds.generator(seed, seeds.TRAINING, step)
        limits = (len(self.train), *(extent - self.side + 1 for extent in self.train.shape[2:]))
        index, top, left = (torch.randint(limit, (size,), generator=generator).tolist() for limit in limits)
        patches = [self.train[i, :, y : y + self.side, x : x + self.side] for i, y, x in zip(index, top, left, strict=True)]
        if self.turned:
            ways = torch.randint(8, (size,), generator=generator).tolist()
            mirrored = [patch if way < 4 else patch.swapaxes(1, 2) for patch, way in zip(patches, ways, strict=True)]
            patches = [np.rot90(patch, way, (1, 2)) for patch, way in zip(mirrored, ways, strict=True)]
        return self.standardised(np.stack(patches), generator).float()

    def training(self) -> Tensor:
        """The patches that tile the training images, each with one draw of u."""
        return self.standardised(self.tiles(self.train), seeds.generator(0, seeds.TRAINING)).float()

    def validation(self, n: int) -> Tensor:
        return self.standardised(DiscreteImages.first(self.tiles(self.kept), n), seeds.generator(0, seeds.VALIDATION))

    def held_out(self, n: int) -> Tensor:
        return self.standardised(DiscreteImages.first(self.tiles(self.test), n), seeds.generator(0, seeds.HELD_OUT))

    def tiles(self, images: np.ndarray) -> np.ndarray:
        """(n, C, H, W) -> (n floor(H / side) floor(W / side), C, side, side)."""
        (n, channels, *extents), side = images.shape, self.side
        rows, columns = (extent // side for extent in extents)
        cut = images[:, :, : rows * side, : columns * side].reshape(n, channels, rows, side, columns, side)
        return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels, side, side)

    def standardised(self, grey: np.ndarray, generator: torch.Generator) -> Tensor:
        """(g + u - mean) / std, float64; u is drawn from the generator."""
        g = torch.tensor(grey).double()
        u = self.grain * (torch.rand(g.shape, generator=generator, dtype=torch.float64) - 0.5)
        return (g + u - self.mean) / self.std

    def grey(self, x: Tensor) -> Tensor:
        """Back to grey levels: neither rounded nor clipped."""
        return self.mean + self.std * x
