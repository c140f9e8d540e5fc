"""Images as the models see them: 8-bit values on a scale of their own, and how a difference on it converts to grey levels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.data.files import default_folder
from dpm.errors import UserError

Source = Callable[[Path | str], tuple[np.ndarray, np.ndarray]]  # folder -> (training, test), uint8, (n, C, H, W)


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
        return torch.tensor(grey).double() / 127.5 - 1

    @staticmethod
    def first(images: np.ndarray, n: int) -> np.ndarray:
        if not 0 <= n <= len(images):
            raise UserError(f"{n} images asked for, there are {len(images)}")
        return images[:n]
