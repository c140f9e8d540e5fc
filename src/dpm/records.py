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
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Mean:
    """One measurement over its seeds; `spread` (of the mean, over the seeds) and `stderr` are None where they are unknown."""

    value: float
    stderr: float | None
    spread: float | None
    n: int
    seeds: int
    unit: str
    ceiling: float | None
    oracle: float | None


def over_seeds(measurements: Sequence[Measurement]) -> Mean:
    """Mean over the S seeds, with stderr = sqrt(spread^2 / S + mean of the within-seed variances).

    spread is the standard deviation of the seeds' values (ddof 1): it measures training, and averages out with more
    seeds. A seed's own stderr measures the choice of held-out examples; all seeds are scored on the same ones, so this
    error is common to them: it neither shows in the spread nor averages out, and is added once. What part of it is
    independent (the noise drawn for the bound) is in both terms, which errs on the wide side. One seed has no spread.
    n is the least number of examples; ceiling and oracle are means over the seeds that have them.
    """
    if len({m.unit for m in measurements}) != 1:
        raise UserError(f"{measurements[0].quantity}: no mean over the units {sorted({m.unit for m in measurements})}")
    values = np.array([m.value for m in measurements])
    errors = [m.stderr for m in measurements if m.stderr is not None]
    spread = standard_error(values) if len(values) > 1 else None
    within = float(np.sqrt(np.mean(np.square(errors)))) if errors else None
    parts = [error for error in (spread, within) if error is not None]
    ceiling, oracle = (_mean([getattr(m, name) for m in measurements]) for name in ("ceiling", "oracle"))
    n, unit, stderr = min(m.n for m in measurements), measurements[0].unit, math.hypot(*parts) if parts else None
    return Mean(float(values.mean()), stderr, spread, n, len(values), unit, ceiling, oracle)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


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
