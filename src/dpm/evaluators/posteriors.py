"""Samples of a posterior p(x_0) r(x_0) / Z: images freed from noise, and a hole filled in (2015, section 2.5)."""

import math

import torch
from torch import Tensor

from dpm import seeds
from dpm.baselines.gaussian_images import resized
from dpm.data.images import StandardizedImages
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.distortion import mean_square
from dpm.evaluators.samples import levels
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.reverse.conditioned import Conditioned, GaussianFactor, KnownCoordinates
from dpm.samplers.ancestral import sample
from dpm.study.records import Measurement, root_mean


class Denoised:
    """Figure 3: the first n examples, the same plus noise, a sample of the posterior given the noisy one, and a free sample.

    Arrays `holdout`, `noisy`, `denoised`, `samples`, (n, C, H, W) grey levels. r(x) = N(noisy; x, noise_variance I) on data
    of unit variance (1 in the paper: as much noise as signal). The chain starts from pi(x_T) r(x_T) / Z, as section 2.5 has
    it; the release starts from the noisy image. The RMSE is of grey levels neither rounded nor clipped, and of a sample: if
    perfect, sqrt 2 times that of the posterior mean. Its error is over the n examples, by the delta method.
    """

    def __init__(self, n: int, noise_variance: float, steps: int, sweeps: int, batch_size: int) -> None:
        if n < 2 or batch_size < 1 or not noise_variance > 0:
            raise UserError(f"denoised: n from 2, batch_size from 1, some noise, got {n=}, {batch_size=}, {noise_variance=}")
        require_steps(steps, sweeps)
        self.n, self.noise_variance, self.batch_size = n, noise_variance, batch_size
        self.steps, self.sweeps = steps, sweeps

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: StandardizedImages, x_0: Tensor, seed: int) -> Evaluation:
        batches = x_0[: self.n].split(self.batch_size)  # type: ignore[no-untyped-call]
        rows = [self.panels(reverse, batch, seed, seeds.SAMPLING, index) for index, batch in enumerate(batches)]
        grey = {name: data.grey(torch.cat([row[name] for row in rows]).double()) for name in rows[0]}
        chain: dict[str, Scalar] = {"sampling_steps": min(self.steps, len(reverse.process.schedule)), "sweeps": self.sweeps}
        measurements = (
            self.rmse(grey["noisy"], grey["holdout"], {"image": "noisy"}),
            self.rmse(grey["denoised"], grey["holdout"], {"image": "denoised", **chain}),
        )
        return Evaluation(measurements, {name: levels(images) for name, images in grey.items()})

    def panels(self, reverse: Reverse, x_0: Tensor, *entropy: int) -> dict[str, Tensor]:
        seeds.seed_everything(*entropy)
        noisy = x_0 + math.sqrt(self.noise_variance) * torch.randn_like(x_0)
        posterior = Conditioned(reverse, GaussianFactor(noisy, self.noise_variance))
        denoised = sample(posterior, posterior.prior(x_0).sample(), self.steps, self.sweeps)
        free = sample(reverse, reverse.process.prior(x_0).sample(), self.steps)
        return {"holdout": x_0, "noisy": noisy, "denoised": denoised, "samples": free}

    def rmse(self, images: Tensor, truth: Tensor, about: dict[str, Scalar]) -> Measurement:
        square = mean_square(images - truth).numpy()
        protocol: dict[str, Scalar] = {"noise_variance": self.noise_variance, **about}
        return Measurement("rmse", *root_mean(square), len(square), "grey levels", protocol)


class Inpainted:
    """Figure 5: a square of `side` pixels from the middle of the first test image, whose central `hole` x `hole` is unknown.

    Arrays `original`, `corrupted` (the hole is noise: the first state of the chain) and `inpainted`, (C, side, side), grey
    levels. The pixels around the hole are known at every t: r is a delta function (2015, section 2.5). The image may be larger
    than the training patches if the network has no dense pathway.
    """

    def __init__(self, side: int, hole: int, steps: int, sweeps: int) -> None:
        if not 0 < hole < side:
            raise UserError(f"inpainted: a hole within the image, 0 < hole < side, got {hole=}, {side=}")
        require_steps(steps, sweeps)
        self.side, self.hole, self.steps, self.sweeps = side, hole, steps, sweeps

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: StandardizedImages, x_0: Tensor, seed: int) -> Evaluation:
        rows, columns = (middle(extent, self.side) for extent in data.test.shape[2:])
        image = data.standardised(data.test[:1, :, rows, columns], seeds.generator(0, seeds.HELD_OUT)).to(x_0)
        known, hole = torch.ones(self.side, self.side, dtype=torch.bool, device=x_0.device), middle(self.side, self.hole)
        known[hole, hole] = False
        posterior = Conditioned(resized(reverse, self.side, self.side), KnownCoordinates(known, image))
        seeds.seed_everything(seed, seeds.SAMPLING)
        x_T = posterior.prior(image).sample()
        inpainted = sample(posterior, x_T, self.steps, self.sweeps)
        panels = {"original": image, "corrupted": x_T, "inpainted": inpainted}
        return Evaluation(arrays={name: levels(data.grey(x.double()))[0] for name, x in panels.items()})


def require_steps(steps: int, sweeps: int) -> None:
    if steps < 2 or sweeps < 1:
        raise UserError(f"a chain has two steps at least, each taken once at least, got {steps=}, {sweeps=}")


def middle(extent: int, part: int) -> slice:
    """The central `part` of `extent` pixels."""
    if part > extent:
        raise UserError(f"no {part} pixels in an image of {extent}")
    start = (extent - part) // 2
    return slice(start, start + part)
