"""The folder of one training run or evaluation: where it lies, what is in it, and when it is refused.

A run's folder is outputs/<experiment>/<overrides>/seed<k>: single runs and sweeps share it, so a sweep that is started
again goes on where it stopped, and `evaluate` finds the weights that the same overrides trained. It holds config.json,
metrics.jsonl (the record of the training), checkpoints, and done.json once the run is complete.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig
from torch.optim import Optimizer

from dpm import seeds
from dpm.data import Data, refuse_lacking
from dpm.errors import UserError
from dpm.evaluators import Evaluation, Evaluator
from dpm.reverse import ReverseStep
from dpm.runs import configs, precision
from dpm.runs.settings import Settings
from dpm.stored import NUMBER, Kinds, read_arrays, read_json, read_rows
from dpm.study.records import refuse_impossible, verified, write_atomically
from dpm.training import Plan

CURVE = ("curve_step", "curve_K", "loss_step", "loss", "gradient_norm")
MEASURED: dict[str, Kinds] = {"quantity": str, "value": NUMBER, "stderr": NUMBER, "unit": str}  # by a validation
BUILT = ("data", "reverse", "objective", "optimizer", "scheduler", "validation", "evaluators", "tracker")
OF_EVALUATION = ("examples=", "sizes.", "sampler=", "sampler.")  # names the folder of a record, and not that of the training
NAMED_ELSEWHERE = ("experiment", "seed")  # in a folder's path


def variant(overrides: Sequence[str], config: Mapping[str, Any]) -> str:
    """The part of a folder's name that says what was changed: "optimizer.lr=0.01,tier=smoke".

    How the experiment is run is left out, as the configuration lists it: a run on a GPU is a run of the same experiment.
    """
    left_out = {*NAMED_ELSEWHERE, *config[configs.NOT_THE_EXPERIMENT]["how_it_is_run"]}
    changed = {o.lstrip("+~"): o.lstrip("+~").split("=")[0].split("@")[0].split(".") for o in overrides}
    kept = [o for o, path in changed.items() if path[0] not in left_out and path[-1] != configs.PRECISION]
    return ",".join(sorted(kept)).replace("/", "-")


def training_command(overrides: Sequence[str], config: Mapping[str, Any]) -> str:
    """The command that trains what these overrides evaluate or draw from."""
    left_out = config[configs.NOT_THE_EXPERIMENT]["how_it_is_run"]
    kept = [o for o in overrides if o.lstrip("+~").split("=")[0].split(".")[0] not in left_out]
    return " ".join(["python experiments/train.py", *(o for o in kept if not o.lstrip("+~").startswith(OF_EVALUATION))])


def refuse_additions(overrides: Sequence[str], config: dict[str, Any]) -> None:
    """`+key=value` adds a key that nothing reads, unless a constructor (a node with _target_) takes it, and says so."""
    for override in overrides:
        key = override.lstrip("+~").split("=")[0]
        node: Any = config
        for part in key.split(".")[:-1]:
            node = node.get(part, {}) if isinstance(node, dict) else {}
        if override[0] in "+~" and "_target_" not in node:
            hint = configs.meant(key, config) or "; see --cfg job"
            raise UserError(f"{override}: nothing reads a key {key!r} that is not in the configuration{hint}")


class Run:
    """The folder of one (experiment, overrides, seed), with its resolved and checked configuration."""

    def __init__(self, config: DictConfig, overrides: Sequence[str]) -> None:
        self.config = configs.resolved(config)
        refuse_additions(overrides, self.config)
        Settings.of(self.config)
        self.name, self.seed, self.variant = self.config["name"], self.config["seed"], variant(overrides, self.config)
        for key in BUILT:
            if not isinstance(self.config.get(key), dict):
                found = f"{key} = {self.config[key]}" if key in self.config else f"{key} is missing"
                raise UserError(f"{found}: say in the experiment what it is made of, {key}: {{_target_: ...}}")
        torch.set_num_threads(self.config["threads"])
        known_device(self.config["device"])
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.config["tf32"]
        configs.known_keys(self.config["training"], {f.name for f in fields(Plan)})
        configs.require(self.config["training"], Plan, "training.")
        self.plan = Plan(**self.config["training"])
        self.trained = variant([o for o in overrides if not o.lstrip("+~").startswith(OF_EVALUATION)], self.config)
        self.training = training_command(overrides, self.config)
        self.folder = self._place("outputs", self.name, self.trained)
        self.config = precision.settled(self.config, self.folder / "config.json")
        self.record = self._place("results", self.config["recorded_as"], self.variant).with_suffix(".json")

    def _place(self, root: str, name: str, variant: str) -> Path:
        return Path(self.config[root], name, variant, f"seed{self.seed}")

    def optimizer(self) -> Callable[[Any], Optimizer]:
        build: Callable[..., Optimizer] = configs.build(self.config, "optimizer")
        return partial(build, fused=True) if self.config["fused"] else build

    @property
    def weights(self) -> Path:
        """The file of weights where there is no run in `outputs`: beside your own record, or else the shipped one."""
        places = [("results", self.variant), ("results", self.trained), ("published", self.trained)]
        files = [self._place(root, self.name, variant).with_suffix(".safetensors") for root, variant in places]
        return next((file for file in files if file.is_file() and file.with_suffix(".json").is_file()), files[-1])

    @property
    def about_training(self) -> bool:
        """Whether its record is that of the trained experiment, and not of something that is done with its weights."""
        return bool(self.config["recorded_as"] == self.name)

    @property
    def done(self) -> Path:
        return self.folder / "done.json"

    def reverse(self, *start: int) -> ReverseStep:
        """A freshly initialised reverse process; its weights are a function of the seed, and of the start's number if given."""
        seeds.seed_everything(self.seed, seeds.INITIALISATION, *start)
        reverse: ReverseStep = configs.build(self.config, "reverse")
        return reverse.to(self.config["device"])

    def evaluators(self, which: str) -> list[Evaluator]:
        """What an experiment says of evaluators that were not chosen, claims for instance, builds none and is left out."""
        chosen = {key: node for key, node in self.config[which].items() if isinstance(node, dict) and "_target_" in node}
        if not chosen:
            raise UserError(f"{which}: none is left; choose one at least")
        return list(configs.build({which: chosen}, which).values())

    def data(self) -> Any:
        """The data, which have all that training and evaluators ask of any (`dpm.data.Data`)."""
        data = configs.build(self.config, "data")
        refuse_lacking(data, Data, "any training or evaluation")
        return data

    def finished(self) -> dict[str, Any]:
        """The content of done.json."""
        return read_json(self.done, "delete it: the training of this run writes it again", budget=dict)

    def evaluation(self, which: str, data: Any) -> Callable[[Any], Evaluation]:
        """All of `which` ("validation" or "evaluators") on their examples, as a function of the reverse process.

        Evaluators are made and examples drawn here, so that what is wrong with them is refused before any work.
        """
        validating = which == "validation"
        n = self.config["validation_examples" if validating else "examples"]
        x_0 = (data.validation(n) if validating else data.held_out(n)).to(self.config["device"])
        evaluators = self.evaluators(which)
        for evaluator in evaluators:
            refuse_lacking(data, get_type_hints(type(evaluator).__call__).get("data", object), type(evaluator).__name__)

        def evaluate(reverse: Any) -> Evaluation:
            parts = [evaluator(reverse.eval(), data, x_0, self.seed) for evaluator in evaluators]
            arrays = {key: array for part in parts for key, array in part.arrays.items()}
            budget = next((part.budget for part in parts if part.budget is not None), None)
            measurements = tuple(m for part in parts for m in part.measurements)
            refuse_impossible(f"{which} of {self.name}", measurements, "nothing was written of it")
            return Evaluation(measurements, arrays, budget)

        return evaluate


def known_device(name: str) -> torch.device:
    """The device of that name, if torch knows it, this machine has it, and it holds numbers (meta does not)."""
    try:
        number = torch.zeros((), device=name)
        number.item()
        return number.device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device = {name}: {str(error).splitlines()[0]}") from error


class Metrics:
    """metrics.jsonl: one row per interval, whole rows only; rows after the checkpoint that a run resumes from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.rows = path, []
        if path.is_file():
            self.rows = rows(path)
        self.rows = [row for row in self.rows if row["step"] <= step]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        self.before, self.start = (self.rows[-1]["seconds"] if self.rows else 0.0), time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent training, restarts included."""
        return round(self.before + time.monotonic() - self.start, 1)

    @property
    def last(self) -> dict[str, Any]:
        """The newest validation row, or nothing."""
        return next((row for row in reversed(self.rows) if "validated" in row), {})

    def add(self, step: int, values: dict[str, Any]) -> dict[str, Any]:
        row = {"step": step, **values, "seconds": self.seconds}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        self.rows.append(row)
        return row


def curve(run: Run) -> dict[str, Any]:
    """Validated bound, and mean loss and gradient norm of each interval, against the training step, from metrics.jsonl.

    Kept from the arrays beside the weights where there is no run.
    """
    arrays, metrics = run.weights.with_suffix(".npz"), run.folder / "metrics.jsonl"
    if not metrics.is_file():
        old = read_arrays(arrays) if arrays.is_file() and verified(arrays) else {}
        return {key: old[key] for key in CURVE if key in old}
    validated, logged = ([row for row in rows(metrics) if key in row] for key in ("validated", "loss"))
    columns = ((validated, "step"), (validated, "value"), (logged, "step"), (logged, "loss"), (logged, "gradient_norm"))
    return {name: np.array([row[key] for row in kind]) for name, (kind, key) in zip(CURVE, columns, strict=True)}


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    return read_rows(path, "delete this line, or the file: the run goes on without it", _needed)


def _needed(row: dict[str, Any]) -> dict[str, Kinds]:
    kind: dict[str, Kinds] = {"validated": int, **MEASURED} if "validated" in row else {"loss": NUMBER, "gradient_norm": NUMBER}
    return {"step": int, "seconds": NUMBER, **kind}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process per folder; the system drops the lock of a process that dies."""
    lock, holder = FileLock(folder / ".lock"), folder / ".lock.pid"  # beside it: Windows lets nobody else read what is locked
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
        holder.write_text(str(os.getpid()))
    except Timeout as error:
        who = f" (process {holder.read_text()})" if holder.is_file() else ""
        raise UserError(f"{folder}: another process trains here{who}; wait for it, or change `outputs`") from error
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def refuse_other_configuration(run: Run) -> None:
    path = run.folder / "config.json"
    remedy = "delete it if the run in this folder is of the same configuration: training writes it again"
    changed = configs.differences(read_json(path, remedy), run.config) if path.is_file() else []
    if changed:
        raise UserError(f"{run.folder} holds a run with another configuration ({'; '.join(changed[:3])}); move it away")


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
