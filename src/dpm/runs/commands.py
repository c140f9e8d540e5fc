"""The study as commands: what is trained and evaluated in which order, and how the project is tested.

Each command is a process of its own, in the project's folder; its line is printed before it starts. A stage begins when all
commands of the one before have succeeded; what runs when one fails, or when we are stopped, is told to stop and waited for.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from dpm.errors import UserError

Command = list[str]  # of python, without its name
STAGES = (
    ("swiss_roll", "binary_heartbeat"),
    ("swiss_roll_quasi_newton", "dead_leaves"),
    ("textures",),
    ("mnist",),
    ("cifar10",),
)
PARTS = tuple(part for stage in STAGES for part in stage)  # those of a stage side by side, on one core each
TRAINED = ("swiss_roll", "binary_heartbeat")  # seed 0 here; the others are evaluated from their shipped weights
SEEDS = {"swiss_roll": "0,1,2,3,4", "swiss_roll_quasi_newton": "0,1,2,3,4"}
DOWNLOADED = {"mnist": "ho_2020/mnist", "cifar10": "ho_2020/cifar10_bound"}  # with 2020's experiment on the same images
TOOLS = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
PYTEST = ["-m", "pytest", "-n", "2", "--dist", "worksteal"]
FOR_TESTS = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}


def reproduce(parts: Sequence[str], results: str) -> None:
    """All of the study and its report, or some of its parts; what needs images that are not there is skipped with a line."""
    for part in sorted(set(parts) - set(PARTS)):
        raise UserError(f"no part {part!r} of the study; choose from: {', '.join(PARTS)}")
    for stage in STAGES:
        wanted = [part for part in stage if not parts or part in parts]
        run([list(commands(part, results)) for part in wanted if part not in DOWNLOADED or parts or downloaded(part)])
    if not parts:
        run([[["experiments/report.py"]]])


def commands(part: str, results: str) -> Iterator[Command]:
    experiment = f"experiment=sohl_dickstein_2015/{part}"
    if part in TRAINED:
        yield ["experiments/train.py", experiment, "seed=0"]
    sweep = ["-m", f"seed={SEEDS[part]}"] if part in SEEDS else []
    yield ["experiments/evaluate.py", *sweep, f"results={results}", experiment]
    if part in DOWNLOADED:
        yield ["experiments/evaluate.py", f"results={results}", f"experiment={DOWNLOADED[part]}"]


def downloaded(name: str) -> bool:
    """Whether the images are there; a line says how to get them if not."""
    return subprocess.call([sys.executable, "experiments/download.py", name, "--check"]) == 0


def tests(slow: bool) -> None:
    """Lint and types, then the tests that are not slow; or every test."""
    if slow:
        run([[PYTEST]], FOR_TESTS)
    else:
        run([[*(["-m", *tool] for tool in TOOLS), [*PYTEST, "-m", "not slow"]]], FOR_TESTS)


def run(series: Sequence[Sequence[Command]], environment: Mapping[str, str] | None = None) -> None:
    """Every series side by side, each one command after another; SystemExit with the status of the first that fails."""
    if not Path("experiments/train.py").is_file():
        raise UserError("this is not the project's folder: change into the one that holds experiments/ and conf/")
    running = Running({**os.environ, **(environment or {})})
    with ThreadPoolExecutor(max(1, len(series))) as pool:
        try:
            for done in as_completed([pool.submit(running.all_of, one) for one in series]):
                if done.result():
                    sys.exit(done.result())
        except BaseException:
            running.stop()
            raise


@dataclass
class Running:
    """The processes that we started, so that none outlives us."""

    environment: Mapping[str, str]
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    stopped: bool = False

    def all_of(self, series: Sequence[Command]) -> int:
        """The status of the first that fails, or 0."""
        return next((status for command in series if (status := self.one(command))), 0)

    def one(self, command: Command) -> int:
        if self.stopped:
            return 1
        print("python", *command, flush=True)
        self.processes.append(process := subprocess.Popen([sys.executable, *command], env=self.environment))
        if self.stopped:  # meanwhile
            process.terminate()
        return process.wait()

    def stop(self) -> None:
        self.stopped = True
        for process in self.processes:
            process.terminate()  # nothing happens to one that has ended
