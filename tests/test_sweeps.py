"""What a sweep ends with: only what differs is named, values stand in their order, and seeds are paired."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import ROLL, ROOT
from hydra import initialize_config_dir
from matplotlib.figure import Figure

from dpm.figures import sweep as lines
from dpm.figures import told_apart, variants
from dpm.runs.sweeps import Sweep, names, summarise, to_minimise
from dpm.study.variants import common, paired, place

LABEL = "nll bound (bits/dim, validation)"


def finished(root: Path, variant: str, seed: int, value: float, quantity: str = "nll_bound") -> None:
    """A run's folder as a training leaves it: twice the value at step 10 as at step 20; seed 0 alone has step 15."""
    folder = root / variant / f"seed{seed}"
    folder.mkdir(parents=True)
    about = {"quantity": quantity, "stderr": 0.5, "unit": "bits/dim"}
    done = {"seed": seed, **about, "value": value, "budget": {"steps": 20, "seconds": 1.5}}
    (folder / "done.json").write_text(json.dumps(done))
    steps = (10, 15, 20) if seed == 0 else (10, 20)
    rows = [{"step": n, "seconds": 1, "validated": n, **about, "value": value * 20 / n} for n in steps]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def swept(root: Path, sign: int = 1, quantity: str = "nll_bound") -> Path:
    """lr 1e-4, 9e-4, 1e-2 by units 8, 16; the value is 10 (index of lr + 1) + units / 8 + seed; of (9e-4, 16) only seed 0."""
    for k, lr in enumerate(("1e-2", "1e-4", "9e-4")):
        for units in (16, 8):
            for seed in (0, 1) if (k, units) != (2, 16) else (0,):
                value = sign * (10 * (k + 1) + units / 8 + seed)
                finished(root, f"optimizer.lr={lr},tier=smoke,units={units}", seed, value, quantity)
    return root


def test_only_what_differs_is_named_and_values_stand_in_their_order(tmp_path: Path, capsys) -> None:
    found = summarise(swept(tmp_path / "p/e"))
    text = capsys.readouterr().out
    assert (tmp_path / "p/e/sweep.md").read_text() in text
    title, _, header, _, *table = (tmp_path / "p/e/sweep.md").read_text().splitlines()
    assert title == "p/e, tier = smoke"
    assert header == f"| optimizer.lr | units | seeds | {LABEL} | minus the best, seeds paired |"
    assert [row.split(" | ")[:2] for row in table] == [
        [f"| {lr}", units] for lr in ("1e-4", "9e-4", "1e-2") for units in ("8", "16")
    ]
    assert [variant.seeds for variant in found] == [2, 2, 2, 1, 2, 2]


def test_differences_are_from_the_best_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    """Less is better for a bound of 2020, more for one of 2015; 9e-4 with 16 units has seed 0 alone."""
    last = {}
    for name, sign, quantity in (("less", 1, "nll_bound"), ("more", -1, "log_likelihood_bound")):
        summarise(swept(tmp_path / name / "e", sign, quantity))
        rows = (tmp_path / name / "e/sweep.md").read_text().splitlines()[4:]
        last[name] = [row.split("|")[-2].strip() for row in rows]
    assert last["less"] == ["10 ± 0", "11 ± 0", "20 ± 0", "21", "", "1 ± 0"]
    assert last["more"] == ["-10 ± 0", "-11 ± 0", "-20 ± 0", "-21", "", "-1 ± 0"]


def test_a_csv_has_a_line_for_each_run(tmp_path: Path) -> None:
    summarise(swept(tmp_path / "p/e"))
    with (tmp_path / "p/e/sweep.csv").open() as file:
        lines_of = list(csv.DictReader(file))
    assert len(lines_of) == 11
    first = lines_of[0]
    assert {key: first[key] for key in ("optimizer.lr", "tier", "units", "seed", "value", "steps", "seconds")} == {
        "optimizer.lr": "1e-4", "tier": "smoke", "units": "8", "seed": "0", "value": "21.0", "steps": "20", "seconds": "1.5",
    }  # fmt: skip
    assert Path(first["folder"]).is_dir()


def test_seeds_are_averaged_at_the_steps_that_all_of_them_have(tmp_path: Path) -> None:
    variant = summarise(swept(tmp_path / "p/e"))[0]
    steps, values = variant.curve()
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_allclose(values, [43, 21.5])


def test_curves_are_named_best_first_and_the_rest_is_grey() -> None:
    found = [(np.array([1, 2]), np.array([float(k), float(k)])) for k in range(10)]
    figure = variants.curves([f"v{k}" for k in range(10)], found, [*range(2, 10), 0, 1], LABEL)
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["the others", *(f"v{k}" for k in range(2, 10))]
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines if str(line.get_label()).startswith("v")]
    assert len(set(looks)) == len(looks)


def test_lines_can_be_told_apart_without_colour() -> None:
    looks = [told_apart(k) for k in range(10)]
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks}) == 10


def map_of(sweep: Sweep) -> Figure:
    values = [variant.value for variant in sweep.variants]
    return variants.heat_map(sweep.varied, values, [0.1] * len(values), LABEL, sweep.best)


def test_a_map_has_every_pair_at_its_place_and_frames_the_best(tmp_path: Path) -> None:
    root = swept(tmp_path / "p/e")
    finished(root, "optimizer.lr=3e-3,tier=smoke,units=8", 0, 99.0)  # a column with one cell
    figure = map_of(Sweep("p/e", summarise(root)))
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1e-4", "9e-4", "3e-3", "1e-2"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["8", "16"]
    grid = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(grid, [[21.5, 31.5, 99, 11.5], [22.5, 32, np.nan, 12.5]])
    (frame,) = axes.patches
    assert (frame.get_x() + 0.48, frame.get_y() + 0.48) == pytest.approx((3, 0))
    assert (root / "sweep_map.png").read_bytes().startswith(b"\x89PNG")


def test_one_key_has_no_map_and_one_variant_no_differences(tmp_path: Path) -> None:
    for seed in (0, 1):
        finished(tmp_path / "p/e", "units=8", seed, 3.0 + seed)
    summarise(tmp_path / "p/e")
    assert not (tmp_path / "p/e/sweep_map.png").exists()
    assert (tmp_path / "p/e/sweep.md").read_text().splitlines()[2:] == [
        f"| units | seeds | {LABEL} |",
        "| --- | --- | --- |",
        "| 8 | 2 | 3.5 ± 0.5 |",
    ]


def test_values_are_in_numeric_order_also_in_a_legend() -> None:
    assert sorted(["10", "9e-4", None, "a", "2"], key=place) == [None, "9e-4", "2", "10", "a"]
    settings = [{"lr": str(lr), "units": units} for lr in (1, 2) for units in ("128", "16", "8")]
    (axes,) = lines.variants(settings, [1.0] * 6, [0.1] * 6, LABEL).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"units = {units}" for units in (8, 16, 128)]


def test_what_is_common_and_what_is_paired() -> None:
    assert common([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1"}]) == {"a": "1"}
    assert common([{"a": "1"}]) == {}
    assert paired({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.5, 1: 0.5}) == pytest.approx((1.0, 0.5))
    assert paired({0: 1.0}, {0: 0.5}) == (0.5, None)
    assert paired({0: 1.0}, {1: 0.5}) is None


def test_a_search_minimises_whatever_is_validated() -> None:
    assert to_minimise({"quantity": "nll_bound", "value": 3.0}) == 3.0
    assert to_minimise({"quantity": "log_likelihood_bound", "value": 3.0}) == -3.0


def test_a_range_to_search_in_is_no_list_of_experiments() -> None:

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert names([f"experiment={ROLL}", "optimizer.lr=tag(log,interval(1e-4,1e-1))"]) == [ROLL]
