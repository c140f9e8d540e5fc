"""FID and inception score of whatever a sampler draws, after real images have scored."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpm.data.images import DiscreteImages, StandardizedImages
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators.features import REAL_CIFAR10, Extractor, block_means, by_chance, inception_2015
from dpm.evaluators.fid import SampleScores
from dpm.evaluators.generated import of_images
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.gaussian import GaussianDiffusion
from dpm.schedules import linear


def source(folder: object) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    training, test = rng.integers(0, 256, (2000, 3, 8, 8), np.uint8), rng.integers(0, 256, (500, 3, 8, 8), np.uint8)
    return training, test


DATA = DiscreteImages(source, 100, False)
MODEL: Any = GaussianOracle(GaussianDiffusion(linear(10, 1e-4, 0.02)), None, Network())  # type: ignore[arg-type]


def from_training(reverse: object, x_T: Tensor) -> Iterator[Tensor]:
    yield x_T
    yield DATA.training()[torch.randint(1900, (len(x_T),))]


def brighter(reverse: object, x_T: Tensor) -> Iterator[Tensor]:
    yield (DATA.training()[: len(x_T)] + 0.5).clamp(-1, 1)


def scored(sampler: Any, n: int = 600, **changed: Any) -> dict[tuple[Any, ...], Any]:
    evaluator = SampleScores(sampler, n, 250, **{"extractor": block_means(), **changed})
    evaluation = evaluator(MODEL, DATA, DATA.held_out(2), 0)
    assert evaluation.arrays["samples"].shape == (24, 3, 8, 8)
    return {(m.quantity, m.protocol["source"], m.protocol.get("statistics")): m for m in evaluation.measurements}


def test_samples_that_are_images_are_as_near_as_chance_has_it() -> None:
    found = scored(from_training, claims={"fid": "one", "is": "two", "fid_test": "three"})
    features = block_means().network(torch.tensor(DATA.train))[0]
    fid, of_test = found["fid", "samples", "train"], found["fid", "test_images", "train"]
    assert fid.n == 600
    assert 0.5 < fid.value / by_chance(features, 600, 2000) < 2
    assert 0.5 < of_test.value / by_chance(features, 500, 2000) < 2
    assert (fid.protocol["features"], fid.protocol["sampler"]) == ("block_means", "test_fid.from_training")
    assert (fid.claim, of_test.claim) == ("one", None)
    assert found["inception_score", "samples", None].claim == "two"
    assert found["fid", "samples", "test"].claim == "three"
    assert ("fid", "test_images", "test") not in found  # from themselves


def test_another_brightness_is_seen() -> None:
    assert scored(brighter)["fid", "samples", "train"].value > 100 * scored(from_training)["fid", "samples", "train"].value


def test_what_is_published_of_cifar10_is_asked_of_no_other_images() -> None:
    known = Extractor(block_means().network, "block_means", REAL_CIFAR10)
    assert of_images(DATA, known, 600, 250).apart > 0
    named = DiscreteImages(source, 100, False)
    named.name = "cifar10"
    with pytest.raises(UserError, match=r"published is 11\.24"):
        of_images(named, known, 600, 250)


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="one sample at least"):
        scored(from_training, n=0)
    with pytest.raises(UserError, match="not as best"):
        scored(from_training, claims={"best": "x"})
    with pytest.raises(UserError, match="12 images do not determine a covariance of 12"):
        scored(from_training, n=12)
    evaluator = SampleScores(from_training, 600, 250, block_means())
    with pytest.raises(UserError, match="for images of 8 bits"):
        evaluator(MODEL, StandardizedImages(source, 100, 8, 1.0), DATA.held_out(2), 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"nowhere\.pth: put weights-inception"):
        inception_2015("nowhere.pth")
