"""Samples of images in few network evaluations, by the features of the classifier that the project trained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.errors import UserError
from dpm.evaluators import Array, Evaluation
from dpm.evaluators.classifier import ClassifierScore, of_test_images
from dpm.evaluators.features import PatchDistance, Score
from dpm.evaluators.parzen import GROUPS, Images
from dpm.evaluators.samples import levels
from dpm.facts import Scalar
from dpm.networks.classifier import load
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement, sha256

SIDE = 7  # of a patch
Sampler = Callable[[Any, Tensor, int], Tensor]


class FewEvaluations:
    """The classifier's score of n samples for each of `evaluations` by `sampler`, called `name`, all from the same noise.

    Beside them that of n test images. Without `weights`, the file that `experiments/classifier.py`
    wrote, patches of the images are the features. Arrays: `samples_<evaluations>`, the first `shown`, in grey levels; the
    distances from the training images, and their errors.
    """

    def __init__(
        self, name: str, sampler: Sampler, evaluations: Sequence[int], n: int, shown: int, batch_size: int, weights: str | None
    ) -> None:
        if n < 2 or min(batch_size, *evaluations) < 1:
            raise UserError(f"few evaluations: n from 2, evaluations and batch_size from 1, got {n=}, {list(evaluations)}")
        self.name, self.sampler, self.evaluations = name, sampler, evaluations
        self.n, self.shown, self.batch_size, self.weights = n, shown, batch_size, weights
        self.network = load(Path(weights)) if weights else None  # here: before minutes are spent on other measurements

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Images, x_0: Tensor, seed: int) -> Evaluation:
        score: Score = PatchDistance(data.train, SIDE, min(GROUPS, self.n))
        rows: list[Measurement] = []
        which: dict[str, Scalar] = {}
        if self.weights and self.network:
            score = ClassifierScore(self.network, data.train, data.test, self.n)
            rows += of_test_images(score, data, self.n, seed)
            which["classifier_sha256"] = sha256(Path(self.weights).read_bytes())[:8]
        arrays: dict[str, Array] = {}
        for number in self.evaluations:
            samples = levels(data.grey(self.samples(reverse, x_0[:1].float(), number, seed)).cpu())
            about: dict[str, Scalar] = {"source": "model", "sampler": self.name, "evaluations": number}
            rows += [m.with_protocol(about) for m in score(torch.tensor(samples))]
            arrays[f"samples_{number}"] = samples[: self.shown]
        distances = [(m.value, m.stderr) for m in rows if m.protocol.get("statistics") == "train"]
        value, error = np.array(distances[-len(self.evaluations) :]).T
        arrays |= {"evaluations": np.array(self.evaluations), "distance": value, "distance_error": error}
        arrays |= {"floor": np.array([value for value, _ in distances[: -len(self.evaluations)]])}
        return Evaluation(tuple(m.with_protocol(which) for m in rows), arrays)

    def samples(self, reverse: GaussianReverse, like: Tensor, evaluations: int, seed: int) -> Tensor:
        """n samples, shaped like that in `like` (1, ...), each batch a function of (seed, its number)."""
        batches = []
        for number, first in enumerate(range(0, self.n, self.batch_size)):
            seeds.seed_everything(seed, seeds.SAMPLING, number)
            size = min(self.batch_size, self.n - first)
            noise = reverse.process.prior(like.expand(size, *like.shape[1:])).sample()
            batches.append(self.sampler(reverse, noise, evaluations))
        return torch.cat(batches)
