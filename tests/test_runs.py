"""A run in its folder: refused, trained, resumed, skipped, swept, evaluated; and what the command line says about it."""

import atexit
import json
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import LONG, ROLL, TINY, checkpoint, configured, final_state, metrics, one_line, started, the_folder, wait_for
from hydra.errors import HydraException
from torch.optim.lr_scheduler import CosineAnnealingLR

from dpm.data import files
from dpm.errors import UserError
from dpm.runs import checkpoints, configs
from dpm.runs.evaluate import evaluate
from dpm.runs.folder import locked
from dpm.runs.train import make_learner, train
from dpm.runs.weights import load_weights
from dpm.study.records import Record


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("trian.lr=1", "Could not override 'trian.lr'"),
        ("network=foo", "Available options in 'network'"),
        ("+typo=1", "nothing reads a key 'typo'"),
        ("++typo=1", "nothing reads a key 'typo'"),
        ("+training.foo=1", "nothing reads a key 'training.foo'"),
        ("+reverse.network.foo=1", "unknown configuration key reverse.network.foo"),
        ("~seed", "nothing reads a key 'seed'"),
        ("tier=foo", "no 'foo' in `tiers` of this experiment; choose from: smoke, laptop, paper"),
        ("optimizer=adam", "optimizer = adam: say in the experiment what it is made of, optimizer: {_target_: ...}"),
        ("~objective", "nothing reads a key 'objective'"),
        ("validation=null", "validation = None: say in the experiment"),
        ("T=-3", "T=-3"),
        ("units=-1", "reverse.network"),
        ("beta_1=nan", "beta_1 = nan: give a finite number"),
        ("beta_1=-1", "0 < beta_1"),
        ("optimizer.lr=nan", "optimizer.lr = nan"),
        ("optimizer.lr=-1", "optimizer(lr = -1): ValueError: Invalid learning rate: -1"),
        ("optimizer.lr=fast", "optimizer"),
        ("optimizer._target_=torch.optim.Adm", "torch.optim.Adm"),
        ("training.steps=-1", "training.steps = -1"),
        ("training.ema_warm_up=1", "training.ema_warm_up = 1: give true or false"),
        ("training.clip=inf", "training.clip = inf"),
        ("data.noise_variance=2", "noise_variance"),
        ("seed=-1", "seed = -1"),
        ("seed=1.5", "seed = 1.5"),
        ("validation_examples=-1", "validation_examples"),
        ("validation_examples=1", "validation_examples"),  # one value has no standard error
        ("examples=many", "examples"),
        ("threads=-1", "threads"),
        ("device=tpu", "device"),
        ("tracker.mode=loud", "tracker"),
        ("outputs=/dev/null", "cannot write /dev/null"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(tmp_path: Path, override: str, complaint: str) -> None:
    with pytest.raises((UserError, HydraException)) as caught:
        train(configured(tmp_path, *(["tracker=offline"] if "tracker" in override else []), override))
    assert complaint in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("override", ["examples=-1", "examples=0", "weights=missing.safetensors"])
def test_an_evaluation_that_cannot_be_meant_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match=override.split("=")[0]):
        evaluate(configured(tmp_path, override, verb="evaluate"))
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_without_a_training_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train it first"):
        evaluate(configured(tmp_path, verb="evaluate"))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"network.centres": torch.zeros(3, 2)}, tmp_path / "other.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"not weights at all")
    for name in ("other", "noise"):
        with pytest.raises(UserError, match="does not fit this configuration"):
            evaluate(configured(tmp_path, f"weights={tmp_path}/{name}.safetensors", verb="evaluate"))


def test_weights_of_another_configuration_are_not_evaluated_under_this_ones_name(tmp_path: Path) -> None:
    """beta_1 = 1e-6 evaluated with the weights of 1e-2 would be a number of neither."""
    for beta_1 in ("1e-6", "1e-2"):
        train(configured(tmp_path, *TINY, f"beta_1={beta_1}"))
        evaluate(configured(tmp_path, *TINY, f"beta_1={beta_1}", verb="evaluate"))
    other = configured(tmp_path, *TINY, "beta_1=1e-2", verb="evaluate")
    weights = other.record.with_suffix(".safetensors")
    asked = configured(tmp_path, *TINY, "beta_1=1e-6", f"weights='{weights}'", verb="evaluate")
    with pytest.raises(UserError, match=r"weights of another configuration: .*beta_1: 0\.01 -> 1e-06"):
        evaluate(asked)
    own = configured(tmp_path, *TINY, "beta_1=1e-2", f"weights='{weights}'", verb="evaluate")
    evaluate(own)
    old = tmp_path / "old.safetensors"  # as written before files said what they are of
    safetensors.torch.save_file(safetensors.torch.load_file(weights), old)
    with pytest.raises(UserError, match="weights for another noise schedule"):
        evaluate(configured(tmp_path, *TINY, "beta_1=1e-6", f"weights={old}", verb="evaluate"))


@pytest.mark.parametrize("harm", ["damaged", "deleted"])
def test_a_finished_run_is_not_evaluated_from_an_older_checkpoint(tmp_path: Path, harm: str) -> None:
    train(configured(tmp_path, *TINY))
    for path in the_folder(tmp_path).glob("step-*.pt"):
        if harm == "deleted":
            path.unlink()
        elif path == checkpoint(the_folder(tmp_path)):
            path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"delete done\.json there and train again"):
        evaluate(configured(tmp_path, *TINY, verb="evaluate"))


# Training in a folder


def test_a_finished_run_is_skipped_and_another_configuration_refused(tmp_path: Path, capsys) -> None:
    done = train(configured(tmp_path, *TINY))
    folder = the_folder(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"}
    assert train(configured(tmp_path, *TINY)) == done
    assert "finished before; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "optimizer": {**config["optimizer"], "lr": 0.5}}))
    with pytest.raises(UserError, match=r"another configuration \(optimizer\.lr: 0\.5 -> 0\.02\)"):
        train(configured(tmp_path, *TINY))


def test_a_done_run_says_what_it_reached_and_what_it_cost(tmp_path: Path) -> None:
    done = train(configured(tmp_path, *TINY, "seed=7"))
    rows = metrics(the_folder(tmp_path))
    assert [row["step"] for row in rows] == [1, 2, 2, 3, 4, 4]
    assert (done["seed"], done["value"], done["unit"]) == (7, rows[-1]["value"], "bits")
    assert {key: done["budget"][key] for key in ("steps", "examples", "device")} == {
        "steps": 4,
        "examples": 32,
        "device": "cpu",
    }


def check_evaluation_uses_the_average(root: Path) -> None:
    """The weights beside the record, and the record's hash of them, are the moving average, not the last weights."""
    train(configured(root, *TINY))
    evaluate(configured(root, *TINY, verb="evaluate"))
    state = torch.load(checkpoint(the_folder(root)), weights_only=True)
    (path,) = (root / "results").glob("**/*.safetensors")
    evaluated = safetensors.torch.load_file(path)
    assert all(torch.equal(value, state["ema"][f"module.{name}"]) for name, value in evaluated.items())
    assert any(not torch.equal(value, state["reverse"][name]) for name, value in evaluated.items())
    assert Record.load(path.with_suffix(".json")).measurements[0].protocol["weights"] == "ema"


def test_evaluation_uses_the_average(tmp_path: Path) -> None:
    check_evaluation_uses_the_average(tmp_path)


def test_the_validated_value_is_that_of_the_average(tmp_path: Path) -> None:
    run = configured(tmp_path, *TINY)
    done, reverse = train(run), run.reverse()
    load_weights(run, reverse)
    again = run.evaluation("validation", configs.build(run.config, "data"))(reverse)
    assert again.measurements[0].value == done["value"]


def test_the_settings_of_a_short_sweep_can_be_told_apart(tmp_path: Path) -> None:
    """20 steps, an average over 1000: without a warm-up every setting shows the initialisation, the same for all."""
    values = {}
    for warm_up in ("true", "false"):
        runs = [
            configured(tmp_path, f"training.ema_warm_up={warm_up}", f"optimizer.lr={lr}", "training.ema_decay=0.999")
            for lr in (1e-3, 1e-2, 1e-1)
        ]
        values[warm_up] = [train(run)["value"] for run in runs]
    assert max(values["true"]) - min(values["true"]) > 1
    assert max(values["false"]) - min(values["false"]) < 0.01


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.ema_decay=0.9", "training.ema_warm_up=false"], "66 % of the initialisation (ema_decay = 0.9 over 4 steps)"),
        (["training.ema_decay=0.9", "training.ema_warm_up=true"], None),
        (["training.ema_decay=0.3", "training.ema_warm_up=false"], None),  # 0.3^4 = 0.8 %
        (["training.ema_decay=0.0", "training.ema_warm_up=false"], None),
    ],
)
def test_an_average_that_is_too_long_for_its_run_is_told(tmp_path: Path, capsys, overrides, expected: str | None) -> None:
    train(configured(tmp_path, *TINY, *overrides))
    told = [line for line in capsys.readouterr().out.splitlines() if "initialisation" in line]
    whole = f"the averaged weights still hold {expected}; training.ema_warm_up=true avoids that"
    assert told == ([whole] if expected else [])


def test_the_recipe_says_how_weights_were_averaged(tmp_path: Path) -> None:
    train(configured(tmp_path, *TINY))
    assert evaluate(configured(tmp_path, *TINY, verb="evaluate")).recipe.items() >= {
        ("ema_decay", 0.999),
        ("ema_warm_up", True),
    }
    last = [*TINY, "training.ema_decay=0.0"]
    train(configured(tmp_path, *last))
    record = evaluate(configured(tmp_path, *last, verb="evaluate"))
    assert not {"ema_decay", "ema_warm_up"} & record.recipe.keys()
    assert record.measurements[0].protocol["weights"] == "last"


def test_shipped_weights_give_the_same_record_without_the_run(tmp_path: Path) -> None:
    """What somebody else can do: evaluate from the results folder alone."""
    train(configured(tmp_path, *TINY))
    first = evaluate(configured(tmp_path, *TINY, verb="evaluate"))
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    second = evaluate(configured(tmp_path, *TINY, verb="evaluate"))
    assert second.measurements == first.measurements
    assert second.budget == first.budget
    assert second.provenance["weights_sha256"] == first.provenance["weights_sha256"]


def test_weights_are_rounded_before_they_are_evaluated(tmp_path: Path) -> None:
    """With shipped=float16 the record is that of the small file: evaluated again from it alone, it is the same."""
    train(configured(tmp_path, *TINY))
    full = evaluate(configured(tmp_path, *TINY, verb="evaluate"))
    half = evaluate(configured(tmp_path, *TINY, "shipped=float16", verb="evaluate"))
    assert half.measurements != full.measurements
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    again = evaluate(configured(tmp_path, *TINY, "shipped=float16", verb="evaluate"))
    assert again.measurements == half.measurements
    run = configured(tmp_path, *TINY, verb="evaluate")
    tensors = safetensors.torch.load_file(run.record.with_suffix(".safetensors"))
    trained = {name for name, parameter in run.reverse().named_parameters() if parameter.dtype is torch.float32}
    assert trained
    assert {tensors[name].dtype for name in trained} == {torch.float16}
    assert {tensor.dtype for name, tensor in tensors.items() if name not in trained} == {torch.float64}  # betas, exact
    with pytest.raises(UserError, match="shipped = int8: give float32 or float16"):
        evaluate(configured(tmp_path, *TINY, "shipped=int8", verb="evaluate"))


def test_a_damaged_newest_checkpoint_costs_a_warning_and_not_the_result(tmp_path: Path, capsys) -> None:
    """Resumed from the older checkpoint, the run ends as it would have; without any good one it says so."""
    train(configured(tmp_path, *TINY))
    folder = the_folder(tmp_path)
    expected, rows = final_state(folder), metrics(folder)
    (folder / "done.json").unlink()
    checkpoint(folder).write_bytes(checkpoint(folder).read_bytes()[:-9])
    train(configured(tmp_path, *TINY))
    assert re.search(r"warning: .*step-000000004\.pt is damaged.*; going on from an older one\n", capsys.readouterr().err)
    assert final_state(folder) == expected
    assert metrics(folder) == rows
    (folder / "done.json").unlink()
    for path in folder.glob("*.pt"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        train(configured(tmp_path, *TINY))


def test_rows_do_not_depend_on_where_a_run_was_interrupted(tmp_path: Path) -> None:
    """A logged loss is the mean over its interval, also where a checkpoint, and so a restart, lies inside it."""
    train(configured(tmp_path, *TINY, "training.log_every=3"))
    folder = the_folder(tmp_path)
    rows = metrics(folder)
    (folder / "done.json").unlink()
    checkpoint(folder).write_bytes(b"")  # on from step 2
    train(configured(tmp_path, *TINY, "training.log_every=3"))
    assert metrics(folder) == rows


def test_a_row_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    train(configured(tmp_path, *TINY))
    folder = the_folder(tmp_path)
    rows = metrics(folder)
    (folder / "done.json").unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    train(configured(tmp_path, *TINY))
    assert metrics(folder) == rows


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    run = configured(tmp_path, *TINY)
    said = f"another process trains here .process {os.getpid()}.; wait for it"
    with locked(run.folder), pytest.raises(UserError, match=said):
        train(run)
    train(run)


def test_divergence_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step \d+: loss .*; weights not updated"):
        train(configured(tmp_path, *TINY, "training.steps=50", "optimizer.lr=1e30", "training.checkpoint_every=1"))
    state, complaints = checkpoints.load_newest(the_folder(tmp_path))
    assert state is not None
    assert (complaints, bool(state["ema"])) == ([], True)
    assert not (the_folder(tmp_path) / "done.json").exists()


# The command line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["trian.lr=1"], "trian.lr"),
        (["+typo=1"], "typo"),
        (["experiment=foo"], ROLL),
        (["network=foo"], "Available options in 'network': convolutions_2015"),
        (["cell=glob(*)"], "cell=glob(*): glob() chooses among files, and conf/cell is no folder; list the values, cell=a,b"),
    ],
)
def test_the_command_line_answers_a_mistake_with_one_line_and_status_2(command, tmp_path: Path, arguments, complaint) -> None:
    result = command("train", *arguments)
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert complaint in result.err
    assert ("; experiments: " in result.err) == (arguments == ["experiment=foo"])
    assert one_line(result.err)
    assert list(tmp_path.iterdir()) == []


WITH_MODEL = "experiment=ho_2020/cifar10_bound"
EPSILON = "experiment=ho_2020/table2"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        *(
            ([f"{group}=null"], f"{group}=null: choose one by its name")
            for group in ("data", "network", "evaluators", "tracker")
        ),
        *(([f"{group}=null"], f"{group}=null: choose one by its name") for group in ("experiment", "hydra/launcher", "hydra")),
        *(([f"{part}=null"], f"{part} = None: say in the experiment") for part in ("reverse", "objective", "optimizer")),
        *(([f"{part}=null"], f"{part} = None: say in the experiment") for part in ("scheduler", "validation")),
        *(([f"reverse.{part}=null"], f"reverse.{part} = null: give what it is made of") for part in ("process", "network")),
        (["data=swiss_roll,null"], "data=swiss_roll,null: choose one by its name"),
        (
            ["reverse.network={wide:2}"],
            "there is no key 'reverse.network.wide' in the configuration; ",
        ),
        (["data=3"], "data=3: choose one by its name: binary_heartbeat, chorales, cifar10,"),
        (["tier=tiny"], "choose from: smoke, laptop, paper"),
        (["lr=0.01"], "there is no key 'lr' in the configuration; did you mean optimizer.lr?"),
        (["+lr=0.01"], "nothing reads a key 'lr' that is not in the configuration; did you mean optimizer.lr?"),
        (["trian.lr=1"], "did you mean optimizer.lr?"),
        (
            ["prediction=epsilon", WITH_MODEL],
            "there is no key 'prediction' in the configuration; did you mean reverse.prediction?",
        ),
        (
            ["reverse.prediction={_target_:dpm.predictions.papers.Epsilon}", WITH_MODEL],
            "unknown configuration key reverse.prediction.model; dpm.predictions.papers.Epsilon takes: nothing "
            "(~reverse.prediction.model leaves it out)",
        ),
        (["name=null"], "name = null: give text"),
        (["name=../../x"], "name = ../../x: give a folder below those of all runs"),
        (["recorded_as=/x"], "recorded_as = /x: give a folder below those of all runs"),
        (["outputs=null"], "outputs = null: give text"),
        (["outputs=3"], "outputs = 3: give text"),
        (["seed=true"], "seed = true: give a whole number"),
        (["threads=true"], "threads = true: give a whole number"),
        (["threads=100000000"], "threads = 100000000: give a whole number to 1,024 at most"),
        (["device=meta"], "device = meta: Tensor.item() cannot be called on meta tensors"),
        (["precision=half"], "precision = half: give auto or bfloat16 or float32"),
        (["keep=perhaps"], "keep = perhaps: give true or false"),
        (["weights=3"], "weights = 3: give text or null"),
        (["training.log_every=true"], "training.log_every = true: give a whole number"),
        (["training.ema_decay=abc"], "training.ema_decay = abc: give a number"),
        (["training.clip=abc"], "training.clip = abc: give a number or null"),
        (["optimizer.lr=abc"], "optimizer.lr = abc: give a number"),
        (["scheduler.T_max=0"], "scheduler(T_max = 0): ZeroDivisionError"),
        (["scheduler.steps=0", EPSILON], "scheduler(steps = 0): ZeroDivisionError"),
        (["validation.bound.unit=steps"], "'steps'"),
        (["validation.bound=null"], "validation: none is left; choose one at least"),
        (["T=1"], "with T = 1 no step is left"),
        (["T=40.5"], "T = 40.5: give a whole number"),
        (["T=abc"], "T = abc: give a whole number"),
        (["T=100000000"], "T = 100000000: give a whole number to 1,000,000 at most"),
        (["units=100000000000"], "can't allocate memory"),
        (["training.batch_size=100000000000"], "training.batch_size = 100,000,000,000: these need 4,470 GiB, and there are "),
        (["validation_examples=100000000000"], "validation_examples = 100,000,000,000: these need 4,470 GiB, and there are "),
        (["validation_examples=3000", WITH_MODEL], "3000 images asked for, there are 2"),
        (
            ["data=cifar10"],
            "examples of cifar10, the reverse process and the objective do not fit together: RuntimeError: The size of",
        ),
        (["network=unet"], "examples of SwissRoll, the reverse process and the objective do not fit together: RuntimeError"),
        (
            ["reverse.process.schedule.beta_T=1", EPSILON],
            "Epsilon says at t = T = 1000: beta_T = 1 leaves nothing of x_0 in x_T",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_whatever_cannot_be_meant_is_refused_before_anything_is_written(
    command, tmp_path: Path, monkeypatch, arguments: list[str], complaint: str
) -> None:
    images = np.zeros((2004, 3, 32, 32), np.uint8)

    def cifar10(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        return images[:2002], images[2002:]

    monkeypatch.setattr(files, "cifar10", cifar10)
    result = command("train", *arguments)
    assert (result.status, result.out) == (2, "")
    assert complaint in result.err
    assert result.err.startswith("error: ")
    assert one_line(result.err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("override", ["training.clip=null", "training.clip=1", "weights=null", "evaluators.bound=null"])
def test_none_may_be_meant(tmp_path: Path, override: str) -> None:
    assert train(configured(tmp_path, *TINY, override))


def test_weights_are_those_of_a_runs_folder_as_it_is_named(command, tmp_path: Path) -> None:
    """Folders are named after overrides, with = and commas, which Hydra's grammar wants in quotes; not from us."""
    line = [*TINY, "optimizer.lr=0.01"]
    train(configured(tmp_path, *line))
    folder = the_folder(tmp_path)
    assert "optimizer.lr=0.01," in str(folder)
    evaluated = {}
    for name, weights in {"own": None, "folder": folder, "checkpoint": checkpoint(folder)}.items():
        given = [f"weights={weights}"] if weights else []
        result = command("evaluate", *line, *given, f"results={tmp_path / name}", f"published={tmp_path / name}")
        assert (result.status, result.err) == (0, "")
        evaluated[name] = Record.load(next((tmp_path / name).glob("**/seed0.json")))
    assert evaluated["own"].measurements == evaluated["folder"].measurements == evaluated["checkpoint"].measurements
    assert evaluated["own"].recipe == evaluated["folder"].recipe
    other = command("evaluate", *TINY, f"weights={folder}")
    assert (other.status, one_line(other.err)) == (2, True)
    assert "holds weights of another configuration: optimizer.lr: 0.01 -> 0.02" in other.err


def test_a_faster_arithmetic_is_how_a_run_is_run_and_no_other_experiment(tmp_path: Path) -> None:
    fast, plain = configured(tmp_path, "tf32=true", "fused=true", *TINY), torch.backends.cuda.matmul
    assert plain.allow_tf32
    assert make_learner(fast, configs.build(fast.config, "data")).optimizer.defaults["fused"] is True
    exact = configured(tmp_path, *TINY)
    assert not plain.allow_tf32
    assert (fast.folder, configs.digest(fast.config)) == (exact.folder, configs.digest(exact.config))
    other = configured(tmp_path, "fused=true", experiment=f"{ROLL}_quasi_newton")
    with pytest.raises(UserError, match=r"optimizer\(max_iter = .*: .*unexpected keyword argument 'fused'"):
        train(other)


def test_weights_that_no_reader_knows_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.pt", "model.pkl"):
        torch.save({"weights": torch.ones(2)}, tmp_path / name)
        with pytest.raises(UserError, match=f"{name}: give a .safetensors file, a run's folder or a checkpoint in it"):
            evaluate(configured(tmp_path, f"weights={tmp_path / name}", verb="evaluate"))


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_failing_job_and_restarts_what_is_missing(command, tmp_path: Path, monkeypatch) -> None:
    """Seed 1 cannot be written: seeds 0 and 2 finish, the status is not 0, and the same command then runs seed 1 only."""
    at_exit: list[Callable[[], Any]] = []
    monkeypatch.setattr(atexit, "register", lambda *call: at_exit.append(partial(*call)))
    folder = configured(tmp_path, *TINY).folder.parent
    folder.mkdir(parents=True)
    (folder / "seed1").write_text("in the way")
    first = command("train", "seed=0,1,2", *TINY, flags=["-m"])
    assert first.status not in (0, None)
    assert "cannot write" in first.err
    assert "Traceback" not in first.err
    done = {seed: (folder / f"seed{seed}/done.json") for seed in (0, 1, 2)}
    assert [path.is_file() for path in done.values()] == [True, False, True]
    before = {seed: done[seed].stat().st_mtime_ns for seed in (0, 2)}
    (folder / "seed1").unlink()
    second = command("train", "seed=0,1,2", *TINY, flags=["-m"])
    assert second.status in (0, None)
    assert second.out.count("nothing to do") == 2
    assert done[1].is_file()
    assert {seed: done[seed].stat().st_mtime_ns for seed in (0, 2)} == before
    at_exit[-1]()
    assert "| 3 |" in (folder.parent / "sweep.md").read_text()  # three seeds of one variant


@pytest.mark.slow
def test_a_signal_in_the_middle_of_a_step_saves_a_state_that_resumes_exactly(command, tmp_path: Path, monkeypatch) -> None:
    """SIGTERM between the update of the weights and that of their average: the saved state is the one before or after both."""
    step, calls = CosineAnnealingLR.step, []

    def interrupted(self, *args: Any) -> None:
        calls.append(self)
        if len(calls) == 5:  # one call when the schedule is made, then one per step
            signal.raise_signal(signal.SIGTERM)
        step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(CosineAnnealingLR, "step", interrupted)
        stopped = command("train", *TINY, "training.steps=6")
    assert stopped.status == 143
    assert "the same command resumes" in stopped.err
    folder = the_folder(tmp_path)
    assert not (folder / "done.json").exists()
    command("train", *TINY, "training.steps=6")
    train(configured(tmp_path / "whole", *TINY, "training.steps=6"))
    assert final_state(folder) == final_state(the_folder(tmp_path / "whole"))
    assert metrics(folder) == metrics(the_folder(tmp_path / "whole"))


@pytest.mark.slow
def test_killed_and_restarted_a_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL after some checkpoint, then the same command: final checkpoint and metrics are those of an uninterrupted run."""
    arguments = [*LONG, "training.steps=200"]
    with started(tmp_path, *arguments) as process:
        wait_for(lambda: len(list(tmp_path.glob("outputs/**/step-*.pt"))) == 2, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    folder = the_folder(tmp_path)
    assert not (folder / "done.json").exists()
    with started(tmp_path, *arguments) as process:
        _, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    train(configured(tmp_path / "whole", *arguments))
    whole = the_folder(tmp_path / "whole")
    assert final_state(folder) == final_state(whole)
    assert metrics(folder) == metrics(whole)
    assert checkpoint(folder).read_bytes() == checkpoint(whole).read_bytes()


@pytest.mark.slow
def test_terminated_a_run_saves_and_exits_143_and_its_folder_was_its_own(command, tmp_path: Path) -> None:
    with started(tmp_path, *LONG, "training.steps=100000", "training.checkpoint_every=100000") as process:
        wait_for(lambda: list(tmp_path.glob("outputs/**/metrics.jsonl")) and metrics(the_folder(tmp_path)), process)
        second = command("train", *LONG, "training.steps=100000", "training.checkpoint_every=100000")
        process.terminate()
        _, err = process.communicate()
    assert second.status == 2
    assert f"another process trains here (process {process.pid})" in second.err
    assert process.returncode == 143
    *asked, stopped = err.splitlines()  # a signal in a validation is obeyed at once, without the first line
    assert all(line.startswith("SIGTERM: stopping when this step is done") for line in asked)
    assert "the same command resumes" in stopped
    state, _ = checkpoints.load_newest(the_folder(tmp_path))
    assert state is not None
    assert state["step"] >= metrics(the_folder(tmp_path))[-1]["step"] - 10
