"""The Frechet distance and the inception score against closed forms; what they are by chance; and what must not be scored."""

import importlib
import math
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from dpm.data.images import StandardizedImages
from dpm.errors import UserError
from dpm.evaluators import features
from dpm.evaluators.features import (
    Gaussian,
    InceptionScores,
    PatchDistance,
    Published,
    by_chance,
    calibrate,
    fitted,
    frechet,
    inception,
    inception_score,
    jackknife,
    patches,
)
from dpm.study.records import sha256, standard_error


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(d: int, seed: int, rank: int | None = None) -> Gaussian:
    root = normals(d, rank or d, seed=seed)
    return Gaussian(normals(d, seed=seed + 100), root @ root.T)


def grey(n: int, seed: int = 0, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


# --- the distance ------------------------------------------------------------------------------------------------------------


def test_distance_in_one_dimension_is_that_of_means_and_deviations() -> None:
    a, b = (Gaussian(torch.tensor([m]).double(), torch.tensor([[s**2]]).double()) for m, s in ((1.0, 2.0), (-3.0, 0.5)))
    assert frechet(a, b) == pytest.approx(4**2 + 1.5**2, rel=1e-12)


def test_distance_of_covariances_that_commute() -> None:
    a, b = torch.tensor([4.0, 1, 9, 0.5]).double(), torch.tensor([1.0, 25, 9, 2]).double()
    turn = torch.linalg.qr(normals(4, 4)).Q
    one, other = (Gaussian(normals(4, seed=k), turn @ v.diag() @ turn.T) for k, v in ((1, a), (2, b)))
    expected = (one.mean - other.mean).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet(one, other) == pytest.approx(float(expected), rel=1e-12)


def test_distance_of_two_by_two_matrices() -> None:
    """tr M^1/2 = sqrt(tr M + 2 sqrt(det M)) for M = A^1/2 B A^1/2, which has trace and determinant of A B."""
    a, b = gaussian(2, 1), gaussian(2, 2)
    product = a.covariance @ b.covariance
    overlap = (product.trace() + 2 * torch.det(product).sqrt()).sqrt()
    expected = (a.mean - b.mean).square().sum() + (a.covariance + b.covariance).trace() - 2 * overlap
    assert frechet(a, b) == pytest.approx(float(expected), rel=1e-12)


def test_distance_is_the_formula_with_matrix_square_roots() -> None:
    a, b = gaussian(30, 1), gaussian(30, 2)
    root = scipy.linalg.sqrtm(a.covariance.numpy())
    overlap = np.trace(scipy.linalg.sqrtm(root @ b.covariance.numpy() @ root)).real
    expected = (a.mean - b.mean).square().sum() + (a.covariance + b.covariance).trace() - 2 * overlap
    assert frechet(a, b) == pytest.approx(float(expected), rel=1e-9)


def check_optimal_map() -> None:
    """x -> S x + v with S > 0 is the cheapest way from one set's Gaussian to the other's: d^2 is what it moves, n - 1 for n."""
    x, root, v = normals(200, 6) @ normals(6, 6, seed=1), normals(6, 6, seed=2), normals(6, seed=3)
    S = root @ root.T + 0.1 * torch.eye(6)
    y = x @ S + v
    moved = (y - x).mean(0).square().sum() + (y - x).sub((y - x).mean(0)).square().sum() / 199
    assert frechet(fitted([x]), fitted([y])) == pytest.approx(float(moved), rel=1e-10)


def test_distance_is_the_cost_of_the_optimal_map() -> None:
    check_optimal_map()


def test_distance_of_ranks_below_the_dimension() -> None:
    """For A = a a^T and B = b b^T it is |a|^2 + |b|^2 - 2 |a.b|."""
    a, b = normals(20, seed=1), normals(20, seed=2)
    one, other = (Gaussian(torch.zeros(20).double(), torch.outer(v, v)) for v in (a, b))
    assert frechet(one, other) == pytest.approx(float(a @ a + b @ b - 2 * (a @ b).abs()), rel=1e-10)
    few = fitted([normals(5, 20, seed=3)])  # fewer examples than dimensions
    assert abs(frechet(few, few)) < 1e-12 * few.square


def test_distance_from_itself_is_zero_to_the_last_digits_where_products_of_matrices_would_lose_half() -> None:
    spread = torch.logspace(3, -9, 40, dtype=torch.float64)
    wide = Gaussian(torch.zeros(40).double(), spread.diag())
    assert abs(frechet(wide, wide)) < 1e-12 * wide.square


def test_distance_is_symmetric_and_has_the_invariances_of_euclidean_space() -> None:
    a, b, turn = gaussian(7, 1), gaussian(7, 2), torch.linalg.qr(normals(7, 7, seed=3)).Q
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-12)
    turned = [Gaussian(turn @ g.mean + 5, turn @ g.covariance @ turn.T) for g in (a, b)]
    assert frechet(*turned) == pytest.approx(frechet(a, b), rel=1e-11)
    scaled = [Gaussian(3 * g.mean, 9 * g.covariance) for g in (a, b)]
    assert frechet(*scaled) == pytest.approx(9 * frechet(a, b), rel=1e-12)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_gaussian_is_fitted_in_blocks_far_from_zero(size: int) -> None:
    x = 1e6 + normals(50, 4)
    g = fitted(x.split(size))
    np.testing.assert_allclose(g.mean, x.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(g.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-7)


def test_one_example_has_no_covariance() -> None:
    with pytest.raises(UserError, match="two examples at least, got 1"):
        fitted([normals(1, 3)])


# --- chance ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [200, 800])
@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_finite_sets_of_one_distribution_are_apart_by_chance(kind: str, n: int) -> None:
    """The bias of FID: E d^2 between n and 2 n examples is what fourth moments say, about c / n, and not 0."""
    mix, generator = normals(5, 5, seed=9), torch.Generator().manual_seed(n)

    def draw(count: int) -> Gaussian:
        normal = torch.randn(count, 5, generator=generator, dtype=torch.float64)
        return fitted([(normal if kind == "normal" else -torch.special.ndtr(normal).log()) @ mix])

    many = normals(200_000, 5)
    expected = by_chance((many if kind == "normal" else -torch.special.ndtr(many).log()) @ mix, n, 2 * n)
    distances = np.array([frechet(draw(n), draw(2 * n)) for _ in range(300)])
    assert distances.mean() == pytest.approx(expected, abs=3 * standard_error(distances) + 0.03 * expected)
    assert standard_error(distances) < 0.05 * expected


def test_chance_in_closed_form() -> None:
    """For N(0, I): (1/n + 1/m) (d + d (d + 1) / 4)."""
    assert by_chance(normals(4 * 10**5, 4), 100, 300) == pytest.approx((1 / 100 + 1 / 300) * (4 + 5), rel=0.01)


def test_chance_of_features_that_do_not_vary() -> None:
    """Directions without variance add nothing."""
    x = normals(1000, 3)
    padded = torch.cat([x, torch.ones(1000, 2).double()], 1)
    assert by_chance(padded, 10, 10) == pytest.approx(by_chance(x, 10, 10), rel=1e-9)


def test_the_jackknife_of_a_mean_is_the_standard_error() -> None:
    x = normals(60)
    value, stderr = jackknife(lambda part: float(part.mean()), x, 60)
    assert value == pytest.approx(float(x.mean()), rel=1e-12)
    assert stderr == pytest.approx(standard_error(x.numpy()), rel=1e-12)
    with pytest.raises(UserError, match="two groups"):
        jackknife(lambda part: 0.0, x, 61)


# --- the inception score -----------------------------------------------------------------------------------------------------


def certain(classes: Tensor, number: int) -> Tensor:
    return 1e4 * torch.nn.functional.one_hot(classes, number).double()


def check_score_of_certain_classes() -> None:
    """As many as there are classes if each is as frequent; exp of the entropy of the frequencies if not."""
    assert inception_score(certain(torch.arange(40) % 10, 10), 1)[0] == pytest.approx(10, rel=1e-12)
    frequencies = torch.tensor([0.5, 0.25, 0.25])
    uneven = certain(torch.tensor([0, 0, 1, 2]).repeat(5), 3)
    expected = float((-(frequencies * frequencies.log()).sum()).exp())
    assert inception_score(uneven, 1)[0] == pytest.approx(expected, rel=1e-6)


def test_certain_classes() -> None:
    check_score_of_certain_classes()


def test_images_that_are_alike_score_one() -> None:
    assert inception_score(normals(1, 7).expand(30, 7), 3) == (pytest.approx(1, rel=1e-12), pytest.approx(0, abs=1e-12))


def test_two_classes_in_closed_form() -> None:
    """p(y | x) = (a, 1 - a) or its mirror image, as often: exp(log 2 - H(a)). Logits have any additive constant."""
    a = 0.8
    logits = torch.tensor([[a, 1 - a], [1 - a, a]]).double().log().repeat(6, 1) + normals(12, 1)
    entropy = -a * math.log(a) - (1 - a) * math.log(1 - a)
    assert inception_score(logits, 1)[0] == pytest.approx(math.exp(math.log(2) - entropy), rel=1e-12)


def test_score_does_not_depend_on_the_order_of_classes_or_images_and_lies_in_its_range() -> None:
    logits = 3 * normals(200, 12)
    score, _ = inception_score(logits, 1)
    assert inception_score(logits[:, torch.randperm(12)][torch.randperm(200)], 1)[0] == pytest.approx(score, rel=1e-12)
    assert 1 < score < 12


def test_parts_are_scored_on_their_own_and_small_ones_score_less() -> None:
    logits = 3 * normals(200, 12)
    parts = [inception_score(part, 1)[0] for part in logits.tensor_split(10)]
    assert inception_score(logits, 10) == (pytest.approx(np.mean(parts)), pytest.approx(np.std(parts)))
    assert inception_score(logits, 20)[0] < inception_score(logits, 10)[0] < inception_score(logits, 1)[0]
    with pytest.raises(UserError, match="201 parts of 200"):
        inception_score(logits, 201)


# --- patches -----------------------------------------------------------------------------------------------------------------


def test_patches_tile_the_images_in_their_order() -> None:
    images = grey(3)
    data = StandardizedImages(lambda folder: (images, images), 1, 4, 0.0)
    expected = data.tiles(images).reshape(3, 4, -1)
    np.testing.assert_array_equal(patches(torch.tensor(images), 4), expected)
    with pytest.raises(UserError, match="side = 9"):
        patches(torch.tensor(images), 9)


def test_patch_distance_is_in_grey_levels() -> None:
    """0 for the training images themselves; c where all are brighter by c; the missing deviation where contrast is lost."""
    dark = (grey(300) // 3).astype(np.uint8)
    distance = PatchDistance(dark, 4)

    def of(images: np.ndarray) -> float:
        (m,) = distance(torch.tensor(images))
        return m.value

    assert of(dark) < 1e-4
    assert of(dark + np.uint8(17)) == pytest.approx(17, rel=1e-9)
    flat = np.broadcast_to(dark.reshape(300, 3, 2, 4, 2, 4).mean((0, 2, 4))[None, :, None, :, None], (300, 3, 2, 4, 2, 4))
    mean_only = torch.tensor(flat.copy()).reshape(300, 3, 8, 8)
    deviation = math.sqrt(float(distance.reference.covariance.trace()) / 48)
    assert distance.distance(patches(mean_only, 4)) == pytest.approx(deviation, rel=1e-6)
    (m,) = distance(torch.tensor(dark[:50]))
    assert (m.quantity, m.unit, m.n) == ("patch_distance", "grey levels", 50)
    assert m.protocol == {"statistics": "train", "features": "patches", "side": 4}


def test_the_error_of_a_patch_distance_is_honest() -> None:
    """Images of different brightness, so that patches of one image are alike: the reported error is that of repetitions."""
    rng = np.random.default_rng(0)

    def images(n: int) -> np.ndarray:
        level, noise = rng.normal(120, 25, (n, 1, 1, 1)), rng.normal(0, 10, (n, 3, 8, 8))
        return (level + noise).round().clip(0, 255).astype(np.uint8)

    distance = PatchDistance(images(3000) // 2 + np.uint8(60), 2)
    found = [distance(torch.tensor(images(100)))[0] for _ in range(60)]
    spread = np.std([m.value for m in found], ddof=1)
    assert np.mean([m.stderr for m in found]) == pytest.approx(spread, rel=0.3)


# --- calibration -------------------------------------------------------------------------------------------------------------


def real(n: int = 2000) -> Tensor:
    """Features that are skewed, correlated, and not about 0."""
    return -torch.special.ndtr(normals(n, 8)).log() @ normals(8, 8, seed=5) + 3


def test_calibration_of_features_of_one_distribution() -> None:
    found = calibrate(real())
    assert found.halves == pytest.approx(found.expected, rel=0.5)
    assert found.doubled == pytest.approx(fitted([real()]).square, rel=1e-9)


MUTANTS: dict[str, tuple[Callable[[Gaussian, Gaussian], float], str]] = {
    "the cross term once": (
        lambda a, b: (frechet(a, b) + float((a.covariance + b.covariance).trace())) / 2,
        "from themselves",
    ),
    "means only": (lambda a, b: float((a.mean - b.mean).square().sum()), "from their double"),
    "total variances only": (
        lambda a, b: float((a.mean - b.mean).square().sum() + (a.covariance.trace().sqrt() - b.covariance.trace().sqrt()) ** 2),
        "by chance",
    ),
    "no root": (lambda a, b: frechet(a, b) ** 2, "from their double"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_calibration_refuses_a_wrong_formula(name: str, monkeypatch) -> None:
    wrong, complaint = MUTANTS[name]
    monkeypatch.setattr(features, "frechet", wrong)
    with pytest.raises(UserError, match=complaint):
        calibrate(real())


def test_calibration_refuses_halves_of_two_kinds_and_few_images() -> None:
    drifting = real() + torch.linspace(0, 1, 2000).double()[:, None]
    with pytest.raises(UserError, match="by chance"):
        calibrate(drifting)
    with pytest.raises(UserError, match="63 images are few for 8"):
        calibrate(real(63))


# --- a network ---------------------------------------------------------------------------------------------------------------


def network(images: Tensor) -> tuple[Tensor, Tensor]:
    """Six means of parts of an image, and three logits."""
    means = images.float().unfold(3, 4, 4).mean((2, 4)).flatten(1)
    return means, means[:, :3] / 10


def scores(net: Any = network, **changed: Any) -> InceptionScores:
    settings = {"n": 500, "batch_size": 64, "real": None}
    return InceptionScores(net, "means", grey(4000, 1), grey(1000, 2), **{**settings, **changed})


def test_scores_of_real_images() -> None:
    """Training images are not apart from themselves, in any order; others of the same kind are apart by chance."""
    score, images = scores(), torch.tensor(grey(4000, 1)).flip(0)
    train, test, of_classes = score(images)
    assert (train.value, train.protocol) == (pytest.approx(0, abs=1e-6), {"features": "means", "statistics": "train"})
    assert test.protocol["statistics"] == "test"
    expected = by_chance(network(images)[0], 4000, 1000)
    assert 0.3 * expected < test.value < 3 * expected
    assert (of_classes.quantity, of_classes.n) == ("inception_score", 4000)
    assert of_classes.value == pytest.approx(score.of_training[0], rel=0.01)
    brighter = torch.tensor(grey(4000, 1) // 2 + np.uint8(127))
    assert score(brighter)[0].value == pytest.approx(
        frechet(fitted([network(brighter)[0]]), score.references["train"]), rel=1e-5
    )


def test_batches_do_not_matter() -> None:
    images = torch.tensor(grey(700, 3))
    for one, other in zip(scores(batch_size=7)(images), scores(batch_size=999)(images), strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-5)


def test_what_must_not_be_scored() -> None:
    with pytest.raises(UserError, match="depend on the batch"):
        scores(lambda images: tuple(x - x.mean(0) for x in network(images)))
    with pytest.raises(UserError, match="or on chance"):
        scores(lambda images: tuple(torch.nn.functional.dropout(x) for x in network(images)))
    with pytest.raises(UserError, match=r"score 1\.\d\d, published is 11\.24"):
        scores(real=features.REAL_CIFAR10)
    with pytest.raises(UserError, match="6 images do not determine a covariance of 6"):
        scores(n=6)
    with pytest.raises(UserError, match="5 images do not determine"):
        scores()(torch.tensor(grey(5)))


def test_a_published_score_that_agrees_is_no_obstacle() -> None:
    of_real = scores()
    (value, spread), apart = of_real.of_training, of_real.apart
    assert scores(real=Published(value + spread, spread, apart + 0.01, 0.02)).of_training == (value, spread)
    with pytest.raises(UserError, match=r"test from training images is \d+\.\d+, published is .* \+- 0\.02; no score"):
        scores(real=Published(value, spread, apart + 0.03, 0.02))


def test_without_weights_or_library_one_line_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="the weights of the Inception network of 2015 are not at"):
        inception()
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    with pytest.raises(UserError, match=r"its SHA-256 is 9a129038\.\.\., not 6726825d"):
        inception(path)
    monkeypatch.setattr(features, "INCEPTION_SHA256", sha256(b"weights"))
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[fid\]'"):
        inception(path)


def test_the_library_is_asked_for_pooled_features_and_logits_without_bias(tmp_path, monkeypatch) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    asked: list[Any] = []

    class Extractor(torch.nn.Module):
        def __init__(self, name: str, wanted: list[str], weights: str) -> None:
            super().__init__()
            asked.extend([wanted, weights])

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return network(images)

    monkeypatch.setattr(features, "INCEPTION_SHA256", sha256(b"weights"))
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(FeatureExtractorInceptionV3=Extractor))
    images = torch.tensor(grey(3))
    for one, other in zip(inception(path)(images), network(images), strict=True):
        assert torch.equal(one, other)
    assert asked == [["2048", "logits_unbiased"], str(path)]
