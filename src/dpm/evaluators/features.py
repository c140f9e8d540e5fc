"""How far a set of images is from the data: the Frechet distance of Gaussians fitted to features, and the inception score.

    d^2 = |m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)         between N(m_a, A) and N(m_b, B): Frechet, Wasserstein-2
    IS = exp E_x KL(p(y | x) || p(y))                               p(y) = E_x p(y | x)

With the features of the Inception network of 2015 d^2 is FID, and the classes of the same network give IS (2020, Table 1).
The network is injected; nothing is scored before its features of real data have shown what they must. Where its weights are
not at hand, the patches of the images are features that need none: `PatchDistance`.
"""

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.study.records import Measurement, sha256

Network = Callable[[Tensor], tuple[Tensor, Tensor]]  # images (B, 3, H, W), uint8 -> features (B, d), logits (B, classes)

ROUNDING = 1e-6  # of a distance, relative to the features' mean square
FACTOR = 1.5  # by which the distance of halves may miss what chance makes it
ERRORS = 3  # standard errors of a published score
INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # as torch-fidelity and pytorch-fid release it
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


@dataclass(frozen=True)
class Published:
    """What real images score in print: IS of training images with its error, FID of test images with what it may miss."""

    score: float
    error: float
    distance: float
    tolerance: float


# IS: Salimans et al. 2016, Table 3. FID of the 10,000 test images from the 50,000 for training: 3.1508 by the official code,
# 3.138 to 3.153 by others (README of pytorch-image-generation-metrics).
REAL_CIFAR10 = Published(11.24, 0.12, 3.151, 0.03)


class Score(Protocol):
    def __call__(self, images: Tensor) -> Sequence[Measurement]:
        """What a set of images (n, C, H, W), uint8, scores."""


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance), (d,) and (d, d), float64."""

    mean: Tensor
    covariance: Tensor

    @property
    def square(self) -> float:
        """E |x|^2."""
        return float(self.mean.square().sum() + self.covariance.trace())


def fitted(blocks: Iterable[Tensor]) -> Gaussian:
    """Mean and covariance (n - 1 in the denominator) of all rows of the blocks (n_i, d), in one pass about the first's mean."""
    n, origin, total, products = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for block in blocks:
        rows = block.double()
        origin = origin if n else rows.mean(0)
        rows = rows - origin
        n, total, products = n + len(rows), total + rows.sum(0), products + rows.T @ rows
    if n < 2:
        raise UserError(f"a Gaussian is fitted to two examples at least, got {n}")
    mean = total / n
    return Gaussian(origin + mean, (products - n * torch.outer(mean, mean)) / (n - 1))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """d^2 (Dowson and Landau 1982), the FID where a and b are of Inception features.

    For any roots L L^T = A and M M^T = B, tr (A^1/2 B A^1/2)^1/2 is the sum of the singular values of L^T M: a root of an
    eigenvalue near 0, which would lose half of its digits, is never taken of a product.
    """
    overlap = torch.linalg.svdvals(_root(a.covariance).T @ _root(b.covariance)).sum()
    return float((a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * overlap)


def _root(covariance: Tensor) -> Tensor:
    """L with L L^T = covariance, singular ones included."""
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * eigenvalues.clamp(min=0).sqrt()
    return root


def inception_score(logits: Tensor, splits: int) -> tuple[float, float]:
    """IS of (n, classes), its mean and standard deviation over `splits` parts in their order: from 1 to the number of classes.

    The deviation is that of the parts' scores, as published; a part's p(y) is its own, so that more parts score less.
    """
    if not 1 <= splits <= len(logits):
        raise UserError(f"inception score: {splits} parts of {len(logits)} images")
    scores = []
    for part in logits.double().log_softmax(1).tensor_split(splits):
        marginal = part.logsumexp(0) - math.log(len(part))
        divergence = torch.nn.functional.kl_div(marginal.expand_as(part), part, reduction="none", log_target=True)
        scores.append(float(divergence.sum(1).mean().exp()))
    return float(np.mean(scores)), float(np.std(scores))


def jackknife(statistic: Callable[[Tensor], float], examples: Tensor, groups: int) -> tuple[float, float]:
    """The statistic of all examples (n, ...), and its standard error from leaving out one group of them after another."""
    if not 2 <= groups <= len(examples):
        raise UserError(f"an error of {len(examples)} images needs two groups of them at least, got {groups=}")
    parts = examples.tensor_split(groups)
    without = [statistic(torch.cat([*parts[:g], *parts[g + 1 :]])) for g in range(groups)]
    return statistic(examples), math.sqrt(groups - 1) * float(np.std(without))


# --- features that need no network -------------------------------------------------------------------------------------------


def patches(images: Tensor, side: int) -> Tensor:
    """The patches that tile the images (n, C, H, W), as vectors: (n, k, C side^2), float64."""
    if not 0 < side <= min(images.shape[2:]):
        raise UserError(f"side = {side}: patches are no larger than the images, {tuple(images.shape[2:])}")
    tiles = images.unfold(2, side, side).unfold(3, side, side)  # (n, C, rows, columns, side, side)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2).double()


class PatchDistance(Score):
    """sqrt(d^2 / (C side^2)) between Gaussians fitted to the patches of the images and to those of training images.

    In grey levels: the least root mean squared change of a value that makes one Gaussian of the other. It sees contrast,
    colour and texture up to `side` pixels, and neither shapes nor anything that is not Gaussian: this is no FID. Finite sets
    are apart even if they are of the same distribution; as many real images show by how much. Its error is the jackknife's.
    """

    def __init__(self, training: np.ndarray, side: int, groups: int = 20) -> None:
        self.side, self.groups = side, groups
        blocks = (torch.tensor(training[k : k + 1000]) for k in range(0, len(training), 1000))
        self.reference = fitted(patches(block, side).flatten(0, 1) for block in blocks)

    def __call__(self, images: Tensor) -> Sequence[Measurement]:
        value, stderr = jackknife(self.distance, patches(images, self.side), self.groups)
        protocol: dict[str, Scalar] = {"statistics": "train", "features": "patches", "side": self.side}
        return (Measurement("patch_distance", value, stderr, len(images), "grey levels", protocol),)

    def distance(self, vectors: Tensor) -> float:
        """Of the vectors (n, k, d) of n images."""
        square = frechet(fitted([vectors.flatten(0, 1)]), self.reference)
        return math.sqrt(max(square, 0.0) / vectors.shape[2])


# --- features of a network ---------------------------------------------------------------------------------------------------


class InceptionScores(Score):
    """FID against training and test images, and IS, from a network that is calibrated before the object exists.

    `network` gives features and logits of uint8 images; `name` says which one in the protocol. `n` images will be scored.
    `real` is what is published of the real images, None for another network or other data. A UserError says which
    calibration failed, or that n images are too few.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        training: np.ndarray,
        test: np.ndarray,
        n: int,
        batch_size: int,
        real: Published | None,
        splits: int = 10,
    ) -> None:
        self.network, self.name, self.batch_size, self.splits = network, name, batch_size, splits
        determined(n, of_images_alone(network, torch.tensor(training[: max(2, batch_size // 2)])))
        order = torch.randperm(len(training), generator=seeds.generator(0, seeds.EVALUATION)).numpy()
        features, logits = self.outputs(torch.tensor(training[order]))
        self.calibration = calibrate(features)
        self.of_training = inception_score(logits, splits)
        if real is not None and abs(self.of_training[0] - real.score) > ERRORS * real.error:
            raise UserError(
                f"{name}: the training images score {self.of_training[0]:.2f}, published is {real.score} +- {real.error}; "
                "no score"
            )
        self.references = {"train": fitted([features]), "test": fitted([self.outputs(torch.tensor(test))[0]])}
        self.apart = frechet(*self.references.values())
        if real is not None and abs(self.apart - real.distance) > real.tolerance:
            raise UserError(
                f"{name}: the FID of test from training images is {self.apart:.3f}, published is {real.distance} "
                f"+- {real.tolerance}; no score"
            )

    def __call__(self, images: Tensor) -> Sequence[Measurement]:
        features, logits = self.outputs(images)
        determined(*features.shape)
        own, rows = fitted([features]), []
        for statistics, reference in self.references.items():
            protocol: Mapping[str, Scalar] = {"features": self.name, "statistics": statistics}
            rows.append(Measurement("fid", frechet(own, reference), None, len(images), "1", protocol))
        score, spread = inception_score(logits, self.splits)
        protocol = {"features": self.name, "splits": self.splits, "error_by": "deviation of the splits"}
        return (*rows, Measurement("inception_score", score, spread, len(images), "1", protocol))

    @torch.no_grad()
    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of all images, on the CPU."""
        batches = [self.network(batch) for batch in images.split(self.batch_size)]  # type: ignore[no-untyped-call]
        features, logits = (torch.cat([batch[k].cpu() for batch in batches]) for k in (0, 1))
        return features, logits


def by_chance(features: Tensor, n: int, m: int) -> float:
    """E d^2 between n and m examples of one distribution, to first order in 1 / n and 1 / m, from examples of it (k, d).

    (1/n + 1/m) (tr A + sum_ij (E z_i^2 z_j^2 - (E z_i z_j)^2) / (2 (a_i + a_j))): the errors of a mean, and those of a
    covariance in the metric that d^2 is near A. z are the principal components, a their variances; no further assumption.
    """
    gaussian = fitted([features])
    eigenvalues, vectors = torch.linalg.eigh(gaussian.covariance)
    squares = ((features.double() - gaussian.mean) @ vectors).square()
    fourth = squares.T @ squares / len(features) - eigenvalues.square().diag()
    sums = eigenvalues[:, None] + eigenvalues
    of_covariance = torch.where(sums > ROUNDING**2 * eigenvalues[-1], fourth / (2 * sums), 0.0).sum()
    return (1 / n + 1 / m) * float(gaussian.covariance.trace() + of_covariance)


@dataclass(frozen=True)
class Calibration:
    """d^2 of real features: from themselves, from their double, the mean between halves of them, and what chance makes that."""

    itself: float
    doubled: float
    halves: float
    expected: float


def calibrate(features: Tensor) -> Calibration:
    """d^2 where it is known, on features of real images (n, d) in random order; a UserError if it is not what it must be.

    Up to rounding d(X, X) = 0 and d(X, 2 X)^2 = |m|^2 + tr A; halves are apart by chance only, to within `FACTOR`.
    """
    n, dimensions = features.shape
    if n < 8 * dimensions:
        raise UserError(f"calibration: {n} images are few for {dimensions} features; take 8 times as many")
    whole = fitted([features])
    double = Gaussian(2 * whole.mean, 4 * whole.covariance)
    a, b, c, d = features[: n // 4 * 4].chunk(4)
    halves = [frechet(fitted(one), fitted(other)) for one, other in (((a, b), (c, d)), ((a, c), (b, d)), ((a, d), (b, c)))]
    expected = by_chance(features, n // 2, n // 2)
    found = Calibration(frechet(whole, whole), frechet(whole, double), float(np.mean(halves)), expected)
    if not abs(found.itself) <= ROUNDING * whole.square:
        raise UserError(f"calibration: real images are {found.itself:.3g} from themselves; no score")
    if not abs(found.doubled - whole.square) <= ROUNDING * whole.square:
        raise UserError(f"calibration: features are {found.doubled:.5g} from their double, not {whole.square:.5g}; no score")
    if not 1 / FACTOR <= found.halves / found.expected <= FACTOR:
        raise UserError(
            f"calibration: halves of the real images are {found.halves:.4g} apart, by chance {found.expected:.4g}; no score"
        )
    return found


@torch.no_grad()
def of_images_alone(network: Network, images: Tensor) -> int:
    """Refuse a network whose outputs depend on chance or on the other images of a batch; the number of its features."""
    together = network(images)
    alone = [torch.cat(outputs) for outputs in zip(*(network(image[None]) for image in images), strict=True)]
    if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(together, alone, strict=True)):
        raise UserError("calibration: the features of an image depend on the batch that it is in or on chance; no score")
    return together[0].shape[1]


def determined(n: int, dimensions: int) -> None:
    if n <= dimensions:
        raise UserError(f"{n} images do not determine a covariance of {dimensions} features; draw more")


def inception(weights: Path | None = None, device: str = "cpu") -> Network:
    """The Inception network of 2015 with its 2048 pooled features, as torch-fidelity has converted it from TensorFlow.

    The weights are read from where torch-fidelity keeps them, or from `weights`, never downloaded; logits are without their
    bias, as in the published IS. A UserError says what is missing.
    """
    path = weights or Path(torch.hub.get_dir(), "checkpoints", INCEPTION_WEIGHTS)
    if not path.is_file():
        raise UserError(
            f"the weights of the Inception network of 2015 are not at {path}: put {INCEPTION_WEIGHTS} of torch-fidelity there"
        )
    if (found := sha256(path.read_bytes())) != INCEPTION_SHA256:
        raise UserError(f"{path} is not {INCEPTION_WEIGHTS}: its SHA-256 is {found[:8]}..., not {INCEPTION_SHA256[:8]}...")
    try:
        library = importlib.import_module("torch_fidelity")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        raise UserError(
            f"FID needs torch-fidelity, and the torchvision of this torch: pip install -e '.[fid]' ({error})"
        ) from error
    extractor = library.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path)).to(device)

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = extractor(images.to(device).expand(-1, 3, -1, -1))  # grey ones too
        return features, logits

    return network


@dataclass(frozen=True)
class Extractor:
    """A network for `InceptionScores`, its name in a protocol, and what is published of CIFAR-10 with it."""

    network: Network
    name: str
    cifar10: Published | None


def inception_2015(weights: str | None = None, device: str = "cpu") -> Extractor:
    return Extractor(inception(None if weights is None else Path(weights), device), "inception_2015", REAL_CIFAR10)


def block_means(weights: str | None = None, device: str = "cpu") -> Extractor:
    """Means of the quarters of an image in the place of a network, whatever weights are given: no measure of quality."""

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
        return features, features / 10

    return Extractor(network, "block_means", None)
