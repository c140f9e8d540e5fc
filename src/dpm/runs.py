"""One training run or evaluation in its folder: what is written, when it is resumed, and when it is refused.

A run's folder is outputs/<experiment>/<overrides>/seed<k>: single runs and sweeps share it, so a sweep that is started
again goes on where it stopped, and `evaluate` finds the weights that the same overrides trained. It holds config.json,
metrics.jsonl (the record of the training), checkpoints, and done.json once the run is complete.
"""

import fcntl
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from dpm import checkpoints, configs, parallel, seeds
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.facts import Scalar, named
from dpm.image_model import GaussianImages
from dpm.networks import diffusers_layout
from dpm.records import Measurement, Record, provenance, save_arrays, sha256, write_atomically
from dpm.reverse import facts_of
from dpm.training import Learner, Plan, best_start, fit

CURVE = ("curve_step", "curve_K", "loss_step", "loss", "gradient_norm")
HOUSEKEEPING = ("experiment", "seed", "tracker", "outputs", "results", "weights", "averaged", "evaluators", "shipped", "keep")
KEPT = {True: "beside the record", False: "not kept"}
ABOUT = "dpm"  # one entry of a file of weights: of several, safetensors mixes the order, and with it the bytes
COUNTS = ("examples", "validation_examples")  # of an evaluation
MACHINE = ("device", "threads", "precision")  # no part of what an experiment is


def variant(overrides: Sequence[str]) -> str:
    """The part of a folder's name that says what was changed: "optimizer.lr=0.01,tier=smoke".

    Housekeeping is left out, and the machine: a run on a GPU is a run of the same experiment.
    """
    changed = {o.lstrip("+~"): o.lstrip("+~").split("=")[0].split("@")[0].split(".") for o in overrides}
    kept = [o for o, path in changed.items() if path[0] not in HOUSEKEEPING and path[-1] not in MACHINE]
    return ",".join(sorted(kept)).replace("/", "-")


def refuse_additions(overrides: Sequence[str], config: dict[str, Any]) -> None:
    """`+key=value` adds a key that nothing reads, unless a constructor (a node with _target_) takes it, and says so."""
    for override in overrides:
        key = override.lstrip("+~").split("=")[0]
        node: Any = config
        for part in key.split(".")[:-1]:
            node = node.get(part, {}) if isinstance(node, dict) else {}
        if override[0] in "+~" and "_target_" not in node:
            raise UserError(f"{override}: nothing reads a key {key!r} that is not in the configuration; see --cfg job")


class Run:
    """The folder of one (experiment, overrides, seed), with its resolved and checked configuration."""

    def __init__(self, config: DictConfig, overrides: Sequence[str]) -> None:
        self.config = configs.resolved(config)
        refuse_additions(overrides, self.config)
        self.name, self.seed, self.variant = self.config["name"], self.config["seed"], variant(overrides)
        for key, least in (("seed", 0), ("examples", 2), ("validation_examples", 2), ("threads", 1)):
            value = self.config[key]
            if not isinstance(value, int) or value < least:
                raise UserError(f"{key} = {value}: give a whole number from {least}")
        torch.set_num_threads(self.config["threads"])
        known_device(self.config["device"])
        configs.known_keys(self.config["training"], {f.name for f in fields(Plan)})
        self.plan = Plan(**self.config["training"])
        self.folder = Path(self.config["outputs"], self.name, self.variant, f"seed{self.seed}")
        self.record = Path(self.config["results"], self.name, self.variant, f"seed{self.seed}.json")

    @property
    def done(self) -> Path:
        return self.folder / "done.json"

    def reverse(self, *start: int) -> nn.Module:
        """A freshly initialised reverse process; its weights are a function of the seed, and of the start's number if given."""
        seeds.seed_everything(self.seed, seeds.INITIALISATION, *start)
        reverse: nn.Module = configs.build(self.config, "reverse")
        return reverse.to(self.config["device"])

    def evaluate(self, which: str, reverse: nn.Module, n: int, data: Any) -> Evaluation:
        """All evaluators of the group `which` ("validation" or "evaluators") on their n examples."""
        x_0 = (data.validation(n) if which == "validation" else data.held_out(n)).to(self.config["device"])
        parts = [e(reverse.eval(), data, x_0, self.seed) for e in configs.build(self.config, which).values() if e]
        arrays = {key: array for part in parts for key, array in part.arrays.items()}
        return Evaluation(tuple(m for part in parts for m in part.measurements), arrays)


def train(run: Run) -> dict[str, Any] | None:
    """Train, or go on training, until the configured number of steps is done; the content of done.json, to process 0."""
    with parallel.joined(run.config["device"]):
        data, objective = configs.build(run.config, "data"), configs.build(run.config, "objective")
        learner = make_learner(run, data)
        return (_lead if parallel.rank() == 0 else _accompany)(run, learner, data, objective)


def _accompany(run: Run, learner: Learner, data: Any, objective: Any) -> None:
    """Take the same steps as process 0 with another share of each batch, and stop with it."""
    refuse_other_configuration(run)
    if run.done.is_file():
        return
    _resume(run, learner)
    learner = started(run, learner, data, objective)
    with deferred_signals() as received:
        for _ in fit(learner, data, objective, run.plan, run.seed):
            if parallel.anyone(bool(received), torch.device(run.config["device"])):
                sys.exit(128 + signal.SIGTERM)


def _resume(run: Run, learner: Learner) -> list[float]:
    """Bring the learner to the newest checkpoint, if there is one; the losses since the last row of the metrics."""
    state, complaints = checkpoints.load_newest(run.folder)
    for complaint in complaints:
        print(f"warning: {complaint}; going on from an older one", file=sys.stderr)
    if state is None:
        return []
    before, now = state.get("processes", 1), parallel.processes()
    if before != now:
        raise UserError(f"{run.folder}: begun by {before} processes, which draw other noise than {now}; start as many again")
    learner.load_state_dict(state)
    return list(state.get("losses", []))


def _lead(run: Run, learner: Learner, data: Any, objective: Any) -> dict[str, Any]:
    """Train, log, validate and save in the run's folder; done.json is written last."""
    mirror = configs.build(run.config, "tracker")
    with locked(run.folder):
        refuse_other_configuration(run)
        if run.done.is_file():
            print(f"{run.folder}: finished before; nothing to do")
            return read_json(run.done)
        losses = _resume(run, learner)
        write_json(run.folder / "config.json", run.config)
        metrics = Metrics(run.folder / "metrics.jsonl", learner.step)
        mirror.start(run.folder.absolute(), f"{run.variant or 'default'}/seed{run.seed}", run.name, run.config)
        try:
            learner = started(run, learner, data, objective)
            _follow(run, learner, data, objective, losses, metrics, mirror)
            if metrics.last.get("validated") != run.plan.steps:
                _validate(run, learner, data, metrics, mirror)
            mirror.image("validation", draw_curve(run, metrics.last["unit"]))
        finally:
            mirror.finish()
        last = {key: metrics.last[key] for key in ("quantity", "value", "stderr", "unit")}
        done = {"config_sha256": configs.digest(run.config), "seed": run.seed, **last, "budget": budget(run, metrics.seconds)}
        write_json(run.done, done)
        return done


def initialised(reverse: nn.Module, data: Any) -> nn.Module:
    """The same process, a Gaussian model of the data in it fitted to the training examples."""
    for module in reverse.modules():
        if isinstance(module, GaussianImages):
            module.fit(data.training())
    return reverse


def known_device(name: str) -> torch.device:
    """The device of that name, if torch knows it and this machine has it."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device = {name}: {str(error).splitlines()[0]}") from error


def make_learner(run: Run, data: Any, *start: int) -> Learner:
    optimizer, scheduler = configs.build(run.config, "optimizer"), configs.build(run.config, "scheduler")
    try:
        return Learner(initialised(run.reverse(*start), data), optimizer, scheduler, run.plan.ema_decay)
    except (ValueError, TypeError) as error:  # torch's optimizers check their own numbers
        raise UserError(f"optimizer: {error}") from error


def started(run: Run, learner: Learner, data: Any, objective: Any) -> Learner:
    """A learner that has taken no step gives way to the best of the planned number of starts, itself the first of them."""
    if learner.step or run.plan.starts == 1:
        return learner
    others = (make_learner(run, data, start) for start in range(1, run.plan.starts))
    return best_start(chain([learner], others), data, objective, run.plan, run.seed)


def _follow(
    run: Run, learner: Learner, data: Any, objective: Any, losses: list[float], metrics: "Metrics", mirror: Any
) -> None:
    """Log, validate and save at their intervals while the training runs; a signal saves after the step it falls into.

    losses: those of the interval that the next row will cover.
    """
    plan, device, processes = run.plan, torch.device(run.config["device"]), {"processes": parallel.processes()}
    steps = fit(learner, data, objective, plan, run.seed)
    bar = tqdm(steps, total=plan.steps, initial=learner.step, mininterval=1, disable=not sys.stderr.isatty(), unit="step")
    with deferred_signals() as received:
        for progress in bar:
            losses.append(progress.loss)
            if progress.step % plan.log_every == 0:
                rate = float(learner.scheduler.get_last_lr()[0])
                row = {"loss": sum(losses) / len(losses), "gradient_norm": progress.gradient_norm, "learning_rate": rate}
                mirror.log(metrics.add(progress.step, row))
                losses.clear()
            if progress.step % plan.validate_every == 0:
                _validate(run, learner, data, metrics, mirror)
            stop = parallel.anyone(bool(received), device)
            if stop or progress.step % plan.checkpoint_every == 0 or progress.step == plan.steps:
                checkpoints.save(run.folder, learner.step, {**learner.state_dict(), "losses": losses, **processes})
            if stop:
                print(f"stopped after step {progress.step}; the same command resumes from there", file=sys.stderr)
                sys.exit(128 + (received or [signal.SIGTERM])[0])


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them: between two steps a state is whole, within one it is not."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _validate(run: Run, learner: Learner, data: Any, metrics: "Metrics", mirror: Any) -> None:
    """Evaluate the averaged weights on validation examples; the first measurement is the one that a sweep compares."""
    evaluation = run.evaluate("validation", learner.ema.module, run.config["validation_examples"], data)
    m = evaluation.measurements[0]
    row = {"validated": learner.step, "quantity": m.quantity, "value": m.value, "stderr": m.stderr, "unit": m.unit}
    metrics.add(learner.step, row)
    mirror.log({"step": learner.step, f"validation/{m.quantity}": m.value})
    print(f"step {learner.step}: {m.quantity} {m.value:.4g} ± {m.stderr:.2g} {m.unit} (validation, n = {m.n})", flush=True)


class Metrics:
    """metrics.jsonl: one row per interval, whole rows only; rows after the checkpoint that a run resumes from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.rows = path, []
        if path.is_file():
            self.rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
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


def evaluate(run: Run) -> Record:
    """Evaluate the weights of a run on held-out examples and write its record, arrays and weights below `results`."""
    (reverse, loaded, weights), data = prepared(run), configs.build(run.config, "data")
    evaluation = run.evaluate("evaluators", reverse, run.config["examples"], data)
    record = recorded(run, reverse, data, loaded, evaluation.measurements, weights)
    record = replace(record, provenance={**record.provenance, "weights": KEPT[run.config["keep"]]})
    if run.config["keep"]:
        write_atomically(run.record.with_suffix(".safetensors"), weights)
    save_arrays(run.record.with_suffix(".npz"), {**evaluation.arrays, **curve(run)})
    record.save(run.record)
    print(f"{run.record} (weights: {loaded.source})")
    return record


def prepared(run: Run) -> tuple[Any, "Loaded", bytes]:
    """The trained process as it is shipped, in evaluation mode; where its weights are from; the file that holds them."""
    reverse = run.reverse()
    loaded = load_weights(run, reverse)
    tensors = rounded(reverse, run.config["shipped"])
    about = {"budget": loaded.budget, "config": configs.essential(run.config)}
    return reverse.eval(), loaded, safetensors.torch.save(tensors, {ABOUT: json.dumps(about, sort_keys=True)})


def recorded(
    run: Run, reverse: Any, data: Any, loaded: "Loaded", measurements: Iterable[Measurement], weights: bytes, name: str = ""
) -> Record:
    """The record of these measurements: protocol and recipe are read off the data, the process, the objective and the budget.

    `name` is that of the experiment, where it is not the run's own.
    """
    weighed = "ema" if run.config["averaged"] and run.plan.ema_decay > 0 else "last"
    protocol = {**data.facts, **facts_of(reverse), "weights": weighed, "seed": run.seed}
    examples = data.held_out(run.config["examples"]).numpy().tobytes()
    return Record(
        *(name or run.name, run.seed, run.config["tier"], recipe(run, reverse, loaded), loaded.budget),
        provenance(configs.essential(run.config), examples, weights),
        tuple(m.with_protocol(protocol) for m in measurements),
    )


def recipe(run: Run, reverse: Any, loaded: "Loaded") -> dict[str, Scalar]:
    """Network, prediction and variance of the process, and how it was trained, or which published weights it has."""
    if loaded.released:
        return {**reverse.recipe, **loaded.released}
    objective, optimizer = configs.build(run.config, "objective"), configs.build(run.config, "optimizer")
    facts = {**reverse.recipe, "objective": named(objective), "optimizer": optimizer.func.__name__}
    facts |= {"starts": run.plan.starts} if run.plan.starts > 1 else {}
    if steps := int(loaded.budget.get("steps", 0)):
        facts |= {"steps": steps, "batch_size": int(loaded.budget["examples"]) // steps}
    return facts


@torch.no_grad()
def rounded(reverse: nn.Module, precision: str) -> dict[str, torch.Tensor]:
    """The state, its trained parameters in `precision`; the process takes the rounded values, so that it is what is shipped."""
    dtype = {"float32": torch.float32, "float16": torch.float16}.get(precision)
    if dtype is None:
        raise UserError(f"shipped = {precision}: float32 or float16")
    state, trained = reverse.state_dict(), {name for name, _ in reverse.named_parameters()}
    for name in trained & {key for key, value in state.items() if value.dtype is torch.float32}:
        small = state[name].to(dtype)
        state[name].copy_(small)
        state[name] = small
    return {key: value.contiguous().cpu() for key, value in state.items()}


@dataclass(frozen=True)
class Loaded:
    """Where weights came from, and what they cost to train; for published ones their name and the hash of their file."""

    source: str
    budget: dict[str, Scalar]
    released: dict[str, Scalar] = field(default_factory=dict)


def load_weights(run: Run, reverse: nn.Module) -> Loaded:
    """Weights from `weights=PATH`, else this folder's finished run, else those shipped beside the record.

    PATH is a file that `evaluate` wrote, or released weights of the network alone, whose cost is not known: they are named
    by their folder.
    """
    given = run.config["weights"]
    shipped = Path(given or run.record.with_suffix(".safetensors"))
    if given is None and run.done.is_file():
        refuse_other_configuration(run)
        state, complaints = checkpoints.load_newest(run.folder)
        if complaints or state is None:
            what = complaints[0] if complaints else "it says that it is finished, and holds no checkpoint"
            raise UserError(f"{run.folder}: {what}; delete {run.done.name} there and train again: what is good is resumed")
        average = {key.removeprefix("module."): value for key, value in state["ema"].items() if key != "n_averaged"}
        reverse.load_state_dict(average)
        return Loaded(str(run.folder), read_json(run.done)["budget"])
    if diffusers_layout.recognises(shipped):
        diffusers_layout.load_into(reverse, shipped)
        file, _ = diffusers_layout.located(shipped)
        name = (shipped if shipped.is_dir() else shipped.absolute().parent).name
        return Loaded(str(shipped), {}, {"released": name, "released_sha256": sha256(file.read_bytes())})
    if not shipped.is_file():
        where = str(shipped) if given else f"neither a finished run in {run.folder} nor {shipped}; train it first"
        raise UserError(f"no weights: {where}")
    try:
        with safetensors.safe_open(shipped, "pt") as file:
            about = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        about |= about.pop(ABOUT, {})  # older files have its entries side by side
        refuse_weights_of_another(run, reverse, shipped, about.get("config"), tensors)
        reverse.load_state_dict(tensors)
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise UserError(f"{shipped} does not fit this configuration: {str(error).splitlines()[-1].strip()}") from error
    return Loaded(str(shipped), about.get("budget", {}))


def refuse_weights_of_another(
    run: Run, reverse: nn.Module, path: Path, config: dict[str, Any] | None, tensors: dict[str, torch.Tensor]
) -> None:
    """Weights of another configuration would be evaluated under this one's name. The schedule is always our own.

    `config` is what defines the experiment that the file is of; files of before it was written have their schedule alone.
    """
    theirs, ours = ({k: v for k, v in (c or {}).items() if k not in COUNTS} for c in (config, configs.essential(run.config)))
    changed = configs.differences(theirs, ours) if config else []
    if changed:
        raise UserError(f"{path} holds weights of another configuration: {'; '.join(changed[:3])} (theirs -> asked for)")
    for key, own in reverse.named_buffers():
        if key.startswith("process.") and key in tensors:
            if tensors[key].shape != own.shape or not torch.allclose(tensors[key].to(own), own, rtol=1e-9):
                raise UserError(f"{path} holds weights for another noise schedule; evaluate them with its T and betas")
            tensors[key] = own


def curve(run: Run) -> dict[str, Any]:
    """Validated bound, and mean loss and gradient norm of each interval, against the training step, from metrics.jsonl.

    Kept from the old arrays where there is no run.
    """
    arrays, metrics = run.record.with_suffix(".npz"), run.folder / "metrics.jsonl"
    if not metrics.is_file():
        old = dict(np.load(arrays)) if arrays.is_file() else {}
        return {key: old[key] for key in CURVE if key in old}
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    validated, logged = ([row for row in rows if key in row] for key in ("validated", "loss"))
    columns = ((validated, "step"), (validated, "value"), (logged, "step"), (logged, "loss"), (logged, "gradient_norm"))
    return {name: np.array([row[key] for row in kind]) for name, (kind, key) in zip(CURVE, columns, strict=True)}


def draw_curve(run: Run, unit: str) -> Path:
    """curve.png in the run's folder: the validated bound against the training step."""
    from dpm.figures import render
    from dpm.figures.curve import validated

    path = run.folder / "curve.png"
    write_atomically(path, render(validated([curve(run)], unit, "bound")))
    return path


def budget(run: Run, seconds: float) -> dict[str, Scalar]:
    steps, n = run.plan.steps + (run.plan.starts - 1) * run.plan.start_steps, parallel.processes()
    examples = steps * run.plan.batch_size
    device = f"{n} x {run.config['device']}" if n > 1 else run.config["device"]
    return {"steps": steps, "examples": examples, "seconds": seconds, "device": device}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process per folder; the kernel drops the lock of a process that dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder}: another process trains here; wait for it, or change `outputs`") from error
        yield


def refuse_other_configuration(run: Run) -> None:
    path = run.folder / "config.json"
    changed = configs.differences(read_json(path), run.config) if path.is_file() else []
    if changed:
        raise UserError(f"{run.folder} holds a run with another configuration ({'; '.join(changed[:3])}); move it away")


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
