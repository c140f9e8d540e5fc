"""The figures of a page: each is drawn from files in the results folder, and left out while they do not exist."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from hydra.utils import get_method

from dpm.errors import UserError
from dpm.figures import load_arrays, render, serif
from dpm.report.pages import FigureEntry
from dpm.study.claims import Claim
from dpm.study.results import Entry, Results, common_tier


def drawable(entry: FigureEntry, results: Results) -> bool:
    return bool(_runs(entry, results))


def draw(entry: FigureEntry, results: Results, claims: Mapping[str, Claim], form: str = "png") -> bytes:
    """PNG, or PDF or SVG in the letters of LaTeX, or GIF; a UserError says what the function of the entry did not like about
    its data or options."""
    options = {key: _looked_up(key, value, claims) for key, value in entry.options.items()}
    try:
        with nullcontext() if form == "png" else serif():
            return render(get_method(entry.target)(_given(entry, _runs(entry, results)), **options), form)
    except (KeyError, ImportError, TypeError) as error:
        raise UserError(f"figure {entry.file}: {entry.target}: {type(error).__name__} {error}") from error


def _looked_up(key: str, value: Any, claims: Mapping[str, Claim]) -> Any:
    """claim: an id becomes the Claim; claims: the start of ids becomes a list of Claims; any other option is itself."""
    if key == "claims":
        return [claim for name, claim in claims.items() if name.startswith(value)]
    return claims[value] if key == "claim" else value


def _runs(entry: FigureEntry, results: Results) -> list[Entry]:
    if entry.arrays:
        named = {run.name: run for run in results.runs}
        return [named[name] for name in entry.wanted] if named.keys() >= set(entry.wanted) else []
    folders = [entry.seeds] if entry.seeds else [folder for pattern in entry.records for folder in results.folders(pattern)]
    runs = [run for folder in folders for run in results.of(folder)]
    common_tier(runs)
    return runs


def _given(entry: FigureEntry, runs: list[Entry]) -> Any:
    """What the entry asks for: records, the arrays of every seed, or those of the named runs, together or by their labels."""
    if entry.records:
        return [run.record for run in runs]
    arrays = [load_arrays(run.arrays) for run in runs]
    if isinstance(entry.arrays, Mapping):
        return dict(zip(entry.arrays, arrays, strict=True))
    return arrays if entry.seeds else {key: array for of_run in arrays for key, array in of_run.items()}
