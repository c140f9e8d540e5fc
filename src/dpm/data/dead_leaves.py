"""Dead leaves: opaque discs that cover each other (Matheron 1968), with sizes by a power law (Lee, Mumford, Huang 2001)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from dpm import seeds
from dpm.errors import UserError
from dpm.facts import Scalar

WHITE = 255.0  # the grey levels are 0..WHITE, not rounded


@dataclass(frozen=True)
class DeadLeaves:
    """A source of `n_training` and `n_test` images (1, side, side) of grey levels, float32.

    A disc has a radius with density p(r) ~ r^-exponent on [r_min, r_max] pixels, a centre anywhere on the plane, and one grey
    level, uniform on [0, 255]. A pixel shows the frontmost disc that its centre lies in, plus N(0, noise^2) of its own, which
    gives the data a density. Exponent 3 is the scale-invariant one: each octave of radii covers the same area.

    Image k is a function of (seed, set, k) alone. Exact: discs are drawn front to back until every pixel is covered, with
    centres wherever a disc can reach the image, so that the border is like the inside.
    """

    n_training: int
    n_test: int
    side: int
    exponent: float
    r_min: float
    r_max: float
    noise: float
    seed: int

    @property
    def name(self) -> str:
        return "dead_leaves_own"  # not those of the paper, which were never published

    @property
    def facts(self) -> dict[str, Scalar]:
        """What sets of this name are told apart by: how much of an image is beside an edge."""
        return {"r_min": float(self.r_min)}

    def __post_init__(self) -> None:
        for name, least in (("n_training", 1), ("n_test", 1), ("side", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise UserError(f"dead leaves: {name} = {value}: give a whole number from {least}")
        if not (self.exponent > 1 and 0 < self.r_min <= self.r_max and self.noise >= 0):
            raise UserError(
                "dead leaves: exponent > 1, 0 < r_min <= r_max and noise >= 0 must hold, got "
                f"{self.exponent}, {self.r_min}, {self.r_max} and {self.noise}"
            )

    def __call__(self, folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
        """(training, test), (n, 1, side, side), the same read-only arrays for everybody; no files are read."""
        return _generated(self)

    def image(self, *key: int) -> np.ndarray:
        """(side, side), float32."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, *key)))
        grey = self.leaves(rng)
        return (grey + self.noise * rng.standard_normal(grey.shape)).astype(np.float32)

    def leaves(self, rng: np.random.Generator) -> np.ndarray:
        """The grey level of the frontmost disc at each pixel, (side, side), float64; nan marks what is not yet covered."""
        grey = np.full((self.side, self.side), np.nan)
        while (bare := np.isnan(grey)).any():
            n = 8 * self.side
            r = self.radii(n, rng)
            x, y = rng.uniform(-self.r_max, self.side + self.r_max, (2, n))
            levels = np.append(rng.uniform(0, WHITE, n), np.nan)
            grey[bare] = levels[frontmost(x, y, r, self.side)[bare]]
        return grey

    def radii(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """By the inverse of the distribution function: r^(1 - exponent) is uniform."""
        power = 1 - self.exponent
        return rng.uniform(self.r_max**power, self.r_min**power, n) ** (1 / power)


def frontmost(x: np.ndarray, y: np.ndarray, r: np.ndarray, side: int) -> np.ndarray:
    """(side, side): for each pixel the first of the n discs that its centre (column + 1/2, row + 1/2) lies in, or else n."""
    first = np.full(side * side, len(r))
    for disc, row, column in _boxes(x, y, r, side):
        covered = (column + 0.5 - x[disc]) ** 2 + (row + 0.5 - y[disc]) ** 2 <= r[disc] ** 2
        np.minimum.at(first, (row * side + column)[covered], disc[covered])
    return first.reshape(side, side)


def _boxes(x: np.ndarray, y: np.ndarray, r: np.ndarray, side: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of a disc and a pixel of the square in a box around it, as (disc, row, column), boxes of one size at a time."""
    reach = np.ceil(r).astype(int)  # pixel centres within r of the disc's centre are at most so far from the pixel it lies in
    for k in np.unique(reach):
        disc = np.flatnonzero((reach == k) & (abs(x - side / 2) < side / 2 + k) & (abs(y - side / 2) < side / 2 + k))
        offsets = np.arange(-k, k + 1)
        column = np.floor(x[disc]).astype(int)[:, None, None] + offsets
        row = np.floor(y[disc]).astype(int)[:, None, None] + offsets[:, None]
        disc, row, column = np.broadcast_arrays(disc[:, None, None], row, column)
        inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
        yield disc[inside], row[inside], column[inside]


@cache
def _generated(source: DeadLeaves) -> tuple[np.ndarray, np.ndarray]:
    training = np.stack([source.image(seeds.TRAINING, k) for k in range(source.n_training)])[:, None]
    test = np.stack([source.image(seeds.HELD_OUT, k) for k in range(source.n_test)])[:, None]
    for images in (training, test):
        images.setflags(write=False)
    return training, test
