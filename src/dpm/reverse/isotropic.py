"""The best variance that is one number for each step: what a fixed variance costs, and no training mends (Bao et al. 2022).

The mean divergence of a step from its target, KL(N(mu-tilde, beta-tilde I) || N(mu, v I)) in d dimensions, is

    d/2 ((beta-tilde + b^2 m_t) / v - 1 + log(v / beta-tilde)),   m_t = E |x_0 - x_0-hat|^2 / d,

b the posterior's coefficient of x_0; the best v is the numerator. 2020 takes its two extremes, m_t = 0 and m_t = sigma_t^2 of
x_0 ~ N(0, I) (section 3.2). Estimating the Optimal Covariance with Imperfect Mean, arXiv 2206.07309.
"""

import numpy as np
import torch
from torch import Tensor

from dpm.bound import drawn_at
from dpm.decoders import Discretized, DiscretizedNormal
from dpm.errors import UserError
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, Step
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.memory import likeliest_scale, one_step
from dpm.variances import Variance


class Isotropic(Variance):
    """sigma_t^2 = beta-tilde + b^2 m_t, `missed` = m_1..m_T, (T,). The network's part is split off as by `trained`, unused."""

    covariance = "isotropic"

    def __init__(self, trained: Variance, missed: Tensor) -> None:
        self.trained, self.missed = trained, missed

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        left, _ = self.trained.split(output)
        return left, left

    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        return per_example(step.posterior_variance + step.on_x_0.square() * self.missed[t.long() - 1], z)


@torch.no_grad()
def isotropic(reverse: GaussianReverse, x_0: Tensor, seed: int, knots: int, batch_size: int) -> GaussianReverse:
    """`reverse` with the best isotropic variances for 8-bit images x_0, (n, C, H, W), each at one draw of x_t.

    m_t is estimated at `knots` times in geometric progression, rounded, and log m_t is linear in log t between them. The
    decoder integrates over bins and has no such formula: m_1 is that of the largest likelihood.
    """
    T = len(reverse.process.schedule)
    if not isinstance(reverse.decoder, Discretized) or knots < 2 or batch_size < 1:
        raise UserError(f"isotropic variances: of a discretised decoder, 2 knots at least, got {knots=}, {batch_size=}")
    times = np.unique(np.geomspace(1, T, knots).round())
    missed = [mean_square_error(reverse, x_0, round(t), batch_size, seed) for t in times]
    between = np.exp(np.interp(np.log(np.arange(1, T + 1)), np.log(times), np.log(missed)))
    m = torch.from_numpy(between).to(x_0.device)
    (mean, _), levels = one_step(reverse, x_0, seed, batch_size), reverse.decoder.levels
    predicted, values = (x.flatten(1)[:, None] for x in (mean, x_0))  # one colour, and so one scale
    p = DiscretizedNormal(predicted, m[0].sqrt().to(predicted).expand_as(predicted), levels)
    m[0] *= likeliest_scale(p, values).square().squeeze()
    return reverse.replacing(variance=Isotropic(reverse.variance, m))


def mean_square_error(reverse: GaussianReverse, x_0: Tensor, t: int, batch_size: int, seed: int) -> float:
    """m_t, the mean over these examples and their dimensions."""
    total = 0.0
    for x, x_t, times in drawn_at(reverse.process, x_0, t, batch_size, seed):
        total += (reverse.predicted(x_t, times) - x).double().square().sum().item()
    return total / x_0.numel()
