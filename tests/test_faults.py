"""Damaged files, numbers that are none, places that cannot be written, killed processes: nothing lost or mislabelled."""

import dataclasses
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import ROOT, TINY, checkpoint, configured, final_state, one_line, the_folder

import dpm.runs.evaluate
from dpm.errors import UserError
from dpm.evaluators.bound import AllTerms
from dpm.report import Report
from dpm.runs import checkpoints, stopping
from dpm.runs.evaluate import evaluate
from dpm.runs.sweeps import names, summarise
from dpm.runs.train import train
from dpm.stored import read_arrays
from dpm.study.records import Record, save_arrays, sha256, write_atomically
from dpm.study.results import Results

VERBS = {"train": train, "evaluate": evaluate}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("evaluated")
    for verb, run in VERBS.items():
        run(configured(root, *TINY, verb=verb))
    return root


@pytest.fixture
def root(evaluated: Path, tmp_path: Path) -> Path:
    """A finished run and its record, to be damaged."""
    return shutil.copytree(evaluated, tmp_path / "copy")


def again(root: Path, verb: str, *more: str) -> object:
    return VERBS[verb](configured(root, *TINY, *more, verb=verb))


def refused(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert one_line(str(caught.value))
    return str(caught.value)


def record_of(root: Path) -> Path:
    (path,) = (root / "results").glob("**/seed0.json")
    return path


def without_a_run(root: Path) -> Path:
    shutil.rmtree(root / "outputs")
    return root


# Damaged files

NO_JSON = [b"", b"{", b"3", b"null", b"\xff\xfe", b"[" * 100000]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["config.json", "done.json"])
@pytest.mark.parametrize("content", NO_JSON)
def test_damaged_json_is_named(root: Path, verb: str, name: str, content: bytes) -> None:
    (the_folder(root) / name).write_bytes(content)
    said = refused(again, root, verb)
    assert name in said
    assert "delete it" in said


@pytest.mark.parametrize("content", [b"{}", b'{"budget": null}'])
def test_a_done_json_that_lacks_what_is_asked_of_it_is_named(root: Path, content: bytes) -> None:
    (the_folder(root) / "done.json").write_bytes(content)
    assert "budget" in refused(again, root, "evaluate")


ROWS = [b"\xff\n", b"3\n", b"{\n", b'{"loss": 1}\n', b'{"step": "1", "seconds": 0, "loss": 1, "gradient_norm": 1}\n']
ROWS += [b'{"step": 2, "seconds": 0, "validated": 2, "quantity": "K"}\n', b'{"step": 2, "seconds": 0, "lost": 2}\n']


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("row", ROWS)
def test_a_damaged_row_of_the_metrics_is_named(root: Path, verb: str, row: bytes) -> None:
    path = the_folder(root) / "metrics.jsonl"
    path.write_bytes(row + path.read_bytes())
    if verb == "train":
        (the_folder(root) / "done.json").unlink()
    said = refused(again, root, verb)
    assert "metrics.jsonl" in said
    assert "delete this line" in said


def test_a_last_row_that_was_cut_short_is_left_out_of_an_evaluation(root: Path) -> None:
    path = the_folder(root) / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 4, "lo')
    assert again(root, "evaluate") == Record.load(record_of(root))


def stored(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


EMPTY = {"step": 4, "reverse": {}, "optimizer": {}, "scheduler": {}, "ema": {}}
NOT_OURS = [
    b"garbage",
    b"",
    stored(3),
    stored({}),
    stored({"step": 4}),
    stored(EMPTY),
    stored({**EMPTY, "reverse": 3, "ema": 3}),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("content", NOT_OURS, ids=range(len(NOT_OURS)))
def test_a_checkpoint_of_something_else_is_refused_though_its_checksum_is_right(root: Path, verb: str, content: bytes) -> None:
    for path in the_folder(root).glob("step-*.pt"):
        path.write_bytes(content)
        path.with_suffix(".sha256").write_text(sha256(content))
    if verb == "train":
        (the_folder(root) / "done.json").unlink()
    assert "checkpoint" in refused(again, root, verb)


def test_a_checksum_that_is_no_text_is_a_wrong_one_and_both_are_shown(root: Path) -> None:
    path = checkpoint(the_folder(root))
    path.with_suffix(".sha256").write_bytes(b"\xff\xfe")
    said = refused(again, root, "evaluate")
    assert "is damaged" in said
    assert sha256(path.read_bytes()) in said


def truncated(content: bytes) -> bytes:
    return content[:-9]


def flipped(content: bytes) -> bytes:
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


def emptied(content: bytes) -> bytes:
    return b""


def other(content: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


HARMS = [truncated, flipped, emptied, other]


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_arrays_are_refused_wherever_they_are_read(root: Path, harm: Callable[[bytes], bytes]) -> None:
    arrays = record_of(without_a_run(root)).with_suffix(".npz")
    write_atomically(arrays, harm(arrays.read_bytes()))
    for call in (lambda: Results(root / "results"), lambda: again(root, "evaluate")):
        said = refused(call)
        assert "seed0.npz: not what seed0.json beside it was measured with" in said


@pytest.mark.parametrize("harm", HARMS)
def test_arrays_without_a_hash_are_refused_when_they_are_read(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    save_arrays(tmp_path / "a.npz", {"x": np.random.default_rng(0).random(100)})
    write_atomically(tmp_path / "a.npz", harm((tmp_path / "a.npz").read_bytes()))
    assert "a.npz: not readable as arrays" in refused(read_arrays, tmp_path / "a.npz")


@pytest.mark.parametrize("content", NO_JSON)
def test_damaged_records_are_named_by_the_report(root: Path, content: bytes) -> None:
    record_of(root).write_bytes(content)
    said = refused(Report.load, root / "results", ROOT / "conf/claims", ROOT / "conf/report")
    assert "seed0.json" in said
    assert "evaluate the experiment again" in said


@pytest.mark.parametrize("value", ["-4.2", None, True, math.nan, math.inf])
def test_a_record_with_a_value_that_is_no_number_is_neither_written_nor_read(root: Path, value: object) -> None:
    path = record_of(root)
    record = Record.load(path)
    wrong = dataclasses.replace(record, measurements=(dataclasses.replace(record.measurements[0], value=value),))
    assert f"value = {value}" in refused(wrong.save, path)
    assert Record.load(path) == record
    path.write_text(json.dumps(wrong.content()))
    assert f"value = {value}" in refused(Record.load, path)


def test_a_sweep_leaves_out_a_damaged_run_and_says_so(root: Path, capsys) -> None:
    whole = the_folder(root)
    broken = shutil.copytree(whole, whole.with_name("seed1"))
    (broken / "done.json").write_text("{")
    (variant,) = summarise(configured(root).folder.parents[1])
    assert variant.seeds == 1
    assert f"warning: {broken}/done.json: no JSON" in capsys.readouterr().err


# Weights and the record beside them


def test_weights_that_are_not_the_records_are_refused_with_both_hashes(root: Path) -> None:
    path = record_of(without_a_run(root)).with_suffix(".safetensors")
    own, tensors = path.read_bytes(), safetensors.torch.load_file(path)
    key = next(key for key, tensor in tensors.items() if tensor.is_floating_point())
    tensors[key] = tensors[key] + 1
    with safetensors.safe_open(path, "pt") as file:
        path.write_bytes(safetensors.torch.save(tensors, file.metadata()))
    for more in ([], [f"weights='{path}'"]):
        said = refused(again, root, "evaluate", *more)
        assert sha256(own) in said
        assert sha256(path.read_bytes()) in said


@pytest.mark.parametrize("written", [".safetensors", ".npz"])
def test_an_evaluation_that_dies_between_its_writes_leaves_nothing_that_counts(root: Path, monkeypatch, written: str) -> None:
    """The old record stays, is not taken for one of the new files, and the same command mends it."""
    before = Record.load(record_of(root))

    def dies(path: Path, content: bytes) -> None:
        write_atomically(path, content)
        if path.suffix == written:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dpm.runs.evaluate, "write_atomically", dies)
        with pytest.raises(KeyboardInterrupt):
            again(root, "evaluate", "shipped=float16")
    assert Record.load(record_of(root)) == before
    elsewhere = (root / "outputs").rename(root / "elsewhere")
    assert "not what seed0.json beside it was measured with" in refused(again, root, "evaluate")
    elsewhere.rename(root / "outputs")
    record = again(root, "evaluate", "shipped=float16")
    shutil.rmtree(root / "outputs")
    assert again(root, "evaluate", "shipped=float16").measurements == record.measurements


def test_weights_without_a_record_do_not_count(root: Path) -> None:
    record_of(without_a_run(root)).unlink()
    assert "train it first" in refused(again, root, "evaluate")


def test_metadata_of_others_is_no_hindrance(root: Path) -> None:
    tensors = safetensors.torch.load_file(record_of(root).with_suffix(".safetensors"))
    safetensors.torch.save_file(tensors, root / "own.safetensors", {"format": "pt"})
    assert again(root, "evaluate", f"weights={root}/own.safetensors").budget == {}


# Refused before any work


@pytest.mark.parametrize("verb", VERBS)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_built(root: Path, monkeypatch, verb: str) -> None:
    def work(*arguments: object) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr("dpm.runs.configs.build", work)
    key = {"train": "outputs", "evaluate": "results"}[verb]
    assert "cannot write /dev/null" in refused(again, root, verb, f"{key}=/dev/null")


def test_a_folder_in_the_place_of_a_record_is_refused_before_the_work(root: Path, monkeypatch) -> None:
    record_of(root).unlink()
    path = configured(root, *TINY, verb="evaluate").record
    path.mkdir()
    monkeypatch.setattr(AllTerms, "__call__", None)
    assert f"cannot write {path}: a folder lies there" in refused(again, root, "evaluate")


def test_a_report_that_cannot_be_written_is_refused_without_waiting(command) -> None:
    line = [sys.executable, "experiments/report.py", "out=/dev/null"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: cannot write /dev/null/report.html: Not a directory\n")


@pytest.mark.parametrize("override", ["validation.bound.draws=0", "validation.bound.unit=foo"])
def test_a_validation_that_cannot_be_meant_is_refused_before_a_step_is_taken(tmp_path: Path, override: str) -> None:
    refused(train, configured(tmp_path, *TINY, override))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
def test_data_that_are_none_are_refused_when_they_are_built(root: Path, verb: str) -> None:
    said = refused(again, root, verb, "data._target_=argparse.Namespace")
    assert said.startswith("Namespace lacks batch, facts, held_out, validation, which any training or evaluation needs")


def test_what_an_evaluator_needs_of_its_data_is_asked_before_any_work(root: Path) -> None:
    run = configured(root, "evaluators=likelihoods_of_points", experiment="ho_2020/cifar10_bound", verb="evaluate")
    lacking = SimpleNamespace(validation=None, held_out=lambda n: torch.zeros(n, 3, 8, 8))
    with pytest.raises(UserError, match=r"SimpleNamespace lacks .*log_density, .*which Truth needs: data like KnownDensity"):
        run.evaluation("evaluators", lacking)


def test_a_training_takes_no_weights_unless_it_goes_on_from_them(tmp_path: Path) -> None:
    assert "with go_on=true it goes on from weights" in refused(train, configured(tmp_path, *TINY, "weights=some.safetensors"))
    assert list(tmp_path.iterdir()) == []


# Numbers that are none


@pytest.mark.parametrize("verb", VERBS)
def test_a_number_that_is_none_is_refused_before_anything_is_written(root: Path, monkeypatch, verb: str) -> None:
    real = AllTerms.__call__

    def nothing(self: AllTerms, *arguments: object) -> object:
        found = real(self, *arguments)
        return dataclasses.replace(found, measurements=(dataclasses.replace(found.measurements[0], value=math.nan),))

    monkeypatch.setattr(AllTerms, "__call__", nothing)
    shutil.rmtree(root / ("outputs" if verb == "train" else "results"))
    assert "log_likelihood_bound with value = nan" in refused(again, root, verb)
    written = list((root / "results").glob("**/*.*")) if verb == "evaluate" else list((root / "outputs").glob("**/done.json"))
    assert written == []


# Where a command is run, and how a sweep is called


def test_folders_are_the_checkouts_wherever_a_command_is_run(tmp_path: Path, monkeypatch) -> None:
    for place in (ROOT, tmp_path):
        monkeypatch.chdir(place)
        run = configured(tmp_path, "outputs=${project:outputs}", "published=${project:results}", verb="evaluate")
        assert run.folder.resolve().parents[3] == (ROOT / "outputs").resolve()
        assert Path(run.config["published"]).resolve() == ROOT / "results"


def test_a_sweep_is_summarised_under_the_names_of_its_experiments() -> None:
    from hydra import initialize_config_dir

    roll = "experiment=sohl_dickstein_2015/swiss_roll,sohl_dickstein_2015/swiss_roll_mlp"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert names([roll, "seed=0,1"]) == ["sohl_dickstein_2015/swiss_roll", "sohl_dickstein_2015/swiss_roll_mlp"]
        assert names([roll, "name=mine/roll", "units=range(1,3)"]) == ["mine/roll"]


# Killed and stopped


@pytest.mark.parametrize("step", [2, 4])
def test_a_process_that_dies_while_it_rotates_leaves_nothing_for_good(tmp_path: Path, monkeypatch, step: int) -> None:
    whole = configured(tmp_path / "whole", *TINY, "training.checkpoint_every=1")
    train(whole)
    real, run = checkpoints.tidy, configured(tmp_path, *TINY, "training.checkpoint_every=1")

    def dies(folder: Path, saved: int) -> None:
        if saved == step:
            (folder / ".curve.png.1.part").touch()
            (folder / "step-000000009.sha256").touch()
            raise KeyboardInterrupt
        real(folder, saved)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "tidy", dies)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    train(run)
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}
    assert final_state(run.folder) == final_state(whole.folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_evaluation_that_is_stopped_while_it_writes_ends_with_a_whole_record(root: Path, monkeypatch, number: int) -> None:
    def stopped(path: Path, content: bytes) -> None:
        signal.raise_signal(number)
        write_atomically(path, content)

    monkeypatch.setattr(dpm.runs.evaluate, "write_atomically", stopped)
    with pytest.raises(SystemExit) as caught:
        again(root, "evaluate", "shipped=float16")
    assert caught.value.code == 128 + number
    shutil.rmtree(root / "outputs")
    monkeypatch.undo()
    assert again(root, "evaluate", "shipped=float16") is not None


def test_what_is_said_goes_through_the_progress_bar(monkeypatch) -> None:
    said = []
    monkeypatch.setattr(stopping.tqdm, "write", lambda text, **kwargs: said.append(text))
    with stopping.deferred_signals("it is done", "nothing is lost") as asked:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit):
            asked.stop("here")
    assert said == ["SIGTERM: stopping when it is done", "stopped here; nothing is lost"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_200_times_at_random_times_nothing_is_lost(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "tests/kills.py", str(tmp_path), "200", "0"]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(told)
    assert told["kills"] >= 200
    assert 20 <= told["kills_of_evaluations"] <= 100
    assert told["finished"] > 20
    assert told["most_steps_lost"] <= 4
    for fault in ("tracebacks", "unequal", "left_over", "records_that_do_not_fit", "backward"):
        assert told[fault] == 0, told
