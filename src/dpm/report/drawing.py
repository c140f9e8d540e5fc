"""The figures of a page: each is drawn from files in the results folder, or is left out while they do not exist."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.utils import get_method

from dpm.claims import Claim
from dpm.errors import UserError
from dpm.figures import gif, load_arrays, png
from dpm.report.pages import FigureEntry, Page
from dpm.report.verdicts import common_tier
from dpm.results import Results

Claims = Mapping[str, Claim]


def figures(page: Page, results: Results, claims: Claims) -> Iterator[tuple[str, bytes]]:
    """(path without suffix, PNG) of every figure whose data exist."""
    return ((name, png(figure)) for name, figure in _drawn(page.figures, results, claims))


def animations(page: Page, results: Results, claims: Claims) -> Iterator[tuple[str, bytes]]:
    """(path without suffix, GIF) of every animation whose data exist."""
    return ((name, gif(animation)) for name, animation in _drawn(page.animations, results, claims))


def _drawn(entries: Sequence[FigureEntry], results: Results, claims: Claims) -> Iterator[tuple[str, Any]]:
    for entry in entries:
        given = _given(entry, results)
        if given is not None:
            options = {key: claims[value] if key == "claim" else value for key, value in entry.options.items()}
            yield entry.file, _call(entry, given, options)


def _call(entry: FigureEntry, given: Any, options: Mapping[str, Any]) -> Any:
    try:
        return get_method(entry.target)(given, **options)
    except (KeyError, ImportError, TypeError) as error:
        raise UserError(f"figure {entry.file}: {entry.target}: {type(error).__name__} {error}") from error


def _given(entry: FigureEntry, results: Results) -> Any:
    """What the entry asks for: the arrays of one run, of every seed, or records; None where there are none."""
    if entry.arrays:
        found = [load_arrays(run.arrays) for run in results.runs if run.name == entry.arrays]
        return found[0] if found else None
    if entry.seeds:
        return [load_arrays(run.arrays) for run in results.of(entry.seeds)] or None
    folders = [folder for pattern in entry.records for folder in results.folders(pattern)]
    runs = [run for folder in folders for run in results.of(folder)]
    common_tier(runs)
    return [run.record for run in runs] or None
