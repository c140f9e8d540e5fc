"""Figures 3 and 5 as arrays: what is known stays known, errors are those of the theory, and the figures show the arrays."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpm import schedules
from dpm.baselines.gaussian_images import GaussianImages
from dpm.data.images import StandardizedImages
from dpm.data.synthetic import GaussianData
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.evaluators.posteriors import Denoised, Inpainted
from dpm.figures import posteriors as figures
from dpm.figures import render
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, normal, posterior_mean
from dpm.reverse import ReverseStep
from dpm.reverse.conditioned import Conditioned
from dpm.samplers import ancestral as samplers

MEAN, STD, T = 120.0, 30.0, 40


def images(*shape: int) -> np.ndarray:
    """White noise of mean 120 and standard deviation 30: at four deviations none is beyond 0..255."""
    return (MEAN + STD * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def data(shape: tuple[int, int, int] = (3, 8, 8), side: int = 4, grain: float = 0.0) -> StandardizedImages:
    test = images(60, *shape)
    return StandardizedImages(lambda folder: (images(300, *shape), test), 10, side, grain)


def oracle(T: int = T) -> GaussianOracle:
    """q(x_s | x_t) of white images; small steps."""
    return GaussianOracle(GaussianDiffusion(schedules.geometric(T, 1e-3, 1e-3)), GaussianData(), Stationary())


# --- denoised ------------------------------------------------------------------------------------------------------------

WHITE = data()
SIXTY = Denoised(n=60, noise_variance=0.25, steps=T, sweeps=8, batch_size=40)


@pytest.fixture(scope="module")
def denoised():
    torch.manual_seed(0)
    return SIXTY(oracle(), WHITE, WHITE.held_out(240), 3)


def test_denoised_errors_are_those_of_the_theory(denoised) -> None:
    """White data, v = 1, s^2 = 1/4: the noise has the deviation s, a sample of the posterior is off by sqrt(2 / (1 + 4))."""
    noisy, sample = denoised.measurements
    for m, expected in ((noisy, 0.5), (sample, math.sqrt(0.4))):
        assert (m.quantity, m.unit, m.n, m.protocol["noise_variance"]) == ("rmse", "grey levels", 60, 0.25)
        assert m.value == pytest.approx(WHITE.std * expected, abs=5 * m.stderr)
        assert 0 < m.stderr < 0.02 * m.value
    assert noisy.protocol["image"] == "noisy"
    assert [sample.protocol[key] for key in ("image", "sampling_steps", "sweeps")] == ["denoised", T, 8]


def test_the_error_is_that_of_the_root_of_a_mean_over_images() -> None:
    images, truth = torch.randn(500, 1, 2, 2).double(), torch.zeros(500, 1, 2, 2).double()
    squares = images.square().flatten(1).mean(1)
    m = SIXTY.rmse(images, truth, {})
    assert m.value == pytest.approx(squares.mean().sqrt().item())
    again = [squares[torch.randint(500, (500,))].mean().sqrt().item() for _ in range(2000)]  # the bootstrap
    assert m.stderr == pytest.approx(np.std(again), rel=0.1)


def test_panels_belong_together(denoised) -> None:
    """Holdout and noisy differ by noise of the right size; the posterior's samples follow the noisy ones, free ones do not."""
    arrays = denoised.arrays
    assert list(arrays) == ["holdout", "noisy", "denoised", "samples"]
    for array in arrays.values():
        assert (array.dtype, array.shape) == (np.uint8, (60, 3, 4, 4))
    assert np.array_equal(arrays["holdout"], WHITE.tiles(WHITE.test)[:60].round())
    flat = {name: array.astype(float).flatten() for name, array in arrays.items()}
    assert np.std(flat["noisy"] - flat["holdout"]) == pytest.approx(0.5 * STD, rel=0.05)
    for name, correlation in (("denoised", 0.8), ("samples", 0.0)):  # Cov(x, E[x | noisy]) = 1 / 1.25
        assert np.corrcoef(flat[name], flat["holdout"])[0, 1] == pytest.approx(correlation, abs=0.08)
        assert flat[name].std() == pytest.approx(STD, rel=0.05)


def test_every_draw_is_a_function_of_the_seed() -> None:
    few = Denoised(n=4, noise_variance=0.25, steps=5, sweeps=2, batch_size=2)
    one, same, other = (few(oracle(), WHITE, WHITE.held_out(9), seed).arrays for seed in (0, 0, 1))
    for name in ("noisy", "denoised", "samples"):
        assert np.array_equal(one[name], same[name])
        assert not np.array_equal(one[name], other[name])
        assert not np.array_equal(one[name][:2], one[name][2:])  # the batches have noise of their own
    assert np.array_equal(one["holdout"], other["holdout"])


# --- inpainted -----------------------------------------------------------------------------------------------------------


class Flat(ReverseStep):
    """q(x_s | x_t) with independent coordinates for images of one constant, N(0, 1), and 1 % of white noise."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.process, self.decoder = GaussianDiffusion(schedules.geometric(T, 1e-3, 1e-3)), Stationary()
        self.model = GaussianImages(1, size, size)
        self.model.variances.fill_(0.01)[0, 0, 0] = 0.99 * size**2

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Any:
        step = self.process.step(s, t)
        beta_tilde, on_x_0, error = (per_example(c, x_t) for c in (step.posterior_variance, step.on_x_0, self.error(t)))
        return normal(
            posterior_mean(step, self.model.posterior_mean(self.process, x_t, t), x_t), (beta_tilde + on_x_0**2 * error).sqrt()
        )

    def error(self, t: Tensor) -> Tensor:
        return self.model.error(self.process, t)


@pytest.fixture(scope="module")
def inpainted():
    """Images of a constant c + noise; training images of all constants, the first test image of a bright one."""
    rng = np.random.default_rng(1)

    def flat(constants: np.ndarray) -> np.ndarray:
        noise = 0.1 * rng.standard_normal((len(constants), 1, 9, 11))
        return (MEAN + STD * (0.995 * constants[:, None, None, None] + noise)).astype(np.float32)

    textures = StandardizedImages(lambda folder: (flat(rng.standard_normal(500)), flat(np.array([2.0, 0.0]))), 10, 4, 0.0)
    torch.manual_seed(0)
    return textures, Inpainted(side=7, hole=3, steps=T, sweeps=8)(Flat(7), textures, textures.held_out(1), 5)


def test_only_the_hole_changes(inpainted) -> None:
    textures, evaluation = inpainted
    original, corrupted, filled = (evaluation.arrays[name] for name in ("original", "corrupted", "inpainted"))
    hole = np.zeros((1, 7, 7), dtype=bool)
    hole[:, 2:5, 2:5] = True
    assert evaluation.measurements == ()
    assert np.array_equal(original, textures.test[0, :, 1:8, 2:9].round().clip(0, 255))
    for array in (original, corrupted, filled):
        assert (array.dtype, array.shape) == (np.uint8, (1, 7, 7))
        assert np.array_equal(array[~hole], original[~hole])
    for array in (corrupted, filled):
        assert (array != original)[hole].sum() >= 7


def test_the_hole_is_filled_with_what_is_around_it(inpainted) -> None:
    """Noise around the mean of all images before; after, the constant of this one, within its 10 % of noise."""
    _, evaluation = inpainted
    around, before, after = (
        evaluation.arrays["original"],
        *(evaluation.arrays[k][:, 2:5, 2:5] for k in ("corrupted", "inpainted")),
    )
    assert abs(float(after.mean()) - float(around.mean())) < 5 * 0.1 * STD / 3
    assert float(after.std()) < 2 * 0.1 * STD
    assert float(before.std()) > 0.5 * STD
    assert abs(float(before.mean()) - MEAN) < 4 * STD / 3


# --- both ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evaluator", [Denoised(2, 1.0, 5, 7, 2), Inpainted(4, 2, 5, 7)], ids=["denoised", "inpainted"])
def test_the_conditioned_chain_is_swept_and_the_free_one_is_not(evaluator: Any, monkeypatch) -> None:
    """The grid as given for both; and the state that Figure 5 shows as corrupted is the one from which the chain starts."""
    calls = []

    def ancestral(reverse: Any, x_T: Tensor, steps: Any, sweeps: int = 1) -> Any:
        calls.append((isinstance(reverse, Conditioned), list(steps), sweeps))
        yield x_T

    monkeypatch.setattr(samplers, "ancestral", ancestral)
    arrays = evaluator(oracle(9), WHITE, WHITE.held_out(2), 0).arrays
    grid = [9, 7, 5, 3, 1, 0]
    if isinstance(evaluator, Denoised):
        assert calls == [(True, grid, 7), (False, grid, 1)]
    else:
        assert calls == [(True, grid, 7)]
        assert np.array_equal(arrays["corrupted"], arrays["inpainted"])


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Denoised(1, 1.0, 5, 1, 1),
        lambda: Denoised(2, 0.0, 5, 1, 1),
        lambda: Denoised(2, 1.0, 1, 1, 1),
        lambda: Denoised(2, 1.0, 5, 0, 1),
        lambda: Denoised(2, 1.0, 5, 1, 0),
        lambda: Inpainted(4, 0, 5, 1),
        lambda: Inpainted(4, 4, 5, 1),
        lambda: Inpainted(4, 2, 1, 1),
        lambda: Inpainted(9, 2, 2, 1)(oracle(2), WHITE, WHITE.held_out(1), 0),
    ],
)
def test_bad_settings_are_one_clear_line(bad: Any) -> None:
    with pytest.raises(UserError) as error:
        bad()
    assert "\n" not in str(error.value)


# --- figures -------------------------------------------------------------------------------------------------------------


def panel(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(float)


@pytest.mark.parametrize("channels", [1, 3])
def test_figure_3_shows_49_images_of_each_panel(channels: int) -> None:
    arrays = {name: panel(k, 55, channels, 5, 6) for k, name in enumerate(figures.PANELS_3)}
    figure = figures.figure_3(arrays)
    assert [axes.get_title() for axes in figure.axes] == ["(a) holdout", "(b) with noise", "(c) denoised", "(d) samples"]
    for axes, name in zip(figure.axes, ("holdout", "noisy", "denoised", "samples"), strict=True):
        shown = axes.images[0].get_array()
        assert shown.shape == (7 * 6 - 1, 7 * 7 - 1, 3)
        np.testing.assert_allclose(shown[-5:, -6:], np.broadcast_to(arrays[name][48].transpose(1, 2, 0), (5, 6, 3)) / 255)


def test_figure_4_shows_a_training_image_and_a_sample_of_each_model() -> None:
    of_models = {f"model {k}": {"sample": panel(k, 1, 30, 30)} for k in range(4)}
    of_models["model 1"]["training"] = panel(9, 1, 30, 30)
    figure = figures.figure_4(of_models)
    titles = ["(a) training image", *(f"({letter}) model {k}" for k, letter in enumerate("bcde"))]
    assert [axes.get_title() for axes in figure.axes if axes.images] == titles
    shown = [axes.images[0].get_array()[..., 1] for axes in figure.axes if axes.images]
    for image, k in zip(shown, (9, 0, 1, 2, 3), strict=True):
        np.testing.assert_allclose(image, panel(k, 1, 30, 30)[0] / 255)


def test_figure_5_has_pixel_axes_and_large_panels() -> None:
    arrays = {name: panel(k, 1, 320, 320) for k, name in enumerate(figures.PANELS_5)}
    figure = figures.figure_5(arrays)
    assert [axes.get_title()[:3] for axes in figure.axes] == ["(a)", "(b)", "(c)"]
    assert render(figure).startswith(b"\x89PNG")
    for axes, name in zip(figure.axes, ("original", "corrupted", "inpainted"), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array()[..., 1], arrays[name][0] / 255)
        assert {0, 100, 200, 300} <= set(axes.get_xticks()) & set(axes.get_yticks())
        assert axes.get_window_extent().width / figure.bbox.width > 0.4
