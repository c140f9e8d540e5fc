"""What Figure 1 of 2015 shows: samples along the forward and the reverse process, and the drift of the reverse mean."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.data import Data
from dpm.evaluators import Evaluation
from dpm.reverse import Reverse
from dpm.samplers.ancestral import ancestral


class Trajectories:
    """Arrays for n points: `forward` and `reverse` (T + 1, n, 2) at `times` 0..T, betas, and on a grid over [-limit, limit]^2
    the drift f_mu(x_t, t) - x_t at t = 2 (the first learned step), T / 2 and T. Of seeds other than `drawn`, which no figure
    shows, the betas alone.
    """

    def __init__(self, n: int, limit: float, side: int, drawn: int = 0) -> None:
        self.n, self.limit, self.side, self.drawn = n, limit, side, drawn

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        schedule: Any = reverse.process.schedule
        betas = {"betas": schedule.betas.cpu().numpy()}
        if seed != self.drawn:
            return Evaluation(arrays=betas)
        seeds.seed_everything(seed, seeds.SAMPLING)
        T = len(reverse.process.schedule)
        axis = torch.linspace(-self.limit, self.limit, self.side, dtype=x_0.dtype, device=x_0.device)
        grid = torch.cartesian_prod(axis, axis)
        drift_times = (2, T // 2, T)
        arrays = {
            **betas,
            "times": np.arange(T + 1),
            "forward": torch.stack(self.forward(reverse, x_0[: self.n])).half().cpu().numpy(),
            "reverse": torch.stack(self.backward(reverse, x_0[: self.n])).half().cpu().numpy(),
            "grid": grid.cpu().numpy(),
            "drift_times": np.array(drift_times),
            "drift": torch.stack([self.drift(reverse, grid, t) for t in drift_times]).cpu().numpy(),
        }
        return Evaluation(arrays=arrays)

    @staticmethod
    def forward(reverse: Reverse, x_0: Tensor) -> list[Tensor]:
        """One trajectory of q per point, step by step."""
        trajectory, one = [x_0], torch.ones(len(x_0), dtype=torch.long, device=x_0.device)
        for s, t in pairwise(range(len(reverse.process.schedule) + 1)):
            trajectory.append(reverse.process.kernel(trajectory[-1], one * s, one * t).sample())
        return trajectory

    @staticmethod
    def backward(reverse: Reverse, like: Tensor) -> list[Tensor]:
        """One trajectory of p per point, in the order of increasing t."""
        x_T = reverse.process.prior(like).sample()
        steps = range(len(reverse.process.schedule), -1, -1)
        return [x_T, *ancestral(reverse, x_T, steps)][::-1]

    @staticmethod
    def drift(reverse: Reverse, x_t: Tensor, t: int) -> Tensor:
        times = torch.full((len(x_t),), t, dtype=torch.long, device=x_t.device)
        return reverse(x_t, times - 1, times).mean - x_t
