"""README: the headlines are those of the records, what it links to exists, and so does what its commands name."""

import re
from pathlib import Path

import pytest
from helpers import ROOT

from dpm.errors import UserError
from dpm.report import Report
from dpm.report.headlines import BEGIN, HEADLINES, replaced
from dpm.report.rows import Row

README, FIGURES = ROOT / "README.md", ROOT / "docs" / "figures.md"
TEXTS = [README, FIGURES]
OF_THE_READER = ("/path/to", "experiment=mine/")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(Report.load(ROOT / "results", ROOT / "conf" / "claims", ROOT / "conf" / "report").rows)


def test_the_headlines_are_what_the_records_say(rows: list[Row]) -> None:
    text = README.read_text()
    assert replaced(text, rows) == text, "run `python experiments/report.py` and commit README.md"


def test_headlines_are_five_and_need_their_rows_and_their_place(rows: list[Row]) -> None:
    table = replaced(f"before\n{BEGIN}\nold\n<!-- end of headlines -->\nafter\n", rows)
    assert table.startswith("before\n")
    assert table.endswith("\nafter\n")
    assert "old" not in table
    assert len(re.findall(r"^\| 20(15|20)", table, re.MULTILINE)) == len(HEADLINES) == 5
    with pytest.raises(UserError, match="lacks the lines"):
        replaced("no place", rows)
    with pytest.raises(UserError, match="a headline of README"):
        replaced(README.read_text(), rows[1:])


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r'\]\(([^)]+)\)|src="([^"]+)"', path.read_text())
    for target in filter(None, (link or source for link, source in targets)):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_name_what_there_is(path: Path) -> None:
    """Scripts, experiments and options of groups; E stands for the paper's folder on the page of figures."""
    text, checked = path.read_text(), 0
    for paper in re.split(r"(?=^With `E=)", text, flags=re.MULTILINE):
        defined = re.match(r"With `E=(\w+)`", paper)
        found = paper.replace("$E", defined[1]) if defined else paper
        assert "experiment=$E" not in found
        for script in re.findall(r"python (\w+/\w+\.py)", found):
            assert (ROOT / script).is_file(), script
        for group, option in re.findall(r"\b(experiment|evaluators|draw|sampler|data)=([\w/]+)", found):
            if not f"{group}={option}".startswith(OF_THE_READER):
                assert (ROOT / "conf" / group / f"{option}.yaml").is_file(), f"{group}={option}"
                checked += 1
    assert checked > 10


def test_every_figure_of_both_papers_has_a_line() -> None:
    lines = re.findall(r"^\| ([\w. ,]+?) \|", FIGURES.read_text(), re.MULTILINE)
    first, second = (lines[at + 1 :] for at in [i for i, line in enumerate(lines) if line == "figure"])
    assert list(first[: first.index("figure")]) == ["1", "2", "3", "4", "5", "App. 1", "D.1"]
    numbers = [number for line in second for number in numbered(line)]
    assert numbers == list(range(1, 20))


def numbered(line: str) -> list[int]:
    whole = [int(number) for number in re.findall(r"\d+", line)]
    return list(range(whole[0], whole[1] + 1)) if " to " in line else whole


def test_the_roll_is_small() -> None:
    assert (ROOT / "docs" / "swiss_roll.gif").stat().st_size <= 120_000
