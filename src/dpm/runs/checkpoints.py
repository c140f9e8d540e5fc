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


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """`folder/step-<step>.pt`. Its checksum is on disk before it, so a checkpoint without one is never a good one."""
    buffer = io.BytesIO()
    torch.save(_canonical(state), buffer)
    path = folder / f"step-{step:09d}.pt"
    write_atomically(_checksum(path), sha256(buffer.getvalue()).encode())
    write_atomically(path, buffer.getvalue())
    _rotate(folder, path)
    return path


def _rotate(folder: Path, saved: Path) -> None:
    """Keep the one just saved and the undamaged ones before it, KEPT in all: a run would have gone on from later ones, were
    they sound. What a killed process or an earlier deletion left halfway goes too."""
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
        raise UserError(f"checkpoint {path} is damaged: its SHA-256 is not the recorded one; delete it or restore a copy")
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return state


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
    return path in (folder, *_newest_first(folder)) and (folder / "config.json").is_file() and bool(_newest_first(folder))


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


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", p.name)), reverse=True)


def _checksum(path: Path) -> Path:
    return path.with_suffix(".sha256")
