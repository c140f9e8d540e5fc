"""Figures show what the arrays hold: the drawn points, lines and errors are compared with them."""

import io
import math
from dataclasses import replace
from pathlib import Path

import fake_results
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from PIL import Image

from dpm.errors import UserError
from dpm.figures import curve, images, ladder, load_arrays, render, rivals, sampled_terms, schedule, sweep, swiss_roll, terms
from dpm.figures.budget import time_to_quality
from dpm.study.claims import Claim, Tolerance, load_claims
from dpm.study.records import Measurement, Record, over_seeds, save_arrays
from dpm.study.results import selected

T = fake_results.T
CLAIM = Claim("p/K", "Table 1", "P8", "log_likelihood_bound", "bits", 2.35, Tolerance(0.1, "why"))


@pytest.fixture
def arrays(tmp_path: Path):
    save_arrays(tmp_path / "seed0.npz", fake_results.arrays(0))
    return load_arrays(tmp_path / "seed0.npz")


@pytest.fixture
def figure_1(arrays) -> Figure:
    return swiss_roll.figure_1(arrays)


def panels(figure: Figure) -> np.ndarray:
    return np.array(figure.axes, dtype=object).reshape(3, 3)


def test_figure_1_has_the_papers_rows_and_columns(arrays, figure_1):
    for row, name in enumerate(("forward", "reverse")):
        for column, t in enumerate((0, T // 2, T)):
            drawn = panels(figure_1)[row, column].collections[0].get_offsets()
            (frame,) = np.flatnonzero(arrays["times"] == t)
            np.testing.assert_array_equal(drawn, arrays[name][frame])
    for column, axes in enumerate(panels(figure_1)[2]):
        (quiver,) = (artist for artist in axes.collections if isinstance(artist, Quiver))
        np.testing.assert_array_equal(np.stack([quiver.U, quiver.V], 1), arrays["drift"][column])
        np.testing.assert_array_equal(quiver.XY, arrays["grid"])


def test_figure_1_says_which_step_the_drift_belongs_to(figure_1):
    labels = [axes.get_xlabel() for axes in panels(figure_1)[2]]
    assert [label.split("\n")[0] for label in labels] == ["t = 2", f"t = {T // 2}", f"t = {T}"]
    assert [axes.get_title().split("\n")[0] for axes in panels(figure_1)[0]] == ["t = 0", f"t = {T // 2} = T/2", f"t = {T} = T"]


def test_figure_1_says_how_much_noise_a_column_has_where_the_betas_are_known(arrays, figure_1):
    noise = [float(axes.get_title().split("noise ")[1]) for axes in panels(figure_1)[0]]
    variance = [1 - np.prod(1 - arrays["betas"][:t]) for t in (0, T // 2, T)]
    assert noise == [float(f"{value:.1g}") for value in variance]
    other = swiss_roll.figure_1({key: array for key, array in arrays.items() if key != "betas"})
    assert panels(other)[0, 1].get_title() == f"t = {T // 2} = T/2"


def test_figure_1_at_more_times_shows_the_frames_of_those_times(arrays):
    figure = swiss_roll.every_time(arrays, columns=3, points=7)
    drawn = [axes.collections[0].get_offsets() for axes in figure.axes]
    for row, name in enumerate(("forward", "reverse")):
        for column, t in enumerate((0, T // 2, T)):
            (frame,) = np.flatnonzero(arrays["times"] == t)
            np.testing.assert_array_equal(drawn[3 * row + column], arrays[name][frame, :7])


def test_figure_1_keeps_the_papers_axes_and_widens_them_only_for_the_roll(arrays, figure_1):
    def limits(figure: Figure) -> tuple[float, float]:
        return figure.axes[0].get_xlim()

    small = swiss_roll.figure_1({**arrays, "forward": 0.5 * arrays["forward"]})
    wide = swiss_roll.figure_1({**arrays, "forward": 1.5 * arrays["forward"]})
    assert limits(small) == (-2, 2)
    assert limits(wide)[1] > 1.5 * np.abs(arrays["forward"][0]).max()
    assert list(figure_1.axes[0].get_xticks()) == [-2, 0, 2]


def test_frames_may_be_stored_in_any_order(arrays, figure_1):
    turned = {key: arrays[key][::-1] if key in ("times", "forward", "reverse") else arrays[key] for key in arrays}
    assert render(swiss_roll.figure_1(turned)) == render(figure_1)


def test_animation_runs_forward_on_the_left_and_backward_on_the_right(arrays):
    few = {key: arrays[key][::2] if key in ("times", "forward", "reverse") else arrays[key] for key in arrays}
    content = render(swiss_roll.animation(few, points=50))
    assert content.startswith(b"GIF89a")
    assert content.count(b"\x21\xf9\x04") >= len(few["times"])  # a control block per frame; equal ones in a row are merged
    animation = swiss_roll.animation(few, points=50)
    shown = list(animation.new_frame_seq())
    assert sorted(set(shown)) == list(range(len(few["times"])))
    left, right = animation._func(0)  # at the first frame
    np.testing.assert_array_equal(left.get_offsets(), few["forward"][0, :50])
    np.testing.assert_array_equal(right.get_offsets(), few["reverse"][-1, :50])
    animation._draw_was_started = True  # it was only looked at


def test_terms_and_their_gap(arrays):
    left, right = terms.per_step(arrays).axes
    for container, prefix in zip(left.containers, ("", "oracle_"), strict=True):
        np.testing.assert_array_equal(container[0].get_ydata(), arrays[f"{prefix}term_mean"])
        (bars,) = container[2]
        lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, 2 * arrays[f"{prefix}term_stderr"])
    total = arrays["term_mean"].sum() - arrays["oracle_term_mean"].sum()
    assert right.lines[0].get_ydata()[-1] == pytest.approx(total)


def test_schedule_shows_betas_and_what_is_left_of_the_signal(arrays):
    other = {"betas": np.linspace(0.01, 0.5, 7)}
    left, right = schedule.learned_betas([arrays, other]).axes
    np.testing.assert_array_equal(left.lines[1].get_ydata(), other["betas"])
    alpha_bar = np.cumprod(1 - other["betas"])
    np.testing.assert_allclose(right.lines[1].get_ydata(), alpha_bar / (1 - alpha_bar))


def test_the_training_curve_shows_every_seed(arrays):
    other = {"curve_step": np.array([1000, 2000]), "curve_K": np.array([0.5, 0.75])}
    (axes,) = curve.validated([arrays, other]).axes
    assert [line.get_label() for line in axes.lines] == ["seed 0", "seed 1"]
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[1, 0.5], [2, 0.75]])


@pytest.fixture(scope="module")
def records():
    def one(network: str, beta_1: float, seed: int):
        return fake_results.record("p/e", seed, 2 + 0.1 * seed + np.log10(beta_1), network, 16, beta_1)

    return [one(*case) for case in (("b", 1e-3, 0), ("b", 1e-5, 0), ("b", 1e-5, 1), ("a", 1e-4, 0))]


def test_sweep_draws_mean_and_error_per_setting_and_line(records):
    figure = sweep.against(records, CLAIM, {"edges": "entropy"}, "beta_1", "first step")
    (axes,) = figure.axes
    drawn = {container.get_label(): container for container in axes.containers}
    assert set(drawn) == {"a", "b"}
    x, y = drawn["b"][0].get_data()
    of_two = over_seeds(selected(records[1:3], "log_likelihood_bound", {"edges": "entropy"}))
    np.testing.assert_allclose(x, [1e-5, 1e-3])
    assert y[0] == pytest.approx(of_two.value)
    assert np.ptp(drawn["b"][2][0].get_segments()[0][:, 1]) == pytest.approx(2 * of_two.stderr)
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["paper: 2.35 bits"].get_ydata()[0] == 2.35
    np.testing.assert_allclose(lines["ceiling"].get_xdata(), [1e-5, 1e-4, 1e-3])
    assert list(lines["oracle, b"].get_ydata()) == [
        of_two.oracle,
        selected(records[:1], "log_likelihood_bound", {"edges": "entropy"})[0].oracle,
    ]


def test_sweep_without_limits_draws_none(records):
    bare = [replace(r, measurements=tuple(replace(m, ceiling=None, oracle=None) for m in r.measurements)) for r in records]
    (axes,) = sweep.against(bare, CLAIM, {"edges": "entropy"}, "beta_1", "first step").axes
    assert not [line for line in axes.lines if str(line.get_label()).startswith(("ceiling", "oracle"))]


def test_drawing_neither_depends_on_the_callers_style_nor_changes_it(arrays):
    first = render(terms.per_step(arrays))
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        before = dict(matplotlib.rcParams)
        assert render(terms.per_step(arrays)) == first
        assert dict(matplotlib.rcParams) == before


def test_unreadable_arrays_are_one_clear_line(tmp_path: Path):
    (tmp_path / "seed0.npz").write_bytes(b"half a file")
    with pytest.raises(UserError, match="evaluate the experiment again"):
        load_arrays(tmp_path / "seed0.npz")


# --- images --------------------------------------------------------------------------------------------------------------


def test_a_grid_shows_every_image_pixel_for_pixel_in_its_order():
    grey = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6)).astype(float)
    canvas = images.tile(grey, columns=3)
    assert canvas.shape == (2 * 5 - 1, 3 * 7 - 1, 3)
    for k, (top, left) in enumerate([(0, 0), (0, 7), (0, 14), (5, 0), (5, 7)]):
        np.testing.assert_array_equal(canvas[top : top + 4, left : left + 6].transpose(2, 0, 1), grey[k])
    assert (canvas[4] == 255).all()  # between the rows
    assert (canvas[5:, 14:] == 255).all()  # where there is no image
    (drawn,) = images.grid({"samples": grey}, columns=3).axes[0].images
    np.testing.assert_allclose(drawn.get_array(), canvas / 255)
    assert drawn.get_interpolation() == "nearest"


def test_a_grid_of_one_channel_is_grey():
    canvas = images.tile(np.arange(8.0).reshape(2, 1, 2, 2), columns=1)
    np.testing.assert_array_equal(canvas[:2, :, 0], [[0, 1], [2, 3]])
    assert (canvas[..., :1] == canvas).all()


def test_rate_and_distortion_in_reverse_time():
    """The rate is paid from T down, without the decoder's term; the prediction at t comes before the payment for it."""
    low, high = np.array([1, 2, 4, 11]), np.array([1, 3, 10, 100])
    mean, stderr = np.array([2.0, 0.2, 0.05, 0.001]), np.array([0.1, 0.02, 0.001, 0.0001])
    of_terms = {"term_low": low, "term_high": high, "term_mean": mean, "term_stderr": stderr}
    rmse = {"rmse_step": np.array([1, 91, 100]), "rmse_mean": np.array([60.0, 20, 1]), "rmse_stderr": np.array([1.0, 0.5, 0.1])}
    left, middle, right = sampled_terms.rate_distortion({**of_terms, **rmse}).axes
    np.testing.assert_array_equal(left.lines[0].get_data(), [[1, 91, 100], [60, 20, 1]])
    steps, total = middle.lines[0].get_data()
    np.testing.assert_array_equal(steps, [90, 97, 99])
    np.testing.assert_allclose(total, [0.09, 0.09 + 0.35, 0.09 + 0.35 + 0.4])
    top = middle.collections[0].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(0.84 + 2 * np.sqrt(0.009**2 + 0.007**2 + 0.04**2))
    np.testing.assert_allclose(right.lines[0].get_data(), [[0, 0.09, 0.84], [60, 20, 1]])
    claims = load_claims(Path(__file__).parents[1] / "conf/claims")
    table4 = [claim for name, claim in claims.items() if name.startswith("ho_2020/table4/")]
    left, middle, right = sampled_terms.rate_distortion({**of_terms, **rmse}, table4).axes
    for axes, x, y in ((left, "step", "rmse"), (middle, "step", "rate"), (right, "rate", "rmse")):
        crosses = axes.lines[-1].get_xydata().tolist()
        known = {s: {"step": s} | {q: claims[f"ho_2020/table4/{s}/{q}"].value for q in ("rate", "rmse")} for s in (100, 1000)}
        assert all([point[x], point[y]] in crosses for point in known.values())
        assert len(crosses) == 10
    (axes,) = sampled_terms.terms(of_terms).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), mean)
    (axes,) = sampled_terms.added_up({"one": of_terms, "another": {**of_terms, "term_mean": 2 * mean}}).axes
    for line, factor in zip(axes.lines, (1, 2), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), high)
        np.testing.assert_allclose(line.get_ydata(), factor * np.array([2.0, 2.4, 2.75, 2.84]))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "another"]


def rival(network: str, value: float, **recipe) -> Record:
    about = {"split": "test", "pixels": "all"}
    m = Measurement("log_likelihood", value, 0.01, 100, "bits/pixel", about, ceiling=2.2, recipe={"network": network, **recipe})
    return Record("p/e", 0, "laptop", {"network": "none"}, {}, {}, (m, replace(m, value=9.0)))


def test_models_of_the_same_images_stand_in_order_beside_the_papers_gain():
    """From the better of two MCGSMs."""
    gain = replace(CLAIM, value=0.25, unit="bits/pixel")
    found = [rival("MCGSM", 1.0, components=12), rival("Causal", 1.4), rival("MCGSM", 1.1, components=32)]
    (axes,) = rivals.models(found, gain, "MCGSM", {"Causal": "masked"}).axes
    assert list(axes.containers[0][0].get_xdata()) == [1.0, 1.1, 1.4]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["MCGSM, 12 components", "MCGSM, 32 components", "masked"]
    lines = {line.get_label(): line.get_xdata()[0] for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert lines == {"ceiling": 2.2, "MCGSM + the paper's 0.25 bits/pixel": pytest.approx(1.35)}


def test_complete_runs_of_a_network_are_a_line_over_their_steps_and_other_models_are_levels():
    """Whatever order the records come in; a run of another network is no point of the line."""
    found = [rival("Ours", 1.3, steps=1600), rival("Causal", 1.4, steps=9), rival("Ours", 1.0, steps=100), rival("MCGSM", 1.2)]
    (axes,) = rivals.against_steps(found, "Ours", {"Causal": "masked"}).axes
    (runs,) = axes.containers
    np.testing.assert_allclose(runs[0].get_xydata(), [[100, 1.0], [1600, 1.3]])
    levels = {line.get_label(): line.get_ydata()[0] for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert levels == {"masked": 1.4, "MCGSM": 1.2}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "1,600"]


def bounds(experiment: str, *rows: tuple[float, dict]) -> Record:
    made = tuple(Measurement("nll_bound", value, 0.002, 100, "bits/dim", {"split": "test", **about}) for value, about in rows)
    return Record(experiment, 0, "laptop", {"network": "none"}, {}, {}, made)


def test_rungs_of_a_ladder_are_the_bounds_whose_facts_are_named_one_below_the_other():
    """Each with its distance from the one above; the paper's two, the worse first; a rung without a record is left out."""
    found = [bounds("p/simple", (3.9, {})), bounds("p/bound", (3.8, {"decoder": "A"}), (3.6, {"decoder": "B"}))]
    wanted = {
        "one": {"experiment": "p/simple"},
        "none": {"experiment": "p/none"},
        "two": {"experiment": "p/bound", "decoder": "A"},
        "three": {"experiment": "p/bound", "decoder": "B"},
    }
    claims = load_claims(Path(__file__).parents[1] / "conf/claims")
    table1 = [claim for name, claim in claims.items() if name.startswith("ho_2020/table1/")]
    (axes,) = ladder.rungs(found, wanted, table1).axes
    np.testing.assert_allclose(axes.containers[0][0].get_xydata(), [[3.9, 0], [3.8, 1], [3.6, 2]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two", "three"]
    assert [text.get_text() for text in axes.texts] == ["−0.100", "−0.200"]
    assert axes.get_ylim() == (2.5, -0.5)
    theirs = [line.get_xdata()[0] for line in axes.lines if str(line.get_label()).startswith("paper")]
    assert theirs == [3.75, 3.7]


def test_the_time_to_a_bound_is_the_runs_own_seconds_network_by_network():
    """In minutes of all its processes, shortest run first; the bound that the facts name; none without a label."""
    runs = [
        *(("ours", {"seconds": 120, "device": "2 x cpu"}, 3.9), ("ours", {"seconds": 60, "device": "cpu"}, 4.1)),
        *(("theirs", {"seconds": 120, "device": "cpu"}, 4.3), ("nobody's", {"seconds": 30, "device": "cpu"}, 5.0)),
    ]
    found = [
        replace(bounds("p/run", (value, {"decoder": "A"}), (1.0, {"decoder": "B"})), recipe={"network": name}, budget=spent)
        for name, spent, value in runs
    ]
    claim = load_claims(Path(__file__).parents[1] / "conf/claims")["ho_2020/table1/bound/nll"]
    (axes,) = time_to_quality(found, claim, {"theirs": "T", "ours": "O"}, {"decoder": "A"}).axes
    lines = {each.get_label(): each[0].get_xydata().tolist() for each in axes.containers}
    assert lines == {"T": [[2, 4.3]], "O": [[1, 4.1], [4, 3.9]]}
    assert [line.get_ydata()[0] for line in axes.lines if str(line.get_label()).startswith("paper")] == [claim.value]


def test_what_a_network_loses_is_summed_from_great_noise_down():
    low, high = np.array([2, 11, 21]), np.array([10, 20, 30])
    bins = {"term_low": low, "term_high": high, "term_stderr": np.full(3, 1e-3)}
    first, second = ({**bins, "term_mean": np.array(mean)} for mean in ([0.3, 0.2, 0.1], [0.2, 0.2, 0.05]))
    terms_axes, total = rivals.lost({"one": first, "other": second}, {"T": 30, "beta_1": 1e-4, "alpha_bar_T": 1e-2}, 5.0).axes
    start, gap = total.lines[0].get_data()
    np.testing.assert_allclose(gap, [9 * 0.1 + 10 * 0.05, 10 * 0.05, 10 * 0.05])
    assert (np.diff(start) > 0).all()
    assert start[0] == pytest.approx(math.sqrt(1e-4 / (1 - 1e-4)), rel=1e-6)  # t = 1
    assert total.get_legend().get_texts()[0].get_text().endswith("of it below 5")
    assert [container.get_label() for container in terms_axes.containers] == ["one", "other"]


def test_one_record_may_have_a_point_on_every_line(records):
    both = [
        replace(r, measurements=(*r.measurements, replace(headline, recipe={**headline.recipe, "network": "c"})))
        for r in records
        for headline in [selected([r], "log_likelihood_bound", {"edges": "entropy"})[0]]
    ]
    (axes,) = sweep.against(
        both, CLAIM, {"edges": "entropy"}, "beta_1", "first step", labels={"c": "third"}, ylabel="gain"
    ).axes
    assert {container.get_label() for container in axes.containers} == {"a", "b", "third"}
    assert axes.get_ylabel() == "gain (bits)"


@pytest.mark.parametrize(("columns", "factor"), [(12, 3), (7, 5), (30, 1)])
def test_every_pixel_of_an_image_is_equally_large_in_the_file(columns: int, factor: int):
    grey = np.random.default_rng(0).integers(0, 256, (columns, 1, 32, 32)).astype(float)
    with Image.open(io.BytesIO(render(images.grid({"samples": grey}, columns)))) as picture:
        drawn = np.asarray(picture)
    assert drawn.shape == (32 * factor, (33 * columns - 1) * factor)
    np.testing.assert_array_equal(drawn[factor // 2 :: factor, factor // 2 :: factor], images.tile(grey, columns)[..., 0])
    assert all((drawn[k::factor] == drawn[::factor]).all() for k in range(factor))
