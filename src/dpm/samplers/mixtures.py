"""Mixtures of two examples that both have been diffused for a while (2020, section 4.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpm.processes import Marginals, at
from dpm.processes.binomial import BinomialDiffusion


def mixed(process: Marginals, x_0: Tensor, other: Tensor, t: float, weights: Sequence[float]) -> Tensor:
    """(1 - lambda) x_t + lambda x_t' for each lambda, (B, len(weights), ...): x_t ~ q(x_t | x_0), x_t' alike.

    x_t and x_t' are drawn once, independently, for all lambdas (2020, section 4.3; the printed formula mixes x_0, its text and
    the release mix x_t). At lambda = 1/2 the mixture has half the noise that the reverse process expects at t. Bits are taken
    from x_t' with probability lambda: they change sides one after another.
    """
    x_t, other_t = (process.marginal(x, at(x, t)).sample() for x in (x_0, other))
    if isinstance(process, BinomialDiffusion):
        order = torch.rand_like(x_t)
        return torch.stack([torch.where(order < weight, other_t, x_t) for weight in weights], 1)
    return torch.stack([torch.lerp(x_t, other_t, weight) for weight in weights], 1)
