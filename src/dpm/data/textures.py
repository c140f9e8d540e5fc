"""Textures: photographs that ship with scikit-image, and the bark of the UIUC texture data set from a folder of one's own.

The bark images of 2015 are folders T01 to T04 of that data set (Lazebnik, Schmid and Ponce 2005), 40 grey images of 640 x 480
pixels in each. They cannot be shipped; their place is $DPM_DATA/uiuc_textures/T01_bark1/*.jpg and so on.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import skimage.io

from dpm.errors import UserError

TEXTURES = ("brick", "grass", "gravel")  # all of 512 x 512 pixels
UIUC = {"T01": 40, "T02": 40, "T03": 40, "T04": 40}  # images in each folder


@dataclass(frozen=True)
class Quarters:
    """Photographs of scikit-image by name, out of TEXTURES, each cut into quarters.

    training: the upper left and lower left quarters of all, then the upper right ones; test: the lower right ones.
    """

    names: Sequence[str]

    @property
    def name(self) -> str:
        return "_".join(("skimage", *self.names))

    def __post_init__(self) -> None:
        if not self.names:
            raise UserError(f"textures: name one at least of {', '.join(TEXTURES)}")

    def __call__(self, folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
        """(3 n, 1, H, W), (n, 1, H, W), 8-bit; the folder is not used: the images come with the package."""
        left, lower, upper, test = [], [], [], []
        for name in self.names:
            image = self.image(name)
            h, w = (size // 2 for size in image.shape)
            left.append(image[:h, :w])
            lower.append(image[h : 2 * h, :w])
            upper.append(image[:h, w : 2 * w])
            test.append(image[h : 2 * h, w : 2 * w])
        return np.stack([*left, *lower, *upper])[:, None], np.stack(test)[:, None]

    @staticmethod
    def image(name: str) -> np.ndarray:
        if name not in TEXTURES:
            raise UserError(f"no texture {name!r} comes with scikit-image; there are {', '.join(TEXTURES)}")
        image: np.ndarray = getattr(skimage.data, name)()
        return image


@dataclass(frozen=True)
class UIUCTextures:
    """Folders T01 to T04 of the UIUC data set: the last `n_test` images of each are the test set.

    The training images stand in the order of their numbers, the folders in turn, so that the last ones come from all four.
    """

    n_test: int

    @property
    def name(self) -> str:
        return "uiuc_textures_T01_T04"

    def __call__(self, folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
        """(4 (40 - n_test), 1, 480, 640), (4 n_test, 1, 480, 640), 8-bit."""
        root = Path(folder) / "uiuc_textures"
        if not 0 < self.n_test < min(UIUC.values()):
            raise UserError(f"n_test = {self.n_test}: of the {min(UIUC.values())} images in a folder, keep some for training")
        images = np.stack([np.stack([grey(path) for path in paths(root, name)]) for name in UIUC], 1)  # number, folder
        train, test = images[: -self.n_test], images[-self.n_test :]
        return train.reshape(-1, 1, *train.shape[2:]), test.reshape(-1, 1, *test.shape[2:])


def paths(root: Path, name: str) -> list[Path]:
    """The images of one folder of the data set, in order; a UserError says how many are missing and where they belong."""
    found = sorted(path for path in root.glob(f"{name}*/*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if len(found) != UIUC[name]:
        raise UserError(
            f"{root}: {len(found)} of {UIUC[name]} images in folder {name}*; put the UIUC texture data set's T01 to T04 "
            "there (see conf/data/uiuc_bark.yaml), or take sohl_dickstein_2015/textures, which needs no files"
        )
    return found


def grey(path: Path) -> np.ndarray:
    """An 8-bit grey image, 480 x 640."""
    try:
        image: np.ndarray = skimage.io.imread(path, as_gray=False)
    except (OSError, ValueError, SyntaxError, struct.error) as error:  # Pillow raises any of these
        raise UserError(f"{path}: not a readable image ({' '.join(str(error).split())[:80]})") from error
    if image.dtype != np.uint8 or image.shape != (480, 640):
        raise UserError(f"{path}: expected 640 x 480 grey levels of 8 bits, got {image.shape} of {image.dtype}")
    return image
