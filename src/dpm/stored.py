"""Files of the project's own, read and refused: whatever is wrong with one is a UserError line that names it and what to do."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dpm.errors import UserError

ROOT = Path(__file__).parents[2]  # of the checkout
Kinds = type | tuple[type, ...]
NUMBER: Kinds = (int, float)


def refuse_unwritable(*files: Path) -> None:
    """Raise UserError unless each of the files could be written now; nothing is left behind by asking."""
    for file in files:
        if file.is_dir():
            raise UserError(f"cannot write {file}: a folder lies there; move it away")
        place = next(parent for parent in file.absolute().parents if parent.exists())
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}") from error


def read_json(path: Path, remedy: str, **needed: Kinds) -> dict[str, Any]:
    """A JSON object that has at least what is needed, of these kinds."""
    return _object(_text(path, remedy), str(path), remedy, lambda content: needed)


def read_rows(path: Path, remedy: str, needed: Callable[[dict[str, Any]], Mapping[str, Kinds]]) -> list[dict[str, Any]]:
    """JSON objects, one a line, each with what is needed of it; a last line that was cut short is left out."""
    lines = _text(path, remedy).splitlines()
    if lines and not lines[-1].endswith("}"):
        lines.pop()
    return [_object(line, f"{path}, line {number}", remedy, needed) for number, line in enumerate(lines, 1)]


def read_array(path: Path) -> "np.ndarray[Any, Any]":
    """The array of an .npy."""
    try:
        with path.open("rb") as file:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not an array of numpy.save ({' '.join(str(error).split())[:80]})") from error


def read_arrays(path: Path) -> dict[str, "np.ndarray[Any, Any]"]:
    """The arrays of an .npz, as they were stored."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # a damaged archive fails in as many ways as there are
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: not readable as arrays ({said}); evaluate the experiment again") from error


def _text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {remedy}") from error


def _object(text: str, where: str, remedy: str, needed: Callable[[dict[str, Any]], Mapping[str, Kinds]]) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: no JSON object; {remedy}")
    for key, kinds in needed(content).items():
        if not isinstance(content.get(key), kinds):
            said = f"{key} = {content[key]!r}" if key in content else f"no {key} in it"
            raise UserError(f"{where}: {said}; {remedy}")
    return content
