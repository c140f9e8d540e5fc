"""Progressive generation, shared latents and interpolation on Gaussian data, where an exact reverse process is known."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import schedules
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators import generation
from dpm.evaluators.generated import Generated
from dpm.evaluators.generation import (
    Interpolation,
    Progressive,
    SharedLatents,
    completed,
    grey,
    interpolated,
    predictions,
    stops,
)
from dpm.evaluators.neighbours import mirrored, nearest, neighbours, seen_share
from dpm.figures import generation as figures
from dpm.predictions.papers import X0, Clipped
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, Step
from dpm.reverse.first_steps import FirstSteps
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import ancestral as samplers
from dpm.study.records import Measurement, standard_error
from dpm.variances import Fixed

T, SHAPE, MEAN, V = 24, (1, 2, 3), 0.2, 0.06
Q = GaussianDiffusion(schedules.linear(T, 0.01, 0.4))


def gain(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, k and Var[x_0 | x_t] of x_0 ~ N(MEAN, V I): E[x_0 | x_t] = MEAN + k (x_t - alpha MEAN)."""
    alpha, sigma = Q.schedule(t)
    k = alpha * V / (alpha**2 * V + sigma**2)
    return alpha, k, V * (1 - alpha * k)


class Best(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.seen.append((int(t[0]), len(x_t)))
        alpha, k, _ = (per_example(c, x_t) for c in gain(t))
        return MEAN + k * (x_t - alpha * MEAN)


class Exact(Fixed):
    def __call__(self, q: GaussianDiffusion, z: Tensor, s: Tensor, t: Tensor, step: Step) -> Tensor:
        _, _, left = gain(t)
        return per_example(step.posterior_variance + step.on_x_0.square() * left, z)


def exact() -> GaussianReverse:
    """p(x_s | x_t) = q(x_s | x_t) at any stride."""
    return GaussianReverse(Q, Best(), X0(), Exact(), Network())


def as_is(reverse: Any) -> Any:
    return reverse


def prior(n: int) -> Tensor:
    """x_T ~ q(x_T), not quite N(0, I)."""
    times = torch.full((n,), T)
    return Q.marginal(MEAN + math.sqrt(V) * torch.randn(n, *SHAPE, dtype=torch.float64), times).sample()


def known(x: Tensor, mean: float | Tensor, variance: float | Tensor) -> None:
    """The values of x, each with its own mean, have this variance about it, within 4 standard errors."""
    z = (x - mean).flatten() / math.sqrt(variance)
    assert z.mean().item() == pytest.approx(0, abs=4 / math.sqrt(len(z)))
    assert z.square().mean().item() == pytest.approx(1, abs=4 * math.sqrt(2 / len(z)))


# --- progressive generation --------------------------------------------------------------------------------------------------


def test_predictions_on_an_exact_chain_have_the_moments_of_the_posterior_mean() -> None:
    """x_t has its marginal at any stride, so that Var x_0-hat = k^2 Var x_t = alpha k V: from almost 0 at T to almost V."""
    steps, times = samplers.grid(T, 6), [24, 15, 6, 1]
    found = list(predictions(exact(), prior(4000), steps, times))
    assert len(found) == len(times)
    for t, x_0 in zip(times, found, strict=True):
        alpha, k, _ = gain(torch.tensor(t))
        known(x_0, MEAN, float(alpha * k * V))


def test_predictions_are_those_of_one_chain_and_end_in_its_sample() -> None:
    p, x_T, steps = exact(), prior(5), samplers.grid(T, 6)
    torch.manual_seed(1)
    chain = [x_T, *samplers.ancestral(p, x_T, steps)]
    torch.manual_seed(1)
    found = list(predictions(p, x_T, steps, steps[:-1]))
    for t, x_t, x_0 in zip(steps, chain, found, strict=False):
        assert torch.equal(x_0, p.predicted(x_t, torch.full((5,), t)))
    assert torch.equal(found[-1], chain[-1])


def test_no_step_is_taken_that_is_not_needed() -> None:
    p = exact()
    list(predictions(p, prior(3), samplers.grid(T, 6), [24, 1]))
    assert len(p.network.seen) == 5 + 2  # steps to t = 1, and two predictions


class Brightness:
    """A score that anyone can check."""

    def __call__(self, images: Tensor) -> Sequence[Measurement]:
        mean = images.double().flatten(1).mean(1).numpy()
        protocol = {"statistics": "train"}
        return (
            Measurement("rmse", mean.mean(), standard_error(mean), len(mean), "grey levels", protocol),
            Measurement("fid", mean.max(), None, len(mean), "1", {}),
        )


def progressive(**changed: Any) -> Progressive:
    settings = {"n": 7, "steps": 8, "columns": 4, "shown": 3, "batch_size": 3, "scores": [Brightness()], "wrap": as_is}
    return Progressive(**{**settings, **changed})


def test_progressive_generation_as_arrays_and_scores() -> None:
    x_0 = torch.zeros(2, *SHAPE).double()
    p = exact()
    one = progressive()(p, GaussianData(), x_0, 0)
    assert max(size for _, size in p.network.seen) == 3
    images, times = one.arrays["progressive"], one.arrays["progressive_times"]
    assert (images.shape, images.dtype, one.arrays["samples"].shape) == ((3, 4, *SHAPE), np.uint8, (7, *SHAPE))
    assert (times[0], times[-1], len(times)) == (T, 1, 4)
    assert set(times) <= set(samplers.grid(T, 8))
    np.testing.assert_array_equal(one.arrays["samples"][:3], images[:, -1])
    rmse = [m for m in one.measurements if m.quantity == "rmse"]
    assert [m.protocol["reverse_step"] for m in rmse] == [T - t + 1 for t in times]
    assert rmse[-1].value == pytest.approx(one.arrays["samples"].mean())
    np.testing.assert_array_equal(one.arrays["rmse_train_mean"], [m.value for m in rmse])
    np.testing.assert_array_equal(one.arrays["rmse_train_step"], [T - t + 1 for t in times])
    assert np.isnan(one.arrays["fid_stderr"]).all()
    every = progressive(steps=99, columns=99)(exact(), GaussianData(), x_0, 0)
    assert every.arrays["progressive_times"].tolist() == list(range(T, 0, -1))
    again, other = (progressive()(exact(), GaussianData(), x_0, seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.arrays["samples"], again.arrays["samples"])
    assert (one.arrays["samples"] != other.arrays["samples"]).any()


def test_progressive_generation_wraps_the_process() -> None:
    """With predictions kept in [-0.1, 0.1] every image is within 13 grey levels of the middle."""

    def narrow(reverse: GaussianReverse) -> GaussianReverse:
        return GaussianReverse(Q, reverse.network, Clipped(X0(), -0.1, 0.1), Exact(), Network())

    found = progressive(wrap=narrow)(exact(), GaussianData(), torch.zeros(1, *SHAPE), 0).arrays["progressive"]
    assert 114 <= found.min() < found.max() <= 141


@pytest.mark.parametrize("wrong", [{"shown": 8}, {"columns": 1}, {"columns": 9}, {"batch_size": 0}, {"shown": 0}])
def test_progressive_settings_that_cannot_be_meant_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="progressive: 1 <= shown <= n"):
        progressive(**wrong)


# --- from x_t on -------------------------------------------------------------------------------------------------------------


def test_the_first_steps_are_a_process_of_their_own_with_the_same_q_and_p() -> None:
    p, first, x = exact(), FirstSteps(exact(), 9), prior(4)
    assert len(first.process.schedule) == 9
    for t in (1, 5, 9):
        times = torch.full((4,), t)
        for one, other in zip(first.process.schedule(times), Q.schedule(times), strict=True):
            assert torch.equal(one, other)
        assert torch.equal(first(x, times - 1, times).mean, p(x, times - 1, times).mean)
    assert torch.equal(first.process.prior(x).mean, torch.zeros_like(x))


@pytest.mark.parametrize("steps", [1, 7, 24])
@pytest.mark.parametrize("t", [3, 12, 24])
def test_completions_are_draws_given_x_t(t: int, steps: int) -> None:
    """E[x_0 | x_t] and, the last step being without noise, Var[x_0 | x_t] - Var[x_0 | x_r] from the last r; at any stride."""
    p, share = exact(), max(1, round(steps * t / T))
    x_t = Q.marginal(torch.full((1, *SHAPE), MEAN).double(), torch.tensor([t])).sample().expand(4000, *SHAPE)
    x_0 = completed(p, x_t, t, steps)
    assert [time for time, _ in p.network.seen] == samplers.grid(t, share)[:-1]
    alpha, k, variance = gain(torch.tensor(t))
    last = p.network.seen[-1][0]
    left = variance - gain(torch.tensor(last))[2]
    mean = MEAN + k * (x_t - alpha * MEAN)
    if last == t:
        assert torch.allclose(x_0, mean, rtol=1e-12)
    else:
        known(x_0, mean, float(left))


def test_a_completion_from_T_is_a_sample_and_from_0_nothing() -> None:
    x, p = prior(4), exact()
    torch.manual_seed(2)
    whole = samplers.sample(p, x, 8)
    torch.manual_seed(2)
    assert torch.equal(completed(p, x, T, 8), whole)
    assert completed(p, x, 0, 8) is x


def test_a_chain_is_stopped_where_it_is() -> None:
    """The states at the given times of one chain, whose grid contains them; the first of them can be x_T."""
    p, x_T, times = exact(), prior(4), [T, 18, 12, 5]
    torch.manual_seed(3)
    found = stops(p, x_T, times, 4)
    torch.manual_seed(3)
    grid = sorted({*samplers.grid(T, 4), *times}, reverse=True)
    chain = dict(zip(grid, [x_T, *samplers.ancestral(p, x_T, grid)], strict=True))
    for t, x_t in zip(times, found, strict=True):
        assert torch.equal(x_t, chain[t])


def check_sharing_tells_more_with_less_noise() -> None:
    """Given x_t, completions differ by Var[x_0 | x_t] less that of the last step, all of them by V less that."""
    evaluation = SharedLatents([24, 12, 4], chains=60, completions=40, steps=24, wrap=as_is)(
        exact(), GaussianData(), torch.zeros(1, *SHAPE), 0
    )
    x_0, x_t = (evaluation.arrays[key] for key in ("shared_x_0", "shared_x_t"))
    assert (x_0.shape, x_t.shape, x_0.dtype) == ((60, 3, 40, *SHAPE), (60, 3, *SHAPE), np.uint8)
    assert evaluation.arrays["shared_times"].tolist() == [24, 12, 4]
    for column, t in enumerate((24, 12, 4)):
        spread = x_0[:, column].astype(float).var(1, ddof=1).mean() / 127.5**2
        last = gain(torch.tensor(1))[2]
        assert spread == pytest.approx(float(gain(torch.tensor(t))[2] - last), rel=0.06)
        assert x_0[:, column].astype(float).var() / 127.5**2 == pytest.approx(float(V - last), rel=0.3)


def test_shared_latents() -> None:
    check_sharing_tells_more_with_less_noise()


def test_completions_that_start_elsewhere_are_noticed(monkeypatch) -> None:
    monkeypatch.setattr(generation, "stops", lambda reverse, x_T, times, steps: [x_T for _ in times])
    with pytest.raises(AssertionError):
        check_sharing_tells_more_with_less_noise()


def test_shared_latents_refuse_what_cannot_be_meant() -> None:
    x_0 = torch.zeros(1, *SHAPE)
    for times in ([25], [0, 3]):
        with pytest.raises(UserError, match="times from 1 to T = 24"):
            SharedLatents(times, 1, 1, 4, as_is)(exact(), GaussianData(), x_0, 0)
    with pytest.raises(UserError, match="at least one of each"):
        SharedLatents([], 1, 1, 4, as_is)


# --- interpolation -----------------------------------------------------------------------------------------------------------

ENDS = [torch.full((1, *SHAPE), value).double() for value in (-0.7, 0.9)]
LAMBDAS = [0.0, 0.25, 0.5, 1.0]


def check_mixtures_of_diffused_images(t: int = 12) -> None:
    """Decoded in one jump, x_0 = MEAN + k (mix - alpha MEAN): known, of variance k^2 ((1 - l)^2 + l^2) sigma^2, linear in l."""
    one, other = (x.expand(3000, *SHAPE) for x in ENDS)
    x_0 = interpolated(exact(), one, other, t, LAMBDAS, 1)
    alpha, k, _ = gain(torch.tensor(t))
    _, sigma = Q.schedule(torch.tensor(t))
    for column, weight in enumerate(LAMBDAS):
        mean = MEAN + k * alpha * ((1 - weight) * one + weight * other - MEAN)
        known(x_0[:, column], mean, float(k**2 * sigma**2) * ((1 - weight) ** 2 + weight**2))
        expected = (1 - weight) * x_0[:, 0] + weight * x_0[:, -1]  # the same noise for every lambda
        assert torch.allclose(x_0[:, column], expected, rtol=0, atol=1e-12)
    ends = torch.stack([x_0[:, 0].flatten(), x_0[:, -1].flatten()])
    assert abs(torch.corrcoef(ends)[0, 1]) < 4 / math.sqrt(ends.shape[1])  # independent noise at the two ends


def test_mixtures_of_diffused_images_in_closed_form() -> None:
    check_mixtures_of_diffused_images()


def test_at_the_ends_interpolation_is_reconstruction() -> None:
    """lambda = 0: x_0' ~ p(x_0 | x_t) for x_t ~ q(x_t | x_0): mean and variance over both draws."""
    t = 12
    one, other = (x.expand(3000, *SHAPE) for x in ENDS)
    x_0 = interpolated(exact(), one, other, t, [0.0, 1.0], 24)
    alpha, k, variance = gain(torch.tensor(t))
    _, sigma = Q.schedule(torch.tensor(t))
    spread = float(k**2 * sigma**2 + variance - gain(torch.tensor(1))[2])
    for column, source in enumerate((one, other)):
        known(x_0[:, column], MEAN + k * alpha * (source - MEAN), spread)


def test_at_t_0_the_images_themselves_are_mixed() -> None:
    x_0 = interpolated(exact(), *ENDS, 0, LAMBDAS, 9)
    for column, weight in enumerate(LAMBDAS):
        assert torch.allclose(x_0[:, column], (1 - weight) * ENDS[0] + weight * ENDS[1], rtol=1e-12)


def mixing(mix: Callable[[GaussianDiffusion, Tensor, Tensor, Tensor, float], Tensor]) -> Any:
    def mutant(reverse: Any, x_0: Tensor, other: Tensor, t: int, lambdas: Sequence[float], steps: int) -> Tensor:
        times = torch.full((len(x_0),), t)
        mixed = torch.stack([mix(reverse.process, x_0, other, times, weight) for weight in lambdas], 1)
        return completed(reverse, mixed.flatten(0, 1), t, steps).reshape(mixed.shape)

    return mutant


def draws(q: GaussianDiffusion, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return q.marginal(x, t).sample(), q.marginal(y, t).sample()


def common_noise(q: GaussianDiffusion, x: Tensor, y: Tensor, t: Tensor, weight: float) -> Tensor:
    torch.manual_seed(0)
    x_t = q.marginal(x, t).sample()
    return torch.lerp(x_t, x_t + q.marginal(y, t).mean - q.marginal(x, t).mean, weight)


MUTANTS = {
    "the printed formula, x_0 mixed": mixing(lambda q, x, y, t, w: q.marginal(torch.lerp(x, y, w), t).sample()),
    "fresh noise for each lambda": mixing(lambda q, x, y, t, w: torch.lerp(*draws(q, x, y, t), w)),
    "ends in the wrong order": lambda *arguments: generation.interpolated(*arguments).flip(1),
    "one noise for both ends": mixing(common_noise),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_other_mixtures_are_noticed(name: str, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "interpolated", MUTANTS[name])
    with pytest.raises(AssertionError):
        check_mixtures_of_diffused_images()


def test_interpolations_as_arrays() -> None:
    x_0 = torch.linspace(-1, 1, 4)[:, None, None, None].expand(4, *SHAPE).double()
    evaluation = Interpolation([24, 12, 0], [0, 0.5, 1], pairs=2, steps=6, wrap=as_is)(exact(), GaussianData(), x_0, 0)
    images, sources = evaluation.arrays["interpolation"], evaluation.arrays["interpolation_sources"]
    assert (images.shape, sources.shape, images.dtype) == ((2, 3, 3, *SHAPE), (2, 2, *SHAPE), np.uint8)
    np.testing.assert_array_equal(sources[:, 0], grey(x_0[:2]))
    np.testing.assert_array_equal(sources[:, 1], grey(x_0[2:]))
    np.testing.assert_array_equal(images[:, -1, [0, 2]], sources)  # t = 0
    assert evaluation.arrays["interpolation_times"].tolist() == [24, 12, 0]
    assert evaluation.arrays["interpolation_lambdas"].tolist() == [0, 0.5, 1]
    with pytest.raises(UserError, match="times from 0 to T = 24 and 6 images"):
        Interpolation([24], [0.5], pairs=3, steps=6, wrap=as_is)(exact(), GaussianData(), x_0, 0)
    with pytest.raises(UserError, match="at least one of each"):
        Interpolation([24], [], pairs=3, steps=6, wrap=as_is)


# --- nearest neighbours ------------------------------------------------------------------------------------------------------


def images(n: int, seed: int, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("high", [2, 256])
def test_neighbours_are_those_of_brute_force(high: int, block: int) -> None:
    """In whole numbers, mirrored versions included; with two grey levels most distances are ties, and the earlier one comes."""
    own, training = images(9, 1, high), images(64, 2, high)
    own[3] = training[20]
    own[4] = training[30].flip(2)
    squares, index = nearest(mirrored(own), training, 5, block)
    both = np.stack([own.numpy(), own.numpy()[..., ::-1]], 1).astype(int)
    table = ((both[:, :, None] - training.numpy()[None, None]) ** 2).sum((3, 4, 5)).min(1)
    order = np.argsort(table, 1, kind="stable")[:, :5]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(squares, np.take_along_axis(table, order, 1))
    assert squares[3, 0] == squares[4, 0] == 0


def test_distances_are_exact_where_float32_would_round() -> None:
    """Two images that differ in one grey level of 3,072, and one that differs from both in everything."""
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    almost = white.clone()
    almost[0, 0, 0, 0] = 254
    squares, index = nearest(white[:, None], torch.cat([torch.zeros_like(white), almost]), 2)
    assert (squares.tolist(), index.tolist()) == ([[1, 3072 * 255**2]], [[1, 0]])


def test_more_neighbours_than_images_are_refused() -> None:
    with pytest.raises(UserError, match="5 neighbours asked for, there are 4"):
        nearest(mirrored(images(1, 0)), images(4, 1), 5)


def test_the_share_of_remembered_samples() -> None:
    """1 for copies of training images, mirrored or not, 0 for copies of test images, 1/2 for neither."""
    unseen, seen = images(300, 1), images(500, 2)
    assert seen_share(seen[:40].flip(3), unseen, seen).value == 1
    assert seen_share(unseen[:40], unseen, seen).value == 0
    assert seen_share(images(40, 3), seen, seen).value == 0.5  # ties
    fresh = seen_share(images(400, 3), unseen, seen)
    assert fresh.value == pytest.approx(0.5, abs=4 * fresh.stderr)
    assert fresh.stderr == pytest.approx(0.5 / 20, rel=0.05)
    assert fresh.protocol["pool"] == 300


def test_neighbours_of_samples_beside_those_of_test_images() -> None:
    training, test = images(60, 1), images(30, 2)
    samples = torch.cat([training[:2].flip(3), images(8, 3)])
    evaluation = neighbours(samples, test.numpy(), training.numpy(), k=3, shown=4)
    panel, rmse = evaluation.arrays["neighbours"], evaluation.arrays["neighbour_rmse"]
    assert (panel.shape, panel.dtype, rmse.shape) == ((4, 4, 3, 4, 4), np.uint8, (4, 3))
    np.testing.assert_array_equal(panel[:, 0], samples[:4])
    np.testing.assert_array_equal(panel[:2, 1], training[:2])
    assert rmse[:2, 0].tolist() == [0, 0]
    versions = [panel[2:, :1].astype(float), panel[2:, :1, ..., ::-1].astype(float)]
    expected = np.sqrt(np.minimum(*(((panel[2:, 1:] - version) ** 2).mean((2, 3, 4)) for version in versions)))
    np.testing.assert_allclose(rmse[2:], expected)
    of_samples, of_test, share = evaluation.measurements
    assert (of_samples.protocol["source"], of_test.protocol["source"]) == ("samples", "test_images")
    assert (of_samples.n, of_test.n, share.quantity) == (10, 10, "seen_share")
    assert of_samples.value < of_test.value  # two copies among ten


# --- figures -----------------------------------------------------------------------------------------------------------------


def fake(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3, 4, 5)).astype(float)


def cell(axes: Any, row: int, column: int) -> np.ndarray:
    """(C, H, W) of an image in a panel."""
    (drawn,) = axes.images
    assert drawn.get_interpolation() == "nearest"
    part = drawn.get_array()[row * 5 : row * 5 + 4, column * 6 : column * 6 + 5]
    return 255 * np.asarray(part).transpose(2, 0, 1)


def labels(axes: Any, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


def test_figure_6_has_samples_in_rows_and_reverse_time_in_columns() -> None:
    progressive, times = fake(3, 4), np.array([24.0, 17, 9, 1])
    (axes,) = figures.figure_6({"progressive": progressive, "progressive_times": times}).axes
    for row in range(3):
        for column in range(4):
            np.testing.assert_allclose(cell(axes, row, column), progressive[row, column])
    assert labels(axes, "x") == ["24", "17", "9", "1"]
    assert list(axes.get_xticks()) == [2, 8, 14, 20]
    (fewer,) = figures.figure_6({"progressive": progressive, "progressive_times": times}, rows=2).axes
    height = (axes.images[0].get_array().shape[0] + 1) // 3
    np.testing.assert_array_equal(fewer.images[0].get_array(), axes.images[0].get_array()[: 2 * height - 1])


@pytest.mark.parametrize(("completions", "side"), [(3, 2), (8, 3), (4, 3), (1, 2)])
def test_figure_7_shows_x_t_at_the_bottom_right_of_its_completions(completions: int, side: int) -> None:
    arrays = {"shared_x_0": fake(2, 3, completions), "shared_x_t": fake(2, 3) / 2, "shared_times": np.array([24.0, 12, 4])}
    panels = figures.figure_7(arrays).axes
    assert [axes.get_title() for axes in panels] == ["share $x_{24}$", "share $x_{12}$", "share $x_{4}$", "", "", ""]
    for number, axes in enumerate(panels):
        chain, column = divmod(number, 3)
        np.testing.assert_allclose(cell(axes, side - 1, side - 1), arrays["shared_x_t"][chain, column])
        for k in range(completions):
            np.testing.assert_allclose(cell(axes, *divmod(k, side)), arrays["shared_x_0"][chain, column, k])


def test_figure_9_has_sources_and_reconstructions_at_both_ends() -> None:
    arrays = {"interpolation": fake(2, 3, 4), "interpolation_sources": fake(2, 2) / 2}
    axes_of = {"interpolation_times": np.array([24.0, 12, 0]), "interpolation_lambdas": np.array([0, 0.3, 0.7, 1])}
    panels = figures.figure_9({**arrays, **axes_of}).axes
    for pair, axes in enumerate(panels):
        assert labels(axes, "x") == ["source", "rec.", "0.3", "0.7", "rec.", "source"]
        assert labels(axes, "y") == ["24", "12", "0"]
        for row in range(3):
            for column in range(4):
                np.testing.assert_allclose(cell(axes, row, 1 + column), arrays["interpolation"][pair, row, column])
            np.testing.assert_allclose(cell(axes, row, 0), arrays["interpolation_sources"][pair, 0])
            np.testing.assert_allclose(cell(axes, row, 5), arrays["interpolation_sources"][pair, 1])


def curve(name: str) -> dict[str, np.ndarray]:
    return {
        f"{name}_step": np.array([1.0, 12, 24]),
        f"{name}_mean": np.array([9.0, 5, 2]),
        f"{name}_stderr": np.array([1.0, 2, 3]),
    }


def test_figure_10_with_and_without_inception() -> None:
    arrays = {**curve("patch_distance_train"), "patch_distance_floor": np.array([1.5, 0.25])}
    (axes,) = figures.figure_10_without_inception(arrays).axes
    np.testing.assert_array_equal(axes.containers[0][0].get_xydata(), [[1, 9], [12, 5], [24, 2]])
    lengths = [np.ptp(segment[:, 1]) for segment in axes.containers[0][2][0].get_segments()]
    np.testing.assert_allclose(lengths, [4, 8, 12])  # two standard errors to each side
    assert axes.lines[-1].get_ydata()[0] == 1.5
    box = axes.patches[-1]
    assert (box.get_y(), box.get_height()) == (1.25, 0.5)
    left, right = figures.figure_10({**curve("inception_score"), **curve("fid_train")}).axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("inception score", "FID")
    np.testing.assert_array_equal(right.containers[0][0].get_xydata(), [[1, 9], [12, 5], [24, 2]])


def test_samples_stand_above_as_many_test_images_each_with_their_distance() -> None:
    samples, test_images = fake(24), fake(24)[::-1]
    floor = np.array([1.5, 0.25])
    arrays = {"samples": samples, "test_images": test_images, **curve("patch_distance_train"), "patch_distance_floor": floor}
    above, below = figures.beside_test_images(arrays).axes
    for axes, images, distance in ((above, samples, "2.0"), (below, test_images, "1.5")):
        np.testing.assert_allclose(cell(axes, 1, 3), images[15])
        assert f"patch distance {distance} ±" in axes.get_xlabel()
    assert above.get_position().y0 > below.get_position().y1


def test_nearest_neighbours_show_the_sample_first_and_how_far_the_first_neighbour_is() -> None:
    panel = fake(3, 4)
    arrays = {"neighbours": panel, "neighbour_rmse": np.array([[31.4, 40, 50]] * 3)}
    (axes,) = figures.nearest_neighbours(arrays).axes
    np.testing.assert_allclose(cell(axes, 2, 3), panel[2, 3])
    assert labels(axes, "x") == ["sample", "1", "2", "3"]
    assert labels(axes, "y") == ["31"] * 3
    (fewer,) = figures.nearest_neighbours(arrays, rows=2).axes
    assert labels(fewer, "y") == ["31"] * 2


def test_samples_are_judged_beside_images_only() -> None:
    sizes = dict.fromkeys(("chains", "steps", "columns", "shown", "kept", "groups", "completions", "pairs", "neighbours"), 2)
    judge = Generated(**sizes, compared=2, side=2, batch_size=2, wrap=lambda process: process)
    with pytest.raises(UserError, match="for images of 8 bits, not for GaussianData"):
        judge(None, GaussianData(2), torch.zeros(2, 2), 0)
    with pytest.raises(UserError, match="not as nll"):
        Generated(**sizes, compared=2, side=2, batch_size=2, wrap=lambda process: process, claims={"nll": "a claim"})
