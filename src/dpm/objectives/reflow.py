"""Reflow: the velocity of straight lines between the ends that a flow connects (Liu et al. 2023, section 2.2)."""

import torch
from torch import Tensor

from dpm import seeds
from dpm.errors import UserError
from dpm.predictions import DataPrediction
from dpm.processes import per_example
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.few import flow
from dpm.times import Steps


class Reflow:
    """Mean over coordinates of |target(x_t) - output|^2 at x_t = alpha_t x_0 + sigma_t eps, shape (B,), eps = x_1 the noise.

    The pairs (x_0, x_1) are the ends of `pairs` paths of the teacher's flow in `steps` steps of Euler, functions of `seed`; of
    a batch only its size matters.
    """

    def __init__(
        self, teacher: GaussianReverse, pairs: int, steps: int, seed: int, times: Steps, batch_size: int = 500
    ) -> None:
        self.teacher, self.pairs, self.steps, self.seed = teacher.eval(), pairs, steps, seed
        self.times, self.batch_size = times, batch_size
        self.ends: Tensor | None = None  # (pairs, 2, ...)

    def __call__(self, reverse: GaussianReverse, x_0: Tensor) -> Tensor:
        if self.ends is None:
            self.ends = self.made(x_0[:1])
        process, prediction = reverse.process, reverse.prediction
        if not isinstance(prediction, DataPrediction):
            raise UserError(f"reflow regresses a target that the ends determine; {type(prediction).__name__} has none")
        _, t, _ = self.times.draw(reverse, x_0, 1)
        chosen = torch.randint(self.pairs, (len(x_0),), device=x_0.device)
        data, noise = self.ends[chosen].unbind(1)
        alpha, sigma = (per_example(c, x_0) for c in process.schedule(t))
        x_t = alpha * data + sigma * noise
        error: Tensor = prediction.target(process, data, x_t, t) - reverse.output(x_t, t)
        return error.square().flatten(1).mean(1)

    @torch.no_grad()
    def made(self, like: Tensor) -> Tensor:
        """The pairs, on the device and in the precision of `like`, (1, ...)."""
        noise = torch.randn(self.pairs, *like.shape[1:], generator=seeds.generator(self.seed)).to(like)
        teacher = self.teacher.to(like.device)
        data = torch.cat([flow(teacher, x, self.steps) for x in noise.split(self.batch_size)])  # type: ignore[no-untyped-call]
        return torch.stack([data, noise], 1)
