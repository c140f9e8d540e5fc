"""The rival of 2015's Table 2 and Figure 4 (b) on the diffusion model's dead leaves: an MCGSM, fitted and evaluated."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.baselines.mcgsm import MCGSMImages, fit
from dpm.data.images import StandardizedImages
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT
from dpm.evaluators.samples import levels
from dpm.facts import Scalar, of_network
from dpm.reverse import Reverse
from dpm.study.records import Measurement, Record, standard_error
from dpm.study.results import selected

PAIRS = 300  # pixels of each training patch and each part that the mixtures are fitted to


class FittedMCGSM:
    """Two mixtures of `components`, one for pixels whose neighbours all lie in the patch, one for those at its border.

    Fitted to training patches by `steps` steps of Adam each, they give the log likelihood of whole held-out patches, which is
    what a bound on theirs compares with, and that of the pixels with all their neighbours, which is what the paper of the
    model reports; and K of each record in `against` minus the first. `against` maps the folder of a record below `results` to
    the claim that the difference answers, or to null. `noise` is the standard deviation of the images' own noise, in grey
    levels: no model exceeds the negative entropy of it. Arrays: a sample of whole images, and a training image.
    """

    def __init__(
        self,
        reach: int,
        components: int,
        scales: int,
        features: int,
        steps: int,
        batch_size: int,
        rate: float,
        noise: float,
        results: str,
        against: Mapping[str, str | None],
        claim: str | None = None,
    ) -> None:
        if not noise > 0 or steps < 1:
            raise UserError(f"an MCGSM of images with noise of their own: noise > 0 and a step at least, {noise=}, {steps=}")
        self.shape: dict[str, Scalar] = {"reach": reach, "components": components, "scales": scales, "features": features}
        self.steps, self.batch_size, self.rate, self.noise = steps, batch_size, rate, noise
        self.results, self.against, self.claim = Path(results), against, claim

    def __call__(self, reverse: Reverse, data: StandardizedImages, x_0: Tensor, seed: int) -> Evaluation:
        """`reverse` has no part in it."""
        if not isinstance(data, StandardizedImages):
            raise UserError(f"evaluators=mcgsm: for standardised images, not for {type(data).__name__}")
        kept, test = data.validation(len(data.tiles(data.kept))).float(), x_0.cpu()
        images, seconds = self.fitted(data.training(), seed)
        ceiling = -math.log2(self.noise / data.std) - math.log2(2 * math.pi * math.e) / 2
        about: dict[str, Scalar] = {"patch_side": test.shape[-1], "pixels": "all"}
        recipe = {**of_network(images), **self.shape, "steps": 2 * self.steps, "batch_size": self.batch_size}
        per_image = len(data.tiles(data.test[:1]))
        rows = likelihoods(images, test, per_image, about, {"claim": self.claim, "ceiling": ceiling, "recipe": recipe})
        records = {folder: self.results / folder / f"seed{seed}.json" for folder in self.against}
        gains = [
            gain(Record.load(records[folder]), rows[0], claim)
            for folder, claim in self.against.items()
            if records[folder].is_file()
        ]
        of_kept = likelihoods(images, kept, per_image, {**about, "split": "validation"}, {"ceiling": ceiling, "recipe": recipe})
        count = sum(p.numel() for p in images.inside.parameters())
        inside = {**about, "pixels": "with_all_neighbours"}
        parameters = Measurement("parameters", count, None, len(test), "parameters", inside, recipe=recipe)
        seeds.seed_everything(seed, seeds.SAMPLING)
        samples = images.sample(1, *data.test.shape[2:])
        examples = 2 * self.steps * self.batch_size  # pixels, of both parts
        budget: dict[str, Scalar] = {"steps": 2 * self.steps, "examples": examples, "seconds": seconds, "device": "cpu"}
        arrays = {"mcgsm": levels(data.grey(samples))[0], "training": levels(torch.tensor(data.train[0]))}
        return Evaluation((*rows, *gains, *of_kept, parameters), arrays, budget)

    def fitted(self, x: Tensor, seed: int) -> tuple[MCGSMImages, float]:
        """Both mixtures, and the seconds that it took."""
        seeds.seed_everything(seed, seeds.INITIALISATION)
        images, start = MCGSMImages(**self.shape), time.monotonic()  # type: ignore[arg-type]
        for model in (images.inside, images.border):
            pairs = images.pairs(model, x, PAIRS, seed)
            for _ in fit(model, *pairs, self.steps, self.batch_size, self.rate, seed):
                pass
        return images, round(time.monotonic() - start, 1)


@torch.no_grad()
def bits(images: MCGSMImages, x: Tensor) -> Tensor:
    """log2 p of every pixel given those before it, (n, H, W), float64."""
    batches = x.float().split(20)  # type: ignore[no-untyped-call]
    return torch.cat([images.log_density(batch) for batch in batches]).double() / NATS_PER_BIT


def likelihoods(
    images: MCGSMImages, x: Tensor, patches_per_image: int, about: Mapping[str, Scalar], details: dict[str, Any]
) -> list[Measurement]:
    """Two means over the patches x, of whole patches and of pixels with all neighbours; the first one answers the claim."""
    log_p, rows = bits(images, x), []
    complete = images.edges(*x.shape[2:]).all(1).reshape(x.shape[2:])
    for pixels, values in (("all", log_p.flatten(1)), ("with_all_neighbours", log_p[:, complete])):
        error, n_images = of_images(values, patches_per_image)
        protocol = {**about, "pixels": pixels, "n_images": n_images, "error_by": "means of images"}
        rows.append(Measurement("log_likelihood", float(values.mean()), error, len(x), "bits/pixel", protocol, **details))
        details = {**details, "claim": None}
    return rows


def of_images(values: Tensor, patches_per_image: int) -> tuple[float, int]:
    """The standard error of the mean of values (patches, pixels), and how many images: patches of one are dependent."""
    per_image = np.array([part.mean() for part in values.split(patches_per_image)])  # type: ignore[no-untyped-call]
    return standard_error(per_image), len(per_image)


def gain(diffusion: Record, whole: Measurement, claim: str | None = None) -> Measurement:
    """K of a diffusion model's record minus `whole`, the log likelihood of the same patches; its recipe is that of the former.

    The errors are added as if independent. That of the choice of images, which the two models have in common, mostly cancels.
    """
    (K,) = selected([diffusion], "log_likelihood_bound", {"edges": "entropy"})
    stderr = math.hypot(K.stderr or 0.0, whole.stderr or 0.0)
    about = {key: K.protocol[key] for key in ("data", "split", "edges", "T")} | {"pixels": "all"}
    return Measurement("gain_over_mcgsm", K.value - whole.value, stderr, K.n, "bits/pixel", about, claim, recipe=K.recipe)
