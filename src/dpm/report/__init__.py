"""The report: a pure function of `results/` and `conf/claims/`. No clock, no git, no model: the same files, the same bytes.

Into the results folder go README.md, a README.md per page, and the figures as PNG; report.html and report.pdf hold
everything in one file each.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpm.claims import Claim, load_claims
from dpm.errors import UserError
from dpm.records import write_atomically
from dpm.report import convert, sections
from dpm.report.drawing import animations, figures
from dpm.report.markdown import document
from dpm.report.pages import FigureEntry, Page, fill, load_pages
from dpm.report.verdicts import Row, check_claims, summary_rows
from dpm.results import Results


@dataclass(frozen=True)
class Report:
    """Everything that the report says, and where its inputs lie."""

    claims: Mapping[str, Claim]
    pages: Sequence[Page]
    results: Results
    rows: Sequence[Row]
    title: str
    introduction: str
    audit: str

    @classmethod
    def load(cls, results: Path, claims: Path) -> "Report":
        known = load_claims(claims)
        pages, found = load_pages(claims / "pages", known), Results(results)
        check_claims(known, found)
        experiments = {folder: label for page in pages for folder, label in page.experiments.items()}
        title, _, introduction = fill(_read(claims / "pages" / "summary.md"), known, found, experiments).partition("\n")
        audit = fill(_read(claims / "pages" / "audit.md"), known, found, experiments)
        return cls(known, pages, found, summary_rows(pages, known, found), title.lstrip("# "), introduction, audit)

    def files(self) -> dict[str, bytes]:
        """What belongs into the results folder, by path below it: figures, README.md, and a README.md per page."""
        pngs = {f"{name}.png": content for page in self.pages for name, content in figures(page, self.results, self.claims)}
        pages = {f"{page.home}/README.md": self.page(page, page.home, 1, pngs).encode() for page in self.pages}
        return {"README.md": self.readme().encode(), **pages, **pngs}

    def readme(self) -> str:
        def link(page: Page) -> str:
            return f"{page.home}/README.md"

        return document(
            "# Results",
            "Written by `python experiments/report.py` from the records in this folder and the claims in `conf/claims`; "
            "changes by hand are lost.",
            sections.summary(self.pages, self.rows, link),
            "## How to read a verdict",
            sections.reading(self.rows, self.claims),
            "## How to obtain the rows",
            sections.commands(self.pages, link),
        )

    def page(self, page: Page, base: str, level: int, drawn: Mapping[str, bytes]) -> str:
        """One page with its images; `base` is the folder that their paths start from."""
        images = [
            _image(figure, os.path.relpath(f"{figure.file}.png", base))
            for figure in page.figures
            if f"{figure.file}.png" in drawn
        ]
        images += [_image(figure, f"{figure.file}.gif") for figure in page.animations if f"{figure.file}.gif" in drawn]
        return sections.page(page, self.claims, self.results, document(*images) if images else "", level)

    def text(self, drawn: Mapping[str, bytes]) -> str:
        """The whole report as one document, image paths from the results folder."""
        return document(
            "# Summary",
            self.introduction,
            sections.summary(self.pages, self.rows, lambda page: f"#{convert.anchor(page.title)}"),
            "## How to read a verdict",
            sections.reading(self.rows, self.claims),
            *(self.page(page, ".", 1, drawn) for page in self.pages),
            sections.audits(self.claims, self.audit, 1),
            sections.registry(self.claims, self.rows, 1),
            sections.provenance(self.results, 1),
        )

    def write(self, out: Path) -> Iterator[Path]:
        """Write everything and yield the paths; what goes into the results folder comes first and needs no pandoc."""
        files = self.files()
        for name, content in files.items():
            yield _write(self.results.root / name, content)
        moving = {f"{name}.gif": gif for page in self.pages for name, gif in animations(page, self.results, self.claims)}
        images = {**files, **moving}
        yield _write(out / "report.html", convert.html(self.text(images), self.title, images))
        yield _write(out / "report.pdf", convert.pdf(self.text(files), self.title, files))


def _write(path: Path, content: bytes) -> Path:
    write_atomically(path, content)
    return path


def _image(figure: FigureEntry, path: str) -> str:
    return f"![{' '.join(figure.caption.split())}]({path})"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
