"""Textures: every quarter is where it belongs and trained on or not as it says; a folder of photographs, right or wrong."""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import helpers
import numpy as np
import pytest
import skimage.data
import skimage.io

from dpm.data import textures
from dpm.data.images import StandardizedImages
from dpm.data.textures import TEXTURES, Quarters, UIUCTextures, grey
from dpm.errors import UserError
from dpm.runs import configs
from dpm.study.claims import load_claims

NOWHERE = Path("no such folder")
FOLDERS = ("T01_bark1", "T02_bark2", "T03_bark3", "T04_wood1")


# --- photographs of scikit-image -----------------------------------------------------------------------------------------


def photograph(name: str) -> np.ndarray:
    return getattr(skimage.data, name)()


@pytest.mark.parametrize("names", [["grass", "gravel"], ["gravel", "grass"], ["brick"], list(TEXTURES)])
def test_quarters_are_where_they_should_be(names: list[str]) -> None:
    """Left ones, upper before lower; then the upper right ones; the lower right ones are the test set: all names in turn."""
    train, test = Quarters(names)(NOWHERE)
    n = len(names)
    assert (train.shape, test.shape) == ((3 * n, 1, 256, 256), (n, 1, 256, 256))
    assert train.dtype == test.dtype == np.uint8
    for k, name in enumerate(names):
        upper, lower, right = train[k, 0], train[n + k, 0], train[2 * n + k, 0]
        assert np.array_equal(np.block([[upper, right], [lower, test[k, 0]]]), photograph(name))


def test_no_quarter_is_trained_on_that_is_kept_or_tested() -> None:
    """As many kept images as names: left halves are trained on, upper right quarters kept, lower right ones tested."""
    d = StandardizedImages(Quarters(["grass", "gravel"]), 2, 64, 0.0)
    for k, name in enumerate(("grass", "gravel")):
        image = photograph(name)
        assert np.array_equal(np.concatenate([d.train[k, 0], d.train[2 + k, 0]]), image[:, :256])
        assert np.array_equal(d.kept[k, 0], image[:256, 256:])
        assert np.array_equal(d.test[k, 0], image[256:, 256:])
    assert (len(d.train), len(d.kept), len(d.test)) == (4, 2, 2)
    tested = d.grey(d.held_out(32)).round().numpy().astype(np.uint8)
    assert np.array_equal(tested[1, 0], photograph("grass")[256:320, 320:384])
    assert np.array_equal(tested[31, 0], photograph("gravel")[448:, 448:])
    trained = {patch.tobytes() for patch in d.tiles(d.train)}
    assert not any(patch.tobytes() in trained for patch in (*d.tiles(d.test), *d.tiles(d.kept)))


def test_textures_are_grey_and_of_one_size() -> None:
    for name in TEXTURES:
        assert (photograph(name).shape, photograph(name).dtype) == ((512, 512), np.uint8)


@pytest.mark.parametrize("names", [[], ["bark"], ["grass", "astronaut"], ["data_dir"], "grass"])
def test_other_names_are_one_line_that_lists_the_textures(names: list[str]) -> None:
    with pytest.raises(UserError, match="brick, grass, gravel") as error:
        Quarters(names)(NOWHERE)
    assert "\n" not in str(error.value)


# --- the photographs of 2015 ---------------------------------------------------------------------------------------------


def level(folder: int, number: int) -> int:
    """The grey level of an image that is all of one: 10 for each folder, 1 for each image."""
    return 10 * (folder + 1) + number


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """Four images of 640 x 480 in each of four folders, in three formats, and files that are no images."""
    root = tmp_path_factory.mktemp("data")
    for f, folder in enumerate(FOLDERS):
        place = root / "uiuc_textures" / folder
        place.mkdir(parents=True)
        for number, suffix in enumerate(("jpg", "JPG", "png", "jpeg")):
            image = np.full((480, 640), level(f, number), np.uint8)
            path = place / f"{folder[:3]}_{number + 1:02}.{suffix}"
            skimage.io.imsave(path.with_suffix(path.suffix.lower()), image, check_contrast=False)
            path.with_suffix(path.suffix.lower()).rename(path)
        (place / "Thumbs.db").write_bytes(b"no image")
    (root / "uiuc_textures" / "T05_wood2").mkdir()
    return root


@pytest.fixture(autouse=True)
def four_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each folder, in the place of 40."""
    monkeypatch.setattr(textures, "UIUC", dict.fromkeys(textures.UIUC, 4))


@pytest.fixture
def root(originals: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(originals, tmp_path / "data"))


def test_the_published_set_has_40_images_in_each_of_four_folders(monkeypatch) -> None:
    monkeypatch.undo()
    assert {name[:3]: 40 for name in FOLDERS} == textures.UIUC


@pytest.mark.parametrize("n_test", [1, 2, 3])
def test_images_stand_in_the_order_of_their_numbers_and_the_last_are_tested(originals: Path, n_test: int) -> None:
    """Folder after folder for each number: the last training images, which are kept, come from all four."""
    train, test = UIUCTextures(n_test)(originals)
    assert (train.shape, test.shape) == ((4 * (4 - n_test), 1, 480, 640), (4 * n_test, 1, 480, 640))
    assert train.dtype == test.dtype == np.uint8
    levels = [level(folder, number) for number in range(4) for folder in range(4)]
    images = np.concatenate([train, test])
    assert images[:, 0, 240, 320].tolist() == levels
    assert (images.min((1, 2, 3)) == images.max((1, 2, 3))).all()


def test_pixels_are_where_they_were(root: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8)
    path = root / "uiuc_textures" / FOLDERS[0] / "T01_03.png"
    skimage.io.imsave(path, image)
    assert np.array_equal(grey(path), image)
    assert np.array_equal(UIUCTextures(1)(root)[0][8, 0], image)


@pytest.mark.parametrize("n_test", [0, -1, 4, 5])
def test_some_images_of_a_folder_are_for_training_and_some_for_the_test(originals: Path, n_test: int) -> None:
    with pytest.raises(UserError, match=f"n_test = {n_test}: of the 4 images") as error:
        UIUCTextures(n_test)(originals)
    assert "\n" not in str(error.value)


def remove_one(place: Path) -> None:
    next(place.glob("*.png")).unlink()


def add_one(place: Path) -> None:
    shutil.copy(next(place.glob("*.png")), place / "T02_09.png")


@pytest.mark.parametrize(("spoil", "found"), [(remove_one, 3), (add_one, 5), (shutil.rmtree, 0)])
def test_a_folder_without_all_its_images_is_named(root: Path, spoil: Callable[[Path], None], found: int) -> None:
    spoil(root / "uiuc_textures" / FOLDERS[1])
    with pytest.raises(UserError, match=rf"uiuc_textures: {found} of 4 images in folder T02\*.*needs no files") as error:
        UIUCTextures(1)(root)
    assert "\n" not in str(error.value)


def test_without_the_data_set_the_message_says_what_else_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0 of 4 images in folder T01\*; put .* there"):
        UIUCTextures(1)(tmp_path)


def colour(path: Path) -> None:
    skimage.io.imsave(path, np.zeros((480, 640, 3), np.uint8), check_contrast=False)


def sixteen_bits(path: Path) -> None:
    skimage.io.imsave(path, np.full((480, 640), 1000, np.uint16), check_contrast=False)


def upright(path: Path) -> None:
    skimage.io.imsave(path, np.zeros((640, 480), np.uint8), check_contrast=False)


def small(path: Path) -> None:
    skimage.io.imsave(path, np.zeros((48, 64), np.uint8), check_contrast=False)


@pytest.mark.parametrize("spoil", [colour, sixteen_bits, upright, small])
def test_an_image_of_another_kind_is_named(root: Path, spoil: Callable[[Path], None]) -> None:
    path = root / "uiuc_textures" / FOLDERS[2] / "T03_03.png"
    spoil(path)
    with pytest.raises(UserError, match=r"T03_03\.png: expected 640 x 480 grey levels of 8 bits, got") as error:
        UIUCTextures(1)(root)
    assert "\n" not in str(error.value)


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a web page for png": ("png", lambda content: b"<html>not found</html>" * 100),
    "a web page for jpg": ("jpg", lambda content: b"<html>not found</html>" * 100),
    "empty": ("jpg", lambda content: b""),
    "half of a png": ("png", lambda content: content[: len(content) // 2]),
    "half of a jpg": ("jpg", lambda content: content[: len(content) // 2]),
    "two bytes": ("jpg", lambda content: content[:2]),
    "no header": ("jpg", lambda content: content[:11]),
    "another size": ("png", lambda content: content[:18] + b"\7" + content[19:]),  # and the header's old checksum
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.filterwarnings("ignore:The legacy `DICOM` plugin", "ignore:unclosed file:ResourceWarning")
def test_an_unreadable_image_is_named(root: Path, name: str) -> None:
    """(ImageIO warns about one of its own plug-ins as it tries them all, and leaves the file open.)"""
    suffix, damage = DAMAGE[name]
    path = next((root / "uiuc_textures" / FOLDERS[3]).glob(f"*.{suffix}"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"{path.name}: not a readable image \(") as error:
        UIUCTextures(1)(root)
    assert "\n" not in str(error.value)
    del error
    gc.collect()  # closes it here and not in another test


def test_a_folder_in_the_place_of_an_image_is_named(root: Path) -> None:
    path = root / "uiuc_textures" / FOLDERS[0] / "T01_03.png"
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"T01_03\.png: not a readable image"):
        UIUCTextures(1)(root)


def test_the_bark_experiment_finds_the_data_set_where_the_page_says(originals: Path, tmp_path: Path, monkeypatch) -> None:
    """Below $DPM_DATA; three images of each folder for training and validation, one to test, in patches of 64 x 64."""
    monkeypatch.setenv("DPM_DATA", str(originals))
    run = helpers.configured(tmp_path, "data.source.n_test=1", experiment="sohl_dickstein_2015/bark")
    data = configs.build(run.config, "data")
    claim = load_claims(helpers.ROOT / "conf" / "claims")["sohl_dickstein_2015/table1/bark/K"]
    assert data.facts["data"] == claim.protocol["data"]
    assert (len(data.train), len(data.kept), len(data.test)) == (8, 4, 4)
    page = (helpers.ROOT / "conf" / "report" / "21_textures.md").read_text()
    assert all(folder in page for folder in FOLDERS)
    assert "$DPM_DATA/uiuc_textures" in page
    assert data.batch(2, 0, 0).shape == data.held_out(2).shape == (2, 1, 64, 64)
