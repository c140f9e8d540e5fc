"""Mirrors: an explicit mode, always finished, nothing outside the run's folder; a server that is away costs one warning."""

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import helpers
import pytest
import torch

from dpm.errors import UserError
from dpm.objectives.one_term import OneTerm
from dpm.runs import checkpoints
from dpm.runs.tracking import NoMirror, WandB
from dpm.runs.train import train


class Service:
    """What `import wandb` gives, as a list of calls; `online` raises as it does when no server answers."""

    def __init__(self, online: bool = True, fails: str = "") -> None:
        self.calls: list[tuple[str, Any]] = []
        self.online, self.fails = online, fails

        class Error(Exception): ...

        self.errors = types.SimpleNamespace(Error=Error)

    def called(self, name: str, content: Any) -> None:
        self.calls.append((name, content))
        if name == self.fails:
            raise BrokenPipeError(f"{name}:\nits process is gone")

    def Settings(self, **settings: Any) -> dict[str, Any]:
        self.called("Settings", settings)
        return settings

    def Image(self, path: str) -> tuple[str, str]:
        self.called("Image", path)
        return ("image", path)

    def init(self, **about: Any) -> "Service":
        self.called("init", about)
        if about["mode"] == "online" and not self.online:
            raise self.errors.Error("timed out")
        return self

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.called("define_metric", args)

    def log(self, row: dict[str, Any]) -> None:
        self.called("log", row)

    def finish(self) -> None:
        self.called("finish", None)

    def of(self, name: str) -> list[Any]:
        return [content for call, content in self.calls if call == name]


@pytest.fixture
def service(monkeypatch) -> Service:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)
    for variable in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{variable}_DIR", "elsewhere")  # so that it is put back afterwards
    return service


@pytest.mark.parametrize("mode", ["shared", "disabled", None, False])
def test_only_offline_and_online_are_modes(mode: object) -> None:
    with pytest.raises(UserError, match="tracker=none"):
        WandB(mode, "dpm")


def test_a_run_has_its_mode_name_group_folder_and_configuration(service: Service, tmp_path: Path) -> None:
    mirror = WandB("offline", "dpm")
    mirror.start(tmp_path, "0123", "default/seed0", "experiment", {"seed": 0})
    mirror.log({"step": 1, "loss": 0.5})
    mirror.image("figure", tmp_path / "figure.png")
    mirror.finish()
    (about,) = service.of("init")
    expected = {"mode": "offline", "project": "dpm", "name": "default/seed0", "group": "experiment", "dir": tmp_path}
    assert about == {**about, **expected, "config": {"seed": 0}}
    assert service.of("log") == [{"step": 1, "loss": 0.5}, {"figure": ("image", str(tmp_path / "figure.png"))}]
    assert service.calls[-1] == ("finish", None)
    assert os.environ["WANDB_CACHE_DIR"].startswith(str(tmp_path))


def test_a_server_that_does_not_answer_costs_one_warning(service: Service, tmp_path: Path, capsys) -> None:
    service.online = False
    WandB("online", "dpm").start(tmp_path, "0123", "name", "group", {})
    assert [about["mode"] for about in service.of("init")] == ["online", "offline"]
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("fails", ["Settings", "init", "define_metric", "log", "Image", "finish"])
def test_whatever_fails_in_the_mirror_costs_one_warning_and_not_the_run(
    service: Service, tmp_path: Path, capsys, fails
) -> None:
    service.fails = fails
    done = train(helpers.configured(tmp_path, *helpers.TINY, "tracker=offline"))
    assert done["budget"]["steps"] == 4
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert f"{fails}: its process is gone" in warning
    assert len(service.of(fails)) == 1  # it is not asked again


def test_a_mirror_that_is_not_installed_costs_one_warning(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    mirror = WandB("offline", "dpm")
    mirror.start(tmp_path, "0123", "name", "group", {})
    mirror.log({"step": 1})
    mirror.finish()
    (warning,) = capsys.readouterr().err.splitlines()
    assert "ModuleNotFoundError" in warning or "import of wandb halted" in warning


def test_disabled_by_its_own_variable_it_does_nothing(service: Service, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    mirror = WandB("online", "dpm")
    mirror.start(tmp_path, "0123", "name", "group", {})
    mirror.log({"step": 1})
    mirror.finish()
    assert service.calls == []


def test_a_run_that_is_resumed_keeps_its_id_and_shows_its_whole_curve(service: Service, tmp_path: Path, monkeypatch) -> None:
    save, line = checkpoints.save, [*helpers.TINY, "tracker=offline"]

    def stopped(folder: Path, step: int, state: dict[str, Any]) -> Path:
        path = save(folder, step, state)
        if step == 2:
            raise KeyboardInterrupt
        return path

    monkeypatch.setattr(checkpoints, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(helpers.configured(tmp_path, *line))
    first, service.calls = service.calls, []
    monkeypatch.setattr(checkpoints, "save", save)
    train(helpers.configured(tmp_path, *line))
    *rows, _ = service.of("log")
    assert [row["step"] for row in rows] == [1, 2, 2, 3, 4, 4]
    assert rows[:2] == [row for call, row in first if call == "log"]
    (before,), (after,) = ([about["id"] for call, about in calls if call == "init"] for calls in (first, service.calls))
    assert before == after
    train(helpers.configured(tmp_path, *line, "seed=1"))
    assert service.of("init")[-1]["id"] != before


def test_a_training_is_mirrored_row_by_row_and_finished_in_any_case(service: Service, tmp_path: Path, monkeypatch) -> None:
    train(helpers.configured(tmp_path, *helpers.TINY, "tracker=offline"))
    *rows, image = service.of("log")
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps) == [1, 2, 2, 3, 4, 4]
    assert "validation/log_likelihood_bound" in rows[-1]
    assert image == {"validation": ("image", str(helpers.the_folder(tmp_path) / "curve.png"))}
    assert len(service.of("finish")) == 1
    monkeypatch.setattr(OneTerm, "__call__", lambda self, reverse, x_0: torch.full((len(x_0),), torch.nan, requires_grad=True))
    with pytest.raises(UserError, match="step 1"):
        train(helpers.configured(tmp_path, *helpers.TINY, "tracker=offline", "seed=1"))
    assert len(service.of("finish")) == 2


def test_samples_are_shown_at_every_validation(service: Service, tmp_path: Path) -> None:
    train(helpers.configured(tmp_path, *helpers.TINY, "tracker=offline", "pictures.n=2", "pictures.steps=2"))
    images = [row["samples"] for row in service.of("log") if "samples" in row]
    folder = helpers.the_folder(tmp_path) / "samples"
    assert images == [("image", str(folder / f"step-00000000{step}.png")) for step in (2, 4)]
    assert all(Path(path).is_file() for _, path in images)


def test_no_mirror_takes_everything_and_does_nothing(tmp_path: Path) -> None:
    mirror = NoMirror()
    mirror.start(tmp_path, "0123", "name", "group", {})
    mirror.log({"step": 1})
    mirror.image("figure", tmp_path / "figure.png")
    mirror.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_offline_needs_neither_network_nor_account_and_stays_in_the_runs_folder(tmp_path: Path) -> None:
    """A home without any settings, and every proxy pointing nowhere."""
    home, nowhere = tmp_path / "home", "http://127.0.0.1:9"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment |= {
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "HTTPS_PROXY": nowhere,
        "HTTP_PROXY": nowhere,
        "TMPDIR": str(home),
    }
    line = [*helpers.command_line(tmp_path), "tracker=offline", *helpers.TINY]
    done = subprocess.run(
        [sys.executable, "experiments/train.py", *line], cwd=helpers.ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    folder = helpers.the_folder(tmp_path)
    (offline,) = (folder / "wandb").glob("offline-run-*")
    (binary,) = offline.glob("*.wandb")
    assert binary.stat().st_size > 1000
    assert [path for path in home.rglob("*") if "wandb" in path.name or "netrc" in path.name] == []
