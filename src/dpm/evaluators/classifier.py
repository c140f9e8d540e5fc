"""How far samples are from MNIST by the features of a classifier that the project trained: no FID, no inception score.

The formulas are those of `dpm.evaluators.features`, in float64, and so is the calibration on real images that precedes a
score. The network is another: numbers compare with each other where the classifier is the same, and with nothing else.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.features import Gaussian, InceptionScores, Network, Score, fitted, frechet, inception_score, jackknife
from dpm.evaluators.parzen import Images, draws
from dpm.evaluators.samples import levels
from dpm.facts import Scalar
from dpm.networks.classifier import load
from dpm.reverse import Reverse
from dpm.study.records import Measurement, sha256

NAME = "mnist_classifier"


class ClassifierScore(Score):
    """d^2 between Gaussians fitted to the features of images and of real ones, and exp E KL(p(y | x) || p(y)).

    `training` and `test` are the real images, (n, C, H, W), uint8; `n` images will be scored. Errors are the jackknife's
    over `groups` groups of the images. d^2 of finite sets is above 0 by chance; as many real images show by how much.
    """

    def __init__(self, network: Network, training: np.ndarray, test: np.ndarray, n: int, groups: int = 20) -> None:
        self.real, self.groups = InceptionScores(network, NAME, training, test, n, batch_size=500, real=None), groups

    def __call__(self, images: Tensor) -> Sequence[Measurement]:
        features, logits = self.real.outputs(images)
        shared: dict[str, Scalar] = {"features": NAME, "error_by": "jackknife"}

        def measured(quantity: str, statistic: Callable[[Tensor], float], of: Tensor, **about: Scalar) -> Measurement:
            value, error = jackknife(statistic, of, self.groups)
            return Measurement(quantity, value, error, len(images), "1", {**shared, **about})

        distances = [
            measured("classifier_frechet_distance", partial(distance, reference), features, statistics=statistics)
            for statistics, reference in self.real.references.items()
        ]
        return (*distances, measured("classifier_score", lambda part: inception_score(part, 1)[0], logits))


def of_test_images(score: ClassifierScore, data: Images, n: int, seed: int) -> Sequence[Measurement]:
    """The score of n test images, drawn at random, without their distance from the images that they are part of."""
    chosen = torch.randperm(len(data.test), generator=seeds.generator(seed, seeds.EVALUATION))[:n].numpy()
    real = [m for m in score(torch.tensor(data.test[chosen])) if m.protocol.get("statistics") != "test"]
    return [m.with_protocol({"source": "test_images"}) for m in real]


def distance(reference: Gaussian, features: Tensor) -> float:
    """d^2 between the Gaussian fitted to the features (n, d) and the reference."""
    return frechet(fitted([features]), reference)


class ClassifierScores:
    """The score of n samples of the reverse process, drawn as for the Parzen window, and of n test images, drawn at random.

    The latter are held against the training images only: they are part of the test images, whose first half is easier than
    the second. `weights` is the file that `experiments/classifier.py` wrote; with n = 0 nothing is
    drawn and no classifier is needed.
    """

    def __init__(self, n: int, steps: int, batch_size: int, weights: str) -> None:
        if n < 0 or min(steps, batch_size) < 1:
            raise UserError(f"classifier: n from 0, steps and batch_size from 1, got {n=}, {steps=}, {batch_size=}")
        self.n, self.steps, self.batch_size, self.weights = n, steps, batch_size, Path(weights)
        self.network = load(self.weights) if n else None  # here: before minutes are spent on other measurements

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Images, x_0: Tensor, seed: int) -> Evaluation:
        if self.network is None:
            return Evaluation()
        score = ClassifierScore(self.network, data.train, data.test, self.n)
        batches = draws(reverse, x_0[:1].float(), self.n, self.steps, self.batch_size, seed)
        samples = torch.tensor(levels(torch.cat([data.grey(x).cpu() for x in batches])))
        steps = min(self.steps, len(reverse.process.schedule))
        of_model: dict[str, Scalar] = {"source": "model", "sampler": "ancestral", "sampling_steps": steps, "last_step": "drawn"}
        rows = [m.with_protocol(of_model) for m in score(samples)]
        rows += of_test_images(score, data, self.n, seed)
        which: dict[str, Scalar] = {"classifier_sha256": sha256(self.weights.read_bytes())[:8]}
        return Evaluation(tuple(m.with_protocol(which) for m in rows))
