"""Estimates of log p(x_0) by whole trajectories, and by the error of the predicted x_0 at all noise levels."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dpm.bound import draw
from dpm.flows import noise_level
from dpm.processes import at, per_example
from dpm.reverse import Reverse
from dpm.reverse.gaussian import GaussianReverse


@torch.no_grad()
def log_weights(reverse: Reverse, x_0: Tensor, grid: Sequence[float], number: int) -> Tensor:
    """log w of `number` trajectories x_0 <- x_1 <- ... <- x_T ~ q for each example, (B, number), nats; grid from T to 0.

    w = p(x_0, ..., x_T) / q(x_1, ..., x_T | x_0), so that E w = p(x_0) and -E log w is the bound (2015, eq. 9).
    """
    x = x_0.repeat_interleave(number, 0)
    x_t = draw(reverse.process, x, at(x, grid[0]))
    log_w = reverse.process.prior(x_t).log_prob(x_t) - reverse.process.marginal(x, at(x, grid[0])).log_prob(x_t)
    for t, s in pairwise(grid[:-1]):
        times = at(x, s), at(x, t)
        p, q = reverse(x_t, *times), reverse.process.posterior(x, x_t, *times)
        x_t = q.sample()
        log_w = log_w + p.log_prob(x_t) - q.log_prob(x_t)
    log_w = log_w + reverse(x_t, at(x, 0), at(x, grid[-2])).log_prob(x)
    return log_w.view(len(x_0), number)


def log_mean_exp(log_w: Tensor, K: int) -> Tensor:
    """log of the mean of the first K weights, the mean over as many groups of K as there are, (B,).

    -E of it is the importance-weighted bound (Burda, Grosse, Salakhutdinov 2016): K = 1 is the bound, and it falls with K
    to -log p(x_0).
    """
    groups = log_w[:, : log_w.shape[1] // K * K].view(len(log_w), -1, K)
    return (groups.logsumexp(2) - math.log(K)).mean(1)


@torch.no_grad()
def transitions_in_the_limit(reverse: GaussianReverse, x_0: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The sum of the bound's KL terms for infinitely many steps from t = 1 to the end, by two estimates, each (B,), nats.

    1/2 int -dSNR |x_0 - x_0-hat|^2 = int |x_0 - x_0-hat|^2 / s^2 dlog s, s = sigma / alpha (Kingma et al. 2021, eq. 18), at
    `number` stratified levels s for each example. The reverse variance plays no part: in the limit it is q's. The second
    (Kong, Brekelmans, Ver Steeg 2023) takes the error of the best denoiser of N(0, |x_0|^2 / d) at the same draws as a
    control variate: its mean is known, and near that of any denoiser where the noise covers the data.
    """
    schedule = reverse.process.schedule
    ends = tuple(noise_level(schedule, t) for t in (1, schedule.end))
    first, last = map(math.log, ends)
    power = x_0.double().square().flatten(1).mean(1)
    plain, difference = torch.zeros(2, len(x_0), dtype=torch.float64, device=x_0.device)
    for k in range(number):
        u = (k + torch.rand(len(x_0), dtype=torch.float64, device=x_0.device)) / number
        s = (first + (last - first) * u).exp()
        t = schedule.time(s)
        x_t = draw(reverse.process, x_0, t)
        shrunk = per_example(power / (power + s**2) / schedule(t)[0], x_0) * x_t
        error, linear = (
            ((x_0 - of) / per_example(s, x_0)).square().flatten(1).sum(1) for of in (reverse.predicted(x_t, t), shrunk)
        )
        plain += error * (last - first) / number
        difference += (error - linear) * (last - first) / number
    return plain, difference + gaussian_transitions(power, x_0[0].numel(), *ends)


def gaussian_transitions(v: Tensor, d: int, first: float, last: float) -> Tensor:
    """The same integral for x_0-hat = v / (v + s^2) y, y = x_t / alpha_t, and |x_0|^2 = d v, in closed form.

    E |x_0 - x_0-hat|^2 / s^2 = d v / (v + s^2), the integral of it d / 2 log(s^2 / (v + s^2)).
    """
    return d / 2 * (torch.log(v / first**2 + 1) - torch.log(v / last**2 + 1))
