"""Consistency: one answer along each path of the probability flow (Song et al. 2023, arXiv 2303.01469)."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from dpm.continuous import karras
from dpm.errors import UserError
from dpm.flows import Field, flow_in_time
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.times import spread


class Neighbour(Protocol):
    def __call__(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The point at s < t that belongs to x_t, a draw of q(x_t | x_0)."""


class SameNoise:
    """Training: alpha_s x_0 + sigma_s eps with the eps of x_t (Song et al. 2023, eq. 10). No score is needed."""

    def __call__(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = ((per_example(c, x_t) for c in q.schedule(time)) for time in (t, s))
        return alpha_s * x_0 + sigma_s / sigma_t * (x_t - alpha_t * x_0)


class OneStep(nn.Module):
    """Distillation: where one step of a solver takes x_t in the flow of a teacher (Song et al. 2023, eq. 6)."""

    def __init__(self, teacher: GaussianReverse, step: Callable[[Field, Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.teacher, self.step = teacher.eval(), step

    @torch.no_grad()
    def forward(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return self.step(flow_in_time(self.teacher.to(x_t.device)), x_t, t, s)


class Consistency:
    """Mean over coordinates of |f(x_t, t) - f(x_s, s)|^2 with f = x_0-hat and s, t neighbours of `times`, shape (B,).

    `times` increase from the start, where f(x, start) = x holds by the prediction. The second f is a target without a gradient,
    of the same weights (Song, Dhariwal 2023). `neighbour` makes it distillation or training (Song et al. 2023, eqs. 7 and 10).
    """

    wraps = "neighbour"

    def __init__(self, times: Sequence[float], neighbour: Neighbour) -> None:
        if len(times) < 2 or list(times) != sorted(set(times)):
            raise UserError(f"consistency: two increasing times at least, got {list(times)[:4]}")
        self.times, self.neighbour = torch.tensor(times, dtype=torch.float64), neighbour

    def __call__(self, reverse: GaussianReverse, x_0: Tensor) -> Tensor:
        times, process = self.times.to(x_0.device), reverse.process
        n = (spread(len(x_0), x_0.device) * (len(times) - 1)).long()
        s, t = times[n], times[n + 1]
        x_t = process.marginal(x_0, t).sample()
        with torch.no_grad():
            target = reverse.predicted(self.neighbour(process, x_0, x_t, t, s), s)
        return (reverse.predicted(x_t, t) - target).square().flatten(1).mean(1)


def levels(first: float, last: float, steps: int) -> list[float]:
    """The increasing times of Song et al. 2023, section 5: `karras` without its 0."""
    return karras(last, first, steps)[-2::-1]


def evenly(end: float, steps: int) -> list[float]:
    """0, ..., end in equal steps."""
    return [end * k / steps for k in range(steps + 1)]
