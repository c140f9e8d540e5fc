"""Data whose training examples have noise of their own, and whose held-out ones are clean."""

from typing import Any

import torch
from torch import Tensor

from dpm import seeds
from dpm.errors import UserError
from dpm.facts import Scalar


class Noisy:
    """Batches y = x_0 + noise n of `clean` data, from `number` examples that each keep their noise, or (0) fresh ones."""

    def __init__(self, clean: Any, noise: float, number: int = 0) -> None:
        if not (noise > 0 and number >= 0):
            raise UserError(f"noisy data: noise > 0 and number >= 0 must hold, got {noise=}, {number=}")
        self.clean, self.noise, self.number = clean, noise, number

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**self.clean.facts, "training_noise": self.noise, "training_examples": self.number}

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        if not self.number:
            return self.noisy(self.clean.batch(size, seed, step), seeds.generator(seed, seeds.TRAINING, step, 1))
        all_of_them = self.noisy(self.clean.batch(self.number, seed, 0), seeds.generator(seed, seeds.TRAINING, 0, 1))
        return all_of_them[torch.randint(self.number, (size,), generator=seeds.generator(seed, seeds.TRAINING, step, 2))]

    def noisy(self, x_0: Tensor, generator: torch.Generator) -> Tensor:
        return x_0 + self.noise * torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)

    def validation(self, n: int) -> Tensor:
        x_0: Tensor = self.clean.validation(n)
        return x_0

    def held_out(self, n: int) -> Tensor:
        x_0: Tensor = self.clean.held_out(n)
        return x_0
