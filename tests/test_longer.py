"""More steps for a finished run: the same bytes where nothing else follows their number, and never another run in silence."""

import shutil
from pathlib import Path

import pytest
import torch
from helpers import TINY, configured, final_state, metrics
from safetensors.torch import load_file

from dpm.errors import UserError
from dpm.runs import checkpoints
from dpm.runs.evaluate import evaluate
from dpm.runs.longer import go_on
from dpm.runs.train import make_learner, train
from dpm.stored import read_json
from dpm.study.records import sha256

CONSTANT = ["scheduler._target_=dpm.schedulers.warm_up", "~scheduler.T_max", "+scheduler.steps=3"]
MORE = "training.steps=8"


def folder(root: Path, *overrides: str) -> Path:
    return configured(root, *TINY, *overrides).folder


def test_more_steps_go_on_from_the_end_of_a_shorter_run_and_end_with_the_same_bytes(tmp_path: Path, capsys) -> None:
    train(configured(tmp_path, *TINY, *CONSTANT))
    train(configured(tmp_path, *TINY, *CONSTANT, "training.steps=6"))
    capsys.readouterr()
    done = train(configured(tmp_path, *TINY, *CONSTANT, MORE))
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"going on from {folder(tmp_path, *CONSTANT, 'training.steps=6')}, step 6"
    assert [line.split(":")[0] for line in lines if line.startswith("step ")] == ["step 8"]
    whole = train(configured(tmp_path / "whole", *TINY, *CONSTANT, MORE))
    assert final_state(folder(tmp_path, *CONSTANT, MORE)) == final_state(folder(tmp_path / "whole", *CONSTANT, MORE))
    assert metrics(folder(tmp_path, *CONSTANT, MORE)) == metrics(folder(tmp_path / "whole", *CONSTANT, MORE))
    assert {**done, "budget": {**done["budget"], "seconds": 0}} == {**whole, "budget": {**whole["budget"], "seconds": 0}}


@pytest.mark.parametrize(
    "other", [["seed=1"], ["optimizer.lr=0.01"], ["training.batch_size=4"], ["scheduler.steps=2"], ["training.steps=9"]]
)
def test_nothing_goes_on_from_another_experiment_seed_or_a_longer_run(tmp_path: Path, capsys, other: list[str]) -> None:
    """A warm-up of another length is another schedule: it says so and starts anew."""
    train(configured(tmp_path, *TINY, *CONSTANT, *other))
    capsys.readouterr()
    train(configured(tmp_path, *TINY, *CONSTANT, MORE))
    assert "going on" not in capsys.readouterr().out
    train(configured(tmp_path / "alone", *TINY, *CONSTANT, MORE))
    assert final_state(folder(tmp_path, *CONSTANT, MORE)) == final_state(folder(tmp_path / "alone", *CONSTANT, MORE))


def test_a_learning_rate_that_follows_the_steps_starts_anew_or_says_where_it_took_over(tmp_path: Path, capsys) -> None:
    """With go_on=true the weights are those of the shorter run, the learning rate that of the longer one."""
    train(configured(tmp_path, *TINY))
    capsys.readouterr()
    train(configured(tmp_path, *TINY, MORE))
    said = f"starting anew: {folder(tmp_path)} has 4 of these steps, but scheduler.T_max follows training.steps; "
    assert capsys.readouterr().out.startswith(said + "go_on=true goes on from there\n")
    train(configured(tmp_path, *TINY, MORE, "go_on=true"))
    assert capsys.readouterr().out.startswith(f"going on from {folder(tmp_path)}, step 4\n")
    short, anew, on = (metrics(folder(tmp_path, *line)) for line in ((), (MORE,), (MORE, "go_on=true")))
    assert on[: len(short)] == short
    rates = [[row["learning_rate"] for row in rows if "loss" in row and row["step"] > 4] for rows in (anew, on)]
    assert rates[1] == pytest.approx(rates[0], rel=1e-12)
    assert rates[0][0] > 0.1 * 0.02
    assert on[-1] != anew[-1]
    recipes = [evaluate(configured(tmp_path, *TINY, *line, verb="evaluate")).recipe for line in ((MORE,), (MORE, "go_on=true"))]
    assert ["went_on_at" in recipe for recipe in recipes] == [False, True]
    assert recipes[1]["went_on_at"] == 4


def test_a_run_that_went_on_and_is_interrupted_ends_as_it_would_have(tmp_path: Path) -> None:
    train(configured(tmp_path, *TINY))
    line = [*TINY, MORE, "go_on=true"]
    done, run = train(configured(tmp_path, *line)), configured(tmp_path, *line)
    expected = final_state(run.folder)
    run.done.unlink()
    max(run.folder.glob("step-*.pt")).write_bytes(b"")
    again = train(run)
    assert final_state(run.folder) == expected
    assert again["budget"]["went_on_at"] == done["budget"]["went_on_at"] == 4


def shipped(root: Path, *overrides: str) -> Path:
    """The averaged weights of a finished run, which is gone."""
    train(configured(root, *TINY, *overrides))
    evaluate(configured(root, *TINY, *overrides, verb="evaluate"))
    shutil.rmtree(root / "outputs")
    (path,) = (root / "results").rglob("*.safetensors")
    return path


def test_a_run_goes_on_from_shipped_weights_where_nothing_else_is_left(tmp_path: Path, capsys) -> None:
    """The weights and their average begin at those of the file; the optimizer anew, at the learning rate of the longer run."""
    path = shipped(tmp_path)
    line = [*TINY, MORE, "go_on=true", f"weights='{path}'"]
    run, own = configured(tmp_path, *line), load_file(path)
    learner = make_learner(run, run.data())
    go_on(run, learner)
    assert capsys.readouterr().out.endswith(f"going on from {path}, step 4, with an optimizer that begins anew\n")
    state, _ = checkpoints.load_newest(run.folder)
    for key, value in own.items():
        torch.testing.assert_close(state["reverse"][key], value.to(state["reverse"][key].dtype), rtol=0, atol=0)
        torch.testing.assert_close(state["ema"][f"module.{key}"], state["reverse"][key], rtol=0, atol=0)
    assert state["optimizer"]["state"] == {}
    done = train(run)
    rates = [row["learning_rate"] for row in metrics(run.folder) if "loss" in row]
    train(configured(tmp_path / "anew", *TINY, MORE))
    anew = {row["step"]: row["learning_rate"] for row in metrics(folder(tmp_path / "anew", MORE)) if "loss" in row}
    assert rates == pytest.approx([rate for step, rate in anew.items() if step > 4], rel=1e-12)
    origin = {"went_on_at": 4, "went_on_from": sha256(path.read_bytes())}
    assert origin.items() <= done["budget"].items()
    assert (done["budget"]["steps"], done["budget"]["examples"]) == (8, 8 * run.plan.batch_size)
    assert done["budget"]["seconds"] > read_json(path.with_suffix(".json"), "")["budget"]["seconds"]
    assert origin.items() <= evaluate(configured(tmp_path, *line[:-1], verb="evaluate")).recipe.items()


def test_what_went_on_from_weights_and_is_interrupted_ends_as_it_would_have(tmp_path: Path) -> None:
    run = configured(tmp_path, *TINY, MORE, "go_on=true", f"weights='{shipped(tmp_path)}'")
    done, expected = train(run), final_state(run.folder)
    run.done.unlink()
    max(run.folder.glob("step-*.pt")).write_bytes(b"")
    again = train(run)
    assert final_state(run.folder) == expected
    assert again["budget"]["went_on_from"] == done["budget"]["went_on_from"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([MORE], "with go_on=true it goes on from weights"),
        (["go_on=true"], "has 4 steps behind it; to go on from there, training.steps is more than that"),
        ([MORE, "go_on=true", "optimizer.lr=0.01"], "holds weights of another configuration: optimizer.lr: "),
        ([MORE, "go_on=true", "weights=nothing.safetensors"], "weights: there is no file nothing.safetensors"),
    ],
)
def test_weights_that_a_run_cannot_go_on_from_are_refused(tmp_path: Path, overrides: list[str], said: str) -> None:
    path = shipped(tmp_path)
    with pytest.raises(UserError, match=said):
        train(configured(tmp_path, *TINY, f"weights='{path}'", *overrides))
    assert not (tmp_path / "outputs").exists()


def test_there_must_be_something_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="go_on=true: there is no finished run of fewer steps of"):
        train(configured(tmp_path, *TINY, "go_on=true"))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_run_beside_it_is_left_out_with_a_warning(tmp_path: Path, capsys) -> None:
    train(configured(tmp_path, *TINY, *CONSTANT))
    damaged = folder(tmp_path, *CONSTANT) / "config.json"
    damaged.write_text("{")
    assert train(configured(tmp_path, *TINY, *CONSTANT, MORE))
    assert f"warning: {damaged}: no JSON" in capsys.readouterr().err
