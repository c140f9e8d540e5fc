"""Dead leaves: the law of the radii, who covers whom, the grey levels, and the covariance that the model implies."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest

from dpm import seeds
from dpm.data import dead_leaves
from dpm.data.dead_leaves import WHITE, DeadLeaves, frontmost
from dpm.errors import UserError

SMALL = {"n_training": 3, "n_test": 2, "side": 24, "exponent": 3.0, "r_min": 2.0, "r_max": 8.0, "noise": 4.0, "seed": 0}


def leaves(**changes: float) -> DeadLeaves:
    return DeadLeaves(**(SMALL | changes))


def generate(source: DeadLeaves) -> tuple[np.ndarray, np.ndarray]:
    return source(Path("no such folder"))


def brute_force(x: np.ndarray, y: np.ndarray, r: np.ndarray, side: int) -> np.ndarray:
    """Every disc at every pixel, the last one first, so that earlier ones lie over it."""
    first = np.full((side, side), len(r))
    row, column = np.mgrid[:side, :side] + 0.5
    for k in reversed(range(len(r))):
        first[(column - x[k]) ** 2 + (row - y[k]) ** 2 <= r[k] ** 2] = k
    return first


def overlap(r: float, d: float) -> float:
    """The area that two discs of radius r share whose centres are d apart."""
    half = min(d / (2 * r), 1)
    return 2 * r**2 * (math.acos(half) - half * math.sqrt(1 - half**2))


def same_leaf(source: DeadLeaves, d: float) -> float:
    """P(two points at distance d show the same disc) = E[A(r, d)] / (2 E[pi r^2] - E[A(r, d)]).

    The frontmost disc that covers one of the points at least covers both: of the centres from which it covers the first or
    the second point, an area 2 pi r^2 - A, those in A are that.
    """

    def weighted(area: Callable[[float], float]) -> float:
        return quad(lambda r: area(r) * r**-source.exponent, source.r_min, source.r_max, points=[max(d / 2, source.r_min)])[0]

    shared = weighted(lambda r: overlap(r, d))
    return shared / (2 * weighted(lambda r: math.pi * r**2) - shared)


def test_an_image_is_a_function_of_seed_set_and_number_however_many_are_made() -> None:
    training, test = generate(leaves())
    assert training.shape == (3, 1, 24, 24)
    assert test.shape == (2, 1, 24, 24)
    assert training.dtype == test.dtype == np.float32
    more = generate(leaves(n_training=5, n_test=4))
    assert np.array_equal(more[0][:3], training)
    assert np.array_equal(more[1][:2], test)
    assert np.array_equal(leaves().image(seeds.TRAINING, 2), training[2, 0])


def test_no_two_images_share_a_disc_or_noise() -> None:
    """Training, test and other seeds: the largest correlation among all images is one of independent images."""
    images = np.concatenate(
        [a for seed in range(3) for a in generate(leaves(n_training=9, n_test=9, side=64, seed=seed, r_max=2.0))]
    )
    correlations = np.corrcoef(images.reshape(len(images), -1))[np.triu_indices(len(images), 1)]
    assert abs(correlations).max() < 5 * math.sqrt(2 * math.pi * 2**2) / 64  # a leaf's pixels count as one


def test_the_images_are_made_once_and_cannot_be_written_to() -> None:
    one, two = generate(leaves()), generate(leaves())
    assert one[0] is two[0]
    assert one[1] is two[1]
    assert not any(images.flags.writeable for images in one)


@pytest.mark.parametrize("exponent", [3.0, 2.0, 1.5])
def test_radii_have_a_power_law(exponent: float) -> None:
    """F(r) = (r_min^(1-a) - r^(1-a)) / (r_min^(1-a) - r_max^(1-a)) by Kolmogorov and Smirnov; a tenth in the exponent fails."""

    def law(a: float, r: np.ndarray) -> np.ndarray:
        return (2 ** (1 - a) - r ** (1 - a)) / (2 ** (1 - a) - 32 ** (1 - a))

    r = leaves(exponent=exponent, r_max=32.0).radii(100_000, np.random.default_rng(0))
    assert r.min() >= 2
    assert r.max() <= 32
    assert kstest(r, lambda v: law(exponent, v)).pvalue > 0.01
    assert kstest(r, lambda v: law(exponent + 0.1, v)).pvalue < 1e-6


def test_a_disc_hides_what_lies_behind_it() -> None:
    """Two discs in both orders; the pixel in neither is nobody's."""
    x, y, r = np.array([3.0, 6.0]), np.array([4.0, 4.0]), np.array([2.2, 2.2])
    for order in ([0, 1], [1, 0]):
        front = frontmost(x[order], y[order], r[order], 9)
        assert front[4, 2] == order.index(0)
        assert front[4, 6] == order.index(1)
        assert front[4, 4] == 0  # in both: 4.5 is 1.5 from either centre
        assert front[0, 8] == 2


def test_the_frontmost_disc_is_that_of_brute_force() -> None:
    """Discs of all sizes, also far outside, on the border and larger than the square."""
    rng = np.random.default_rng(0)
    for side, largest in ((17, 3.0), (16, 9.0), (5, 40.0), (1, 2.0)):
        r = rng.uniform(0.1, largest, 300)
        x, y = rng.uniform(-largest - 3, side + largest + 3, (2, 300))
        x[:20], r[:20] = np.round(x[:20]), np.round(r[:20] + 0.5)  # pixel centres exactly on the rim of a disc
        assert np.array_equal(frontmost(x, y, r, side), brute_force(x, y, r, side))


def test_every_pixel_is_covered() -> None:
    """Small leaves on a large image need many draws of discs."""
    source = leaves(side=80, r_min=0.8, r_max=1.0)
    grey = source.leaves(np.random.default_rng(0))
    assert ((grey >= 0) & (grey <= WHITE)).all()
    assert len(np.unique(grey)) > 80**2 / (4 * math.pi)


def test_what_is_drawn_later_lies_behind_all_that_was_drawn_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaves of an image that takes several draws of discs are those of all its discs at once."""
    drawn: list[tuple[np.ndarray, ...]] = []

    def recorded(x: np.ndarray, y: np.ndarray, r: np.ndarray, side: int) -> np.ndarray:
        drawn.append((x, y, r))
        return frontmost(x, y, r, side)

    monkeypatch.setattr(dead_leaves, "frontmost", recorded)
    grey = leaves(side=60, r_min=0.8, r_max=3.0).leaves(np.random.default_rng(0))
    assert len(drawn) > 2
    front = brute_force(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)), 60)
    pairs = set(zip(front.ravel().tolist(), grey.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(front)) == len(np.unique(grey))


@pytest.mark.parametrize("noise", [0.0, 4.0, 30.0])
def test_grey_levels_are_uniform_plus_noise(noise: float) -> None:
    """Mean 255/2, variance 255^2/12 + noise^2; the errors count the leaves of an image, not its pixels, as independent."""
    images = generate(leaves(n_training=400, side=32, r_max=4.0, noise=noise))[0].astype(float)
    means, squares = images.mean((1, 2, 3)), np.square(images - WHITE / 2).mean((1, 2, 3))
    for values, expected in ((means, WHITE / 2), (squares, WHITE**2 / 12 + noise**2)):
        assert values.mean() == pytest.approx(expected, abs=4 * values.std() / math.sqrt(len(values)))


def test_noise_is_independent_and_gaussian() -> None:
    """The same leaves with and without noise."""
    noisy, clean = (leaves(side=200, noise=noise).image(0, 0).astype(float) for noise in (4.0, 0.0))
    noise = (noisy - clean) / 4
    assert kstest(noise.ravel(), "norm").pvalue > 0.01
    for shifted in (noise[:, 1:] * noise[:, :-1], noise[1:] * noise[:-1]):
        assert abs(shifted.mean()) < 4 / math.sqrt(shifted.size)


@pytest.mark.parametrize(("exponent", "r_min", "r_max"), [(3.0, 2.0, 16.0), (1.5, 1.0, 8.0), (3.0, 5.0, 5.001)])
def test_the_covariance_is_that_of_the_dead_leaves_model(exponent: float, r_min: float, r_max: float) -> None:
    """Cov(g(p), g(p + d)) = P(same leaf) 255^2 / 12, in rows and columns, in the middle and along the border alike."""
    source = leaves(n_training=1000, side=24, exponent=exponent, r_min=r_min, r_max=r_max, noise=0.0)
    grey = generate(source)[0][:, 0].astype(float) - WHITE / 2
    for d in (1, 2, 4, 9, 16):
        expected = same_leaf(source, d) * WHITE**2 / 12
        products = {
            "rows": grey[:, :, d:] * grey[:, :, :-d],
            "columns": grey[:, d:] * grey[:, :-d],
            "border": np.stack([grey[:, 0, d:] * grey[:, 0, :-d], grey[:, d:, -1] * grey[:, :-d, -1]]).transpose(1, 0, 2),
        }
        for where, product in products.items():
            values = product.reshape(len(grey), -1).mean(1)
            assert values.mean() == pytest.approx(expected, abs=4 * values.std() / math.sqrt(len(values))), (where, d)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_training": 0}, "n_training = 0"),
        ({"n_test": 1.5}, "n_test = 1.5"),
        ({"side": -1}, "side = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"exponent": 1.0}, "exponent > 1"),
        ({"r_min": 0.0}, "r_min"),
        ({"r_min": 9.0}, "r_min <= r_max"),
        ({"noise": -1.0}, "noise >= 0"),
        ({"noise": math.nan}, "noise >= 0"),
    ],
)
def test_impossible_leaves_are_refused_in_one_line(change: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        leaves(**change)
    assert "\n" not in str(error.value)
