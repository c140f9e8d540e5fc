"""The committed results: README and pages follow from the records, every record from claims, configuration and a commit."""

import re
from pathlib import Path

import pytest

from dpm.report import Report
from dpm.report.drawing import drawable
from dpm.study.claims import load_claims
from dpm.study.records import over_seeds, sha256
from dpm.study.results import Results, grouped
from dpm.study.units import QUANTITIES

ROOT = Path(__file__).resolve().parents[1]
RESULTS, CLAIMS, TEXTS = ROOT / "results", ROOT / "conf" / "claims", ROOT / "conf" / "report"
REGENERATE = "run `python experiments/report.py` and commit results/"


@pytest.fixture(scope="module")
def report() -> Report:
    return Report.load(RESULTS, CLAIMS, TEXTS)


@pytest.fixture(scope="module")
def results() -> Results:
    return Results(RESULTS)


def test_readme_and_pages_are_what_the_records_say(report: Report):
    for name, text in report.texts().items():
        assert (RESULTS / name).read_bytes() == text.encode(), f"results/{name} is not up to date: {REGENERATE}"


def test_every_figure_that_can_be_drawn_is_there_and_no_other(report: Report):
    planned = {figure.file for page in report.pages for figure in page.figures if drawable(figure, report.results)}
    found = {path.relative_to(RESULTS).as_posix() for path in RESULTS.glob("*/**/*.png")}
    assert planned == {file for file in found if not file.startswith("yours/")}, REGENERATE


def test_every_image_and_link_of_the_pages_exists(report: Report):
    for name, text in report.texts().items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert (RESULTS / name).parent.joinpath(target).is_file(), f"results/{name} points to {target}"


def test_every_claim_that_a_record_answers_is_on_a_page(report: Report, results: Results):
    claims, shown = load_claims(CLAIMS), {claim for page in report.pages for claim in page.claims}
    answered = {m.claim for run in results.runs for m in run.record.measurements if m.claim is not None}
    assert answered <= set(claims)
    assert answered <= shown


def test_every_experiment_with_records_is_on_a_page(report: Report, results: Results):
    shown = {folder for page in report.pages for folder in page.experiments}
    shown |= {
        folder for page in report.pages for s in page.sweeps for pattern in s.folders for folder in results.folders(pattern)
    }
    assert {run.folder for run in results.runs} <= shown


def test_every_record_says_what_it_cost_and_where_it_comes_from(results: Results):
    for run in results.runs:
        trained = run.record.provenance["weights_sha256"] != sha256(b"")  # a benchmark of speed has no weights
        assert {"seconds", "device"} | ({"steps", "examples"} if trained else set()) <= set(run.record.budget), run.name
        assert re.fullmatch(r"[0-9a-f]{40}", str(run.record.provenance["commit"])), run.name
        for key in ("config_sha256", "data_sha256", "weights_sha256"):
            assert re.fullmatch(r"[0-9a-f]{64}", str(run.record.provenance[key])), run.name


def test_every_row_can_be_evaluated_again(report: Report, results: Results):
    """Its weights lie beside it, byte for byte, or its page names the training or the script that makes them again."""
    texts = report.texts()
    for page in report.pages:
        text = texts[f"{page.home}/README.md"]
        for run in (run for folder in page.experiments for run in results.of(folder)):
            origin = run.record.provenance
            if origin.get("weights") == "beside the record":
                assert sha256(run.arrays.with_suffix(".safetensors").read_bytes()) == origin["weights_sha256"], run.name
            elif origin.get("weights") == "not kept":
                trainings = [command.split() for command in re.findall(r"`([^`]*)` trains them again", text)]
                wanted = {f"experiment={run.record.experiment}", *(f"{key}={value}" for key, value in run.settings.items())}
                (words,) = [words for words in trainings if wanted == {w for w in words if "=" in w and "seed=" not in w}]
                assert str(run.record.seed) in re.search(r"seed=([\d,]+)", " ".join(words))[1].split(","), run.name
            else:
                assert " ".join(str(origin["command"]).split()[:2]) in page.command, run.name


REAL_TIME = {"VariancePreserving", "VarianceExploding", "Rectified", "Trigonometric"}  # schedules without steps of their own


def test_every_record_states_its_facts(results: Results):
    """Protocol and recipe are there for every number of a trained model: what it means, and what was trained how."""
    for run in (run for run in results.runs if "prediction" in run.record.recipe):
        for m in (m for m in run.record.measurements if "prediction" in (m.recipe or {})):
            assert {"network", "parameters", "objective", "batch_size"} <= set(m.recipe or {}), (run.name, m.quantity)
        if "weights" in run.record.provenance:
            of_it = [m for m in run.record.measurements if m.recipe == run.record.recipe]
            for m in (m for m in of_it if m.quantity != "gain_over_mcgsm"):  # which says what two models have in common
                steps = set() if m.protocol.get("schedule") in REAL_TIME else {"T"}
                ends = set() if "path_noise" in m.protocol else {"decoder"}  # a flow between two ends has no last step
                facts = {"data", "split", "schedule", "weights"} | steps | ends
                assert facts <= set(m.protocol), (run.name, m.quantity)


TYPED = re.compile(
    r"(\d[\d.,]*|half|third|quarter|fifth|sixth|tenth|twenty|hundred)\s+(of\s+)?(an?\s+)?(bits?\b|nats?\b|minutes|hours)", re.I
)


def test_no_measured_number_is_typed_into_the_prose(report: Report):
    """Numbers come from claims and records, by placeholders: what is left of a text without them has no bits, and no times."""
    for page in report.pages:
        for text in (page.text, *page.deviations, *(figure.caption for figure in page.figures)):
            bare = re.sub(r"\{\{.*?\}\}", "", text, flags=re.DOTALL)
            assert not TYPED.search(bare), f"{page.name}: {TYPED.search(bare)[0]!r} is typed: {bare[:60]!r}"


def test_no_bound_lies_above_its_ceiling(results: Results):
    """Up to three standard errors; an oracle that is worse than its trained network would be a mistake as well."""
    for run in results.runs:
        for m in run.record.measurements:
            slack = 3 * (m.stderr or 0.0)
            assert m.ceiling is None or m.value <= m.ceiling + slack, f"{run.name}: {m.quantity} above its ceiling"
            if m.oracle is not None and not m.protocol.get("training_examples"):  # a mean over sets of them: see below
                assert ahead(m.quantity, m.value, m.oracle) <= slack, f"{run.name}: {m.quantity} better than its oracle"


def test_no_mean_over_seeds_is_better_than_the_expectation_over_training_sets(results: Results):
    """Where the oracle is a mean over sets of so many examples, of which each seed has one."""
    of_sets = [run for run in results.runs if any(m.protocol.get("training_examples") for m in run.record.measurements)]
    means = {
        (folder, *group): over_seeds(measurements)
        for folder in {Path(run.name).parent for run in of_sets}
        for group, measurements in grouped(run for run in of_sets if Path(run.name).parent == folder).items()
    }
    known = {key: mean for key, mean in means.items() if mean.oracle is not None}
    assert len(known) >= 12  # two quantities, one at both ends, of four numbers of examples at least
    for (folder, quantity, _), mean in known.items():
        assert ahead(quantity, mean.value, mean.oracle) <= 3 * mean.stderr, f"{folder}: {quantity} better than its oracle"


def ahead(quantity: str, value: float, oracle: float) -> float:
    return QUANTITIES[quantity].better.factor * (value - oracle)
