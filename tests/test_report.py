"""The report says what records and claims say, the same bytes each time, and one clear line where it cannot."""

import math
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fake_results
import pytest
import yaml
from fake_results import MLP, ROLL, TABLE

from dpm.errors import UserError
from dpm.report import Report, convert, sections
from dpm.report.drawing import draw
from dpm.report.markdown import document, limit, measured, plain, setting, signed, table
from dpm.report.pages import TEXTS as OTHERS
from dpm.report.pages import FigureEntry, load_pages, load_text
from dpm.report.placeholders import fill
from dpm.report.rows import counted, page_rows, terminal, unmeasured
from dpm.runs.folder import variant
from dpm.study import audit
from dpm.study.claims import load_claims
from dpm.study.records import Record, over_seeds
from dpm.study.results import Results, selected

ROOT = Path(__file__).resolve().parents[1]
CLAIMS, TEXTS = ROOT / "conf" / "claims", ROOT / "conf" / "report"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    fake_results.write(folder, seeds=3)
    return folder


@pytest.fixture(scope="module")
def report(results: Path) -> Report:
    return Report.load(results, CLAIMS, TEXTS)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """One experiment with two seeds, to be broken by a test."""
    for seed in (0, 1):
        fake_results.record(ROLL, seed, 2.0 + seed, "RBF", 16, 1e-6).save(tmp_path / ROLL / f"seed{seed}.json")
    return tmp_path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TEXTS, tmp_path / "texts"))


def edit(path: Path, change) -> None:
    record = Record.load(path)
    change(record).save(path)


# --- numbers -----------------------------------------------------------------------------------------------------------


def test_numbers_are_printed_to_the_second_digit_of_their_error():
    assert measured(2.34567, 0.0123, "bits") == "2.346 ± 0.012 bits"
    assert measured(-14.4386, None, "bits/sequence") == "−14.439 bits/sequence"
    assert measured(1.0e-5, None, "bits/dim") == "1e-05 bits/dim"
    assert measured(3.17, None, "1") == "3.17"
    assert measured(3.794132, 3e-16, "bits") == "3.7941 bits"  # the spread of equal numbers
    assert measured(35746307.0, 12.0, "parameters") == "35,746,307 ± 12 parameters"
    assert measured(None) == ""
    assert (signed(-3.249), signed(0.0512), signed(2.0), signed(-14.4)) == ("−3.2", "+0.051", "+2.0", "−14")
    assert (setting(1e-6), setting(2.5e-3), setting(0.2), setting(40), setting("RBF")) == ("1e-6", "2.5e-3", "0.2", "40", "RBF")


def test_table_cells_stay_in_their_cell():
    assert table(("a", "b"), [("x|y", "two\nlines")], "lr") == "| a | b |\n| :-- | --: |\n| x\\|y | two lines |"
    assert plain("H_q(X_1) * 2 < [x]") == r"H\_q(X\_1) \* 2 \< \[x\]"


def test_mean_over_seeds_contains_spread_and_common_error(few: Path):
    mean = over_seeds(selected([run.record for run in Results(few).of(ROLL)], "log_likelihood_bound", {"edges": "entropy"}))
    spread = (1 / 2) ** 0.5  # standard deviation of 2.0 and 3.0
    assert mean.value == pytest.approx(2.5)
    assert mean.stderr == pytest.approx((spread**2 / 2 + 0.012**2) ** 0.5)
    assert (mean.n, mean.seeds) == (10000, 2)


# --- what it says --------------------------------------------------------------------------------------------------------


def test_summary_has_a_row_for_every_claim_of_a_page(report: Report):
    lines = report.readme().splitlines()
    for page in report.pages:
        for label in page.claims.values():
            assert len([line for line in lines if f"[{label}]({page.home}/README.md)" in line]) == 1
    (row,) = (line for line in lines if "[Swiss roll: K](" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    expected = over_seeds(selected([r.record for r in report.results.of(ROLL)], "log_likelihood_bound", {"edges": "entropy"}))
    assert cells[1] == "2.35 bits"
    assert cells[2] == f"{measured(expected.value, expected.stderr)} (3 × 10,000)"
    assert cells[3] == f"{expected.ceiling:.3f}"  # the error has its second digit there
    assert cells[4] == f"{expected.oracle:.3f}"
    assert cells[5].startswith("**differs** (−3.")


def test_page_judges_every_experiment_and_numbers_the_deviations(report: Report):
    page = report.texts()[f"{ROLL}/README.md"]
    assert "| Swiss roll: K | MLP, Adam | 2.35 bits |" in page
    assert "- Swiss roll: K (RBF, 16 units, quasi-Newton): " in page
    assert "- Swiss roll: K (MLP, Adam)" not in page
    for index, _ in enumerate(report.pages[0].deviations, 1):
        assert f"**D{index}.**" in page
    assert page.index("## Verdict") < page.index("## Figures")


def test_sweep_tables_are_sorted_by_their_settings(report: Report):
    page = report.texts()[f"{ROLL}/README.md"]
    sweep = page.split("## K against the number of units")[1].split("##")[0]
    assert [row.split("|")[2].strip() for row in sweep.splitlines() if row.startswith("| ")][2:] == [
        "4",
        "16",
        "16",
        "64",
        "256",
    ]


def test_every_claim_is_in_the_table_of_all_claims_once(report: Report):
    """By the label of its page where a page shows it, else by its id."""
    text = report.appendix().split("{#verdicts}")[1].split("# Experiments")[0].split("Where a number was read")[1]
    labels = {claim: label for page in report.pages for claim, label in page.claims.items()}
    judged = {row.claim.id for row in report.rows if row.verdict}
    for claim in report.claims:
        name = f"[{labels[claim]}](#" if claim in judged else f"`{claim.split('/', 1)[1]}`"
        of_others = [c for c in report.claims if c not in judged and f"`{c.split('/', 1)[1]}`" == name]
        assert text.count(name) == max(1, len(of_others)), claim
    assert "**holds** (audit)" in text


def test_counts_of_the_summary_add_up(report: Report):
    text = report.reading
    names = r"numbers:|results of|that repeat|that the authors took|of other|settings|numbers that"
    total, *kinds = (int(number) for number in re.findall(rf"(\d+) (?:{names})", text))
    assert total == len(report.claims) == sum(kinds)
    assert len(kinds) == 6
    lines = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| **")]
    table = {word: [int(count) for count in counts] for word, _, *counts in lines}
    assert sum(counts[0] for counts in table.values()) == kinds[0]
    assert sum(sum(counts[1:]) for counts in table.values()) == sum(row.claim.kind != "result" for row in report.rows)


@pytest.mark.parametrize("folder", ["made up", "shipped"])
def test_the_counted_table_and_the_printed_rows_agree(report: Report, folder: str):
    """Every word of a row is counted under its kind; what has no row is counted as pending or by its needs, and listed."""
    shown = report if folder == "made up" else Report.load(ROOT / "results", CLAIMS, TEXTS)
    counts, printed = counted(shown.claims, shown.rows), Counter((row.verdict.word, row.claim.kind) for row in shown.rows)
    for word, by_kind in counts.items():
        for kind, number in by_kind.items():
            if (word, kind) not in (("pending", "result"), ("needs", "result")):
                assert number == printed[word, kind], (word, kind)
    listed = sections.waiting(shown.rows, shown.claims)
    assert sum(listed.count(f"`{paper}/") for paper in sections.PAPERS) == sum(
        counts[word]["result"] for word in ("pending", "needs")
    )
    assert all(f"`{c.id}`" in listed for group in unmeasured(shown.claims, shown.rows).values() for c in group)


def test_a_run_at_the_papers_tier_goes_before_the_laptops_and_both_are_shown(few: Path):
    """`evaluate.py tier=paper` writes below tier=paper, whatever the device; its row answers the claim."""
    overrides = ["tier=paper", "device=cuda", "threads=8", "precision=float32", "reverse.network.precision=float32"]
    assert variant(overrides, yaml.safe_load((ROOT / "conf" / "base.yaml").read_text())) == "tier=paper"
    laptop = Results(few).of(ROLL)[0].record
    paper = replace(
        laptop, seed=0, tier="paper", measurements=tuple(replace(m, value=m.value + 0.3) for m in laptop.measurements)
    )
    paper.save(few / ROLL / "tier=paper" / "seed0.json")
    shown = Report.load(few, CLAIMS, TEXTS)
    (row,) = (row for row in shown.rows if row.claim.id == f"{TABLE}/K")
    assert (row.folder, row.experiment) == (f"{ROLL}/tier=paper", "RBF, 16 units, quasi-Newton, paper tier")
    assert row.mean.value == pytest.approx(2.3)
    page = shown.texts()[f"{ROLL}/README.md"]
    assert "| Swiss roll: K | RBF, 16 units, quasi-Newton, paper tier | 2.35 bits | 2.30" in page
    assert "| Swiss roll: K | RBF, 16 units, quasi-Newton | 2.35 bits | 2.5" in page


def test_a_page_names_the_training_that_recreates_weights_that_are_not_shipped(few: Path):
    edit(few / ROLL / "seed1.json", lambda r: replace(r, provenance={**r.provenance, "weights": "not kept"}))
    page = Report.load(few, CLAIMS, TEXTS).texts()[f"{ROLL}/README.md"]
    assert f"`python experiments/train.py experiment={ROLL} seed=1` trains them again" in page
    assert f"experiment={ROLL} seed=0`" not in page


def test_provenance_names_every_record_with_its_commit_and_hashes(report: Report):
    text = report.appendix().split("# Budget and provenance")[1]
    for run in report.results.runs:
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{run.name}` "))
        for value in (run.record.provenance["commit"], run.record.provenance["weights_sha256"]):
            assert str(value)[:7] in row
    assert "`0123456+`" in text  # seed 0 was made from a changed working tree


def test_audit_tells_the_three_stories_and_every_identity_once(report: Report):
    text = report.appendix().split("# Audit")[1].split("# Index of equations")[0]
    assert "4.2036 ± 0.067 bits/dim" in text
    words = [identity.word for identity in audit.identities(report.claims)]
    assert {word: text.count(f"| **{word}**") for word in set(words)} == {word: words.count(word) for word in set(words)}


def test_terminal_table_fits(report: Report):
    lines = terminal(report.rows).splitlines()
    assert len(lines) == 1 + len(report.rows)
    assert max(map(len, lines)) <= 120
    for line, row in zip(lines[1:], report.rows, strict=True):
        assert line.endswith(row.cells[4].replace("*", "")), "names are cut before verdicts"
    assert max(map(len, terminal(report.rows, width=60).splitlines())) == 60


def test_without_records_everything_is_pending(tmp_path: Path):
    report = Report.load(tmp_path, CLAIMS, TEXTS)
    assert {row.verdict.word for row in report.rows} == {"pending", "needs"}
    assert "![" not in "".join(report.texts().values())
    assert "More text follows when these are measured: RBF, 16 units, quasi-Newton" in report.texts()[f"{ROLL}/README.md"]
    written = {path.name for path in report.write(tmp_path / "out")}
    assert {"README.md", "report.html", "report.pdf"} <= written
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF")


def test_html_is_one_file_whose_links_lead_somewhere(report: Report):
    without = re.sub(r"!\[.*?\]\(.*?\)\{#(.*?)( .*?)?\}", r"[]{#\1}", report.document())  # figures stay as what links lead to
    html = convert.html(without, report.cover, {}, report.main.bibliography).decode()
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', html)
    targets, anchors = set(re.findall(r'href="#([^"]+)"', html)), set(re.findall(r'id="([^"]+)"', html))
    assert targets <= anchors
    assert '<span class="verdict differs">' in html


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(results: Path, tmp_path: Path):
    def write(name: str) -> dict[str, bytes]:
        copy = Path(shutil.copytree(results, tmp_path / name / "results"))
        report = Report.load(copy, CLAIMS, TEXTS)
        written = [*report.write(tmp_path / name), *report.write_latex(tmp_path / name)]
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in written}

    first, second = write("one"), write("two")
    assert first == second
    shown = {"report.html", "report.pdf", "report.tex", "results/README.md", "results/EQUATIONS.md"}
    assert shown | {f"results/{ROLL}/figure_1.png", f"report_figures/{ROLL}/figure_1.pdf"} <= set(first)
    assert str(tmp_path).encode() not in first["report.html"]


# --- placeholders --------------------------------------------------------------------------------------------------------


def test_placeholders_become_numbers(report: Report):
    def filled(text: str) -> str:
        return fill(text, report.claims, report.results, report.pages[0].planned)

    found = selected([r.record for r in report.results.of(MLP)], "gain_over_null", {"edges": "stationary"})
    mean, values = over_seeds(found), [m.value for m in found]
    assert filled(f"{{{{claim:{TABLE}/K}}}}") == "2.35 bits"
    assert filled(f"{{{{{MLP}:gain_over_null edges=stationary}}}}") == measured(mean.value, mean.stderr, "bits")
    assert filled(f"{{{{{MLP}:gain_over_null.ceiling edges=stationary}}}}") == f"{mean.ceiling:.3f} bits"
    assert filled(f"{{{{{MLP}:gain_over_null.median edges=stationary}}}}") == f"{statistics.median(values):.3f} bits"
    assert filled(f"{{{{{MLP}:gain_over_null.largest edges=stationary}}}}") == f"{max(values):.3f} bits"
    assert filled(f"{{{{{MLP}:gain_over_null.smallest edges=stationary}}}}") == f"{min(values):.3f} bits"
    in_nats = measured(mean.value * math.log(2) / 2, mean.stderr * math.log(2) / 2, "nats/dim")
    asked = "gain_over_null edges=stationary in=gain_over_oracle:nats/dim dimensions=2"
    assert filled(f"{{{{{MLP}:{asked}}}}}") == in_nats


def test_an_exact_number_under_two_protocols_is_one_number(report: Report) -> None:
    """Others, or estimates that happen to be the same, are ambiguous."""
    (record, *_) = (run.record for run in report.results.of(ROLL))
    estimate = next(m for m in record.measurements if m.quantity == "gain_over_null")
    first = replace(estimate, stderr=0.0)
    again = replace(first, protocol={**first.protocol, "orientations": 4})
    assert selected([replace(record, measurements=(first, again))], "gain_over_null", {}) == [first]
    for one, other in ((first, replace(again, value=first.value + 1e-6)), (estimate, replace(again, stderr=estimate.stderr))):
        with pytest.raises(UserError, match="say which: orientations"):
            selected([replace(record, measurements=(one, other))], "gain_over_null", {})


@pytest.mark.parametrize(
    ("placeholder", "message"),
    [
        ("claim:nowhere", "no such claim"),
        ("somewhere:K", "no records in"),
        (f"{ROLL}:K", "no such measurement"),
        (f"{ROLL}:gain_over_null", "2 measurements of gain_over_null fit; say which: edges"),
        (f"{ROLL}:gain_over_oracle.ceiling edges=entropy", "state no ceiling"),
        ("12.5 bits", "neither claim:ID nor"),
        (f"{ROLL}:log_likelihood_bound edges=entropy in=parzen_log_likelihood:bits", "positive and finite"),
    ],
)
def test_a_placeholder_that_cannot_be_filled_is_an_error(report: Report, placeholder: str, message: str):
    with pytest.raises(UserError, match=re.escape(message)):
        fill(f"K is {{{{{placeholder}}}}}.", report.claims, report.results, report.pages[0].planned)


def test_paragraphs_wait_for_planned_experiments_only(few: Path):
    results, claims = Results(few), load_claims(CLAIMS)
    text = f"First {{{{{ROLL}:gain_over_oracle edges=entropy}}}}.\n\nSecond {{{{{MLP}:gain_over_oracle edges=entropy}}}}."
    filled = fill(text, claims, results, {ROLL: "RBF", MLP: "MLP"})
    assert filled.startswith("First ")
    assert "Second" not in filled
    assert "measured: MLP." in filled
    with pytest.raises(UserError, match="no records"):
        fill(text, claims, results, {ROLL: "RBF"})


def test_page_texts_hold_no_measured_number_typed_by_hand():
    for page in load_pages(TEXTS, load_claims(CLAIMS)):
        for text in (page.text, *(figure.caption for figure in (*page.figures, *page.animations))):
            bare = re.sub(r"\{\{.*?\}\}", "", text, flags=re.DOTALL)
            assert not re.search(r"\d\.\d", bare), f"{page.name}: {bare}"


# --- mistakes ------------------------------------------------------------------------------------------------------------


def test_records_that_cannot_be_right_are_refused(few: Path):
    def claims_something_unknown(record: Record) -> Record:
        first, *others = record.measurements
        return replace(record, measurements=(replace(first, claim="no/such/claim"), *others))

    def answers_twice(record: Record) -> Record:
        return replace(record, measurements=(*record.measurements, *record.measurements))

    path, changes = few / ROLL / "seed0.json", (
        (claims_something_unknown, "no/such/claim, which is not in the claims"),
        (answers_twice, "2 measurements answer"),
        (lambda record: replace(record, tier="smoke"), r"different tiers \(laptop, smoke\)"),
        (lambda record: replace(record, seed=7), "holds seed 7 of"),
        (lambda record: replace(record, experiment="p/other"), "holds seed 0 of p/other"),
    )  # fmt: skip
    original = path.read_bytes()
    for change, message in changes:
        edit(path, change)
        with pytest.raises(UserError, match=message):
            Report.load(few, CLAIMS, TEXTS)
        path.write_bytes(original)


def test_a_results_folder_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere: no such folder of results"):
        Report.load(tmp_path / "nowhere", CLAIMS, TEXTS)


FIGURE = "figures: [{_target_: dpm.figures.terms.per_step, caption: x"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("---\ntitle", "title", "no front matter; a page begins with YAML between two lines ---"),
        ("---\n\n## What the", "\n## What the", "no front matter"),
        ("title: Swiss roll", "title: Swiss: roll", "the front matter is not YAML: mapping values are not allowed here"),
        ("title: Swiss roll", "- title", "front matter"),
        ("title: Swiss roll", "", "front matter lacks title"),
        ("title: Swiss roll", "title: 2015", "front matter: title must be text, not 2015"),
        ("title: Swiss roll", "title: a\ncolour: red", "front matter has the unknown key colour; known: title, experiments"),
        ("title: Swiss roll", "title: a\npaper: x", "unknown key paper"),
        (f"  {TABLE}/K: ", "  no/such/claim: ", "claim no/such/claim is not in the claims"),
        ("experiments:", "experiments: {}\nprotocol:", "needs at least one experiment"),
        ("claims:", "claims:\nprotocol:", "front matter: claims must be a mapping, not None"),
        ("figures:", "figures: [{_target_: os.remove, arrays: x, caption: x}]\nanimations:", "a function of dpm.figures"),
        ("figures:", f"{FIGURE}}}]\nanimations:", "per_step needs exactly one of arrays, seeds, records"),
        ("figures:", f"{FIGURE}, arrays: a, seeds: b}}]\nanimations:", "exactly one of arrays, seeds, records"),
        ("figures:", f"{FIGURE}, arays: a}}]\nanimations:", "a figure has the unknown key arays"),
        ("figures:", f"{FIGURE}, seeds: [a]}}]\nanimations:", "a figure: seeds must be text, not ['a']"),
        ("figures:", "figures: [{arrays: a, caption: x}]\nanimations:", "a figure lacks _target_"),
        ("figures:", f"{FIGURE}, seeds: a, options: {{claim: x}}}}]\nanimations:", "claim x is not in the claims"),
        ("figures:", "figures: [K]\nanimations:", "a figure must be a mapping"),
        ("sweeps:", "sweeps: [{title: K}]\nfigures:", "a sweep lacks folders, settings"),
        ("## Deviations", "## Our deviations", "unknown heading '## Our deviations'; known: What the paper did, What we ran"),
        ("## Deviations", "## What we ran", "more than one heading '## What we ran'"),
        ("## What the paper did", "# Swiss roll\n\n## What the paper did", "text before the first heading: '# Swiss roll'"),
        ("## What the paper did", "## Deviations\n\n## What we ran\n\n## What the numbers say", "more than one heading"),
        ("## What we ran\n\n```sh", "## What we ran\n\n```", "must be one block, ```sh"),
        ("## What we ran\n", "## What we ran\n\nThis:\n", "must be one block, ```sh"),
        ("## Deviations\n", "## Deviations\n\nThese are:\n", "lines begin with '- ' or two blanks, not 'These are:'"),
        ("## Deviations\n", "## Deviations\n\n- {{claim:x}}\n", "a deviation or a caption has no placeholders"),
        (f"{{{{claim:{TABLE}/K}}}}", "{{claim:x}}", "{{claim:x}}: no such claim"),
        (f"{{{{claim:{TABLE}/K}}}}", "{{2.35 bits}}", "{{2.35 bits}}: neither claim:ID nor"),
    ],
)
def test_a_wrong_page_is_one_clear_line(texts: Path, old: str, new: str, message: str):
    path = texts / "10_swiss_roll.md"
    assert old in path.read_text()
    path.write_text(
        path.read_text().replace(old, new, 1)
    )  # what stood under a key goes to the next one, whose last value counts
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_pages(texts, load_claims(CLAIMS))
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_two_pages_of_one_home_are_refused(texts: Path):
    (texts / "99_again.md").write_bytes((texts / "10_swiss_roll.md").read_bytes())
    with pytest.raises(UserError, match=r"would both be sohl_dickstein_2015/\S+/README.md: list another experiment first"):
        load_pages(texts, load_claims(CLAIMS))


def test_a_page_needs_what_we_ran(texts: Path):
    path = texts / "10_swiss_roll.md"
    sections = re.split(r"(?m)^(?=## )", path.read_text())
    path.write_text("".join(text for text in sections if not text.startswith("## What we ran")))
    with pytest.raises(UserError, match=r"10_swiss_roll.md: lacks the heading '## What we ran'"):
        load_pages(texts, load_claims(CLAIMS))


def test_a_page_is_what_its_file_says(tmp_path: Path):
    (tmp_path / "01_toy.md").write_text(
        "---\ntitle: Toy\nexperiments: {p/toy: ours}\nclaims: {}\n---\n\n## What the paper did\n\nOne.\n\nTwo.\n\n"
        "## What we ran\n\n```sh\nfirst\nsecond  # why\n```\n\n## Deviations\n\n- A wrapped\n  item.\n- Another - one.\n\n"
        "## What the numbers say\n\n### A heading of its own\n\nText.\n"
    )
    (page,) = load_pages(tmp_path, {})
    assert (page.name, page.title, page.home, page.claims) == ("toy", "Toy", "p/toy", {})
    assert (page.paper, page.command) == ("One.\n\nTwo.", "first\nsecond  # why")
    assert page.deviations == ["A wrapped item.", "Another - one."]
    assert page.text == "### A heading of its own\n\nText."
    text = sections.page(page, {}, Results(tmp_path), "")
    assert "**D1.** A wrapped item.\n\n**D2.** Another - one.\n\n## What the numbers say" in text
    assert "## What we ran\n\n```sh\nfirst\nsecond  # why\n```" in text


def test_every_file_beside_the_pages_is_read(texts: Path, tmp_path: Path):
    (texts / "mistake.md").write_text("text")
    with pytest.raises(UserError, match=r"mistake.md: a page is named <nn>_<name>.md, and the other texts are reading.md"):
        load_pages(texts, load_claims(CLAIMS))
    (texts / "mistake.md").unlink()
    for name in OTHERS:
        content = (texts / name).read_text()
        (texts / name).write_text(f"{content}\n\n{{{{count:colours}}}}\n")
        with pytest.raises(UserError, match=rf"{name}: {{{{count:colours}}}}: no kind of claims; known: all, result"):
            Report.load(ROOT / "results", CLAIMS, texts)
        (texts / name).unlink()
        with pytest.raises(UserError, match=rf"cannot read .*{name}: No such file"):
            Report.load(ROOT / "results", CLAIMS, texts)
        (texts / name).write_text(content)
    with pytest.raises(UserError, match="nowhere: no such folder of pages"):
        load_pages(tmp_path / "nowhere", load_claims(CLAIMS))


def test_a_text_has_its_table_and_its_counts(tmp_path: Path):
    claims = load_claims(CLAIMS)
    (tmp_path / "a.md").write_text("{{count:all}} and {{count:derived}}\n\n{{verdicts}}\n")
    derived = sum(claim.kind == "derived" for claim in claims.values())
    expected = f"{len(claims)} and {derived}\n\n| a |"
    assert load_text(tmp_path / "a.md", claims, Results(tmp_path), {}, verdicts="| a |") == expected


def test_a_figure_that_lacks_an_array_is_one_clear_line(report: Report):
    entry = FigureEntry("dpm.figures.schedule.learned_betas", ".png", "", records=(f"{ROLL}_units/*",))
    with pytest.raises(
        UserError, match=r"swiss_roll_quasi_newton_units/learned_betas.png: dpm.figures.schedule.learned_betas: TypeError"
    ):
        draw(entry, report.results, report.claims)


@pytest.mark.parametrize("package", ["pypandoc", "typst"])
def test_without_pandoc_or_typst_the_readme_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match="pip install pypandoc-binary typst"):
        list(Report.load(tmp_path, CLAIMS, TEXTS).write(tmp_path / "out"))
    assert (tmp_path / "README.md").read_text().startswith("# Results")
    assert not (tmp_path / "out" / "report.pdf").exists()


def test_an_experiment_that_answers_no_claim_is_shown_without_a_verdict(report: Report):
    (row,) = (
        r
        for r in page_rows(report.pages[0], report.claims, report.results)
        if (r.label, r.experiment) == ("Swiss roll: K", "MLP, Adam")
    )
    expected = over_seeds(selected([r.record for r in report.results.of(MLP)], "log_likelihood_bound", {"edges": "entropy"}))
    assert (row.verdict, row.mean) == (None, expected)
    assert row.cells[-1] == "not the paper's model"


def test_blocks_are_separated_by_one_blank_line():
    assert document("# A", "", "text\n\n", "  ") == "# A\n\ntext\n"


# --- the entrypoint ------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "experiments/report.py", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_entrypoint_prints_the_table_and_the_paths(tmp_path: Path):
    out = tmp_path / "out"
    done = run(
        f"results={tmp_path}", f"out={out}", 'author=A "B." O\'C, D', "title=One: two, three", "date=2027-05-01", "latex=true"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "2.35 bits" in done.stdout
    assert done.stdout.splitlines()[-3:] == [str(out / f"report.{suffix}") for suffix in ("html", "pdf", "tex")]
    page = (out / "report.html").read_text()
    for said in ("A “B.” O’C, D", "One: two, three", "2027-05-01"):
        assert said.translate(str.maketrans("“”’", '""\'')) in page.replace("&quot;", '"').replace("&#39;", "'"), said


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("+typo=1", "unknown configuration key 'typo'"),
        ("figures=png", "figures=png: either pdf or svg"),
        ("latex=maybe", "latex=maybe: either true or false"),
    ],
)
def test_entrypoint_fails_with_one_line(argument: str, message: str):
    done = run(argument)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("stderr", "printed"), [(None, "−2.37"), (0.5, "−2.37"), (0.013, "−2.366"), (0.0011, "−2.3659")])
def test_a_limit_has_the_digits_of_the_error_beside_it(stderr: float | None, printed: str):
    assert limit(-2.36587, stderr) == printed
