"""The network of the 2015 images: multi-scale convolutions beside a dense pathway, read out through bumps in time (D.2.1)."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm.errors import UserError


class MultiScale(nn.Module):
    """(B, C, H, W), t = 1..T -> (B, 2 C, H, W): z^mu, z^Sigma = sum_j y_j(x) g_j(t), j = 1..J (2015, appendix D.2.1).

    The features y do not see t: the lower pathways, side by side, are followed by 1 x 1 convolutions with tanh, which
    give 2 J numbers for each pixel and channel. With convolutions alone the network takes images of any size.
    """

    def __init__(self, channels: int, lower: nn.Module, upper: nn.Module, bumps: nn.Module) -> None:
        super().__init__()
        self.channels, self.lower, self.upper, self.bumps = channels, lower, upper, bumps

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.upper(self.lower(x)).float()
        z: Tensor = self.bumps(y.unflatten(1, (2 * self.channels, -1)), t)
        return z.to(x.dtype)


class Bumps(nn.Module):
    """z = sum_j y_j g_j(t), g_j(t) = exp(-(t - tau_j)^2 / 2 w^2) / sum_k exp(-(t - tau_k)^2 / 2 w^2) (2015, eqs. 62-63).

    tau_j are the middles of J equal parts of (0, T); w is `width` times their spacing (1 in the paper, 1/2 in the release).
    """

    def __init__(self, J: int, T: int, width: float = 1.0) -> None:
        super().__init__()
        if J < 1 or not width > 0:
            raise UserError(f"bumps in time: J >= 1 and width > 0 must hold, got {J=}, {width=}")
        self.J, self.T, self.width = J, T, width

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        """(B, N, J, H, W), (B,) -> (B, N, H, W)."""
        return torch.einsum("bnjhw,bj->bnhw", y, self.weights(t).to(y.dtype))

    def weights(self, t: Tensor) -> Tensor:
        """g_j(t), (B, J), float64; they add up to one."""
        spacing = self.T / self.J
        centres = spacing * (torch.arange(self.J, device=t.device, dtype=torch.float64) + 0.5)
        return torch.softmax(-(t[:, None] - centres).square() / (2 * (self.width * spacing) ** 2), 1)


class Parallel(nn.Module):
    """The outputs of several pathways, side by side as channels."""

    def __init__(self, pathways: dict[str, nn.Module]) -> None:
        super().__init__()
        self.pathways = nn.ModuleDict(pathways)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([pathway(x) for pathway in self.pathways.values()], 1)


class MultiScaleConvolution(nn.Module):
    """Means over squares of 1, 2, 4, ... pixels, a 3 x 3 convolution of each, enlarged to full size and added up (D.2.1).

    Raises UserError unless the largest squares tile the image.
    """

    def __init__(self, inputs: int, outputs: int, scales: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(inputs, outputs, 3, padding=1, bias=k == 0) for k in range(scales))

    def forward(self, x: Tensor) -> Tensor:
        height, width, square = *x.shape[-2:], 2 ** (len(self.convolutions) - 1)
        if height % square or width % square:
            raise UserError(f"multi-scale convolutions: {height} x {width} pixels cannot be divided into squares of {square}")
        means = [x]
        for _ in self.convolutions[1:]:
            means.append(F.avg_pool2d(means[-1], 2))
        coarse: Tensor | None = None
        for convolution, mean in reversed(list(zip(self.convolutions, means, strict=True))):
            coarse = convolution(mean) if coarse is None else convolution(mean) + F.interpolate(coarse, scale_factor=2.0)
        assert coarse is not None
        return coarse


Activation = Callable[[], nn.Module]


def leaky_relu() -> nn.Module:
    """max(h, h / 20), everywhere in the release where the paper has softplus and tanh."""
    return nn.LeakyReLU(0.05)


def convolutions(channels: int, features: int, layers: int, scales: int, activation: Activation | None = None) -> nn.Module:
    """`layers` multi-scale convolutions of `features` outputs, each followed by softplus or `activation`.

    H, W are divisible by 2^(scales - 1). The first layer is computed in float32: bfloat16 would round the values of the pixels
    by as much as the least noise.
    """
    _require_positive(channels=channels, features=features, layers=layers, scales=scales)
    activation = activation or nn.Softplus
    stack = [MultiScaleConvolution(i, o, scales) for i, o in pairwise([channels, *[features] * layers])]
    for before, layer in zip([nn.Identity(), *[activation()] * layers], stack, strict=False):
        initialise(layer.convolutions, before)
    first, *others = stack
    return nn.Sequential(InFloat32(first), activation(), *(m for layer in others for m in (layer, activation())))


def dense(channels: int, side: int, hidden: int, layers: int, outputs: int, activation: Activation | None = None) -> nn.Module:
    """`layers` fully connected layers of `hidden` units on the whole image, then one to `outputs` features for each pixel.

    Each is followed by tanh or `activation`.
    """
    _require_positive(channels=channels, side=side, hidden=hidden, layers=layers, outputs=outputs)
    activation = activation or nn.Tanh
    stack = [nn.Linear(i, o) for i, o in pairwise([channels * side * side, *[hidden] * layers, outputs * side * side])]
    for before, layer in zip([nn.Identity(), *[activation()] * layers], stack, strict=True):
        initialise([layer], before)
    return nn.Sequential(
        nn.Flatten(), *(m for layer in stack for m in (layer, activation())), nn.Unflatten(1, (outputs, side, side))
    )


def pointwise(inputs: int, hidden: int, layers: int, outputs: int, activation: Activation | None = None) -> nn.Module:
    """`layers` 1 x 1 convolutions of `hidden` outputs, each followed by tanh or `activation`, then a linear one of zeros."""
    _require_positive(inputs=inputs, hidden=hidden, layers=layers, outputs=outputs)
    activation = activation or nn.Tanh
    stack = [nn.Conv2d(i, o, 1) for i, o in pairwise([inputs, *[hidden] * layers])]
    for layer in stack:
        initialise([layer], activation())
    last = nn.Conv2d(hidden, outputs, 1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*(m for layer in stack for m in (layer, activation())), last)


@torch.no_grad()
def initialise(summands: Iterable[Any], before: nn.Module) -> None:
    """Weights that keep a unit variance through `before`, an activation, and the sum of these layers of it; not in the paper.

    With h ~ N(0, 1): variance 1 / (fan_in Var before(h)) for each weight, and a bias that takes away the mean of before(h). The
    mean of softplus would otherwise outweigh the signal after a few layers.
    """
    layers = list(summands)
    grid = torch.special.ndtri((torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000)  # quantiles of N(0, 1)
    values = before(grid)
    mean, fan_in = float(values.mean()), sum(layer.weight[0].numel() for layer in layers)
    for layer in layers:
        nn.init.normal_(layer.weight, std=(fan_in * float(values.var())) ** -0.5)
    first = layers[0].bias
    assert first is not None
    first.copy_(-mean * torch.stack([layer.weight.flatten(1).sum(1) for layer in layers]).sum(0))


class InFloat32(nn.Module):
    """The layer in float32 whatever the surrounding autocast says."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            output: Tensor = self.layer(x.float())
            return output


def _require_positive(**sizes: int) -> None:
    if min(sizes.values()) < 1:
        raise UserError(f"network of 2015: every size is at least 1, got {sizes}")
