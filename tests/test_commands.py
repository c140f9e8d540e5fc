"""`python -m dpm`: what make calls. One command after another, or side by side; nothing outlives a failure or a signal."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, one_line

from dpm.errors import UserError
from dpm.runs import commands


def python(program: str) -> list[str]:
    return ["-c", program]


def dpm(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, "-m", "dpm", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_a_series_ends_at_its_first_failure_with_its_status(monkeypatch, capfd) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        commands.run([[python("print(1 + 1)"), python("raise SystemExit(7)"), python("print('never')")]])
    assert ended.value.code == 7
    assert capfd.readouterr().out.splitlines() == [
        "python -c print(1 + 1)",
        "2",
        "python -c raise SystemExit(7)",
    ]


def test_series_run_side_by_side_and_a_failure_stops_the_others(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    waits = f"import time; open({str(tmp_path / 'there')!r}, 'w').close(); time.sleep(600)"
    fails = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'there')!r}): time.sleep(0.01)\nraise SystemExit(3)"
    with pytest.raises(SystemExit) as ended:
        commands.run([[python(waits), python("print('never')")], [python(fails)]])
    assert ended.value.code == 3


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends a process without asking it")
def test_a_signal_stops_what_runs_and_waits_for_it(tmp_path: Path) -> None:
    child = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(tmp_path / 'ended')!r}, 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('there', flush=True)\n"
        "for _ in range(6000): time.sleep(0.1)"  # a signal that arrives just before a sleep is seen after it
    )
    program = f"from dpm.runs import app, commands; app.run(lambda: commands.run([[['-c', {child!r}]]]))"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.stdout.readline() != "there\n":
            assert process.poll() is None
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert (tmp_path / "ended").exists()


def test_the_study_is_what_make_always_did(monkeypatch) -> None:
    ran: list[list[list[list[str]]]] = []
    monkeypatch.setattr(commands, "run", lambda series, environment=None: ran.append([list(one) for one in series]))
    monkeypatch.setattr(commands, "downloaded", lambda name: name == "mnist")
    commands.reproduce([], "results/yours")
    stages = [[[" ".join(command) for command in one] for one in stage] for stage in ran]
    evaluate, paper = "experiments/evaluate.py", "experiment=sohl_dickstein_2015"
    assert stages[0] == [
        [
            f"experiments/train.py {paper}/swiss_roll seed=0",
            f"{evaluate} -m seed=0,1,2,3,4 results=results/yours {paper}/swiss_roll",
        ],
        [f"experiments/train.py {paper}/binary_heartbeat seed=0", f"{evaluate} results=results/yours {paper}/binary_heartbeat"],
    ]
    assert stages[1] == [
        [f"{evaluate} -m seed=0,1,2,3,4 results=results/yours {paper}/swiss_roll_quasi_newton"],
        [f"{evaluate} results=results/yours {paper}/dead_leaves"],
    ]
    assert stages[3] == [
        [f"{evaluate} results=results/yours {paper}/mnist", f"{evaluate} results=results/yours experiment=ho_2020/mnist"]
    ]
    assert stages[4:] == [[], [["experiments/report.py"]]]  # CIFAR-10 is not there
    ran.clear()
    commands.reproduce(["textures"], "elsewhere")
    assert [stage for stage in ran if stage] == [[[["experiments/evaluate.py", "results=elsewhere", f"{paper}/textures"]]]]


def test_make_calls_python_once_for_each_of_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (parts,) = re.findall(r"^PARTS := (.*)$", makefile, re.MULTILINE)
    assert tuple(parts.split()) == commands.PARTS
    for target in ("reproduce", r"\$\(PARTS\)", "test", "test-all"):
        (body,) = re.findall(rf"^{target}: [^\n]*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert re.fullmatch(r"\t@\$\(BIN\)/python -m dpm .*\n", body)


def test_a_mistake_is_one_line_and_status_2(tmp_path: Path) -> None:
    for done, said in (
        (dpm("reproduce", "mnits"), "no part 'mnits' of the study; choose from: swiss_roll,"),
        (dpm("reproduce", cwd=tmp_path), "this is not the project's folder"),
        (dpm("tests"), "invalid choice: 'tests'"),
    ):
        assert (done.returncode, said in done.stderr, one_line(done.stderr)) == (2, True, True), done.stderr
    with pytest.raises(UserError, match="no part 'mnits'"):
        commands.reproduce(["mnits"], "results/yours")
