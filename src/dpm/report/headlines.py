"""The headline table of README: five rows of the summary, between two marks that nothing else touches."""

from collections.abc import Iterable
from pathlib import Path

from dpm.errors import UserError
from dpm.report.markdown import table
from dpm.report.rows import Row
from dpm.study.records import write_atomically

HEADLINES = {
    "sohl_dickstein_2015/table1/swiss_roll/K": "2015, Swiss roll: log likelihood",
    "sohl_dickstein_2015/table1/binary_heartbeat/K": "2015, binary heartbeat: log likelihood",
    "sohl_dickstein_2015/table1/cifar10/K": "2015, CIFAR-10: log likelihood",
    "sohl_dickstein_2015/table2/mnist/diffusion": "2015, MNIST: Parzen window",
    "ho_2020/table1/bound/nll": "2020, CIFAR-10, trained on the bound: negative log likelihood",
}
BEGIN = "<!-- headlines: written by experiments/report.py -->"
END = "<!-- end of headlines -->"


def headlines(rows: Iterable[Row]) -> str:
    """what | paper | ours | verdict."""
    found = {row.claim.id: row for row in rows if row.claim.id in HEADLINES}
    if missing := HEADLINES.keys() - found.keys():
        raise UserError(f"no page answers {', '.join(sorted(missing))}, a headline of README")
    cells = []
    for claim, label in HEADLINES.items():
        paper, ours, *_, judgement = found[claim].cells
        cells.append((label, paper, ours.partition(" (")[0], judgement))
    return table(("", "paper", "ours ± standard error", "verdict"), cells, "lrrl")


def replaced(text: str, rows: Iterable[Row]) -> str:
    """README with the table that these rows make."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"README.md lacks the lines {BEGIN} and {END}, between which the headlines stand")
    return f"{before}{BEGIN}\n\n{headlines(rows)}\n\n{END}{after}"


def write(readme: Path, rows: Iterable[Row]) -> Path:
    write_atomically(readme, replaced(readme.read_text(encoding="utf-8"), rows).encode())
    return readme
