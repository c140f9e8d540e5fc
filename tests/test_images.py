"""Images: exact values on [-1, 1], three sets that do not meet, batches as functions of (seed, step), half of them mirrored."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dpm.data.files import default_folder
from dpm.data.images import DiscreteImages
from dpm.errors import UserError

N, N_TEST, SHAPE = 40, 11, (3, 4, 5)


def images(n: int, first: int) -> np.ndarray:
    """The image i is recognised by its top left pixel, grey level first + i; no image equals its mirror image."""
    grey = np.random.default_rng(first).integers(0, 256, (n, *SHAPE), dtype=np.uint8)
    grey[:, 0, 0, 0] = first + np.arange(n)
    grey[:, 0, 0, -1] = 255
    grey.setflags(write=False)
    return grey


TRAIN, TEST = images(N, 0), images(N_TEST, 100)


def source(folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
    assert folder == default_folder()
    return TRAIN, TEST


def data(n_validation: int = 7, flip: bool = True) -> DiscreteImages:
    return DiscreteImages(source, n_validation, flip)


def scaled(grey: np.ndarray) -> Tensor:
    return torch.from_numpy(grey.astype(np.float64) / 127.5 - 1)


def which(x_0: Tensor) -> tuple[Tensor, Tensor]:
    """Index and orientation of every image of a batch: they are training images, or those in a mirror."""
    corner = torch.stack([x_0[:, 0, 0, 0], x_0[:, 0, 0, -1]], 1).double()
    index, mirrored = ((corner.amin(1) + 1) * 127.5).round().long(), corner[:, 0] == 1
    expected = scaled(TRAIN).float()[index]
    assert torch.equal(x_0, torch.where(mirrored[:, None, None, None], expected.flip(-1), expected))
    return index, mirrored


def test_values_are_grey_levels_on_minus_one_to_one() -> None:
    """g / 127.5 - 1 in float64, to the last bit, and for training its nearest float32."""
    grey = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    every = DiscreteImages(lambda folder: (np.repeat(grey, 2, 0), grey), 1, False)
    exact = [g / 127.5 - 1 for g in range(256)]
    for x_0 in (every.validation(1), every.held_out(1)):
        assert x_0.dtype == torch.float64
        assert x_0.flatten().tolist() == exact
    for x_0 in (every.training(), every.batch(1, 0, 0)):
        assert x_0.dtype == torch.float32
        assert torch.equal(x_0.flatten(), torch.tensor(exact, dtype=torch.float64).float())
    assert (exact[0], exact[255]) == (-1, 1)


def test_the_sets_are_the_files_in_their_order() -> None:
    """Training is all but the last n training images, validation those, held out the first test images."""
    d = data(7)
    assert torch.equal(d.training(), scaled(TRAIN[:33]).float())
    assert torch.equal(d.validation(7), scaled(TRAIN[33:]))
    assert torch.equal(d.validation(3), scaled(TRAIN[33:36]))
    assert torch.equal(d.held_out(N_TEST), scaled(TEST))
    assert torch.equal(d.held_out(4), scaled(TEST[:4]))


def test_batches_hold_every_training_image_and_none_of_validation() -> None:
    seen = torch.cat([which(data(7).batch(200, 0, step))[0] for step in range(10)])
    counts = torch.bincount(seen, minlength=N)
    assert not counts[33:].any()
    expected = 2000 / 33
    assert ((counts[:33] - expected).abs() < 4.5 * math.sqrt(expected)).all()


@pytest.mark.parametrize("flip", [True, False])
def test_a_batch_is_a_function_of_seed_and_step(flip: bool) -> None:
    one, other = data(flip=flip), data(flip=flip)
    state = torch.get_rng_state()
    first = one.batch(16, 3, 5)
    assert torch.equal(torch.get_rng_state(), state)
    one.batch(4, 3, 6)
    torch.rand(5)
    assert torch.equal(one.batch(16, 3, 5), first)
    assert torch.equal(other.batch(16, 3, 5), first)
    assert first.shape == (16, *SHAPE)
    for seed, step in ((3, 6), (4, 5), (5, 3)):
        assert not torch.equal(one.batch(16, seed, step), first)


def test_half_of_a_batch_is_mirrored_left_to_right_whichever_images_they_are() -> None:
    batches = [which(data().batch(400, 0, step)) for step in range(20)]
    index, mirrored = (torch.cat(parts) for parts in zip(*batches, strict=True))
    n = len(index)
    assert mirrored.double().mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(4 * n))
    for image in range(33):
        orientations = mirrored[index == image].double()
        assert orientations.mean().item() == pytest.approx(0.5, abs=4.5 / math.sqrt(4 * len(orientations)))
    neighbours = (mirrored[1:] == mirrored[:-1]).double().mean().item()  # each on its own, not the batch
    assert neighbours == pytest.approx(0.5, abs=4 / math.sqrt(4 * n))


def test_without_flip_no_image_is_mirrored_and_the_images_are_the_same() -> None:
    for step in range(5):
        index, mirrored = which(data(flip=False).batch(200, 0, step))
        assert not mirrored.any()
        assert torch.equal(which(data(flip=True).batch(200, 0, step))[0], index)


def test_the_source_is_read_only_and_shared() -> None:
    """What a caller does to its images changes neither the source nor anybody else's images. (A warning would be an error.)"""
    assert not TRAIN.flags.writeable
    before = TRAIN.copy(), TEST.copy()
    for get in (lambda d: d.training(), lambda d: d.validation(7), lambda d: d.held_out(5), lambda d: d.batch(9, 0, 0)):
        expected = get(data()).clone()
        get(data()).zero_()
        assert torch.equal(get(data()), expected)
    assert np.array_equal(before[0], TRAIN)
    assert np.array_equal(before[1], TEST)


@pytest.mark.parametrize("n", [-1, 0, N, N + 1])
def test_some_images_are_for_validation_and_some_for_training(n: int) -> None:
    with pytest.raises(UserError, match=f"n_validation = {n}.*the {N} training images") as error:
        data(n)
    assert "\n" not in str(error.value)
    assert len(data(N - 1).training()) == 1


@pytest.mark.parametrize(("which", "there"), [("validation", 7), ("held_out", N_TEST)])
def test_more_images_than_there_are_is_an_error(which: str, there: int) -> None:
    assert len(getattr(data(7), which)(there)) == there
    with pytest.raises(UserError, match=f"{there + 1} images asked for, there are {there}") as error:
        getattr(data(7), which)(there + 1)
    assert "\n" not in str(error.value)
