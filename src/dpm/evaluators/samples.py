"""Images from the reverse process, as arrays for a figure."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpm import seeds
from dpm.data import Data
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.reverse import Reverse
from dpm.samplers.ancestral import ancestral


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
        T = len(reverse.process.schedule)
        grid = [round(T * k / min(self.steps, T)) for k in range(min(self.steps, T), -1, -1)]
        *_, x = ancestral(self.wrap(reverse), x_T, grid)
        grey = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return Evaluation(arrays={"samples": grey.cpu().numpy()})
