"""Points of your own, from a file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.errors import UserError
from dpm.facts import Scalar


class Points:
    """The rows of an array (n, d) in a .npy file, shifted and scaled by two numbers to E x_0 = 0 and E x_0^2 = 1.

    Both are means over all coordinates of the training points (2015, Table 1: "multiplied by a constant"). The last
    `n_held_out` rows are the held-out points, the `n_validation` rows before them are for validation. A training batch takes
    points at random with replacement. The density that a bound is about is that of the scaled points.
    """

    def __init__(self, path: str, n_validation: int, n_held_out: int) -> None:
        points, kept = _loaded(Path(path)), n_validation + n_held_out
        if min(n_validation, n_held_out) < 2 or kept > len(points) - 2:
            raise UserError(
                f"{path}: {len(points):,} points; n_validation = {n_validation} and n_held_out = {n_held_out} must be 2 at "
                "least and leave some to train on"
            )
        self.name, train = Path(path).stem, points[:-kept]
        self.mean, self.std = float(train.mean()), float(train.std())
        if not self.std > 0:
            raise UserError(f"{path}: all training points are the same number; there is nothing to learn")
        scaled, rest = torch.from_numpy((points - self.mean) / self.std), len(points) - n_held_out
        self.train, self.kept, self.test = scaled[: len(train)], scaled[len(train) : rest], scaled[rest:]

    @property
    def facts(self) -> dict[str, Scalar]:
        return {"data": self.name, "split": "held-out"}

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        index = torch.randint(len(self.train), (size,), generator=seeds.generator(seed, seeds.TRAINING, step))
        return self.train[index]

    def training(self) -> Tensor:
        return self.train

    def validation(self, n: int) -> Tensor:
        return _first(self.kept, n, "validation")

    def held_out(self, n: int) -> Tensor:
        return _first(self.test, n, "held-out")


def _loaded(path: Path) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    try:
        with path.open("rb") as file:
            points = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; write your points with numpy.save, an array of shape (n, d)") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not an array of numpy.save ({' '.join(str(error).split())[:80]})") from error
    if points.ndim != 2 or points.dtype.kind not in "fiu":
        raise UserError(f"{path}: expected numbers of shape (n, d), got {points.shape} of {points.dtype}")
    points = points.astype(np.float64)
    if not np.isfinite(points).all():
        raise UserError(f"{path}: {np.count_nonzero(~np.isfinite(points)):,} numbers are not finite; leave these points out")
    return points


def _first(points: Tensor, n: int, which: str) -> Tensor:
    if not 0 <= n <= len(points):
        raise UserError(f"{n} {which} points asked for, there are {len(points)}; see n_validation and n_held_out of the data")
    return points[:n]
