"""Data whose training examples have noise of their own, and whose held-out ones are clean."""

from functools import cache

import torch
from torch import Tensor

from dpm import seeds
from dpm.data import Data
from dpm.errors import UserError
from dpm.facts import Scalar


class OfClean:
    """Training examples are made of those of `clean` data; held-out ones are clean."""

    clean: Data

    def validation(self, n: int) -> Tensor:
        return self.clean.validation(n)

    def held_out(self, n: int) -> Tensor:
        return self.clean.held_out(n)


class Noisy(OfClean):
    """Batches y = x_0 + noise n of `clean` data, from `number` examples that each keep their noise, or (0) fresh ones."""

    def __init__(self, clean: Data, noise: float, number: int = 0) -> None:
        if not (noise >= 0 and number >= 0):
            raise UserError(f"noisy data: noise >= 0 and number >= 0 must hold, got {noise=}, {number=}")
        self.clean, self.noise, self.number = clean, noise, number
        self.examples = cache(self.drawn)  # (seed) -> those that there are, drawn once

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**self.clean.facts, "training_noise": self.noise, "training_examples": self.number}

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        if not self.number:
            return self.noisy(self.clean.batch(size, seed, step), seeds.generator(seed, seeds.TRAINING, step, 1))
        return self.examples(seed)[
            torch.randint(self.number, (size,), generator=seeds.generator(seed, seeds.TRAINING, step, 2))
        ]

    def drawn(self, seed: int) -> Tensor:
        return self.noisy(self.clean.batch(self.number, seed, 0), seeds.generator(seed, seeds.TRAINING, 0, 1))

    def noisy(self, x_0: Tensor, generator: torch.Generator) -> Tensor:
        return x_0 + self.noise * torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)


class Masked(OfClean):
    """Batches (known x_0, known) of `clean` data: each coordinate is known with probability `keep`; held-out ones are whole."""

    def __init__(self, clean: Data, keep: float) -> None:
        if not 0 < keep <= 1:
            raise UserError(f"the share of coordinates that are known lies in (0, 1], got {keep}")
        self.clean, self.keep = clean, keep

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**self.clean.facts, "training_share_known": self.keep}

    def batch(self, size: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
        x_0 = self.clean.batch(size, seed, step)
        generator = seeds.generator(seed, seeds.TRAINING, step, 1)
        known = (torch.rand(x_0.shape, generator=generator, dtype=x_0.dtype) < self.keep).to(x_0.dtype)
        return known * x_0, known
