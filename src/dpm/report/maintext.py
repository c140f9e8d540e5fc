"""The main text of the report, which is there to be edited: Markdown in `conf/report/main`, a file for each section.

    <nn>_<name>.md    a section; their order is that of the names. Remove a file and its section is gone, add one and it is in
    references.bib    what the texts cite, as [@ho2020]

Numbers stand in it as placeholders (`dpm.report.placeholders`), and so do these:

    {{rows                              a table of verdicts: a claim on each line, and what it is to be called where the
    ho_2020/table1/bound/nll            label of its page does not say enough
    ho_2020/table1/simple/nll: name
    }}
    {{figure ho_2020/cifar10_bound/terms}}    on a line of its own: a figure of a page, by its file below results/ without .png.
                                              It stands here and not in the appendix. A width may follow the path, as 80%, and
                                              a caption of one paragraph in the place of the one that its page gives it
    {{see ho_2020/cifar10_bound/terms}}       "Figure 3", a link to a figure, best one of the main text
    {{page cifar10_bound}}                    a link to a page in the appendix, by the name of its file without its number
    {{contents}}                              where the contents stand; without it HTML has them first, the PDF none

A paragraph that needs an experiment without records is left out, as in the pages; so is a figure that cannot be drawn.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpm.errors import UserError
from dpm.report import convert
from dpm.report.markdown import document, naming, read_text, table
from dpm.report.pages import FigureEntry, Page, image
from dpm.report.placeholders import fill
from dpm.report.rows import Row
from dpm.study.claims import Claim
from dpm.study.results import Results

FOLDER = "main"
REFERENCES = "references.bib"
ROWS = re.compile(r"\{\{rows\n(.*?)\n?\}\}", re.DOTALL)
FIGURE = re.compile(r"^\{\{figure (\S+?)(?: (\d+%))?(?:\s+(.*?))?\}\}$", re.DOTALL | re.MULTILINE)
SEE = re.compile(r"\{\{see (\S+)\}\}")
PAGE = re.compile(r"\{\{page (\S+)\}\}")
CONTENTS = "\n\n".join(f"```{{={to}}}\n{command}\n```" for to, command in convert.CONTENTS.items())


@dataclass(frozen=True)
class MainText:
    """The sections with their placeholders expanded, and what they show: claims in a table, figures by their files."""

    sections: Sequence[str]
    claims: frozenset[str]
    figures: frozenset[str]
    bibliography: Path | None

    def __str__(self) -> str:
        return document(*self.sections)


@dataclass(frozen=True)
class Source:
    """Everything that a placeholder of the main text may name."""

    claims: Mapping[str, Claim]
    results: Results
    pages: Sequence[Page]
    rows: Sequence[Row]
    drawable: Mapping[str, FigureEntry]  # by file

    @property
    def planned(self) -> dict[str, str]:
        return {pattern: label for page in self.pages for pattern, label in page.planned.items()}


def load(folder: Path, source: Source) -> MainText:
    """The sections of a folder of texts; none where it has no main text."""
    paths = sorted((folder / FOLDER).glob("*.md"))
    texts = {path: read_text(path) for path in paths}
    for path in paths:
        if not re.match(r"\d\d_.", path.name):
            raise UserError(f"{path}: a section is named <nn>_<name>.md")
    placed, shown = _placed(texts, source), set[str]()
    order = {file: number for number, file in enumerate((file for file in placed if file in source.drawable), 1)}
    sections = []
    for path, text in texts.items():
        with naming(path):
            sections.append(_expanded(text, source, order, shown))
    bibliography = folder / FOLDER / REFERENCES
    return MainText(sections, frozenset(shown), frozenset(order), bibliography if bibliography.is_file() else None)


def _placed(texts: Mapping[Path, str], source: Source) -> list[str]:
    """The files of the figures in their order; each is a page's, and stands once."""
    known, files = {entry.file for page in source.pages for entry in page.figures}, list[str]()
    for path, text in texts.items():
        for match in FIGURE.finditer(text):
            file = f"{match[1]}.png"
            if file not in known:
                raise UserError(
                    f"{path}: {{{{figure {match[1]}}}}}: no page has this figure; those that there are: results/*/*/*.png"
                )
            if file in files:
                raise UserError(f"{path}: {{{{figure {match[1]}}}}}: stands in the main text already")
            files.append(file)
    return files


def _expanded(text: str, source: Source, order: Mapping[str, int], shown: set[str]) -> str:
    def rows(match: re.Match[str]) -> str:
        lines = (line.strip().partition(": ") for line in match[1].splitlines())
        wanted = {claim: name for claim, _, name in lines if claim}
        shown.update(wanted)
        return rows_of(wanted, source)

    def figure(match: re.Match[str]) -> str:
        entry = source.drawable.get(f"{match[1]}.png")
        return image(entry, entry.file, match[2] or "", match[3] or "") if entry else ""

    def see(match: re.Match[str]) -> str:
        file = f"{match[1]}.png"
        if file in order:
            return f"[Figure {order[file]}](#{FigureEntry.anchor_of(file)})"
        if file in source.drawable:
            return f"[a figure of the appendix](#{FigureEntry.anchor_of(file)})"
        if any(file == entry.file for page in source.pages for entry in page.figures):
            return "a figure that is not drawn yet"
        raise UserError(f"{{{{see {match[1]}}}}}: no page has this figure")

    def page(match: re.Match[str]) -> str:
        for found in source.pages:
            if found.name == match[1]:
                return f"[{found.title}](#{found.anchor})"
        raise UserError(f"{{{{page {match[1]}}}}}: no such page; there are {', '.join(p.name for p in source.pages)}")

    text = ROWS.sub(rows, text.replace("{{contents}}", CONTENTS))
    for pattern, replacement in ((FIGURE, figure), (SEE, see), (PAGE, page)):
        text = pattern.sub(replacement, text)
    return fill(text, source.claims, source.results, source.planned)


def rows_of(wanted: Mapping[str, str], source: Source) -> str:
    """The table number | paper | ours | verdict of some claims, each a link to its page."""
    pages = {claim: page for page in source.pages for claim in page.claims}
    found = {row.claim.id: row for row in source.rows}
    for claim in wanted:
        if claim not in found:
            raise UserError(f"{{{{rows ...}}}}: {claim} is no claim that a page shows")
    cells = [
        (f"[{name or found[claim].label}](#{pages[claim].anchor})", *_cells(found[claim])) for claim, name in wanted.items()
    ]
    return table(("number", "paper", "ours ± stderr (seeds × n)", "verdict"), cells, "lrrl")


def _cells(row: Row) -> tuple[str, str, str]:
    printed, ours, _, _, judgement = row.cells
    return printed, ours, judgement
