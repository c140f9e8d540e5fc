"""Kill a tiny training, and its evaluation, at random times and start it again: python tests/kills.py FOLDER KILLS SEED

A process that has imported torch forks a child for every start, so that 200 of them take minutes. Prints counts, as JSON.
"""

import contextlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import torch
import torch._dynamo  # which the first optimizer imports
from helpers import ROOT, command_line

import dpm.figures.curve
import dpm.runs.evaluate
import dpm.runs.train  # noqa: F401 (all that the entrypoints would import in every child)
from dpm.errors import UserError
from dpm.runs import checkpoints
from dpm.study.records import Record, verified

SETTINGS = [
    *("training.steps=80", "training.batch_size=8", "training.log_every=1", "training.validate_every=20"),
    *("training.checkpoint_every=4", "validation_examples=20", "examples=20", "evaluators=bound", "threads=1"),
]
SPREAD = 1.1  # the latest kill, in times that the command takes
OF_TRAININGS = 0.75  # of all kills; the others fall into evaluations


@dataclass
class Told:
    """What is counted. Steps that are lost are those that metrics.jsonl has beyond the checkpoint that a run resumes from."""

    kills: int = 0
    kills_of_evaluations: int = 0
    finished: int = 0  # trainings and evaluations that ended after kills, all bitwise equal to uninterrupted ones
    tracebacks: int = 0
    unequal: int = 0
    left_over: int = 0  # .part files and checksums without a checkpoint, at the end
    records_that_do_not_fit: int = 0  # taken for a result with other weights or arrays beside it
    most_steps_lost: int = 0
    backward: int = 0  # kills after which an older checkpoint was the newest


class Drill:
    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random, self.told = root, random.Random(seed), Told()

    def start(self, verb: str, folder: Path, *more: str, within: float = 0.0) -> bool:
        """Run a command in a child and kill it at a random time `within` so many seconds; whether it ended by itself."""
        log = self.root / "log"
        if not (child := os.fork()):
            become(verb, [*command_line(folder), *SETTINGS, *more], log)
        if within:
            time.sleep(self.random.uniform(0, within))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        self.told.tracebacks += log.read_text().count("Traceback") if log.exists() else 0
        if os.WIFSIGNALED(status):
            self.told.kills += 1
            return False
        if os.WEXITSTATUS(status):
            raise RuntimeError(log.read_text())
        return True

    def killed(self, enough: int, within: float, verb: str, folder: Path, *more: str) -> Iterator[None]:
        """The same command until it ends by itself, or is let go when there were `enough` kills; yields after each of them."""
        while self.told.kills < enough:
            if self.start(verb, folder, *more, within=SPREAD * within):
                break
            yield
        else:
            self.start(verb, folder, *more)
        self.told.finished += 1

    def timed(self, verb: str, folder: Path, *more: str) -> float:
        start = time.monotonic()
        self.start(verb, folder, *more)
        return time.monotonic() - start

    def trainings(self, enough: int) -> None:
        whole = self.timed("train", self.root / "whole")
        expected = trained(self.root / "whole")
        while self.told.kills < enough:
            folder, reached = self.root / "killed", 0
            for _ in self.killed(enough, whole, "train", folder):
                reached = self.after_a_kill(folder, reached)
            self.told.unequal += trained(folder) != expected
            self.told.left_over += len(list(left_over(folder)))
            shutil.rmtree(folder)

    def after_a_kill(self, folder: Path, reached: int) -> int:
        """The step of the checkpoint that the run will go on from, having counted what the kill has cost."""
        runs = list(folder.glob("outputs/**/seed0"))
        state, _ = checkpoints.load_newest(runs[0]) if runs else (None, [])
        step = state["step"] if state else 0
        lines = [text for path in folder.glob("outputs/**/metrics.jsonl") for text in path.read_text().splitlines()]
        done = max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)
        self.told.most_steps_lost = max(self.told.most_steps_lost, done - step)
        self.told.backward += step < reached
        return step

    def evaluations(self, enough: int) -> None:
        """Into one results folder, by turns the weights in two precisions: an old record always lies there."""
        folder, before, expected = self.root / "whole", self.told.kills, {}
        commands, whole = ("shipped=float16", "shipped=float32"), 0.0
        for command in commands:
            whole = self.timed("evaluate", folder, command)
            expected[command] = evaluated(folder)
        for command in cycle(commands):
            for _ in self.killed(enough, whole, "evaluate", folder, command):
                self.told.records_that_do_not_fit += not fits(folder, expected)
            self.told.unequal += evaluated(folder) != expected[command]
            self.told.left_over += len(list(left_over(folder)))
            if self.told.kills >= enough:
                break
        self.told.kills_of_evaluations = self.told.kills - before


def become(verb: str, arguments: list[str], log: Path) -> None:
    """The entrypoint, in a child; never returns."""
    status = 1
    with log.open("w", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.argv = [f"experiments/{verb}.py", *arguments]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            os._exit(status)


def trained(folder: Path) -> dict[str, object]:
    """What a finished run holds, bitwise, without what the clock says."""
    content: dict[str, object] = {path.name: path.read_bytes() for path in folder.glob("outputs/**/step-*")}
    for path in (*folder.glob("outputs/**/metrics.jsonl"), *folder.glob("outputs/**/done.json")):
        rows = [json.loads(line) for line in (path.read_text() if path.suffix == ".jsonl" else compact(path)).splitlines()]
        content[path.name] = [{k: v for k, v in row.items() if k not in ("seconds", "budget")} for row in rows]
    return content


def compact(path: Path) -> str:
    return json.dumps(json.loads(path.read_text()))


def evaluated(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("results/**/seed0.*")}


def fits(folder: Path, expected: dict[str, dict[str, bytes]]) -> bool:
    """Whether a record is one of the two, and what lies beside it is its own or is refused."""
    (record,) = folder.glob("results/**/seed0.json")
    whole = [files for files in expected.values() if files["seed0.json"] == record.read_bytes()]
    Record.load(record)
    for path in (record.with_suffix(".safetensors"), record.with_suffix(".npz")):
        try:
            if not whole or verified(path) != whole[0][path.name]:
                return False
        except UserError as error:
            if "not what seed0.json beside it was measured with" not in str(error):
                return False
    return bool(whole)


def left_over(folder: Path) -> Iterator[Path]:
    yield from folder.glob("**/.*.part")
    yield from (path for path in folder.glob("**/*.sha256") if not path.with_suffix(".pt").exists())


def main(root: Path, kills: int, seed: int) -> None:
    os.chdir(ROOT)
    os.environ["HYDRA_FULL_ERROR"] = "1"
    torch.set_num_threads(1)
    drill = Drill(root, seed)
    drill.trainings(round(OF_TRAININGS * kills))
    drill.evaluations(kills)
    print(json.dumps(asdict(drill.told)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
