"""How far samples are from the training images, beside real images, by a distance that needs no network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm.data.images import DiscreteImages
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.features import PatchDistance, patches
from dpm.evaluators.generation import grey
from dpm.evaluators.samples import ImageSamples
from dpm.facts import Scalar
from dpm.reverse import Reverse, facts_of
from dpm.study.records import Measurement, standard_error

GROUPS = 20  # of the jackknife


class SampleDistance:
    """The patch distance (side x side) of n samples, and that of disjoint sets of n held-out images: `sets` of them at most.

    The samples take `steps` reverse steps of the process that `wrap` makes of the trained one, or of that itself. Arrays:
    `samples` (shown, C, H, W), the first of them, in grey levels.
    """

    def __init__(
        self, n: int, steps: int, side: int, sets: int, shown: int, wrap: Callable[[Any], Reverse] | None = None
    ) -> None:
        if n < 2 or sets < 2:
            raise UserError(f"patch distance: two samples and two sets of images at least, got {n=}, {sets=}")
        self.samples = ImageSamples(n, steps, wrap or (lambda reverse: reverse))
        self.n, self.steps, self.side, self.sets, self.shown = n, steps, side, sets, shown

    def __call__(self, reverse: Reverse, data: DiscreteImages, x_0: Tensor, seed: int) -> Evaluation:
        distance = PatchDistance(data.train, self.side, min(GROUPS, self.n))
        real = of_real_images(distance, grey(x_0[: self.n * self.sets]), self.n)
        samples = self.samples(reverse, data, x_0, seed).arrays["samples"]
        sampler: dict[str, Scalar] = {"source": "samples", "sampler": "ancestral", "sampling_steps": self.steps}
        protocol = {**facts_of(self.samples.wrap(reverse)), **sampler}
        rows = [m.with_protocol(protocol) for m in distance(torch.from_numpy(samples))]
        return Evaluation((*rows, real), {"samples": samples[: self.shown]})


def of_real_images(distance: PatchDistance, images: np.ndarray, n: int) -> Measurement:
    """The mean distance of disjoint sets of n images, (m, C, H, W) with m >= 2 n: what n samples are apart by chance alone."""
    if len(images) < 2 * n:
        raise UserError(f"patch distance: two sets of {n} real images, there are {len(images)} images")
    sets = [torch.tensor(images[k : k + n]) for k in range(0, len(images) - n + 1, n)]
    values = np.array([distance.distance(patches(part, distance.side)) for part in sets])
    protocol: dict[str, Scalar] = {"statistics": "train", "features": "patches", "side": distance.side}
    about = {**protocol, "source": "test_images", "sets": len(sets)}
    return Measurement("patch_distance", float(values.mean()), standard_error(values), n, "grey levels", about)
