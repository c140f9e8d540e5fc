"""Files of the project's own, read and refused: whatever is wrong with one is a UserError line that names it and what to do."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dpm.errors import UserError


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


def read_json(path: Path, remedy: str, *keys: str) -> dict[str, Any]:
    """A JSON object with these keys at least."""
    return _row(_text(path, remedy), str(path), remedy, keys)


def read_rows(path: Path, remedy: str, *keys: str) -> list[dict[str, Any]]:
    """JSON objects, one a line; a last line that was cut short is left out."""
    lines = _text(path, remedy).splitlines(keepends=True)
    if lines and not lines[-1].endswith(("}", "}\n")):
        lines.pop()
    return [_row(line, f"{path}, line {number}", remedy, keys) for number, line in enumerate(lines, 1)]


def read_arrays(path: Path) -> dict[str, "np.ndarray[Any, Any]"]:
    """The arrays of an .npz, as they were stored."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # a damaged archive fails in as many ways as there are
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: not readable as arrays ({said}); evaluate the experiment again") from error


def _text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {remedy}") from error


def _row(text: str, where: str, remedy: str, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON ({error}); {remedy}") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing or not isinstance(content, dict):
        raise UserError(f"{where}: {f'no {missing[0]!r} in it' if missing else 'no JSON object'}; {remedy}")
    return content
