"""The training images that are nearest to a sample (2020, Figures 12 and 15): does the model only remember?"""

import numpy as np
import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.study.records import Measurement, standard_error


def nearest(versions: Tensor, training: Tensor, k: int, block_size: int = 1000) -> tuple[Tensor, Tensor]:
    """(|x - y|^2, index of y), both (n, k), of the k training images (N, ...) nearest to each image, the earlier one of equals.

    An image comes in v versions (n, v, ...), of which the nearest counts; all are uint8. |x|^2 - 2 x.y + |y|^2 is exact: whole
    numbers below 2^53, in float64. Memory: one block of training images.
    """
    if not 1 <= k <= len(training):
        raise UserError(f"{k} neighbours asked for, there are {len(training)} training images")
    n, v = versions.shape[:2]
    x = versions.flatten(2).flatten(0, 1).double()
    best, index = torch.zeros(n, 0, dtype=torch.float64), torch.zeros(n, 0, dtype=torch.long)
    for first in range(0, len(training), block_size):
        y = training[first : first + block_size].flatten(1).double()
        block = torch.addmm(y.square().sum(1), x, y.T, alpha=-2) + x.square().sum(1, keepdim=True)
        numbers = torch.arange(first, first + len(y)).expand(n, -1)
        best, order = torch.cat([best, block.reshape(n, v, -1).amin(1)], 1).sort(dim=1, stable=True)
        best, index = best[:, :k], torch.cat([index, numbers], 1).gather(1, order[:, :k])
    return best, index


def neighbours(samples: Tensor, test: np.ndarray, training: np.ndarray, k: int, shown: int) -> Evaluation:
    """The root mean squared distance from the nearest training image, of samples and of test images; and the share of samples
    that have a training image nearer than any of as many test images.

    The share is 1/2 for a model that remembers nothing, 1 for one that copies; unlike the distance it does not depend on the
    contrast of the samples (flat images have near neighbours). Samples may be mirrored. Arrays, for the first `shown` samples:
    `neighbours` (shown, 1 + k, C, H, W), the sample first, and `neighbour_rmse` (shown, k), grey levels.
    """
    unseen, seen = torch.tensor(test), torch.tensor(training)
    own, compared = nearest(mirrored(samples), seen, k), nearest(mirrored(unseen[: len(samples)]), seen, 1)
    rows = [distance("samples", rmse(own[0], seen)), distance("test_images", rmse(compared[0], seen))]
    rows.append(seen_share(samples, unseen, seen))
    panel = torch.cat([samples[:shown, None], seen[own[1][:shown]]], 1)
    return Evaluation(tuple(rows), {"neighbours": panel.numpy(), "neighbour_rmse": rmse(own[0][:shown], seen)})


def distance(source: str, rmse: np.ndarray) -> Measurement:
    """The mean of the first column of (n, k)."""
    protocol: dict[str, Scalar] = {"source": source, "statistics": "train", "features": "pixels", "mirrored": True}
    first = rmse[:, 0]
    return Measurement("neighbour_distance", float(first.mean()), standard_error(first), len(first), "grey levels", protocol)


def seen_share(samples: Tensor, unseen: Tensor, seen: Tensor) -> Measurement:
    """The share of samples that are nearer to one of the first `seen` images than to any of as many of `unseen`; ties half."""
    pool = min(len(seen), len(unseen))
    a, b = (nearest(mirrored(samples), images[:pool], 1)[0][:, 0] for images in (seen, unseen))
    wins = ((a < b).double() + (a == b).double() / 2).numpy()
    protocol: dict[str, Scalar] = {"source": "samples", "features": "pixels", "mirrored": True, "pool": pool}
    return Measurement("seen_share", float(wins.mean()), standard_error(wins), len(wins), "1", protocol)


def mirrored(images: Tensor) -> Tensor:
    """Each image in two versions, (n, 2, C, H, W)."""
    return torch.stack([images, images.flip(3)], 1)


def rmse(squares: Tensor, images: Tensor) -> np.ndarray:
    """Per value of an image, in grey levels."""
    return (squares / images[0].numel()).sqrt().numpy()
