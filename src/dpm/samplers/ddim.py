"""DDIM: the family of reverse steps with less noise than the posterior's, down to none (Song, Meng, Ermon 2021).

For given x_0 every member has the marginals q(x_t | x_0), so that the network of any bound serves all of them.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm.errors import UserError
from dpm.processes import at, per_example
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse import Reverse, require_prediction
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.ancestral import ancestral, grid


class DDIM(Reverse):
    """p(x_s | x_t) = N(alpha_s x_0-hat + sqrt(sigma_s^2 - v) eps-hat, v I), v = eta^2 beta-tilde (Song, Meng, Ermon 2021,
    eqs. 12 and 16).

    eps-hat = (x_t - alpha_t x_0-hat) / sigma_t is the noise that the prediction of x_0 leaves in x_t. eta = 1 is the step of
    2020 with `FixedSmall`, eta = 0 has no noise: a point mass, which is drawn from and has no density. To s = 0 it leads
    to x_0-hat. The variance and the decoder of `reverse` play no part.
    """

    def __init__(self, reverse: GaussianReverse, eta: float) -> None:
        if not 0 <= eta <= 1:
            raise UserError(f"DDIM's eta goes from 0 (no noise) to 1 (the posterior's), got {eta}")
        require_prediction(reverse)
        self.reverse, self.eta = reverse, eta

    @property
    def process(self) -> GaussianDiffusion:
        return self.reverse.process

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        step, (_, sigma_t) = self.process.step(s, t), self.process.schedule(t)
        left = 1 - self.eta**2 * step.variance / sigma_t**2  # of sigma_s^2, for eps-hat: 1 - v / sigma_s^2, also where s = 0
        std = self.eta * step.posterior_variance.sqrt()
        return normal(moved(self.reverse, x_t, s, t, left), per_example(std, x_t))


def moved(reverse: GaussianReverse, x_t: Tensor, s: Tensor, t: Tensor, left: Tensor) -> Tensor:
    """alpha_s x_0-hat + sigma_s sqrt(left) eps-hat, seen from (x_t, t): s may lie before t or after it; t >= 1."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = reverse.process.schedule(s), reverse.process.schedule(t)
    on_x_t = sigma_s * left.sqrt() / sigma_t
    on_x_0 = alpha_s - on_x_t * alpha_t  # in float64, before it meets x
    return per_example(on_x_t, x_t) * x_t + per_example(on_x_0, x_t) * reverse.predicted(x_t, t)


def ddim(reverse: GaussianReverse, x_T: Tensor, steps: Iterable[float], eta: float = 0.0) -> Iterator[Tensor]:
    """Yield x_s for each s of a decreasing grid from T to 0, as `ancestral` does; with eta = 0 a function of x_T."""
    return ancestral(DDIM(reverse, eta), x_T, steps)


def evenly(reverse: GaussianReverse, x_T: Tensor, steps: int, eta: float = 0.0) -> Iterator[Tensor]:
    """`ddim` on an even grid of that many steps."""
    return ddim(reverse, x_T, grid(len(reverse.process.schedule), steps), eta)


@torch.no_grad()
def encode(reverse: GaussianReverse, x: Tensor, steps: Iterable[float]) -> Iterator[Tensor]:
    """Yield x_s for each s of an increasing grid from t >= 1, where x is, to T: eta = 0 backwards (section 4.3).

    Each step takes x_0-hat and eps-hat at its other end, so that it inverts the sampler's step in the limit of small ones
    only. At t = 0 there is no noise to see: start at 1 from alpha_1 x_0, or from a draw of x_1.
    """
    times, T = list(steps), reverse.process.schedule.end
    if times != sorted(set(times)) or times[-1:] != [T] or times[0] <= 0:
        raise UserError(f"an encoding grid increases from 1 or later to T = {T}, got {times[:6]}...")
    for t, s in pairwise(times):
        x = moved(reverse, x, at(x, s), at(x, t), torch.ones(len(x), dtype=torch.float64, device=x.device))
        yield x
