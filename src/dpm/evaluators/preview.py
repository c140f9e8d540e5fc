"""A few examples, to look at while a network learns: no number is made of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpm import seeds
from dpm.data import Data
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.samples import levels
from dpm.reverse import Reverse
from dpm.samplers.ancestral import sample


class Preview:
    """`samples` of `sampler(reverse, x_T, steps)`: n points (n, d), or n images (n, C, H, W) in grey levels.

    The same x_T for the same seed, so that the pictures of a run show the same noise being undone better and better.
    `looks`: how often the network looks at one example for it.
    """

    def __init__(self, n: int, steps: int, sampler: Callable[[Any, Tensor, int], Tensor] = sample) -> None:
        if min(n, steps) < 1:
            raise UserError(f"pictures: one sample and one step at least, got {n=}, {steps=}")
        self.n, self.steps, self.sampler = n, steps, sampler

    @property
    def looks(self) -> int:
        return self.n * self.steps

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        seeds.seed_everything(seed, seeds.SAMPLING)
        like = x_0[:1] if x_0.ndim == 2 else x_0[:1].float()
        x = self.sampler(reverse, reverse.process.prior(like.expand(self.n, *like.shape[1:])).sample(), self.steps)
        grey = getattr(data, "grey", None)
        return Evaluation(arrays={"samples": x.cpu().numpy() if grey is None else levels(grey(x.double().nan_to_num()))})
