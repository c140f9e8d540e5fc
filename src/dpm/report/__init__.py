"""The report: a pure function of `results/`, `conf/claims/` and `conf/report/`. No clock, no git, no model: the same files,
the same bytes.

Into the results folder go README.md, a README.md per page, and the figures as PNG: what the project ships, whatever you ran
yourself. Your own runs are a chapter of its own, which lies as README.md with its figures below `results/yours`.
report.html and report.pdf hold everything in one file each.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpm.report import appendices, convert, sections
from dpm.report.drawing import draw, drawable
from dpm.report.markdown import document
from dpm.report.pages import FigureEntry, Page, load_pages, load_text
from dpm.report.rows import Row, check_claims, summary_rows
from dpm.report.yours import YourRuns
from dpm.study.claims import Claim, load_claims
from dpm.study.records import write_atomically
from dpm.study.results import YOURS, Results


@dataclass(frozen=True)
class Report:
    """Everything that the report says, and where its inputs lie."""

    claims: Mapping[str, Claim]
    pages: Sequence[Page]
    results: Results
    rows: Sequence[Row]
    yours: YourRuns
    title: str
    introduction: str
    reading: str
    audit: str

    @classmethod
    def load(cls, results: Path, claims: Path, texts: Path) -> "Report":
        known = load_claims(claims)
        every, found = load_pages(texts, known), Results(results)
        yours = YourRuns(found, every, known)
        pages = [page for page in every if page not in yours.pages]
        check_claims(known, found)
        rows = summary_rows(pages, known, found)
        given = known, found, {pattern: label for page in pages for pattern, label in page.planned.items()}
        title, _, introduction = load_text(texts / "summary.md", *given).partition("\n")
        reading = load_text(texts / "reading.md", *given, verdicts=sections.verdicts(rows, known))
        audit = load_text(texts / "audit.md", *given)
        return cls(known, pages, found, rows, yours, title.lstrip("# "), introduction, reading, audit)

    def texts(self) -> dict[str, str]:
        """README.md of the results folder and of each page's own, by path below it."""
        return {
            "README.md": self.readme(),
            **{f"{page.home}/README.md": self.page(page, page.home, page.figures) for page in self.pages},
        }

    def readme(self) -> str:
        def link(page: Page) -> str:
            return f"{page.home}/README.md"

        return document(
            "# Results",
            "Written by `python experiments/report.py` from the records in this folder, the claims in `conf/claims` and "
            "the texts in `conf/report`; changes by hand are lost.",
            sections.summary(self.pages, self.rows, link),
            self.reading,
            "## Not measured",
            sections.waiting(self.rows, self.claims),
            "## How to obtain the rows",
            sections.commands(self.pages, link),
        )

    def page(self, page: Page, base: str, entries: Sequence[FigureEntry]) -> str:
        """One page with those of its figures whose data exist; `base` is the folder that their paths start from."""
        images = [_image(entry, os.path.relpath(entry.file, base)) for entry in entries if drawable(entry, self.results)]
        return sections.page(page, self.claims, self.results, document(*images) if images else "")

    def document(self, entries: Callable[[Page], Sequence[FigureEntry]]) -> str:
        """The whole report with the figures that `entries` picks from a page; image paths start from the results folder."""
        return document(
            "# Summary",
            self.introduction,
            sections.summary(self.pages, self.rows, lambda page: f"#{convert.anchor(page.title)}"),
            self.reading,
            "## Not measured",
            sections.waiting(self.rows, self.claims),
            self.yours.document(),
            *(self.page(page, ".", entries(page)) for page in self.pages),
            appendices.audits(self.claims, self.audit),
            appendices.registry(self.claims, self.rows),
            appendices.provenance(self.results),
        )

    def images(self, entries: Callable[[Page], Sequence[FigureEntry]]) -> dict[str, bytes]:
        """PNG or GIF by path below the results folder."""
        drawn = (entry for page in self.pages for entry in entries(page) if drawable(entry, self.results))
        return {entry.file: draw(entry, self.results, self.claims) for entry in drawn}

    def write(self, out: Path) -> Iterator[Path]:
        """Write everything and yield the paths; what goes into the results folder comes first and needs no pandoc."""
        for name, text in self.texts().items():
            yield _write(self.results.root / name, text.encode())
        figures = self.images(figures_of)
        own = self.yours.document()
        if own:
            yield _write(self.results.root / YOURS / "README.md", own.replace(f"]({YOURS}/", "](").encode())
        figures |= self.yours.images()
        for name, content in figures.items():
            yield _write(self.results.root / name, content)
        images = {**figures, **self.images(animations_of)}
        yield _write(out / "report.html", convert.html(self.document(everything_of), self.title, images))
        yield _write(out / "report.pdf", convert.pdf(self.document(figures_of), self.title, figures))


def figures_of(page: Page) -> Sequence[FigureEntry]:
    return page.figures


def animations_of(page: Page) -> Sequence[FigureEntry]:
    return page.animations


def everything_of(page: Page) -> Sequence[FigureEntry]:
    return [*page.animations, *page.figures]


def _write(path: Path, content: bytes) -> Path:
    write_atomically(path, content)
    return path


def _image(figure: FigureEntry, path: str) -> str:
    return f"![{' '.join(figure.caption.split())}]({path})"
