"""What was measured: a Measurement with its protocol, a Record of one seed with its budget and provenance.

A record is `results/<paper>/<experiment>/seed<k>.json`; the arrays that its figures are drawn from lie beside it in
`seed<k>.npz`. Both are written atomically: a reader sees the old file or the new one, never half of one.
"""

import hashlib
import io
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dpm.errors import UserError

SCHEMA = 1
Scalar = str | int | float | bool


@dataclass(frozen=True)
class Measurement:
    """One number: value +- stderr over n examples, in `unit`, obtained by `protocol`; None where a field does not apply."""

    quantity: str
    value: float
    stderr: float | None
    n: int
    unit: str
    protocol: Mapping[str, Scalar]
    claim: str | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    ceiling: float | None = None
    oracle: float | None = None

    def with_protocol(self, shared: Mapping[str, Scalar]) -> "Measurement":
        """The same number, with what all measurements of its run have in common added to its protocol."""
        return replace(self, protocol={**shared, **self.protocol})


@dataclass(frozen=True)
class Record:
    """All measurements of one trained seed, with what they cost and where they come from."""

    experiment: str
    seed: int
    tier: str
    budget: Mapping[str, Scalar]
    provenance: Mapping[str, Scalar]
    measurements: tuple[Measurement, ...]

    def save(self, path: Path) -> None:
        write_atomically(path, (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "Record":
        try:
            content = json.loads(path.read_text())
            if content.pop("schema") != SCHEMA:
                raise UserError(f"{path}: written by another version of this project; evaluate the experiment again")
            content["measurements"] = tuple(Measurement(**m) for m in content["measurements"])
            return cls(**content)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a readable record ({error}); evaluate the experiment again") from error


def records(results: Path) -> Iterator[Record]:
    """Every record below `results`, in the order of their paths."""
    for path in sorted(results.glob("*/**/seed*.json")):
        yield Record.load(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to disk, then rename over it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def save_arrays(path: Path, arrays: Mapping[str, "np.ndarray[Any, Any]"]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def provenance(config: Mapping[str, Any], data: bytes, weights: bytes) -> dict[str, Scalar]:
    """Commit, command, hashes of configuration, data and weights, and the versions that the number depends on."""
    return {
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "src", "conf", "experiments")),
        "command": " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "config_sha256": sha256(json.dumps(config, sort_keys=True).encode()),
        "data_sha256": sha256(data),
        "weights_sha256": sha256(weights),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "machine": platform.machine(),
    }


def _git(*arguments: str) -> str:
    """What git prints, or nothing where there is no git or no checkout (a release archive, say)."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def standard_error(values: "np.ndarray[Any, Any]") -> float:
    """s / sqrt(n), s with n - 1 in the denominator; nan for one value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
