"""Training on examples with missing coordinates (Daras et al. 2023, Ambient diffusion)."""

import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.reverse.gaussian import GaussianReverse


class FromMasked:
    """Batches (A x_0, A), A a 0-1 mask. The network, `network(A~ x_t, t, A~)`, sees A~ = A with further deletions:

    |A (x_0-hat(A~ x_t, A~) - x_0)|^2,   each coordinate of A kept in A~ with probability 1 - delete, shape (B,).

    A weighs the loss and not A~: a coordinate that A knows and A~ hides is predicted from the others, so that every coordinate
    of the minimum is E[x_0 | A~ x_t, A~]; with delete = 0 those that are hidden are not determined.
    """

    def __init__(self, delete: float) -> None:
        if not 0 <= delete < 1:
            raise UserError(f"the share of coordinates that are hidden once more lies in [0, 1), got {delete}")
        self.delete = delete

    def __call__(self, reverse: GaussianReverse, batch: tuple[Tensor, Tensor]) -> Tensor:
        x_0, known = batch
        t = torch.randint(1, len(reverse.process.schedule) + 1, (len(x_0),), device=x_0.device)
        seen = known * (torch.rand_like(x_0) >= self.delete)
        x_t = reverse.process.marginal(x_0, t).sample()  # what A hides of it, A~ hides too
        x_0_hat = reverse.network(seen * x_t, t, seen)
        error: Tensor = known * (x_0_hat - x_0)
        return error.square().flatten(1).mean(1)
