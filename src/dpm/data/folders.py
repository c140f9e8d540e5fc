"""Images of your own, from a folder."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dpm.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # modes of Pillow


@dataclass(frozen=True)
class ImageFolder:
    """All images below `path`, in the order of their names: the largest square in the middle, scaled to side x side pixels.

    `channels` is 1 (grey) or 3 (colours). The last `n_test` images are the test set. A pixel becomes the mean of those that it
    stands for.
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
            with Image.open(path) as image:
                if image.mode not in EIGHT_BITS:
                    raise UserError(f"{path}: expected an image of 8 bits a channel, got one of mode {image.mode}")
                colours = image.convert("L" if self.channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, struct.error) as error:  # Pillow raises any of these
            raise UserError(f"{path}: not a readable image ({' '.join(str(error).split())[:80]})") from error
        square = ImageOps.fit(colours, (self.side, self.side), Image.Resampling.BOX)
        return np.asarray(square).reshape(self.side, self.side, self.channels).transpose(2, 0, 1)
