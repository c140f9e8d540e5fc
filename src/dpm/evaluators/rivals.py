"""The rivals of 2015's Table 2 on the diffusion model's dead leaves: models with exact likelihoods, fitted and evaluated."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.data.images import StandardizedImages
from dpm.errors import UserError
from dpm.evaluators import Arrays, Evaluation
from dpm.evaluators.bound import NATS_PER_BIT
from dpm.evaluators.samples import levels
from dpm.facts import Scalar, of_network
from dpm.reverse import Reverse
from dpm.study.records import Measurement, Record, standard_error
from dpm.study.results import selected

WHOLE = {"split": "test", "pixels": "all"}


class Rival(Protocol):
    """p(x) as a product over the pixels of grey images (B, 1, H, W)."""

    def log_density(self, x: Tensor) -> Tensor:
        """(B, H, W): the logarithm of each factor in nats; their sum is log p(x)."""

    def sample(self, n: int, height: int, width: int) -> Tensor:
        """(n, 1, H, W)."""


class FittedRival:
    """`model()`, fitted to training patches by `fit(model, patches, seed=)`, which yields each step's loss, `fits` times.

    The log likelihood of whole held-out patches is what a bound on theirs compares with; that of the pixels with all their
    neighbours within `reach` is what Theis et al. 2012 report. Both are means over the fits, none of which is chosen; the
    error has the spread of the fits and the choice of the images in it, `estimate_stderr` the first alone. Then the headline
    of each record in the folders `against` below `results`, of the same patches, minus the first mean. `claims` maps such
    folders, and "model", to the claims that these numbers answer. `noise` is the standard deviation of the images' own noise,
    in grey levels: no model exceeds the negative entropy of it. Array `sample`, unless `side` is null: one image of side
    x side pixels by the first fit.
    """

    def __init__(
        self,
        model: Callable[[], Any],
        fit: Callable[..., Iterator[float]],
        fits: int,
        reach: int,
        noise: float,
        results: str,
        against: Sequence[str],
        claims: Mapping[str, str] | None = None,
        side: int | None = None,
    ) -> None:
        if not noise > 0 or fits < 1:
            raise UserError(
                f"a model fitted to images with noise of their own: noise > 0 and a fit at least, {noise=}, {fits=}"
            )
        self.model, self.fit, self.fits, self.reach, self.noise = model, fit, fits, reach, noise
        self.results, self.against, self.claims, self.side = Path(results), against, claims or {}, side

    def __call__(self, reverse: Reverse, data: StandardizedImages, x_0: Tensor, seed: int) -> Evaluation:
        """`reverse` has no part in it."""
        if not isinstance(data, StandardizedImages):
            raise UserError(f"a rival of diffusion is fitted to standardised images, not to {type(data).__name__}")
        training, start = data.training(), time.monotonic()
        fitted = [self.fitted(training, k) for k in range(seed * self.fits, (seed + 1) * self.fits)]
        seconds, (models, steps) = round(time.monotonic() - start, 1), zip(*fitted, strict=True)
        settings: dict[str, Scalar] = dict(getattr(self.fit, "keywords", {}))
        recipe = {**of_network(models[0]), **settings, "steps": steps[0], "fits": self.fits}
        sets = {"test": x_0.cpu(), "validation": data.validation(len(data.tiles(data.kept)))}
        values = {name: torch.stack([bits(model, x) for model in models]) for name, x in sets.items()}
        rows = [row for name, of_set in values.items() for row in self.likelihoods(data, name, of_set, recipe)]
        examples = sum(steps) * int(settings.get("batch_size", 1))
        budget: dict[str, Scalar] = {"steps": sum(steps), "examples": examples, "seconds": seconds, "device": "cpu"}
        return Evaluation((*rows, *self.gains(rows[0], seed)), self.shown(models[0], data, seed), budget)

    def fitted(self, training: Tensor, seed: int) -> tuple[Any, int]:
        """The model, and the steps that it took."""
        seeds.seed_everything(seed, seeds.INITIALISATION)
        model = self.model()
        return model, sum(1 for _ in self.fit(model, training, seed=seed))

    def likelihoods(
        self, data: StandardizedImages, split: str, values: Tensor, recipe: Mapping[str, Scalar]
    ) -> Iterator[Measurement]:
        """Means over fits and patches of the bits `values`, (fits, n, H, W): of all pixels, of those with all neighbours."""
        side, per_image, r = values.shape[-1], len(data.tiles(data.test[:1])), self.reach
        ceiling = -math.log2(self.noise / data.std) - math.log2(2 * math.pi * math.e) / 2
        for pixels, part in (("all", values), ("with_all_neighbours", values[..., r:, r : side - r])):
            of_choice, n_images = of_images(part.mean(0).flatten(1), per_image)
            of_fits = standard_error(part.mean((1, 2, 3)).numpy()) if self.fits > 1 else None
            about: dict[str, Scalar] = {"split": split, "pixels": pixels, "patch_side": side, "n_images": n_images}
            yield Measurement(
                "log_likelihood",
                float(part.mean()),
                math.hypot(of_choice, of_fits or 0.0),
                part.shape[1],
                "bits/pixel",
                {**about, "error_by": "means of images"},
                self.claims.get("model") if about.items() >= WHOLE.items() else None,
                ceiling=ceiling,
                estimate_stderr=of_fits,
                recipe=recipe,
            )

    def gains(self, whole: Measurement, seed: int) -> Iterator[Measurement]:
        """Of each record that there is."""
        for folder in self.against:
            record = self.results / folder / f"seed{seed}.json"
            if record.is_file():
                yield gain(Record.load(record), whole, self.claims.get(folder))

    def shown(self, model: Rival, data: StandardizedImages, seed: int) -> Arrays:
        if self.side is None:
            return {}
        seeds.seed_everything(seed, seeds.SAMPLING)
        return {"sample": levels(data.grey(model.sample(1, self.side, self.side)))[0]}


@torch.no_grad()
def bits(model: Rival, x: Tensor) -> Tensor:
    """log2 p of every pixel given those before it, (n, H, W), float64."""
    batches = x.float().split(20)  # type: ignore[no-untyped-call]
    return torch.cat([model.log_density(batch) for batch in batches]).double() / NATS_PER_BIT


def of_images(values: Tensor, patches_per_image: int) -> tuple[float, int]:
    """The standard error of the mean of values (patches, pixels), and how many images: patches of one are dependent."""
    per_image = np.array([part.mean() for part in values.split(patches_per_image)])  # type: ignore[no-untyped-call]
    return standard_error(per_image), len(per_image)


def gain(other: Record, whole: Measurement, claim: str | None = None) -> Measurement:
    """K of another model's record, or its log likelihood, minus `whole`, both of the same patches; its recipe is the other's.

    The errors are added as if independent. That of the choice of images, which the two models have in common, mostly cancels.
    """
    (theirs,) = selected([other], "log_likelihood_bound", {"edges": "entropy"}) or selected([other], "log_likelihood", WHOLE)
    stderr = math.hypot(theirs.stderr or 0.0, whole.stderr or 0.0)
    about = {key: theirs.protocol[key] for key in ("data", "split", "edges", "T") if key in theirs.protocol} | {"pixels": "all"}
    difference = theirs.value - whole.value
    return Measurement("gain_over_mcgsm", difference, stderr, theirs.n, "bits/pixel", about, claim, recipe=theirs.recipe)
