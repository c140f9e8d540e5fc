"""Sweeps by the plugins of the extras `sweep` and `optuna`, each test skipped where its plugin is not installed:

pip install -e '.[sweep,optuna]'
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, TINY, command_line


def swept(root: Path, *arguments: str) -> str:
    """What a sweep in a process of its own prints."""
    line = [sys.executable, "experiments/train.py", "-m", *command_line(root), *TINY, *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def values(root: Path) -> dict[str, float]:
    """The validated value of each run by its folder."""
    found = (root / "outputs").glob("**/done.json")
    return {str(path.parent.relative_to(root)): json.loads(path.read_text())["value"] for path in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "launcher"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]),
    ],
)
def test_another_launcher_gives_the_same_runs_and_skips_what_is_finished(
    tmp_path: Path, plugin: str, launcher: list[str]
) -> None:
    pytest.importorskip(f"hydra_plugins.{plugin}")
    swept(tmp_path / "plain", "units=8,16")
    said = swept(tmp_path / "other", "units=8,16", *launcher)
    assert values(tmp_path / "other") == values(tmp_path / "plain")
    assert len(values(tmp_path / "other")) == 2
    assert "\n| 8 | 1 | " in said
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "other").glob("**/done.json")}
    swept(tmp_path / "other", "units=8,16", *launcher)
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_a_search_draws_the_same_settings_again_and_skips_what_is_finished(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=0"]
    rate = "optimizer.lr=tag(log,interval(1e-3,1e-1))"
    first = swept(tmp_path, rate, *search, "hydra.sweeper.n_trials=2")
    assert "nothing to do" not in first
    found = values(tmp_path)
    more = swept(tmp_path, rate, *search, "hydra.sweeper.n_trials=3")
    assert more.count("nothing to do") == 2
    assert len(values(tmp_path)) == 3
    assert found.items() <= values(tmp_path).items()
    best = max(values(tmp_path).values())  # more is better for K, and the search minimises
    assert f"Best value: {-best}" in more
