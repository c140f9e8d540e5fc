"""Your own runs in the report: beside the shipped ones, as variants of experiments, and as pages of new experiments.

These are the runs below `results/yours`, and those below `results` that no page names. Nothing has to be written for them:
what their tables and figures need is in the records and the arrays.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from dpm.figures import load_arrays
from dpm.report import comparison, sections, variants
from dpm.report.drawing import draw, drawable
from dpm.report.markdown import demoted, document
from dpm.report.pages import FigureEntry, Page
from dpm.report.rows import places
from dpm.study.agreement import agreements
from dpm.study.claims import Claim
from dpm.study.results import YOURS, Results, at_paper_tier

INTRODUCTION = (
    "What you evaluated yourself lies below `results/yours`, apart from what the project ships. Runs that have a shipped "
    "counterpart are an independent check of it; the others are shown as they are: the variants of an experiment by the "
    "settings that differ, best first, and new experiments with all their measurements."
)
AUTOMATIC = {  # figures of a new experiment: drawn where its arrays have the keys, with that many axes
    "dpm.figures.swiss_roll.figure_1": (
        {"times": 1, "forward": 3, "reverse": 3, "grid": 2, "drift": 3, "drift_times": 1},
        "Samples of q and of p, and the drift of the reverse mean, as in Figure 1 of 2015.",
    ),
    "dpm.figures.images.grid": ({"samples": 4}, "Samples of p."),
    "dpm.figures.points.samples": ({"samples": 2}, "Samples of p."),
    "dpm.figures.sampled_terms.terms": (
        {"term_low": 1, "term_high": 1, "term_mean": 1, "term_stderr": 1},
        "The terms of the bound against t.",
    ),
    "dpm.figures.fokker_planck.thermodynamics": (
        {"density": 2, "exact_density": 2, "cells": 1, "crank_nicolson_error": 1, "chang_cooper_error": 1, "excess": 1},
        "The density by the Fokker-Planck equation, errors of its solution, and entropy as an area of denoising error.",
    ),
}


class YourRuns:
    """results: the shipped ones; pages: those of the report, of which some may be of your own experiments; claims by id."""

    def __init__(self, results: Results, pages: Sequence[Page], claims: Mapping[str, Claim]) -> None:
        self.claims, yours = claims, results.yours() or results.keeping(())
        theirs, own = ({run.folder for run in r.runs} for r in (results, yours))
        unnamed = {folder for folder in theirs if not any(names(page, folder) for page in pages)}
        self.results = yours.keeping(own, (run for run in results.runs if run.folder not in own))
        self.pages = [page for page in pages if not of_project(page, results) and self.results.of(page.home)]
        shown = {folder for folder in own if any(names(page, folder) for page in self.pages)}
        new = self.results.keeping((own - theirs | unnamed) - shown)
        self.pages += [automatic(name, self.results) for name in new.experiments if new.of(name) and not results.of(name)]
        self.groups = list(variants.groups(new.runs, self.results))
        labels = {key: label for page in pages for key, label in (*page.claims.items(), *places(page, self.results).items())}
        self.agreements = agreements(results, yours)
        self.rows = comparison.compared(results, yours, claims, self.agreements, labels)

    def document(self) -> str:
        """The chapter as Markdown, empty without such runs; paths of images start from the folder of the shipped results."""
        parts = [
            comparison.section(self.rows, self.agreements),
            *(group.section(self._file(index)) for index, group in enumerate(self.groups)),
            *(demoted(sections.page(page, self.claims, self.results, self._images(page.figures))) for page in self.pages),
        ]
        return document("# Your runs", INTRODUCTION, *parts) if any(parts) else ""

    def images(self, form: str = "png") -> dict[str, bytes]:
        """PNG or another form by path below the folder of the shipped results."""
        entries = (entry for page in self.pages for entry in page.figures if drawable(entry, self.results))
        pictures = {f"{YOURS}/{entry.in_form(form)}": draw(entry, self.results, self.claims, form) for entry in entries}
        several = ((index, group) for index, group in enumerate(self.groups) if len(group.variants) > 1)
        return pictures | {self._file(index, form): group.figure(form) for index, group in several}

    def terminal(self) -> str:
        """What `make reproduce` ends with."""
        return comparison.terminal(self.rows, self.agreements) if self.rows else ""

    def _images(self, entries: Iterable[FigureEntry]) -> str:
        shown = (entry for entry in entries if drawable(entry, self.results))
        return "\n\n".join(f"![{' '.join(entry.caption.split())}]({YOURS}/{entry.file})" for entry in shown)

    def _file(self, index: int, form: str = "png") -> str:
        return f"{YOURS}/{self.groups[index].experiment}/variants_{index}.{form}"


def of_project(page: Page, results: Results) -> bool:
    """Whether a page is about shipped results; one that is not, and has records of yours, is a page of yours."""
    return any(results.of(folder) for folder in page.experiments)


def names(page: Page, folder: str) -> bool:
    """Whether a page shows the records of a folder: in a table, or in a figure."""
    figures = [*page.figures, *page.animations]
    of_figures = [
        *(name.rsplit("/", 1)[0] for entry in figures for name in entry.wanted),
        *(pattern for entry in figures for pattern in (entry.seeds, *entry.records)),
    ]
    patterns = [*page.planned, *map(at_paper_tier, page.experiments), *of_figures]
    return any(fnmatchcase(folder, pattern) for pattern in patterns)


def automatic(experiment: str, results: Results) -> Page:
    """The page of an experiment that nobody wrote one for."""
    runs = results.of(experiment)
    arrays = load_arrays(runs[0].arrays) if runs[0].arrays.is_file() else {}
    figures = [
        FigureEntry(target, ".png", caption, arrays=runs[0].name)
        for target, (needed, caption) in AUTOMATIC.items()
        if all(key in arrays and arrays[key].ndim == axes for key, axes in needed.items())
    ]
    if "curve_step" in arrays:
        headline = runs[0].record.headline
        options = {"unit": headline.unit, "bound": headline.quantity.replace("_", " ")}
        caption = "What validation measured during training."
        figures.append(FigureEntry("dpm.figures.curve.validated", ".png", caption, seeds=experiment, options=options))
    commands = (f"python experiments/{verb}.py {run.arguments}" for run in runs for verb in ("train", "evaluate"))
    return Page(experiment, experiment, {experiment: experiment}, {}, "", "\n".join(commands), figures=figures)
