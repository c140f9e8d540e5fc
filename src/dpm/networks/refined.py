"""Networks around a network that change it at small t only, where most of the bound is: another one, corrected, averaged."""

import torch
from torch import Tensor, nn

from dpm.baselines.gaussian_images import GaussianImages
from dpm.facts import Scalar
from dpm.networks.full_resolution import AtNoiseLevel
from dpm.networks.wrappers import Autocast
from dpm.processes import by_rows
from dpm.processes.gaussian import GaussianDiffusion

ORIENTATIONS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))  # axes along which an image is reflected


class AtSmallTimes(nn.Module):
    """`network` at t > last and `changed` at t <= last: called like the network it wraps, with (B, C, H, W) and (B,)."""

    wraps = "network"

    def __init__(self, network: nn.Module, last: int) -> None:
        super().__init__()
        self.network, self.last = network, last

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return by_rows(t <= self.last, self.changed, self.network, x, t)

    def changed(self, x: Tensor, t: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def protocol(self) -> dict[str, Scalar]:
        """What a number obtained with it means, beside what a process says of itself."""
        return dict(getattr(self.network, "protocol", {}))


class TwoNetworks(AtSmallTimes):
    """`small`, called like it, in place of the network at t <= last."""

    def __init__(self, network: nn.Module, small: nn.Module, last: int) -> None:
        super().__init__(network, last)
        self.small = small

    def changed(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.small(x, t)
        return output


class Refined(AtSmallTimes):
    """network(x_t, t) + c, where c = corrector(seen, log(sigma_t / alpha_t)); the network's own weights stay as they are.

    Seen are x_t, x_t in the coordinates in which a Gaussian model of the data makes it white, where the noise of small t is as
    large as the image, and the network's output. examples: how many the corrector was trained on, repetitions counted.
    """

    def __init__(
        self, network: nn.Module, last: int, process: GaussianDiffusion, model: GaussianImages, corrector: Autocast
    ) -> None:
        super().__init__(network, last)
        self.process, self.model, self.examples = process, model, 0
        self.corrector = AtNoiseLevel(corrector, process.schedule)

    def changed(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):  # its weights need none, a guide's x_t may
            output = self.network(x, t)
            seen = torch.cat([x, self.model.whitened(self.process, x, t), output], 1)
        corrected: Tensor = output + self.corrector(seen, t)
        return corrected

    @property
    def protocol(self) -> dict[str, Scalar]:
        parameters = sum(parameter.numel() for parameter in self.corrector.parameters())
        return {
            "orientations": 1,
            **super().protocol,
            "refined_until": self.last,
            "refining_parameters": parameters,
            "refining_examples": self.examples,
        }


class Reflected(AtSmallTimes):
    """The mean of the network's outputs for x_t and its reflections, left-right, top-bottom and both, each turned back.

    What it misses of an image and of its reflection differs in part, and averages out; noise is as likely as its reflection.
    """

    def changed(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.stack([self.network(x.flip(axes), t).flip(axes) for axes in ORIENTATIONS]).mean(0)

    @property
    def protocol(self) -> dict[str, Scalar]:
        return {**super().protocol, "orientations": len(ORIENTATIONS), "reflected_until": self.last}
