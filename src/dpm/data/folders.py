"""Images of your own, from a folder."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.io
import skimage.transform

from dpm.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageFolder:
    """All images below `path`, in the order of their names: the largest square in the middle, scaled to side x side pixels.

    `channels` is 1 (grey) or 3 (colours). The last `n_test` images are the test set. Scaling down averages over the pixels that
    become one, then rounds to 8 bits.
    """

    path: str
    side: int
    channels: int
    n_test: int

    @property
    def name(self) -> str:
        return Path(self.path).resolve().name

    def __call__(self, folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
        """(n - n_test, C, side, side), (n_test, C, side, side), 8-bit; the folder of the papers' data is not used."""
        if self.channels not in (1, 3) or self.side < 1:
            raise UserError(f"channels = {self.channels}, side = {self.side}: give 1 or 3 channels and a positive side")
        paths = sorted(p for p in Path(self.path).glob("**/*") if p.suffix.lower() in SUFFIXES)
        if not 0 < self.n_test < len(paths):
            raise UserError(f"{self.path}: {len(paths)} images ({', '.join(SUFFIXES)}); n_test = {self.n_test} must leave some")
        images = np.stack([self.image(path) for path in paths])
        return images[: -self.n_test], images[-self.n_test :]

    def image(self, path: Path) -> np.ndarray:
        """One image, (C, side, side), uint8."""
        try:
            image = skimage.io.imread(path)
        except (OSError, ValueError, SyntaxError, struct.error) as error:  # Pillow raises any of these
            raise UserError(f"{path}: not a readable image ({' '.join(str(error).split())[:80]})") from error
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise UserError(f"{path}: expected an image of 8 bits a channel, got {image.shape} of {image.dtype}")
        colours = image[..., None] if image.ndim == 2 else image[..., :3] if image.shape[2] >= 3 else image[..., :1]
        grey = colours.astype(np.float64)
        if self.channels == 1:
            grey = grey @ [0.299, 0.587, 0.114] if grey.shape[2] == 3 else grey[..., 0]  # luma of ITU-R BT.601
            grey = grey[..., None]
        elif grey.shape[2] == 1:
            grey = grey.repeat(3, axis=2)
        extent = min(grey.shape[:2])
        top, left = ((size - extent) // 2 for size in grey.shape[:2])
        square = grey[top : top + extent, left : left + extent]
        scaled: np.ndarray = skimage.transform.resize(square, (self.side, self.side), anti_aliasing=extent > self.side)  # type: ignore[no-untyped-call]
        return scaled.round().clip(0, 255).astype(np.uint8).transpose(2, 0, 1)
