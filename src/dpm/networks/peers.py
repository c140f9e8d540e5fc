"""The U-Nets of two libraries at the sizes of the paper's: network(x_t, t = 1..T) -> output. Their own times start at 0."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from dpm.errors import UserError


class DiffusersUNet(nn.Module):
    """The paper's U-Net as diffusers has it: config.json of google/ddpm-cifar10-32, but for the arguments."""

    def __init__(self, out_channels: int = 3, ch: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.network = library("diffusers", "UNet2DModel")(
            sample_size=32,
            out_channels=out_channels,
            block_out_channels=(ch, 2 * ch, 2 * ch, 2 * ch),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            attention_head_dim=None,
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            norm_eps=1e-6,
            dropout=dropout,
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.network(x, t - 1, return_dict=False)[0]
        return output


class DenoisingDiffusionPytorchUNet(nn.Module):
    """The Unet of denoising-diffusion-pytorch at the paper's width and levels, all else as it comes: another network."""

    def __init__(self, out_channels: int = 3, ch: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        unet = library("denoising_diffusion_pytorch", "Unet")
        self.network = unet(dim=ch, out_dim=out_channels, dim_mults=(1, 2, 2, 2), dropout=dropout)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.network(x, t - 1)
        return output


def library(module: str, name: str) -> Any:
    """What a library has under this name; raises UserError where it is not installed.

    Both import torchvision where there is one, though the networks use nothing of it. A torchvision that was built for CUDA
    cannot be imported beside a CPU build of torch, because two of its operators are missing: they are declared, without code.
    """
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise UserError(f"{error}: pip install -c requirements.lock -e '.[dev,benchmark]'") from error
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return getattr(import_module(module), name)
