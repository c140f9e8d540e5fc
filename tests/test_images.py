"""Images: exact values on [-1, 1], three sets that do not meet, batches as functions of (seed, step), half of them mirrored.

Standardised ones: mean 0 and mean square 1 with noise of one grey level, and patches that lie where they should.
"""

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from dpm import bound, schedules
from dpm.data.files import default_folder
from dpm.data.images import DiscreteImages, StandardizedImages
from dpm.errors import UserError
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.gaussian import GaussianDiffusion

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


def test_grey_is_the_inverse_of_the_scale_neither_rounded_nor_clipped() -> None:
    """The grey levels come back, and what lies between and beyond them goes there and back."""
    d = data()
    np.testing.assert_allclose(d.grey(d.held_out(N_TEST)), TEST, rtol=0, atol=1e-12)
    between = np.array([-300.0, -0.25, 0.0, 17.3, 127.5, 254.9, 1000.0])
    np.testing.assert_allclose(d.grey(d.scaled(between)), between, rtol=1e-14, atol=1e-12)
    assert d.grey(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 127.5, 255]


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


# --- standardised patches ------------------------------------------------------------------------------------------------

HEIGHT, WIDTH = 10, 13
CODES = {"train": (12, 0), "test": (5, 100)}  # number of images, number of the first


def coded(n: int, first: int) -> np.ndarray:
    """Grey levels that say where they are: ((image 2 + channel) 10 + row) 13 + column, continuous ones of up to 30,000."""
    return np.arange(first * 2 * HEIGHT * WIDTH, (first + n) * 2 * HEIGHT * WIDTH, dtype=np.float32).reshape(
        n, 2, HEIGHT, WIDTH
    )


def patches(side: int = 3, n_validation: int = 4, grain: float = 0.0) -> StandardizedImages:
    return StandardizedImages(lambda folder: (coded(*CODES["train"]), coded(*CODES["test"])), n_validation, side, grain)


def places(d: StandardizedImages, x: Tensor) -> np.ndarray:
    """(n, 3): the image, row and column of the upper left corner of each patch; all of the patch must be from there."""
    codes = d.grey(x.double()).round().long().numpy()
    corner = codes[:, 0, 0, 0]
    image, row, column = corner // (2 * HEIGHT * WIDTH), corner // WIDTH % HEIGHT, corner % WIDTH
    for code, i, y, x_ in zip(codes, image, row, column, strict=True):
        assert np.array_equal(code, coded(1, i)[0, :, y : y + d.side, x_ : x_ + d.side])
    return np.stack([image, row, column], 1)


def dark(n: int, first: int = 0) -> np.ndarray:
    """8-bit images of the levels 96 and 98: the noise of one grey level is a thirteenth of their variance."""
    return np.random.default_rng(first).choice(np.array([96, 98], np.uint8), (n, 3, 8, 8))


def quiet(grain: float = 1.0, side: int = 4) -> StandardizedImages:
    return StandardizedImages(lambda folder: (dark(400), dark(200, 1)), 50, side, grain)


SETS: dict[str, Callable[[StandardizedImages], Tensor]] = {
    "batch": lambda d: d.batch(900, 2, 7),
    "training": lambda d: d.training(),
    "validation": lambda d: d.validation(150),
    "held_out": lambda d: d.held_out(600),
}


def noise(d: StandardizedImages) -> dict[str, np.ndarray]:
    """u of all sets of `quiet` images, in grey levels: what is left beside the even number."""
    grey = {name: d.grey(get(d).double()).numpy() for name, get in SETS.items()}
    return {name: g - 2 * (g / 2).round() for name, g in grey.items()}


def test_mean_and_std_are_those_of_the_training_images_and_their_noise() -> None:
    """Two numbers: mean and sqrt(var + grain^2 / 12) of all values of the images that are trained on, and of no others."""
    for grain in (0.0, 1.0, 3.0):
        d, values = quiet(grain), dark(400)[:350].astype(np.float64)
        assert d.mean == pytest.approx(values.mean(), rel=1e-12)
        assert d.std**2 == pytest.approx(values.var() + grain**2 / 12, rel=1e-12)
        assert isinstance(d.mean, float)
        assert isinstance(d.std, float)


def test_training_data_without_noise_have_mean_0_and_mean_square_1() -> None:
    for d in (quiet(0.0), StandardizedImages(source_of_bytes, 7, 4, 0.0)):
        x_0 = d.standardised(d.train, torch.Generator())
        assert x_0.mean().item() == pytest.approx(0, abs=1e-10)
        assert x_0.square().mean().item() == pytest.approx(1, rel=1e-10)


def source_of_bytes(folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
    return TRAIN, TEST


def check_standardised() -> None:
    """E x_0 = 0 and E x_0^2 = 1 with the noise. Errors are those of the noise alone: the images are all there."""
    d = quiet()
    x_0 = d.training().double()
    n, v = x_0.numel(), 1 / 12 / d.std**2  # the noise's share of the variance, 8 %
    assert x_0.mean().item() == pytest.approx(0, abs=4 * math.sqrt(v / n))
    error = math.sqrt((4 * (1 - v) * v + (1 / 80 - 1 / 144) / d.std**4) / n)
    assert error < v / 20
    assert x_0.square().mean().item() == pytest.approx(1, abs=4 * error)


def test_training_data_have_mean_0_and_mean_square_1_with_their_noise() -> None:
    check_standardised()


def check_the_noise_is_one_grey_level() -> None:
    """u = grey(x_0) - g is uniform on [-1/2, 1/2], in the units of the data, for all sets (Kolmogorov and Smirnov)."""
    for grain in (1.0, 1.5):
        for name, u in noise(quiet(grain)).items():
            assert kstest(u.flatten() / grain, "uniform", (-0.5, 1)).pvalue > 0.001, name
            assert np.abs(u).max() < grain / 2 + 1e-5


def test_the_noise_is_uniform_on_one_grey_level() -> None:
    check_the_noise_is_one_grey_level()


def test_the_noise_of_different_values_and_sets_is_independent() -> None:
    sets = {name: u * math.sqrt(12) for name, u in noise(quiet()).items()}
    for u in sets.values():
        for a, b in ((u[1:], u[:-1]), (u[:, 1:], u[:, :-1]), (u[:, :, 1:], u[:, :, :-1]), (u[..., 1:], u[..., :-1])):
            assert abs((a * b).mean()) < 4 / math.sqrt(a.size)
    for one, other in combinations(sets.values(), 2):
        n = min(one.size, other.size)
        assert abs((one.flat[:n] * other.flat[:n]).mean()) < 4 / math.sqrt(n)


def test_the_noise_is_fresh_in_a_batch_and_fixed_elsewhere() -> None:
    """One image of one grey level: what differs is u."""
    flat = np.full((2, 1, 2, 2), 7, np.uint8)
    d = StandardizedImages(lambda folder: (flat, flat), 1, 2, 1.0)
    batch = torch.cat([d.batch(8, seed, step) for seed in (0, 1) for step in range(5)])
    assert len(batch.unique()) == batch.numel()
    for get in (d.training, lambda: d.validation(1), lambda: d.held_out(1)):
        assert torch.equal(get(), get())
    assert not torch.equal(d.validation(1), d.held_out(1))


def test_fewer_examples_are_the_first_of_more() -> None:
    d = quiet()
    for get in (d.validation, d.held_out):
        for few, many in ((1, 2), (5, 9), (17, 150)):
            assert torch.equal(get(few), get(many)[:few])


@pytest.mark.parametrize("grain", [0.0, 1.0])
def test_a_batch_of_patches_is_a_function_of_seed_and_step(grain: float) -> None:
    one, other = patches(grain=grain), patches(grain=grain)
    state = torch.get_rng_state()
    first = one.batch(16, 3, 5)
    one.validation(3), one.held_out(3), one.training()
    assert torch.equal(torch.get_rng_state(), state)
    one.batch(4, 3, 6)
    torch.rand(5)
    assert torch.equal(one.batch(16, 3, 5), first)
    assert torch.equal(other.batch(16, 3, 5), first)
    assert (first.shape, first.dtype) == ((16, 2, 3, 3), torch.float32)
    for seed, step in ((3, 6), (4, 5), (5, 3)):
        assert not torch.equal(one.batch(16, seed, step), first)


@pytest.mark.parametrize("side", [1, 3, 10])
def test_batches_take_patches_anywhere_in_training_images(side: int) -> None:
    """Every image and every position equally often, borders included; no patch of a kept or of a test image."""
    d = patches(side)
    found = np.concatenate([places(d, d.batch(250, 0, step)) for step in range(16)])
    for values, limit in zip(found.T, (8, HEIGHT - side + 1, WIDTH - side + 1), strict=True):
        counts, expected = np.bincount(values, minlength=limit), len(found) / limit
        assert len(counts) == limit
        assert (abs(counts - expected) < 4.5 * math.sqrt(expected)).all()
    for a, b in ((0, 1), (0, 2), (1, 2)):  # drawn independently of each other, and of the patch before
        if found[:, a].std() > 0 and found[:, b].std() > 0:
            assert abs(np.corrcoef(found[:, a], found[:, b])[0, 1]) < 4 / math.sqrt(len(found))
    assert abs(np.corrcoef(found[1:, 0], found[:-1, 0])[0, 1]) < 4 / math.sqrt(len(found))


def test_patches_without_a_direction_are_turned_and_mirrored_in_all_eight_ways() -> None:
    """Equally often, whichever patch it is; the other sets stay as they are."""
    d, plain = (
        StandardizedImages(lambda folder: (coded(*CODES["train"]), coded(*CODES["test"])), 4, 3, 0.0, turned=turned)
        for turned in (True, False)
    )
    found = []
    for step in range(16):
        x, untouched = d.batch(250, 0, step), plain.batch(250, 0, step)
        ways = [way for turn in range(4) for way in (x.rot90(turn, (2, 3)), x.rot90(turn, (2, 3)).mT)]
        undone = torch.stack([(way == untouched).all(dim=(1, 2, 3)) for way in ways])
        assert (undone.sum(0) == 1).all(), "each is the patch itself, seen in one way"
        found.append(undone.int().argmax(0))
    counts = np.bincount(torch.cat(found), minlength=8)
    assert (abs(counts - 500) < 4.5 * math.sqrt(500)).all()
    assert torch.equal(d.batch(250, 0, 3), d.batch(250, 0, 3))
    for get in (SETS["training"], lambda d: d.validation(20), lambda d: d.held_out(20)):
        assert torch.equal(get(d), get(plain))


@pytest.mark.parametrize("side", [1, 3, 5, 10])
def test_tiles_cover_the_images_in_order(side: int) -> None:
    """Image after image, line after line, from the upper left; what is left over at the right and below is not used."""
    d = patches(side)
    corners = [(y, x) for y in range(0, HEIGHT - side + 1, side) for x in range(0, WIDTH - side + 1, side)]

    def expected(images: range) -> list[list[int]]:
        return [[image, y, x] for image in images for y, x in corners]

    assert places(d, d.training()).tolist() == expected(range(8))
    assert places(d, d.validation(4 * len(corners))).tolist() == expected(range(8, 12))
    assert places(d, d.held_out(5 * len(corners))).tolist() == expected(range(100, 105))
    assert (d.training().dtype, d.validation(1).dtype, d.held_out(1).dtype) == (torch.float32, torch.float64, torch.float64)


def test_a_patch_as_large_as_the_image_is_the_image() -> None:
    d = StandardizedImages(lambda folder: (TRAIN[..., :4], TEST[..., :4]), 7, 4, 0.0)
    assert d.tiles(d.test) == pytest.approx(TEST[..., :4])
    for x_0, grey in ((d.held_out(N_TEST), TEST), (d.validation(7), TRAIN[33:])):
        assert torch.allclose(d.grey(x_0), torch.from_numpy(grey[..., :4].astype(np.float64)), rtol=1e-12)


def test_continuous_data_are_left_as_they_are() -> None:
    """Grain 0: no noise, and values between the grey levels survive."""
    values = np.random.default_rng(0).normal(100, 30, (9, 1, 4, 4)).astype(np.float32)
    d = StandardizedImages(lambda folder: (values, values), 2, 4, 0.0)
    assert torch.allclose(d.grey(d.held_out(9)), torch.from_numpy(values).double(), rtol=1e-13)
    assert d.std == pytest.approx(values[:7].astype(np.float64).std(), rel=1e-12)


def test_grey_is_the_way_back_neither_rounded_nor_clipped() -> None:
    d, x = quiet(), torch.linspace(-300, 300, 7, dtype=torch.float64)
    assert torch.allclose(d.grey(x), d.mean + d.std * x, rtol=1e-14)
    assert torch.allclose((d.grey(x) - d.mean) / d.std, x, rtol=1e-12, atol=1e-12)


def test_what_a_caller_does_to_patches_changes_nobody_elses() -> None:
    train = coded(*CODES["train"])
    train.setflags(write=False)
    d = StandardizedImages(lambda folder: (train, train), 4, 3, 0.0)
    for get in (lambda: d.training(), lambda: d.validation(7), lambda: d.held_out(5), lambda: d.batch(9, 0, 0)):
        expected = get().clone()
        get().zero_()
        assert torch.equal(get(), expected)


def check_entropy_edges_take_them() -> None:
    """The edges that need E x_0^2 = 1 take the data as they are."""
    d = quiet()
    p = GaussianOracle(GaussianDiffusion(schedules.linear(5, 0.1, 0.5)), None, None)
    x_0 = d.training().double()
    try:
        bound.entropy_edges.prior(p, x_0)
    except UserError as error:
        raise AssertionError(error) from error


def test_entropy_edges_take_standardised_data_and_refuse_them_without_their_noise() -> None:
    check_entropy_edges_take_them()
    d = quiet()
    p = GaussianOracle(GaussianDiffusion(schedules.linear(5, 0.1, 0.5)), None, None)
    without = (torch.from_numpy(d.tiles(d.train)).double() - d.mean) / d.std
    with pytest.raises(UserError, match="standardise them"):
        bound.entropy_edges.prior(p, without)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_validation": 0}, "n_validation = 0: keep some of the 12"),
        ({"n_validation": -1}, "n_validation = -1"),
        ({"n_validation": 12}, "n_validation = 12.*train on some"),
        ({"side": 0}, "side = 0"),
        ({"side": -3}, "side = -3"),
        ({"side": 11}, r"side = 11.*\(10, 13\)"),
        ({"grain": -0.5}, "grain = -0.5"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_line(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        patches(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("which", "there"), [("validation", 4 * 3 * 4), ("held_out", 5 * 3 * 4)])
def test_more_patches_than_there_are_is_an_error(which: str, there: int) -> None:
    assert len(getattr(patches(), which)(there)) == there
    for n in (there + 1, -1):
        with pytest.raises(UserError, match=f"{n} images asked for, there are {there}") as error:
            getattr(patches(), which)(n)
        assert "\n" not in str(error.value)


def test_patches_fit_into_test_images_too() -> None:
    with pytest.raises(UserError, match=r"side = 10.*\(10, 13\) and \(9, 9\)"):
        StandardizedImages(lambda folder: (coded(3, 0), coded(2, 9)[..., :9, :9]), 1, 10, 0.0)
