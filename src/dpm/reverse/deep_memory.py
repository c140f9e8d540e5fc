"""A decoder whose memory is a network of masked convolutions (van den Oord et al. 2016): p(x_0 | x_1) value by value.

The product of `memory`, whose regression is a network: it starts as the linear one, is trained on images to the largest
likelihood, and lets the scale of a value depend on what was missed before it. The reverse process keeps its own weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpm import seeds
from dpm.baselines import maximised
from dpm.baselines.causal import Residual, zero
from dpm.decoders import Discretized
from dpm.errors import UserError
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.memory import Autoregressive, Linear, Raster, causal, linear, one_step, padded

WINDOW = (3, 3)  # rows above and columns to either side that the linear regression sees, and the first layer
ENOUGH = 512  # images for the linear regression that it starts from


class MaskedConvolution(nn.Module):
    """(B, colours ins, H, W) -> (B, colours outs, H, W): every feature is of a colour and sees features of those before it.

    Before a colour are all of the pixels before, and of its own pixel the colours before it; with `itself` it sees itself too.
    """

    def __init__(self, colours: int, ins: int, outs: int, rows: int, columns: int, itself: bool) -> None:
        super().__init__()
        mask = causal(colours, rows, columns)
        mask[range(colours), range(colours), rows, columns] = itself
        self.reach = rows, columns
        self.mask: Tensor
        self.register_buffer("mask", mask.repeat_interleave(outs, 0).repeat_interleave(ins, 1))
        self.convolution = nn.Conv2d(colours * ins, colours * outs, (rows + 1, 2 * columns + 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(padded(x, *self.reach), self.convolution.weight * self.mask, self.convolution.bias)


class MaskedRegression(nn.Module):
    """shift = that of `start` + u, scale = that of `start` exp(v), u and v from a network that starts at 0.

    It sees asinh z and its modulus, of the values before, and mean and log std, in grey levels, of the value's own pixel.
    precision: bfloat16 or float32, of its hidden layers while it is trained; afterwards they have that of its weights.
    """

    def __init__(self, start: Linear, levels: int, width: int, blocks: int, precision: str = "float32") -> None:
        super().__init__()
        colours = len(start.scale)
        self.start, self.precision = start, precision
        self.grey_levels = (levels - 1) / 2  # of one unit of x
        self.before = MaskedConvolution(colours, 2, width, *WINDOW, itself=False)
        self.known = nn.Sequential(nn.Conv2d(2 * colours, 2 * width, 1), nn.SiLU(), nn.Conv2d(2 * width, colours * width, 1))
        self.blocks = nn.Sequential(*(self.block(colours, width) for _ in range(blocks)))
        self.last = MaskedConvolution(colours, width, 2, 0, 0, itself=True)
        zero(self.last.convolution)
        self.reach = WINDOW[0] + blocks, WINDOW[1] + blocks

    @staticmethod
    def block(colours: int, width: int) -> Residual:
        """The first of its two masked convolutions sees 2 x 3 pixels."""
        sizes = (colours, width, width)
        return Residual(MaskedConvolution(*sizes, 1, 1, itself=True), MaskedConvolution(*sizes, 0, 0, itself=True))

    def forward(self, z: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = self.start(z, mean, std)
        missed, known = z.asinh(), torch.cat([mean, (std * self.grey_levels).log()], 1)
        seen = torch.stack([missed, missed.abs()], 2).flatten(1, 2)  # colour by colour
        like = self.last.convolution.weight
        rounded = self.training and self.precision == "bfloat16"
        with torch.autocast(z.device.type, torch.bfloat16, enabled=rounded):
            hidden = self.blocks(self.before(seen.to(like)) + self.known(known.to(like)))
        u, v = self.last(F.silu(hidden.to(like))).unflatten(1, (-1, 2)).unbind(2)
        return shift + u, scale * v.exp()


class DeepMemory(Autoregressive):
    """p(x_0 | x_1) by a regression that was trained on so many images, repetitions counted."""

    def __init__(self, regression: MaskedRegression, levels: int, examples: int) -> None:
        super().__init__(regression, levels)
        parameters = sum(parameter.numel() for parameter in regression.parameters())
        self.facts = {"decoder_parameters": parameters, "decoder_examples": examples}


def with_deep_memory(
    reverse: GaussianReverse,
    x_0: Tensor,
    seed: int,
    width: int,
    blocks: int,
    steps: int,
    batch_size: int,
    rate: float,
    precision: str = "float32",
) -> GaussianReverse:
    """The same process with such a decoder, trained on 8-bit images x_0, (n, C, H, W), each at one draw of x_1.

    width: features for each colour; precision: as in `MaskedRegression`. Adam, whose rate falls from `rate` along a cosine;
    one process.
    """
    if not isinstance(reverse.decoder, Discretized) or min(width, blocks, steps, batch_size) < 1 or not rate > 0:
        raise UserError(
            "a deep memory is added to a discretised decoder, and all of its numbers are positive: "
            f"{width=}, {blocks=}, {steps=}, {batch_size=}, {rate=}"
        )
    levels = reverse.decoder.levels
    with torch.no_grad():
        mean, std = (m.to(x_0) for m in one_step(reverse, x_0, seed, batch_size))
        start = linear(mean[:ENOUGH], std[:ENOUGH], x_0[:ENOUGH], *WINDOW, levels, batch_size)
    seeds.seed_everything(seed, seeds.INITIALISATION, 0)
    with torch.enable_grad():
        trained = MaskedRegression(start, levels, width, blocks, precision).to(x_0.device)

        def log_density(generator: torch.Generator) -> Tensor:
            k = torch.randint(len(x_0), (batch_size,), generator=generator).to(x_0.device)
            return Raster(mean[k], std[k], trained, levels).conditionals(x_0[k]).log_prob(x_0[k])

        for _ in maximised(trained, log_density, steps, rate, seed):
            pass
    return reverse.replacing(decoder=DeepMemory(trained.eval().requires_grad_(False), levels, steps * batch_size))
