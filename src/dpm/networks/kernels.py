"""Kernel prediction: a network that says with which of its neighbours each pixel is averaged (Bako et al. 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm.errors import UserError


class KernelPrediction(nn.Module):
    """(B, 3 C + 1, H, W), t -> (B, 2 C, H, W): images of flat regions without their noise, and z, for the variance.

    The input is that of `dpm.predictions.residual.Noiseless`: white pixels, y = x_t / alpha_t, the best linear denoiser's
    answer l, and tau, the noise in y. The network inside sees white, l, and whether a pixel looks like its neighbours j in
    the first half of a square of size x size, exp(-d_j / 2) and exp(-d_j / 16) with d_j = |y - y_j|^2 / 2 C tau^2:
    convolutions take thousands of steps to find that out. It says for each pixel how to average, once for each of the
    `dilations`, the distances between neighbours in pixels; growing ones reach over a large leaf (the a-trous filter of
    Dammertz et al. 2010, here with h),

        y <- sum_j w_j y_j,   w = softmax_j(h_j + (4 + g) exp(-e^c |y - y_j|^2 / 4 C tau^2)),

    and how to mix: p y + (1 - p) l + 0.3 s b, p = sigmoid(k + 1 - 2 log tau), s = tau / (1 + tau^2)^1/2. Where its outputs
    b, z, k, (g, c, h of each average) are zero, w is a bilateral filter.

    network: Module of 2 C + size^2 - 1 channels -> 2 C + 1 + len(dilations) (size^2 + 2) channels.
    """

    wraps = "network"

    def __init__(self, network: nn.Module, size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        if size < 3 or size % 2 == 0 or not dilations or min(dilations) < 1:
            raise UserError(f"kernel prediction: size is odd, from 3, and dilations from 1, got {size=}, {dilations=}")
        self.network, self.size, self.dilations = network, size, tuple(dilations)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        C = x.shape[1] // 3
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round y by as much as the least noise
            white, y, linear, tau = torch.split(x.float(), [C, C, C, 1], 1)
            half = self.size**2 // 2
            d = self.distances(y, self.neighbours(y)[:, :, :half]) / (2 * tau.square())
            seen = torch.cat([white, linear, (-d / 2).exp() - 0.5, (-d / 16).exp() - 0.5], 1)
        outputs = self.network(seen, t).float()
        b, z, k, *kernels = torch.split(outputs, [C, C, 1, *[1, 1, self.size**2] * len(self.dilations)], 1)
        with torch.autocast(x.device.type, enabled=False):
            for dilation, g, c, h in zip(self.dilations, kernels[::3], kernels[1::3], kernels[2::3], strict=True):
                near = self.neighbours(y, dilation)
                alike = (-c.clamp(-5, 5).exp() * self.distances(y, near) / (4 * tau.square())).exp()
                y = ((h + (4 + g) * alike).softmax(1)[:, None] * near).sum(2)
            p = torch.sigmoid(k + 1 - 2 * tau.log())
            return torch.cat([p * y + (1 - p) * linear + 0.3 * tau * (1 + tau.square()).rsqrt() * b, z], 1)

    def neighbours(self, y: Tensor, dilation: int = 1) -> Tensor:
        """(B, C, H, W) -> (B, C, size^2, H, W): the square around each pixel, row by row; the border is repeated outwards."""
        padded = F.pad(y, (dilation * (self.size // 2),) * 4, mode="replicate")
        return F.unfold(padded, self.size, dilation).view(*y.shape[:2], self.size**2, *y.shape[2:])

    @staticmethod
    def distances(y: Tensor, near: Tensor) -> Tensor:
        """The mean over colours of (y - near)^2, (B, neighbours, H, W)."""
        return (near - y[:, :, None]).square().mean(1)
