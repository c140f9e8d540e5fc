"""Checkpoints that survive being killed: written beside, flushed, renamed; each with its SHA-256; the last two are kept.

The folder is locked by the one process that saves in it (`dpm.runs.folder.locked`).
"""

import io
import re
import sys
from pathlib import Path
from typing import Any

import torch

from dpm.errors import UserError
from dpm.study.records import sha256, write_atomically

KEPT = 2
MISFITS = (KeyError, ValueError, TypeError, AttributeError, RuntimeError)  # of a state that is loaded into what it is not of


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """`folder/step-<step>.pt`. Its checksum is on disk before it, so a checkpoint without one is never a good one."""
    buffer = io.BytesIO()
    torch.save(_canonical(state), buffer)
    path = _path(folder, step)
    write_atomically(_checksum(path), sha256(buffer.getvalue()).encode())
    write_atomically(path, buffer.getvalue())
    tidy(folder, step)
    return path


def tidy(folder: Path, step: int) -> None:
    """Keep the one of the step that was just saved, or resumed from, and the undamaged ones before it, KEPT in all: a run
    would have gone on from later ones, were they sound. What a killed process or an earlier deletion left halfway goes too."""
    saved = _path(folder, step)
    good = {saved}
    for path in _newest_first(folder):
        if path.name < saved.name and len(good) < KEPT and _sound(path, path.read_bytes()):
            good.add(path)
    rubbish = [*folder.glob(".*.part"), *folder.glob("step-*.pt"), *folder.glob("step-*.sha256")]
    for path in rubbish:
        if path.with_suffix(".pt") not in good:
            path.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """The state in `path`, if its bytes are those that were saved."""
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; train first, or give the path of one")
    content = path.read_bytes()
    if not _sound(path, content):
        found, recorded = sha256(content), _checksum(path)
        known = recorded.read_text(errors="replace")[:64] if recorded.is_file() else "none"
        raise UserError(
            f"checkpoint {path} is damaged: its SHA-256 is not the recorded one ({found} instead of {known}); "
            "delete it or restore a copy"
        )
    try:
        state = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # what is no checkpoint fails in as many ways as there are
        raise UserError(f"{path} is no checkpoint ({type(error).__name__}); move it away") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is no checkpoint: it holds no state; move it away")
    return state


def misfit(folder: Path, error: Exception) -> UserError:
    """What is said of a state that is not of this experiment."""
    lines = str(error).splitlines() or [""]
    said = f"{type(error).__name__}: {lines[-1].strip()}"
    return UserError(f"{folder}: its newest checkpoint is not of this experiment ({said}); move it away and train again")


def load_newest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest undamaged state (None if there never was a checkpoint), and what was wrong with newer ones."""
    complaints: list[str] = []
    for path in _newest_first(folder):
        try:
            return load(path), complaints
        except UserError as error:
            complaints.append(str(error))
    if complaints:
        raise UserError(complaints[0])
    return None, []


def recognises(path: Path) -> bool:
    """Whether `path` is the folder of a run that has saved something, or one of its checkpoints."""
    folder = path if path.is_dir() else path.parent
    saved = _newest_first(folder)
    return bool(saved) and path in (folder, *saved) and (folder / "config.json").is_file()


def _sound(path: Path, content: bytes) -> bool:
    """Whether the bytes are those that were saved."""
    checksum = _checksum(path)
    return checksum.is_file() and checksum.read_bytes() == sha256(content).encode()


def _canonical(state: Any) -> Any:
    """The same state in plain containers with each string one object: pickle refers back to objects, not to equal ones,
    so a resumed run, whose keys were read from a file, would otherwise save other bytes than an uninterrupted one.
    """
    if isinstance(state, dict):
        return {_canonical(key): _canonical(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_canonical(value) for value in state)
    return sys.intern(state) if isinstance(state, str) else state


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.pt"


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", p.name)), reverse=True)


def _checksum(path: Path) -> Path:
    return path.with_suffix(".sha256")
