"""What every test shares: no display, one thread (several tests run at once), the same random numbers on every run."""

import os

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for the processes that tests start

import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest
import torch
from helpers import ROOT, Exit, command_line

from dpm.runs.app import STOPPING

torch.set_num_threads(1)
# derandomize: a failure repeats; no deadline: time limits are pytest-timeout's, a busy machine is not a bug
hypothesis.settings.register_profile("dpm", derandomize=True, deadline=None)
hypothesis.settings.load_profile("dpm")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def command(tmp_path: Path, monkeypatch, capfd) -> Iterator[Callable[..., Exit]]:
    """Run experiments/<verb>.py in this process as from the command line, with its folders below tmp_path."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    before = {number: signal.getsignal(number) for number in STOPPING}

    def call(verb: str, *arguments: str, flags: Sequence[str] = ()) -> Exit:
        monkeypatch.setattr(sys, "argv", [f"experiments/{verb}.py", *flags, *command_line(tmp_path), *arguments])
        capfd.readouterr()
        status = 0
        try:
            runpy.run_path(f"experiments/{verb}.py", run_name="__main__")
        except SystemExit as stop:
            status = stop.code
        captured = capfd.readouterr()
        return Exit(status, captured.out, captured.err)

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)
