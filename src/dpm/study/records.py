"""What was measured: a Measurement with its protocol and recipe, a Record of one seed with its budget and provenance.

A record is `results/<paper>/<experiment>/seed<k>.json`; the arrays that its figures are drawn from lie beside it in
`seed<k>.npz`. Both are written atomically: a reader sees the old file or the new one, never half of one. A record carries
the SHA-256 of its own content, so that a number that was edited by hand is refused.
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
from dpm.facts import Scalar
from dpm.stored import ROOT, read_json

SCHEMA = 2
ERRORS = ("examples", "estimate")
AGAIN = "evaluate the experiment again"
HASHES = {".safetensors": "weights_sha256", ".npz": "arrays_sha256"}  # of the files beside a record, in its provenance
BOUNDS = ("log_likelihood_bound", "nll_bound")  # K of 2015, L of 2020


@dataclass(frozen=True)
class Measurement:
    """One number: value +- stderr over n examples, in `unit`; None where a field does not apply.

    `protocol` says what the number means (data, split, T, schedule, edges, clipping, ...), `recipe` what was trained how to
    obtain it (network, parameters, prediction, variance, objective, steps, batch size); None is the recipe of its record.
    `error` says what `stderr` is an error of: the choice of the "examples", with the noise of the estimate in it, or of the
    "estimate" alone, the examples being given. `estimate_stderr` is the second kind, where both are known.
    """

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
    error: str = "examples"
    estimate_stderr: float | None = None
    recipe: Mapping[str, Scalar] | None = None

    def with_protocol(self, shared: Mapping[str, Scalar]) -> "Measurement":
        """The same number, with what all measurements of its run have in common added to its protocol."""
        return replace(self, protocol={**shared, **self.protocol})

    @property
    def facts(self) -> dict[str, Scalar]:
        """Everything that can be asked of the number: its recipe, its protocol, n, and what its error is of."""
        return {**(self.recipe or {}), **self.protocol, "n": self.n, "error": self.error}

    @property
    def of_estimate(self) -> float | None:
        """The error of the estimate for given examples, where it is known."""
        return self.stderr if self.error == "estimate" else self.estimate_stderr

    def refusal(self) -> str | None:
        """What is impossible about it, if anything is."""
        if not isinstance(self.n, int) or self.n < 1:
            return f"n = {self.n}"
        numbers = {name: getattr(self, name) for name in ("value", "stderr", "estimate_stderr", "ceiling", "oracle")}
        for name, number in {**self.parts, **numbers}.items():
            if number is None and name != "value":
                continue
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                return f"{name} = {number}"
        if min(self.stderr or 0.0, self.estimate_stderr or 0.0) < 0:
            return f"stderr = {min(self.stderr or 0.0, self.estimate_stderr or 0.0)}"
        return None if self.error in ERRORS else f"error = {self.error}, which is none of {', '.join(ERRORS)}"


@dataclass(frozen=True)
class Record:
    """All measurements of one trained seed, with the recipe that they share, what they cost and where they come from."""

    experiment: str
    seed: int
    tier: str
    recipe: Mapping[str, Scalar]
    budget: Mapping[str, Scalar]
    provenance: Mapping[str, Scalar]
    measurements: tuple[Measurement, ...]

    def __post_init__(self) -> None:
        complete = tuple(replace(m, recipe=self.recipe) if m.recipe is None else m for m in self.measurements)
        object.__setattr__(self, "measurements", complete)

    @property
    def headline(self) -> Measurement:
        """The number that runs of one experiment are compared by: the bound, or else what is measured first."""
        return next((m for m in self.measurements if m.quantity in BOUNDS), self.measurements[0])

    def content(self) -> dict[str, Any]:
        """What is stored; a measurement has a recipe of its own only where it differs from the record's."""
        content = {"schema": SCHEMA, **asdict(self)}
        for m in content["measurements"]:
            if m["recipe"] == content["recipe"]:
                del m["recipe"]
        return {**content, "sha256": digest(content)}

    def save(self, path: Path) -> None:
        refuse_impossible(str(path), self.measurements)
        write_atomically(path, self.text().encode())

    def text(self) -> str:
        """The content as JSON, one measurement a line."""
        content = self.content()
        rows = ",\n".join(f"  {json.dumps(m, allow_nan=False)}" for m in content["measurements"])
        before, after = json.dumps({**content, "measurements": None}, indent=1, allow_nan=False).split('"measurements": null')
        return f'{before}"measurements": [\n{rows}\n ]{after}\n'

    @classmethod
    def load(cls, path: Path) -> "Record":
        content = read_json(path, AGAIN)
        try:
            if content.pop("schema") != SCHEMA:
                raise UserError(f"{path}: written by another version of this project; evaluate the experiment again")
            if content.pop("sha256") != digest({"schema": SCHEMA, **content}):
                raise UserError(f"{path}: its content is not what was measured (SHA-256); evaluate the experiment again")
            content["measurements"] = tuple(Measurement(**m) for m in content["measurements"])
            record = cls(**content)
            refuse_impossible(str(path), record.measurements)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not a readable record ({error}); evaluate the experiment again") from error
        return record


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a record's content, however it is laid out in the file."""
    return sha256(json.dumps(content, sort_keys=True).encode())


def refuse_impossible(where: str, measurements: Sequence[Measurement], remedy: str = AGAIN) -> None:
    """Raise UserError if there are no measurements, or one that nothing can have measured."""
    if not measurements:
        raise UserError(f"{where}: no measurements; {remedy}")
    for m in measurements:
        if refusal := m.refusal():
            raise UserError(f"{where}: {m.quantity} with {refusal}; {remedy}")


def verified(path: Path) -> bytes:
    """The content of a file of weights or arrays, which is that of the record beside it, where there is one."""
    content, record = path.read_bytes(), path.with_suffix(".json")
    about = read_json(record, "move it away").get("provenance") if record.is_file() else None
    known = about.get(HASHES[path.suffix]) if isinstance(about, dict) else None
    if known not in (None, sha256(content)):
        raise UserError(
            f"{path}: not what {record.name} beside it was measured with (SHA-256 {sha256(content)} instead of {known}); "
            "restore the file, or move both away and evaluate the experiment again"
        )
    return content


@dataclass(frozen=True)
class Mean:
    """One measurement over its seeds; `spread` (of the mean, over the seeds) and the errors are None where they are unknown.

    `of_estimate` is the error for given examples.
    """

    value: float
    stderr: float | None
    of_estimate: float | None
    spread: float | None
    n: int
    seeds: int
    unit: str
    ceiling: float | None
    oracle: float | None


def over_seeds(measurements: Sequence[Measurement]) -> Mean:
    """Mean over the S seeds, with its error for given examples and, in `stderr`, that of their choice as well.

    spread is the standard deviation of the seeds' values (ddof 1) over sqrt(S): it measures training and the noise of the
    estimates, and averages out with more seeds. All seeds are scored on the same examples, so the error of their choice is
    common to them: it neither shows in the spread nor averages out, and is added once. What is independent in it (the noise
    drawn for the bound) is in both terms, which errs on the wide side. One seed has no spread. n is the least number of
    examples; ceiling and oracle are means over the seeds that have them.
    """
    if len({m.unit for m in measurements}) != 1:
        raise UserError(f"{measurements[0].quantity}: no mean over the units {sorted({m.unit for m in measurements})}")
    values = np.array([m.value for m in measurements])
    spread = standard_error(values) if len(values) > 1 else None
    drawn = _root_mean_square([m.of_estimate for m in measurements])
    of_estimate = _together(spread, None if drawn is None else drawn / math.sqrt(len(values)))
    chosen = _root_mean_square([m.stderr for m in measurements if m.error == "examples"])
    ceiling, oracle = (_mean([getattr(m, name) for m in measurements]) for name in ("ceiling", "oracle"))
    stderr = of_estimate if chosen is None else _together(spread, chosen)
    n, unit = min(m.n for m in measurements), measurements[0].unit
    return Mean(float(values.mean()), stderr, of_estimate, spread, n, len(values), unit, ceiling, oracle)


def _root_mean_square(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.sqrt(np.mean(np.square(known)))) if known else None


def _together(*errors: float | None) -> float | None:
    """Independent errors combined, of those that are known."""
    known = [error for error in errors if error is not None]
    return math.hypot(*known) if known else None


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
    write_atomically(path, packed(arrays))


def packed(arrays: Mapping[str, "np.ndarray[Any, Any]"]) -> bytes:
    """The content of an .npz: the same bytes for the same arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()


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
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def root_mean(squares: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """The root of their mean, and its standard error by the delta method: that of the mean over twice the root."""
    root = math.sqrt(squares.mean())
    return root, standard_error(squares) / (2 * root) if root else 0.0


def standard_error(values: "np.ndarray[Any, Any]") -> float:
    """s / sqrt(n), s with n - 1 in the denominator; nan for one value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
