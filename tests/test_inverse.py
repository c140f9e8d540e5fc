"""Posterior samplers ranked on mixtures, the stored benchmark's baseline, restored images, and laws without samples."""

import math
from functools import partial

import pytest
import torch

from dpm.data.mixtures import GaussianMixture, grid_of_modes
from dpm.errors import UserError
from dpm.evaluators.guided_laws import GuidedLaws
from dpm.evaluators.inverse import Filtered, OnePass, Ranked, direction, exact, of_parts, shares
from dpm.evaluators.restored import Restored
from dpm.evaluators.stored_benchmark import AsCoded, RightCoefficients, distance
from dpm.processes import at, per_example
from dpm.processes.gaussian import GaussianDiffusion, Step
from dpm.reverse.guided.tmpd import TMPD
from dpm.reverse.linear_factor import multiplied
from dpm.schedules import linear
from dpm.variances import Fixed

PROCESS = GaussianDiffusion(linear(1000, 1e-4, 0.02))
PLANE = grid_of_modes(2)


@pytest.mark.parametrize("d", [2, 8, 80])
def test_the_posterior_has_two_modes_in_any_dimension(d: int) -> None:
    weights = grid_of_modes(d).given(direction(d).A, torch.tensor([4.0], dtype=torch.float64), 1.0).weights
    largest = weights.sort(descending=True).values[:5].tolist()
    assert largest == pytest.approx([0.5051, 0.4160, 0.0178, 0.0153, 0.0136], abs=5.1e-5)


def test_the_prior_of_the_grid() -> None:
    means = grid_of_modes(4).means
    assert means[0].tolist() == [-16, -16, -16, -16]
    assert means[1].tolist() == [-16, -8, -16, -8]
    with pytest.raises(UserError):
        grid_of_modes(3)


def test_ranked_measures_what_it_says() -> None:
    methods = {"tmpd": OnePass(partial(TMPD, products=1)), "particles": Filtered(4)}
    ranked = Ranked(grid_of_modes, [2], [400], methods, steps=40, observations=4)
    evaluation = ranked(exact(PROCESS, PLANE), PLANE, PLANE.held_out(2), 0)

    def value(quantity: str, **facts: object) -> float:
        (m,) = [m for m in evaluation.measurements if m.quantity == quantity and facts.items() <= m.protocol.items()]
        return m.value

    by = {"denoiser": "exact"}
    assert value("mode_error", method="posterior", **by) < 0.06 < 0.3 < value("mode_error", method="tmpd", **by)
    assert value("mode_error", method="particles", **by) < 0.15
    assert value("posterior_distance", method="posterior", **by) < value("posterior_distance", method="tmpd", **by)
    assert value("evaluations_per_sample", method="tmpd", **by) == 80  # x_0-hat for the step, and for its gradient
    assert value("evaluations_per_sample", method="particles", **by) == 160  # four particles for one sample, without gradients
    same = value("mode_error", method="tmpd", denoiser="network")
    assert same == pytest.approx(value("mode_error", method="tmpd", **by), abs=0.1)
    assert 0 <= value("coverage", method="tmpd") <= 1
    assert evaluation.arrays["tmpd_ranks"].shape == (4,)
    assert evaluation.arrays["posterior_samples"].shape == (400, 2)


def test_shares_and_errors() -> None:
    x = PLANE.means[[0, 0, 3, 24]]
    assert shares(PLANE, x)[[0, 3, 24]].tolist() == [0.5, 0.25, 0.25]
    z = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    assert of_parts(lambda part: float(part.mean()), z) == pytest.approx(1 / math.sqrt(50_000), rel=1.2)


def test_the_coefficients_of_the_benchmark() -> None:
    """The right ones are the posterior's; as coded, both are too small where alpha_s < 1, and right at s = 0."""
    x, (s, t) = torch.randn(5, 2, dtype=torch.float64), (at(torch.ones(5), 400), at(torch.ones(5), 450))
    right, coded = RightCoefficients(PROCESS, PLANE, 1.0), AsCoded(PROCESS, PLANE, 1.0)
    own = exact(PROCESS, PLANE)(x, s, t)
    torch.testing.assert_close(right(x, s, t).mean, own.mean)
    torch.testing.assert_close(right(x, s, t).stddev, own.stddev)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = PROCESS.schedule(s), PROCESS.schedule(t)
    a, b = coded.coefficients(s, t)
    torch.testing.assert_close(a, alpha_t * sigma_s**2 / sigma_t**2)
    torch.testing.assert_close(b, alpha_t * (1 - alpha_t**2 / alpha_s**2) / sigma_t**2)
    first = at(torch.ones(5), 0)
    last = at(x, 1)
    torch.testing.assert_close(coded(x, first, last).mean, right(x, first, last).mean * PROCESS.schedule(last)[0][0])


def test_a_distance_of_samples_from_themselves_is_nought() -> None:
    x = PLANE.sample(200, torch.Generator().manual_seed(0))
    assert distance(x, x, 0) == pytest.approx(0, abs=1e-9)
    assert distance(x + torch.tensor([3.0, 4.0]), x, 0) == pytest.approx(5, abs=0.01)  # the largest of 100 directions


def test_guided_laws_are_measured_without_samples() -> None:
    rows = GuidedLaws([20], [1, 5], 20)(exact(PROCESS, PLANE), PLANE, PLANE.held_out(2), 0).measurements
    by = {(m.protocol["method"], m.protocol["sweeps"]): m.value for m in rows}
    assert by["dps", 1] == pytest.approx(0.31353, abs=5.1e-6)
    assert 0 < by["repaint", 5] < by["repaint", 1]


def test_restored_images_of_a_known_law_are_calibrated() -> None:
    """Images of independent Gaussian pixels: MMPS is exact for them but for the clip, and the spread is that of the errors."""
    pixels = GaussianMixture([1.0], [[0.0] * 64], [[0.04] * 64])

    class Flat(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return pixels.denoised(x.flatten(1), *PROCESS.schedule(t)).reshape(x.shape)

    class OfPixels(Fixed):
        def __call__(self, q: GaussianDiffusion, z: torch.Tensor, s: torch.Tensor, t: torch.Tensor, step: Step) -> torch.Tensor:
            alpha, sigma = q.schedule(t)
            left = 0.04 * sigma**2 / (0.04 * alpha**2 + sigma**2)
            return per_example(step.posterior_variance + step.on_x_0**2 * left, z)

    reverse = exact(PROCESS, pixels).replacing(network=Flat(), variance=OfPixels())
    x_0 = pixels.sample(40, torch.Generator().manual_seed(0)).reshape(40, 1, 8, 8)
    evaluation = Restored({"mmps": partial(TMPD, products=2)}, n=40, draws=4, steps=50, noise=0.1)(reverse, pixels, x_0, 0)
    ratios = {m.protocol["task"]: m.value for m in evaluation.measurements if m.quantity == "spread_ratio"}
    assert ratios["inpainting"] == pytest.approx(1, abs=0.1)
    assert ratios["subsampling"] == pytest.approx(1, abs=0.1)
    psnr = {(m.protocol["task"], m.protocol["of"]): m.value for m in evaluation.measurements if m.quantity == "psnr"}
    assert (
        psnr["inpainting", "mean"] > psnr["inpainting", "sample"] + 1
    )  # a sample errs sqrt 2 times as much as the mean of all
    once, often = (
        Restored({"r": multiplied}, n=40, draws=4, steps=50, noise=0.1, tasks=["inpainting"], sweeps=sweeps)(
            reverse, pixels, x_0, 0
        )
        for sweeps in (1, 4)
    )
    assert {m.protocol["task"] for m in once.measurements} == {"inpainting"}
    (one,), (four,) = ([m.value for m in e.measurements if m.quantity == "spread_ratio"] for e in (once, often))
    assert abs(four - 1) < 0.15
    assert abs(four - 1) < abs(one - 1) + 0.05
    for wrong in ({"n": 1}, {"tasks": ["colouring"]}):
        with pytest.raises(UserError):
            Restored({}, **{"n": 2, "draws": 4, "steps": 5, "noise": 0.1, **wrong})
