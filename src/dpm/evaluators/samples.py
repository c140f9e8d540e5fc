"""Images from the reverse process, as arrays for a figure."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.baselines.gaussian_images import resized
from dpm.data import Data
from dpm.data.images import DiscreteImages, StandardizedImages
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.reverse import Reverse
from dpm.samplers.ancestral import sample


class ImageSamples:
    """`samples`, (n, C, H, W) grey levels: n chains in `steps` steps, evenly spaced over T, uncurated."""

    def __init__(self, n: int, steps: int, wrap: Callable[[Any], Reverse]) -> None:
        if n < 1 or steps < 1:
            raise UserError(f"samples: at least one, and one step, got {n=}, {steps=}")
        self.n, self.steps, self.wrap = n, steps, wrap

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        seeds.seed_everything(seed, seeds.SAMPLING)
        x_T = reverse.process.prior(x_0[:1].float().expand(self.n, -1, -1, -1)).sample()
        x = sample(self.wrap(reverse), x_T, self.steps)
        return Evaluation(arrays={"samples": levels(DiscreteImages.grey(x))})


class LargeSample:
    """`sample`, one image of side x side pixels from a network without a dense pathway, beside `training`, a training image.

    Both (C, side, side), grey levels. The Gaussian model in the reverse process is resized.
    """

    def __init__(self, side: int, steps: int) -> None:
        if side < 1 or steps < 2:
            raise UserError(f"a large sample has a pixel and two steps at least, got {side=}, {steps=}")
        self.side, self.steps = side, steps

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: StandardizedImages, x_0: Tensor, seed: int) -> Evaluation:
        seeds.seed_everything(seed, seeds.SAMPLING)
        x_T = reverse.process.prior(x_0.new_zeros(1, x_0.shape[1], self.side, self.side, dtype=torch.float32)).sample()
        x = sample(resized(reverse, self.side, self.side), x_T, self.steps)
        training = torch.tensor(data.train[0, :, : self.side, : self.side]).double()
        return Evaluation(arrays={"sample": levels(data.grey(x))[0], "training": levels(training)})


def levels(grey: Tensor) -> np.ndarray:
    """Grey levels as they are stored and shown: rounded, and clipped to 0..255."""
    return grey.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
