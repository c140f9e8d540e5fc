"""What tests share: runs as a command line means them, in this process or in one of their own, and what they leave."""

import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from dpm.runs.folder import Run

ROOT = Path(__file__).parents[1]
ROW, COLUMN = 0.9, 0.6  # correlations of neighbours in the autoregressive images
ROLL = "sohl_dickstein_2015/swiss_roll"
TINY = [
    "training.steps=4",
    "training.batch_size=8",
    "training.log_every=1",
    "training.validate_every=2",
    "validation_examples=20",
    "examples=20",
    "evaluators=bound",
]
LONG = [*TINY[1:], "training.log_every=10", "training.validate_every=20"]


def configured(root: Path, *overrides: str, experiment: str = ROLL, verb: str = "train") -> Run:
    """The run that a command line means, with its folders below `root` and without a tracker."""
    line = [*command_line(root, experiment), *overrides]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return Run(compose(verb, line), line)


def command_line(root: Path, experiment: str = ROLL) -> list[str]:
    return [f"experiment={experiment}", "tier=smoke", "tracker=none", f"outputs={root}/outputs", *results_in(root)]


def results_in(root: Path) -> list[str]:
    return [f"results={root}/results", f"published={root}/results"]


@dataclass(frozen=True)
class Exit:
    status: int
    out: str
    err: str


@contextmanager
def started(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A training in a process of its own."""
    line = [sys.executable, "experiments/train.py", *command_line(root), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def the_folder(root: Path) -> Path:
    """The one run's folder below `root`."""
    (folder,) = (root / "outputs").glob("**/seed*")
    return folder


def checkpoint(folder: Path) -> Path:
    return max(folder.glob("step-*.pt"))


def leaves(path: str, value: Any) -> Iterator[tuple[str, object]]:
    """Every leaf by its path, tensors as their bytes."""
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(f"{path}/{key}", item)
    else:
        yield path, value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


def final_state(folder: Path) -> dict[str, object]:
    return dict(leaves("", torch.load(io.BytesIO(checkpoint(folder).read_bytes()), weights_only=True)))


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without what the clock says."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def one_line(error: str) -> bool:
    return error.count("\n") <= 1 and "Traceback" not in error


# What is refused, before anything is written


def autoregressive(n: int, height: int, width: int) -> Tensor:
    """Gaussian images (n, 1, H, W) with covariance ROW^|dy| COLUMN^|dx|: y_k = a y_(k-1) + sqrt(1 - a^2) eps down and across.

    Given the pixels before it, a pixel inside has variance (1 - ROW^2)(1 - COLUMN^2); three neighbours say all about it.
    """
    x = torch.randn(n, 1, height, width)
    for i in range(1, height):
        x[:, :, i] = ROW * x[:, :, i - 1] + math.sqrt(1 - ROW**2) * x[:, :, i]
    for j in range(1, width):
        x[..., j] = COLUMN * x[..., j - 1] + math.sqrt(1 - COLUMN**2) * x[..., j]
    return x


def gaussian_entropy(variance: float) -> float:
    return 0.5 * math.log(2 * math.pi * math.e * variance)


def autoregressive_entropy(height: int, width: int) -> float:
    """Nats per pixel of such images."""
    first_row, first_column = gaussian_entropy(1 - COLUMN**2), gaussian_entropy(1 - ROW**2)
    inside = gaussian_entropy((1 - ROW**2) * (1 - COLUMN**2))
    total = gaussian_entropy(1) + (width - 1) * first_row + (height - 1) * (first_column + (width - 1) * inside)
    return total / (height * width)


def responses(log_density: Callable[[Tensor], Tensor], x: Tensor) -> Iterator[tuple[Any, Tensor, Tensor, Tensor, Tensor]]:
    """For each pixel (i, j) of the image x (1, 1, H, W): where it changes log_density; which pixels do not come before it; how
    many rows below it they are, and columns to either side, (H, W) each.
    """
    before = log_density(x)[0]
    row, column = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    for i, j in product(range(x.shape[2]), range(x.shape[3])):
        other = x.clone()
        other[..., i, j] += 0.5
        later = (row > i) | ((row == i) & (column >= j))
        yield (i, j), log_density(other)[0] != before, later, row - i, (column - j).abs()
