"""Files of examples that a trained process coded (`dpm.codes`): a line about what decodes them, and the words of the stack."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm.codes.bits_back import Code, start
from dpm.codes.stack import Stack
from dpm.errors import UserError
from dpm.reverse import Reverse
from dpm.runs.evaluate import prepared
from dpm.runs.folder import Run
from dpm.samplers.steps import quadratic
from dpm.study.records import sha256, write_atomically

MAGIC, OLD = b"dpm code 2\n", b"dpm code 1\n"
NEEDED = {
    *(
        "experiment",
        "overrides",
        "weights",
        "versions",
        "shape",
        "n",
        "grid",
        "together",
        "counted",
        "under",
        "words",
        "examples",
    )
}


def versions() -> dict[str, str]:
    """Of what the probabilities depend on."""
    return {name: version(name) for name in ("torch", "numpy", "constriction")}


def packed(code: Code, x_0: Tensor, together: int, about: Mapping[str, Any]) -> tuple[bytes, Stack]:
    """The file's content, and the stack that it holds."""
    batches = list(x_0.split(together))  # type: ignore[no-untyped-call]
    counted = code.lead(batches)
    stack = code.encode(batches, counted)
    words, under = stack.words()
    payload = words.astype("<u4").tobytes()
    header = {
        **about,
        **{"versions": versions(), "shape": list(x_0.shape[1:]), "n": len(x_0), "grid": list(code.grid), "together": together},
        **{"counted": counted, "under": under, "words": sha256(payload), "examples": fingerprint(code, x_0)},
    }
    return MAGIC + json.dumps(header, sort_keys=True).encode() + b"\n" + payload, stack


def unpacked(path: Path) -> tuple[dict[str, Any], bytes]:
    """What a file says of itself, and its words; UserError for one that is no such file, or damaged."""
    content = path.read_bytes()
    line, _, payload = content.removeprefix(MAGIC).partition(b"\n")
    if content.startswith(OLD):
        raise UserError(f"{path}: written by an earlier version of compress.py, whose code was another; decode it with that")
    if not content.startswith(MAGIC):
        raise UserError(f"{path}: not a file that compress.py wrote")
    try:
        header = json.loads(line)
        whole = isinstance(header, dict) and header.keys() >= NEEDED and header["words"] == sha256(payload)
    except ValueError:
        whole = False
    if not whole:
        raise UserError(f"{path}: damaged: its content is not what was written (SHA-256)")
    return header, payload


def decoded(path: Path, reverse: Reverse, weights: bytes) -> Tensor:
    """The examples of a file; UserError where the process, or the arithmetic of this machine, is not the one that wrote it."""
    header, payload = unpacked(path)
    if header["weights"] != sha256(weights):
        raise UserError(f"{path}: coded with other weights of {header['experiment']} (SHA-256 {header['weights'][:12]}...)")
    if header["versions"] != versions():
        said = ", ".join(f"{name} {number}" for name, number in header["versions"].items())
        raise UserError(f"{path}: coded with {said}; another version may round differently, decode it with these")
    code, n, together = Code(reverse, header["grid"]), header["n"], header["together"]
    shapes = [(min(together, n - first), *header["shape"]) for first in range(0, n, together)]
    stack = Stack(start(shapes), np.frombuffer(payload, "<u4").astype(np.uint32), header["under"])
    x_0 = torch.cat(code.decode(stack, shapes, header["counted"]))
    if not stack.as_at_start or fingerprint(code, x_0) != header["examples"]:
        raise UserError(f"{path}: decoded to other examples than were coded: this machine rounds differently")
    return x_0


def fingerprint(code: Code, x_0: Tensor) -> str:
    return sha256(code.symbols(x_0).tobytes())


def compress(run: Run, options: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Write the file; a line that says how long it is."""
    reverse, _, weights = prepared(run)
    grid = quadratic(len(reverse.process.schedule), options["steps"])[::-1]
    data = run.data()
    code, shape = Code(reverse, grid), tuple(data.held_out(1).shape[1:])
    x_0 = data.held_out(options["examples"]) if options["input"] is None else read(Path(options["input"]), code, shape)
    about = {"experiment": run.name, "overrides": list(overrides), "weights": sha256(weights)}
    content, stack = packed(code, x_0, options["together"], about)
    write_atomically(Path(options["file"]), content)
    return (
        f"{options['file']}: {len(content):,} bytes, {len(x_0)} examples; {stack.bits / x_0.numel():.4f} bits for each of "
        f"{x_0.numel():,} values, {stack.taken:,} bits that were taken and come back, and a line about what decodes them"
    )


def read(path: Path, code: Code, shape: tuple[int, ...]) -> Tensor:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: not an array that numpy.save wrote") from error
    if array.dtype != np.uint8 or array.shape[1:] != shape or not len(array):
        raise UserError(f"{path}: {array.dtype} {array.shape}; uint8 (n, {', '.join(map(str, shape))}) is wanted")
    if array.max() > code.given.high:
        raise UserError(f"{path}: values up to {array.max()}, where the data's go to {code.given.high}")
    return code.given.values(torch.from_numpy(array).double())


def decompress(run: Run, path: Path, out: Path) -> str:
    reverse, _, weights = prepared(run)
    x_0 = decoded(path, reverse, weights)
    header, _ = unpacked(path)
    array = Code(reverse, header["grid"]).symbols(x_0)
    with out.open("wb") as file:
        np.save(file, array)
    return f"{out}: {array.dtype} {array.shape}, as they were coded; all bits that were taken are back"
