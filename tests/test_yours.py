"""Your own runs: apart from the shipped ones, compared with them, and in the report without a page being written for them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import fake_results
import numpy as np
import pytest
from fake_results import MLP, ROLL, TABLE

from dpm.report import Report
from dpm.report.variants import groups, paired
from dpm.study.agreement import agreements
from dpm.study.records import Measurement, Record, save_arrays
from dpm.study.results import Results, settings_of

CONF = Path(__file__).resolve().parents[1] / "conf"
MOONS = "mine/two_moons"


def record(seed: int, values: Mapping[str, float], experiment: str = ROLL, weights: str = "same", **about: object) -> Record:
    """A record of some quantities, each with the error 0.1 over 100 examples."""
    facts = {"data": "SwissRoll", "split": "held-out", "seed": seed, **about}
    measured = tuple(Measurement(q, value, 0.1, 100, "bits", facts) for q, value in values.items())
    return Record(experiment, seed, "laptop", {"network": "MLP"}, {"seconds": 1.0}, {"weights_sha256": weights}, measured)


def bound(K: float) -> dict[str, float]:
    return {"ceiling": 9.0, "log_likelihood_bound": K}


def put(root: Path, folder: str, *records: Record) -> Results:
    for one in records:
        one.save(root / folder / f"seed{one.seed}.json")
    return Results(root)


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    fake_results.write(tmp_path, seeds=3)
    return tmp_path


def html(root: Path) -> str:
    return Report.load(root, CONF / "claims", CONF / "report").document()


# --- where they lie ---------------------------------------------------------------------------------------------------


def test_yours_are_no_part_of_the_shipped_ones(shipped: Path) -> None:
    before = Report.load(shipped, CONF / "claims", CONF / "report")
    texts, runs = before.texts(), len(before.results.runs)
    assert Results(shipped).yours() is None
    for seed in range(2):
        put(shipped / "yours", ROLL, replace(fake_results.record(ROLL, seed, 3.0, "RBF", 16, 1e-6)))
    put(shipped / "yours", f"{ROLL}_beta_1/beta_1=1e-2", record(0, bound(1.0), f"{ROLL}_beta_1"))
    after = Report.load(shipped, CONF / "claims", CONF / "report")
    assert after.texts() == texts
    assert len(after.results.runs) == runs
    assert len(Results(shipped).yours().runs) == 3


def test_the_name_of_a_folder_says_what_was_changed() -> None:
    assert settings_of("optimizer.lr=0.01,units=8") == {"optimizer.lr": "0.01", "units": "8"}
    assert settings_of("optimizer.betas=[0.9,0.99],tier=smoke") == {"optimizer.betas": "[0.9,0.99]", "tier": "smoke"}
    assert settings_of("") == {}


# --- do they agree ----------------------------------------------------------------------------------------------------


def of(shipped: Results, yours: Results, quantity: str = "log_likelihood_bound") -> float:
    (found,) = [a.deviation for a in agreements(shipped, yours) if a.quantity == quantity]
    return found


def test_a_deviation_is_in_joint_standard_errors(tmp_path: Path) -> None:
    shipped = put(tmp_path, ROLL, record(0, bound(2.0)))
    yours = put(tmp_path / "yours", ROLL, record(0, bound(2.3)))
    assert of(shipped, yours) == pytest.approx(0.3 / np.hypot(0.1, 0.1))
    assert [a.agree for a in agreements(shipped, yours)] == [
        True,
        False,
    ]  # of the ceiling, of the bound


def test_another_training_of_one_seed_may_differ_as_seeds_do(tmp_path: Path) -> None:
    values = (1.0, 2.0, 3.0)  # of standard deviation 1
    shipped = put(tmp_path, ROLL, *(record(seed, bound(K)) for seed, K in enumerate(values)))
    same = put(tmp_path / "a", ROLL, record(0, bound(1.6)))
    other = put(tmp_path / "b", ROLL, record(0, bound(1.6), weights="another"))
    assert of(shipped, same) == pytest.approx(0.6 / np.hypot(0.1, 0.1))
    assert of(shipped, other) == pytest.approx(0.6 / np.sqrt(2 * 0.1**2 + 2 * 1.0**2))


def test_only_the_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    shipped = put(tmp_path, ROLL, *(record(seed, bound(float(seed))) for seed in range(3)))
    yours = put(tmp_path / "yours", ROLL, record(2, bound(2.0)), record(7, bound(50.0)))
    assert of(shipped, yours) == 0.0
    assert not agreements(shipped, put(tmp_path / "others", ROLL, record(8, bound(2.0))))


def test_numbers_of_another_protocol_are_not_compared(tmp_path: Path) -> None:
    """A fact that both state tells them apart, one that a later version added does not."""
    shipped = put(tmp_path, ROLL, record(0, bound(2.0), edges="entropy"))
    assert not agreements(shipped, put(tmp_path / "a", ROLL, record(0, bound(2.0), edges="stationary")))
    assert len(agreements(shipped, put(tmp_path / "b", ROLL, record(0, bound(2.0), edges="entropy", covariance="pixels")))) == 2


def test_what_has_no_error_is_equal_or_not(tmp_path: Path) -> None:
    def exact(value: float) -> Record:
        return replace(
            record(0, bound(1.0)), measurements=(Measurement("parameters", value, None, 1, "parameters", {"seed": 0}),)
        )

    shipped = put(tmp_path, ROLL, exact(5.0))
    for name, value, deviation in (("a", 5.0, 0.0), ("b", 6.0, np.inf), ("c", 4.0, -np.inf)):
        assert of(shipped, put(tmp_path / name, ROLL, exact(value)), "parameters") == deviation


def test_the_report_sets_yours_beside_paper_and_shipped(shipped: Path) -> None:
    """A retrained seed: compared, judged, and what disagrees is named."""
    mine = fake_results.record(ROLL, 0, 9.0, "RBF", 16, 1e-6)
    put(shipped / "yours", ROLL, mine)
    yours = Report.load(shipped, CONF / "claims", CONF / "report").yours
    (K,) = [row for row in yours.rows if row.claim.id == f"{TABLE}/K"]
    assert K.cells[0] == "2.35 bits"
    assert K.cells[2] == "9.000 ± 0.012 (1 × 10,000)"
    assert K.agreement.deviation > 50
    assert not K.agreement.agree
    assert K.verdict.word in ("incomparable", "exceeded", "surpassed")
    said = yours.terminal()
    assert "**" not in said
    assert re.search(r"Swiss roll: K \(RBF, 16 units, quasi-Newton\) +2.35 bits +-?\S+ ± \S+ +9.000 ± 0.012 +no", said)
    assert "log likelihood bound: 9.000 ± 0.012 bits for" in said
    assert "## Yours and the shipped" in html(shipped)


# --- variants ---------------------------------------------------------------------------------------------------------


def sweep(root: Path) -> None:
    """3 x 2 settings, K = rate + 10 units + the seed, of which seed 1 is missing once; and the experiment as configured."""
    for rate in (1, 2, 3):
        for units in (8, 16):
            seeds = (0,) if (rate, units) == (1, 8) else (0, 1)
            for seed in seeds:
                one = record(seed, bound(rate + 10 * units + seed), MLP)
                put(root / "yours", f"{MLP}/optimizer.lr={rate},tier=smoke,units={units}", one)
    put(root / "yours", f"{MLP}/tier=smoke", record(0, bound(5.0), MLP))


def test_a_sweep_is_one_group_best_first_with_what_it_is_a_change_of(tmp_path: Path) -> None:
    sweep(tmp_path)
    yours = Results(tmp_path / "yours")
    (swept,) = groups(yours.runs, yours)
    assert (swept.experiment, swept.common) == (MLP, {"tier": "smoke"})
    assert [dict(v.settings) for v in swept.ordered][:2] == [{"optimizer.lr": str(r), "units": "16"} for r in (3, 2)]
    assert dict(swept.ordered[-1].settings) == {}
    assert len(swept.ordered) == 7


def test_differences_are_between_the_same_seeds(tmp_path: Path) -> None:
    sweep(tmp_path)
    yours = Results(tmp_path / "yours")
    (swept,) = groups(yours.runs, yours)
    best, rows = swept.ordered[0].found, {tuple(v.settings.values()): v.found for v in swept.ordered}
    assert paired(best, best) == ""
    assert paired(rows["2", "16"], best) == "−1"  # of two seeds, without any spread
    assert paired(rows["1", "8"], best) == "−82"  # of seed 0 alone


def test_what_was_measured_on_other_data_is_no_change_of_the_experiment(tmp_path: Path) -> None:
    put(tmp_path, MLP, record(0, bound(5.0), MLP))
    put(tmp_path, f"{MLP}/data=points", replace(record(0, bound(1.0), MLP, data="moons")))
    (group,) = groups(Results(tmp_path).runs, Results(tmp_path))
    assert [dict(variant.settings) for variant in group.variants] == [{"data": "points"}]


def test_less_is_better_for_a_bound_of_2020(tmp_path: Path) -> None:
    for rate, L in ((1, 4.0), (2, 3.0)):
        put(tmp_path, f"{MLP}/lr={rate}", record(0, {"nll_bound": L}, MLP))
    (group,) = groups(Results(tmp_path).runs, Results(tmp_path))
    assert [variant.settings["lr"] for variant in group.ordered] == ["2", "1"]


def test_a_sweep_is_in_the_report_with_a_figure(shipped: Path) -> None:
    sweep(shipped)
    text, images = html(shipped), Report.load(shipped, CONF / "claims", CONF / "report").yours.images()
    assert f"## Variants of {MLP}, tier = smoke" in text
    assert "| `optimizer.lr` | `units` |" in text
    assert "| 3 | 16 | 163.50 ± 0.51 (2 × 100) |  |" in text
    (name,) = images
    assert f"]({name})" in text
    assert images[name].startswith(b"\x89PNG")


# --- new experiments --------------------------------------------------------------------------------------------------


def test_a_new_experiment_has_a_page_by_itself(shipped: Path) -> None:
    put(shipped / "yours", MOONS, *(record(seed, bound(1.0 + seed), MOONS) for seed in (0, 1)))
    for seed in (0, 1):
        save_arrays(shipped / "yours" / MOONS / f"seed{seed}.npz", fake_results.arrays(seed))
    report = Report.load(shipped, CONF / "claims", CONF / "report")
    text, images = html(shipped), report.yours.images()
    assert f"# {MOONS}" in text
    assert f"python experiments/train.py experiment={MOONS} seed=0" in text
    assert "| log likelihood bound |" in text
    assert {name.rsplit("/", 1)[1] for name in images} == {"figure_1.png", "validated.png"}
    assert all(f"](yours/{MOONS}/" in text and name.startswith(f"yours/{MOONS}/") for name in images)
    written = [path.relative_to(shipped).as_posix() for path in report.write(shipped / "out")]
    assert "yours/README.md" in written
    assert f"]({MOONS}/figure_1.png)" in (shipped / "yours" / "README.md").read_text()
    assert MOONS in (shipped / "out" / "report.html").read_text()


def test_without_arrays_there_are_no_figures(shipped: Path) -> None:
    put(shipped / "yours", MOONS, record(0, bound(1.0), MOONS))
    assert not Report.load(shipped, CONF / "claims", CONF / "report").yours.images()
    assert f"# {MOONS}" in html(shipped)


def test_a_shipped_record_that_no_page_names_is_shown_as_well(shipped: Path) -> None:
    put(shipped, f"{ROLL}/units=3", record(0, bound(1.0)))
    assert f"## Variants of {ROLL}" in html(shipped)


def test_without_runs_of_yours_there_is_no_chapter(shipped: Path) -> None:
    report = Report.load(shipped, CONF / "claims", CONF / "report")
    assert report.yours.document() == ""
    assert report.yours.terminal() == ""
    assert "Your runs" not in html(shipped)
