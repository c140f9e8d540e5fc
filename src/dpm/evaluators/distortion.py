"""How far the predicted image is from the true one, along the reverse process (2020, section 4.3, Table 4 and Figure 5)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.bound import draw
from dpm.data import Data
from dpm.data.images import HALF_RANGE
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.reverse import facts_of
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement, root_mean


class Distortion:
    """RMSE of x_0-hat (2020, eq. 15) in grey levels at `points` reverse times s = T - t + 1, for images on [-1, 1].

    x_0 is predicted from one draw of x_t for each of the first n images. The value is the root of the mean over images and
    dimensions (the paper does not say whether it averages roots), its error by the delta method.
    `wrap` makes the process that is evaluated of the trained one (`dpm.reverse.gaussian.clipped`); `claim`, with {} for s, is
    the claim that a point answers.
    """

    def __init__(
        self, n: int, points: int, batch_size: int, wrap: Callable[[Any], GaussianReverse], claim: str | None = None
    ) -> None:
        if n < 2 or points < 2 or batch_size < 1:
            raise UserError(f"distortion: n and points from 2, batch_size from 1, got {n=}, {points=}, {batch_size=}")
        self.n, self.points, self.batch_size, self.wrap, self.claim = n, points, batch_size, wrap, claim

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        model, x_0, T = self.wrap(reverse), x_0[: self.n], len(reverse.process.schedule)
        steps = reverse_steps(T, self.points)
        measurements = [self.measured(model, x_0, T - s + 1, s, seed) for s in steps]
        rmse = np.array([[m.value, m.stderr] for m in measurements], dtype=np.float64).T
        return Evaluation(tuple(measurements), {"rmse_step": np.array(steps), "rmse_mean": rmse[0], "rmse_stderr": rmse[1]})

    def measured(self, model: GaussianReverse, x_0: Tensor, t: int, step: int, seed: int) -> Measurement:
        squares = []
        for number, batch in enumerate(x_0.split(self.batch_size)):  # type: ignore[no-untyped-call]
            seeds.seed_everything(seed, seeds.EVALUATION, t, number)
            times = torch.full((len(batch),), t, device=batch.device)
            squares.append(errors(model.predicted(draw(model.process, batch, times), times), batch))
        protocol = {**facts_of(model), "reverse_step": step}
        return rmse(torch.cat(squares), protocol, self.claim and self.claim.format(step))


def errors(predicted: Tensor, x_0: Tensor) -> Tensor:
    """Mean square over the dimensions of each image, in grey levels."""
    return mean_square(HALF_RANGE * (predicted - x_0))


def mean_square(x: Tensor) -> Tensor:
    """Over the dimensions of each example, (n,), float64."""
    return x.square().flatten(1).mean(1).double().cpu()


def rmse(squares: Tensor, protocol: dict[str, Scalar], claim: str | None = None) -> Measurement:
    """The root of their mean over images."""
    return Measurement("rmse", *root_mean(squares.numpy()), len(squares), "grey levels", protocol, claim)


def reverse_steps(T: int, points: int) -> list[int]:
    """At most `points` reverse times, evenly spaced up to T; one at least is 1 away from the start."""
    return sorted({max(1, round(T * k / points)) for k in range(1, points + 1)})
