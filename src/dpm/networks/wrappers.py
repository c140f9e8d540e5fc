"""Networks around a network: another resolution, another precision. Each is network(x_t, t) -> output itself."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm.errors import UserError


class Unshuffled(nn.Module):
    """The network works at 1 / factor of the resolution on factor^2 times the channels (pixel unshuffle, and back)."""

    wraps = "network"

    def __init__(self, network: nn.Module, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    @property
    def transparent(self) -> bool:
        """At factor 1 it is the network itself."""
        return self.factor == 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return F.pixel_shuffle(self.network(F.pixel_unshuffle(x, self.factor), t), self.factor)


class Autocast(nn.Module):
    """The network in `precision` (float32, or bfloat16 with float32 weights) and `memory_format`; output in the type of x.

    In bfloat16 the inputs, weights and outputs of convolutions and products are rounded, at each use: outputs change by a
    percent or two. The stored weights, their gradients and the group norms stay float32.

    channels_last suits convolutions on GPUs and where nothing else costs much; torch's group norm takes up to twenty times as
    long in it on CPUs, so that U-Nets there are faster in contiguous_format.
    """

    wraps, transparent = "network", True  # precision and layout are no part of a recipe

    def __init__(self, network: nn.Module, precision: str, memory_format: str = "channels_last") -> None:
        super().__init__()
        if memory_format not in ("channels_last", "contiguous_format"):
            raise UserError(f"memory_format is channels_last or contiguous_format, not {memory_format}")
        self.precision = getattr(torch, precision, None)
        if self.precision not in (torch.float32, torch.bfloat16):
            raise UserError(f"precision is float32 or bfloat16, not {precision}")
        self.memory_format = getattr(torch, memory_format)
        self.network: nn.Module = network.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision is torch.bfloat16):
            output: Tensor = self.network(x.float().contiguous(memory_format=self.memory_format), t)
        return output.to(x.dtype)


class WithPattern(nn.Module):
    """The network sees, beside x (B, d), the 0-1 pattern of the coordinates that are seen; all of them where none is given."""

    wraps = "network"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, seen: Tensor | None = None) -> Tensor:
        output: Tensor = self.network(torch.cat([x, torch.ones_like(x) if seen is None else seen], 1), t)
        return output
