"""Signals, (n, 1, L): an autoregressive process whose density is known, and a recording that a package brings along."""

import math
import wave
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.data.synthetic import Synthetic
from dpm.errors import UserError
from dpm.facts import Scalar


class Autoregressive(Synthetic):
    """x_i = sum_k a_k x_{i-k} + e_i, e_i ~ N(0, v), stationary, v such that E x^2 = 1: windows of `length` samples.

    The autocovariance r solves the equations of Yule and Walker, r(d) = sum_k a_k r(|d - k|) for d >= 1, and r(0) = 1.
    """

    def __init__(self, coefficients: Sequence[float], length: int) -> None:
        self.coefficients, self.length = tuple(coefficients), length
        roots = np.roots([1.0, *(-a for a in coefficients)])
        if length <= len(coefficients) or not (np.abs(roots) < 1).all():
            raise UserError(f"coefficients of a stationary process, fewer than samples: {self.coefficients}, {length=}")
        self.factor = np.linalg.cholesky(self.covariance().numpy())

    def autocovariance(self) -> "np.ndarray[Any, Any]":
        """r(0), ..., r(length - 1)."""
        p = len(self.coefficients)
        equations, right = np.eye(p + 1), np.zeros(p + 1)
        for d in range(1, p + 1):
            for k, a in enumerate(self.coefficients, 1):
                equations[d, abs(d - k)] -= a
        right[0] = 1.0
        r = list(np.linalg.solve(equations, right))
        while len(r) < self.length:
            r.append(sum(a * r[-k] for k, a in enumerate(self.coefficients, 1)))
        return np.array(r[: self.length])

    def covariance(self) -> Tensor:
        """(length, length)."""
        index = np.arange(self.length)
        return torch.from_numpy(self.autocovariance()[np.abs(index[:, None] - index)])

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, self.length, generator=generator, dtype=torch.float64)
        return (noise @ torch.from_numpy(self.factor).T)[:, None]


class Recording:
    """Windows of a mono recording of 8 bits, x_0 = (g + u - mean) / std with u ~ Uniform(-1/2, 1/2); mean and std of training.

    By default `house_lo.wav` of the examples of pygame-ce, seven seconds at 11,025 Hz, read where the package lies. Of its
    samples the first 70 % are training, those up to 80 % validation, the rest the test set, each cut into windows in
    order. u is fresh in every training batch and fixed elsewhere.
    """

    def __init__(self, window: int, path: str | None = None) -> None:
        g = samples(packaged() if path is None else Path(path))
        first, second = int(0.7 * len(g)), int(0.8 * len(g))
        self.window, self.parts = window, {"train": g[:first], "valid": g[first:second], "test": g[second:]}
        if not 1 <= window <= second - first:
            raise UserError(f"window = {window}: from 1 to the {second - first} samples that are kept for validation")
        self.mean, self.std = float(g[:first].mean()), math.sqrt(float(g[:first].var()) + 1 / 12)
        self.name = "house_lo.wav" if path is None else Path(path).name

    @property
    def facts(self) -> dict[str, Scalar]:
        return {"data": self.name, "split": "test", "window": self.window, "dequantisation": "uniform"}

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        generator = seeds.generator(seed, seeds.TRAINING, step)
        starts = torch.randint(len(self.parts["train"]) - self.window + 1, (size,), generator=generator)
        g = np.stack([self.parts["train"][s : s + self.window] for s in starts.tolist()])
        return self.standardised(g, generator).float()

    def training(self) -> Tensor:
        """All windows, overlapping ones too, each with one draw of u."""
        g = np.lib.stride_tricks.sliding_window_view(self.parts["train"], self.window)
        return self.standardised(g, seeds.generator(0, seeds.TRAINING)).float()

    def validation(self, n: int) -> Tensor:
        return self.tiles("valid", n, seeds.VALIDATION)

    def held_out(self, n: int) -> Tensor:
        return self.tiles("test", n, seeds.HELD_OUT)

    def tiles(self, part: str, n: int, stream: int) -> Tensor:
        g = self.parts[part][: len(self.parts[part]) // self.window * self.window].reshape(-1, self.window)
        if not 0 <= n <= len(g):
            raise UserError(f"{n} windows asked for, there are {len(g)}")
        return self.standardised(g, seeds.generator(0, stream))[:n]

    def standardised(self, g: "np.ndarray[Any, Any]", generator: torch.Generator) -> Tensor:
        """(n, window) of samples -> (n, 1, window), float64; u is drawn from the generator."""
        u = torch.rand(g.shape, generator=generator, dtype=torch.float64) - 0.5
        return ((torch.tensor(g).double() + u - self.mean) / self.std)[:, None]


def packaged() -> Path:
    spec = find_spec("pygame")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the recording comes with the package pygame-ce: install it, or give data.path")
    return Path(spec.submodule_search_locations[0], "examples", "data", "house_lo.wav")


def samples(path: Path) -> "np.ndarray[Any, Any]":
    """0..255 of a mono .wav file of 8 bits."""
    try:
        with wave.open(str(path)) as file:
            if (file.getnchannels(), file.getsampwidth()) != (1, 1):
                raise UserError(f"{path}: mono samples of 8 bits are wanted")
            return np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    except (OSError, wave.Error, EOFError) as error:
        raise UserError(f"{path}: not readable as a recording ({error})") from error
