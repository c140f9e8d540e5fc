"""What all entrypoints share: help without waiting, any terminal, readers that go away, and signals that are answered."""

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import helpers
import pytest
from helpers import ROOT, TINY, configured, final_state, metrics, the_folder

from dpm.evaluators.bound import AllTerms
from dpm.runs import app, checkpoints
from dpm.runs.train import train

VERBS = ("train", "evaluate", "report")


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_there_is_and_does_not_wait_for_torch(verb: str) -> None:
    program = (
        f"import runpy, sys; sys.argv = ['{verb}.py', '--help']; runpy.run_path('experiments/{verb}.py', run_name='__main__');"
        "places = {name: getattr(module, '__file__', None) or '' for name, module in sys.modules.items()};"
        "packages = {name.split('.')[0] for name, place in places.items() if 'site-packages' in place};"
        "assert packages <= {'hydra', 'omegaconf', 'antlr4', 'packaging', 'yaml', 'numpy', 'attr', '_distutils_hack'}, packages"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"  python experiments/{verb}.py") + done.stdout.count(f"experiments/{verb}.py experiment") >= 3
    for said in (
        "ho_2020/cifar10_bound ",
        "about 6 minutes of training on one core",
        "tier=smoke",
        "results/yours",
        "completion",
    ):
        assert said in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 180


def test_every_experiment_says_what_it_is(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = app.help_text("about").splitlines()
    for name in app.experiments():
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line.removeprefix(f"  {name}").strip()) > 20


def test_what_a_terminal_cannot_show_is_spelled() -> None:
    text = "K 1.5 ± 0.2 − 3 × 10, σ ≤ 2, 日…"
    program = f"from dpm.runs import app; app.steady_output(); print({text!r})"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("K 1.5 +- 0.2 - 3 x 10, sigma <= 2, ?...\n", "")


def test_a_reader_that_goes_away_does_not_end_a_training(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    line = [*helpers.command_line(tmp_path), *TINY]
    command = [sys.executable, "experiments/train.py", *line]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert (the_folder(tmp_path) / "done.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, *app.STOPPING])
def test_a_signal_during_a_validation_is_answered_at_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch, capsys, number: int
) -> None:
    real = AllTerms.__call__

    def slow(self: AllTerms, *arguments: Any) -> Any:
        signal.raise_signal(number)
        raise AssertionError("it went on")

    with monkeypatch.context() as patch:
        patch.setattr(AllTerms, "__call__", slow)
        with pytest.raises(SystemExit) as stopped:
            train(configured(tmp_path, *TINY))
    assert stopped.value.code == 128 + number
    assert "stopped during a validation; the same command resumes from there" in capsys.readouterr().err
    assert AllTerms.__call__ is real
    state, _ = checkpoints.load_newest(the_folder(tmp_path))
    assert state is not None
    assert state["step"] == 2
    train(configured(tmp_path, *TINY))
    train(configured(tmp_path / "whole", *TINY))
    assert final_state(the_folder(tmp_path)) == final_state(the_folder(tmp_path / "whole"))
    assert metrics(the_folder(tmp_path)) == metrics(the_folder(tmp_path / "whole"))


def test_the_entrypoints_are_thin() -> None:
    for verb in VERBS:
        assert callable(runpy.run_path(str(ROOT / "experiments" / f"{verb}.py"))["main"])
