"""Data of one's own: points from a file, images from a folder, and one clear line for what cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import skimage.io
import torch

from dpm.data.folders import ImageFolder
from dpm.data.images import DiscreteImages
from dpm.data.points import Points
from dpm.errors import UserError


def points(path: Path, array: object) -> str:
    np.save(path / "moons.npy", array)
    return str(path / "moons.npy")


# --- points -----------------------------------------------------------------------------------------------------------


def test_points_are_scaled_by_two_numbers_of_the_training_points(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal([3.0, -1.0], [2.0, 0.5], (100, 2))
    data = Points(points(tmp_path, rows), 10, 20)
    assert torch.equal(data.held_out(20), torch.from_numpy((rows[80:] - data.mean) / data.std))
    assert torch.equal(data.validation(10), torch.from_numpy((rows[70:80] - data.mean) / data.std))
    assert data.training().mean() == pytest.approx(0, abs=1e-12)
    assert data.training().square().mean() == pytest.approx(1)  # what the edges of 2015 ask for
    assert data.facts == {"data": "moons", "split": "held-out"}


def test_a_batch_of_points_is_a_function_of_seed_and_step_and_of_training_points_alone(tmp_path: Path) -> None:
    data = Points(points(tmp_path, np.arange(60.0).reshape(30, 2)), 5, 5)
    batch = data.batch(400, 1, 2)
    assert torch.equal(batch, data.batch(400, 1, 2))
    assert not torch.equal(batch, data.batch(400, 1, 3))
    assert {tuple(row) for row in batch.tolist()} == {tuple(row) for row in data.training().tolist()}


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(10), r"expected numbers of shape \(n, d\), got \(10,\)"),
        (np.array([["a", "b"]] * 20), "expected numbers"),
        (np.full((20, 2), np.nan), "40 numbers are not finite"),
        (np.ones((20, 2)), "the same number"),
        (np.zeros((9, 2)), "9 points; n_validation = 4 and n_held_out = 4"),
        (np.array([{}]), "not an array of numpy.save"),
    ],
)
def test_points_that_cannot_be_used(tmp_path: Path, array: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Points(points(tmp_path, array), 4, 4)


def test_a_file_that_is_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; write your points with numpy.save"):
        Points(str(tmp_path / "no.npy"), 4, 4)
    (tmp_path / "bad.npy").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match=r"bad.npy: not an array"):
        Points(str(tmp_path / "bad.npy"), 4, 4)
    with pytest.raises(UserError, match=r"9 held-out points asked for, there are 4"):
        Points(points(tmp_path, np.arange(40.0).reshape(20, 2)), 4, 4).held_out(9)


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures: colours, grey, with transparency, of several sizes."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index, shape in enumerate(((8, 8, 3), (12, 8, 3), (8, 20), (16, 16, 4), (8, 8), (9, 8, 3))):
        name = f"more/{index}.png" if index % 2 else f"{index}.png"
        skimage.io.imsave(tmp_path / "photos" / name, rng.integers(0, 256, shape, np.uint8), check_contrast=False)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_images_becomes_training_and_test_images(folder: Path, channels: int) -> None:
    source = ImageFolder(str(folder), 8, channels, 2)
    train, test = source("unused")
    assert (train.shape, test.shape) == ((4, channels, 8, 8), (2, channels, 8, 8))
    assert train.dtype == test.dtype == np.uint8
    data = DiscreteImages(source, 1, flip=True)
    assert data.facts == {"data": "photos", "split": "test"}
    assert data.held_out(2).shape == (2, channels, 8, 8)


def test_an_image_of_the_right_size_is_itself_and_a_larger_one_is_cut_and_averaged(folder: Path) -> None:
    image = skimage.io.imread(folder / "0.png")
    assert np.array_equal(ImageFolder(str(folder), 8, 3, 1).image(folder / "0.png"), image.transpose(2, 0, 1))
    flat = np.full((10, 30, 3), (10, 200, 90), np.uint8)
    flat[:, :10], flat[:, 20:] = 0, 255  # outside of the square in the middle
    skimage.io.imsave(folder / "flat.png", flat, check_contrast=False)
    small = ImageFolder(str(folder), 4, 3, 1).image(folder / "flat.png")
    assert np.array_equal(small, np.broadcast_to(np.array([10, 200, 90], np.uint8)[:, None, None], (3, 4, 4)))
    grey = ImageFolder(str(folder), 4, 1, 1).image(folder / "flat.png")
    assert np.unique(grey).tolist() == [round(0.299 * 10 + 0.587 * 200 + 0.114 * 90)]


def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: 0 images"):
        ImageFolder(str(tmp_path / "nowhere"), 8, 3, 2)("unused")
    with pytest.raises(UserError, match=r"6 images .* n_test = 6 must leave some"):
        ImageFolder(str(folder), 8, 3, 6)("unused")
    with pytest.raises(UserError, match="channels = 2"):
        ImageFolder(str(folder), 8, 2, 2)("unused")
    (folder / "9.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match=r"9.png: not a readable image"):
        ImageFolder(str(folder), 8, 3, 2)("unused")
    skimage.io.imsave(folder / "9.png", np.zeros((8, 8), np.uint16), check_contrast=False)
    with pytest.raises(UserError, match=r"9.png: expected an image of 8 bits"):
        ImageFolder(str(folder), 8, 3, 2)("unused")
