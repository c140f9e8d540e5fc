"""Replacement (Song et al. 2021) and RePaint (Lugmayr et al. 2022): known coordinates follow q, given their values."""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from dpm.processes import Process
from dpm.processes.binomial import bernoulli
from dpm.processes.gaussian import normal
from dpm.reverse import Reverse


class Replaced(Reverse):
    """x_s: known coordinates from q(x_s | x_0) at their values, without noise of observation, the others from p(x_s | x_t).

    `known` is a mask that broadcasts to x, as `values` do. RePaint with r repetitions of each step is this process with r
    `sweeps` of `dpm.samplers.ancestral`; one sweep is replacement, which never lets the known coordinates see the others.
    """

    def __init__(self, reverse: Reverse, known: Tensor, values: Tensor) -> None:
        self.reverse, self.known, self.values = reverse, known, values

    @property
    def process(self) -> Process:
        return self.reverse.process

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        p, q = self.reverse(x_t, s, t), self.process.marginal(self.values.expand_as(x_t), s)
        mean = torch.where(self.known, q.mean, p.mean)
        if isinstance(p, Independent) and isinstance(p.base_dist, Bernoulli):
            return bernoulli(mean)
        return normal(mean, torch.where(self.known, q.variance, p.variance).sqrt())
