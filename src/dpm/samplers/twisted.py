"""Twisted sequential Monte Carlo (Wu et al. 2023): a particle filter around a guided process, exact in the limit of many."""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from dpm.processes import at
from dpm.reverse.guided import Guided, Look


class Population(NamedTuple):
    """Equally weighted particles (B, ...), the estimate of log p(y) so far, nats, and the share of them that had weight."""

    x: Tensor
    log_evidence: Tensor
    effective: Tensor


@torch.no_grad()
def twisted(guided: Guided, x_T: Tensor, steps: Iterable[float]) -> Iterator[Population]:
    """Yield the particles of p(x_s | y) for each s of a decreasing grid from `end` to 0; all of them see one y.

    Proposals are the guided steps p~, weights p(x_s | x_t) twist_s(x_s) / (p~(x_s | x_t) twist_t(x_t)) with twist_t(x_t) =
    N(y; A x_0-hat, R_t) up to a factor, and the likelihood of y itself at s = 0: there the product of the mean weights is an
    unbiased estimate of p(y), and the weighted particles tend to the chain's own posterior, whatever the guidance.
    They are resampled after every step; the step to 0 is drawn from, and needs a density (a `Network` decoder).
    """
    grid = list(steps)
    x, look = x_T, guided.look(x_T, at(x_T, grid[0]))
    kept, log_evidence, effective = resampled(look.log_twist)
    for t, s in pairwise(grid):
        x, look = x[kept], Look(*(part[kept] for part in look))
        times = at(x, s), at(x, t)
        p = guided.reverse(x, *times)
        proposal = guided.moved(p, look, *times)
        x = proposal.sample()
        log_w = p.log_prob(x) - proposal.log_prob(x) - look.log_twist
        look = guided.look(x, times[0]) if s > 0 else Look(x, x, guided.observation.log_likelihood(x))
        kept, log_mean, effective = resampled(log_w + look.log_twist)
        log_evidence = log_evidence + log_mean
        yield Population(x[kept], log_evidence, effective)


def resampled(log_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whom each new particle descends from (systematic resampling), the log of the mean weight, and 1 / (B sum w^2)."""
    n, w = len(log_w), log_w.softmax(0)
    points = (torch.arange(n, device=w.device) + torch.rand((), dtype=w.dtype, device=w.device)) / n
    kept = torch.searchsorted(w.cumsum(0), points).clamp(max=n - 1)
    return kept, log_w.logsumexp(0) - math.log(n), 1 / (n * w.square().sum())
