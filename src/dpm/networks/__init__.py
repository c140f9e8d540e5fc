"""Networks: plain `network(x_t, t) -> Tensor`, t of shape (B,), one output channel group per learned moment."""

from torch import Tensor, nn

from dpm.errors import UserError


def require_whole(network: nn.Module, t: Tensor) -> None:
    """Refuse real times for a network with weights of its own for every step."""
    if t.is_floating_point():
        raise UserError(
            f"{type(network).__name__} has weights for t = 1, 2, ... and nothing between: real time needs another network"
        )
