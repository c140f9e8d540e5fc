"""Who is paired with whom: ends (B, 2, ...) -> ends (B, 2, ...), both marginals kept."""

from typing import Protocol

import numpy as np
import ot
import torch
from torch import Tensor

from dpm.errors import UserError

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


class Coupling(Protocol):
    def __call__(self, ends: Tensor) -> Tensor:
        """Pairs (x_0, x_1) of the points of a batch, (B, 2, ...)."""


class AsDrawn:
    """The pairs of the batch itself: independent ones of two sources, or given ones, such as those that a flow has made."""

    def __call__(self, ends: Tensor) -> Tensor:
        return ends


class Reference:
    """x_1 + sigma z in place of x_0: the pairs of sigma W that starts at x_1, from which proportional fitting starts."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, ends: Tensor) -> Tensor:
        x_1 = ends[:, 1]
        return torch.stack([x_1 + self.sigma * torch.randn_like(x_1), x_1], 1)


class MiniBatchOT:
    """B pairs drawn from the plan between the two ends of a batch that has the least mean of |x_0 - x_1|^2 (Tong et al. 2024).

    Pairs are drawn with replacement, as the published code does: a point may be met twice, or not at all. The bias of B points
    against the true plan falls slowly with B, and slower the higher the dimension.
    """

    def __call__(self, ends: Tensor) -> Tensor:
        x_0, x_1 = ends.detach().double().cpu().flatten(2).unbind(1)
        plan = torch.from_numpy(self.plan(ot.dist(x_0.numpy(), x_1.numpy())))
        i, j = np.unravel_index(torch.multinomial(plan.flatten(), len(ends), replacement=True).numpy(), plan.shape)
        return torch.stack([ends[i, 0], ends[j, 1]], 1)

    def plan(self, cost: Matrix) -> Matrix:
        """(B, B), mass 1 / B in each row and column."""
        plan: Matrix = ot.emd([], [], cost)
        return plan


class MiniBatchEntropic(MiniBatchOT):
    """The same from the entropic plan of a Schroedinger bridge, argmin <P, |x_0 - x_1|^2> + 2 sigma^2 KL(P | uniform).

    Exact in the limit of large batches alone: a batch's own plan is smoother than the bridge's.
    """

    def __init__(self, sigma: float) -> None:
        if not sigma > 0:
            raise UserError(f"an entropic plan needs sigma > 0, got {sigma}; without entropy it is MiniBatchOT")
        self.sigma = sigma

    def plan(self, cost: Matrix) -> Matrix:
        plan: Matrix
        plan = ot.sinkhorn([], [], cost, 2 * self.sigma**2, method="sinkhorn_log", numItermax=300, warn=False)
        return plan
