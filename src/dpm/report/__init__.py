"""The report: a pure function of `results/`, `conf/claims/`, `conf/report/` and the package's docstrings. No clock, no git, no
model: the same files, the same bytes.

Into the results folder go README.md, a README.md per page, the index of equations, and the figures as PNG: what the project
ships, whatever you ran yourself. Your own runs are a chapter of its own, which lies as README.md with its figures below
`results/yours`. report.html and report.pdf hold everything in one file each: the main text, and an appendix in which each
number stands once.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dpm.report import appendices, convert, equations, maintext, sections
from dpm.report.convert import Cover
from dpm.report.drawing import draw, drawable
from dpm.report.equations import Cited
from dpm.report.maintext import MainText
from dpm.report.markdown import demoted, document
from dpm.report.pages import Page, image, load_pages, load_text
from dpm.report.placeholders import Key, used
from dpm.report.rows import Row, check_claims, page_rows, summary_rows
from dpm.report.yours import YourRuns
from dpm.stored import ROOT
from dpm.study.claims import Claim, load_claims
from dpm.study.records import write_atomically
from dpm.study.results import YOURS, Results, group_of

EQUATIONS = "EQUATIONS.md"
EXPERIMENTS = (
    "A section for each experiment, or for several that belong together. What stands in a text or among the verdicts is not "
    "listed once more at the end of a section; the file README.md beside the records of an experiment has all of it."
)
INDEX = (
    "Which function is which equation, as the docstrings say. What is missing is a step of a derivation, or belongs to "
    "something that this study does not compute."
)


@dataclass(frozen=True)
class Report:
    """Everything that the report says, and where its inputs lie."""

    claims: Mapping[str, Claim]
    pages: Sequence[Page]
    results: Results
    rows: Sequence[Row]
    yours: YourRuns
    main: MainText
    reading: str
    audit: str
    index: Sequence[Cited]
    cover: Cover = field(default_factory=Cover)

    @classmethod
    def load(cls, results: Path, claims: Path, texts: Path, cover: Cover | None = None) -> "Report":
        known = load_claims(claims)
        every, found = load_pages(texts, known), Results(results)
        yours = YourRuns(found, every, known)
        pages = [page for page in every if page not in yours.pages]
        check_claims(known, found)
        rows = summary_rows(pages, known, found)
        given = known, found, {pattern: label for page in pages for pattern, label in page.planned.items()}
        reading = load_text(texts / "reading.md", *given, verdicts=sections.verdicts(rows, known))
        audit = load_text(texts / "audit.md", *given)
        shown = {entry.file: entry for page in pages for entry in page.figures if drawable(entry, found)}
        main = maintext.load(texts, maintext.Source(known, found, pages, rows, shown))
        return cls(known, pages, found, rows, yours, main, reading, audit, equations.index(), cover or Cover())

    def texts(self) -> dict[str, str]:
        """README.md of the results folder and of each page's own, and the index of equations, by path below it."""
        return {
            "README.md": self.readme(),
            EQUATIONS: self.equations(),
            **{f"{page.home}/README.md": self.page(page) for page in self.pages},
        }

    def readme(self) -> str:
        def link(page: Page) -> str:
            return f"{page.home}/README.md"

        return document(
            "# Results",
            "Written by `python experiments/report.py` from the records in this folder, the claims in `conf/claims` and "
            "the texts in `conf/report`; changes by hand are lost. Which function is which equation of the papers: "
            f"[{EQUATIONS}]({EQUATIONS}).",
            sections.summary(self.pages, self.rows, link),
            self.reading,
            "## Not measured",
            sections.waiting(self.rows, self.claims),
            "## How to obtain the rows",
            sections.commands(self.pages, link),
        )

    def equations(self) -> str:
        base = os.path.relpath(equations.PACKAGE, ROOT / "results")
        written = "Written by `python experiments/report.py` from the docstrings in `src/dpm`."
        return document("# Index of equations", written, INDEX, equations.section(self.index, base))

    def page(self, page: Page) -> str:
        """One page by itself, with those of its figures whose data exist, for the folder that it lies in."""
        drawn = (entry for entry in page.figures if drawable(entry, self.results))
        images = [f"![{' '.join(entry.caption.split())}]({os.path.relpath(entry.file, page.home)})" for entry in drawn]
        return sections.page(page, self.claims, self.results, document(*images) if images else "")

    def document(self, animated: bool = False) -> str:
        """The whole report; paths of images start from the results folder. Animations are for HTML."""
        return document(str(self.main), self.appendix(animated))

    def appendix(self, animated: bool = False) -> str:
        judged = [row for page in self.pages for row in page_rows(page, self.claims, self.results) if row.verdict]
        above = [row for row in self.rows if row.claim.id in self.main.claims]
        anchors = {claim: page.anchor for page in self.pages for claim in page.claims}
        said = "\n\n".join(f"{page.paper}\n\n{page.text}" for page in self.pages)
        printed = {key for row in judged for key in self.keys(row)} | used(said, self.results)
        pages = (sections.appendix(*self.given(page, animated), printed) for page in self.pages)
        return document(
            convert.APPENDIX,
            self.yours.document(),
            "# All claims and verdicts {#verdicts}",
            self.reading,
            "## Not measured",
            sections.waiting(self.rows, self.claims),
            appendices.registry(self.claims, judged, anchors, above),
            "# Experiments",
            EXPERIMENTS,
            *map(demoted, pages),
            appendices.audits(self.claims, self.audit),
            "# Index of equations",
            INDEX,
            equations.section(self.index),
            appendices.provenance(self.results),
        )

    def keys(self, row: Row) -> Iterator[Key]:
        """The numbers of the records that a row of verdicts prints."""
        for run in self.results.of(row.folder):
            found = (m for m in run.record.measurements if m.claim in (row.claim.id, row.claim.repeats or row.claim.id))
            yield from ((row.folder, *group_of(m)) for m in found)

    def given(self, page: Page, animated: bool) -> tuple[Page, Mapping[str, Claim], Results, str]:
        """A page for the appendix: with the figures that are not in the main text, and links to those that are."""
        entries = [entry for entry in (*(page.animations if animated else ()), *page.figures) if drawable(entry, self.results)]
        here = [image(entry, entry.file) for entry in entries if entry.file not in self.main.figures]
        links = [f"[{entry.target.rsplit('.', 1)[1]}](#{entry.anchor})" for entry in entries if entry.file in self.main.figures]
        there = f"In the main text: {', '.join(links)}." if links else ""
        return page, self.claims, self.results, document(there, *here) if entries else ""

    def images(self, animated: bool = False, form: str = "png") -> dict[str, bytes]:
        """PNG or another form, or GIF of the animations alone, by path below the results folder."""
        listed = (entry for page in self.pages for entry in (page.animations if animated else page.figures))
        drawn = (entry for entry in listed if drawable(entry, self.results))
        return {entry.in_form(form): draw(entry, self.results, self.claims, form) for entry in drawn}

    def write(self, out: Path) -> Iterator[Path]:
        """Write everything and yield the paths; what goes into the results folder comes first and needs no pandoc."""
        for name, text in self.texts().items():
            yield _write(self.results.root / name, text.encode())
        figures = self.images()
        own = self.yours.document()
        if own:
            yield _write(self.results.root / YOURS / "README.md", own.replace(f"]({YOURS}/", "](").encode())
        figures |= self.yours.images()
        for name, content in figures.items():
            yield _write(self.results.root / name, content)
        images = {**figures, **self.images(animated=True)}
        yield _write(
            out / "report.html", convert.html(self.document(animated=True), self.cover, images, self.main.bibliography)
        )
        yield _write(out / "report.pdf", convert.pdf(self.document(), self.cover, figures, self.main.bibliography))

    def write_figures(self, folder: Path, form: str) -> Iterator[Path]:
        """Every figure as PDF or SVG, in the letters of LaTeX."""
        for name, content in {**self.images(form=form), **self.yours.images(form)}.items():
            yield _write(folder / name, content)

    def write_latex(self, out: Path) -> Iterator[Path]:
        """report.tex, and its figures as PDF in the folder report_figures beside it."""
        folder = out / convert.LATEX_FIGURES
        yield from self.write_figures(folder, "pdf")
        text = self.document()
        yield _write(out / "report.tex", convert.latex(text, self.cover, self.main.bibliography).encode())


def _write(path: Path, content: bytes) -> Path:
    write_atomically(path, content)
    return path
