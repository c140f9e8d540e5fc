"""More steps for a finished run: a run that differs from it in `training.steps` alone goes on from its last checkpoint.

A step is a function of (seed, step), so it ends with the bytes that it would have ended with from the start. That is not so
where the learning rate follows `training.steps`, as one does that falls to zero at the end: such a run starts anew and says
so, or with `go_on=true` takes weights, averages and moments into the rest of its own schedule, and its record says where.

Where the shorter run is gone, `go_on=true weights=FILE` goes on from the averaged weights that were shipped of it. Their
moments were not: the optimizer begins anew there.
"""

import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dpm.errors import UserError
from dpm.runs import checkpoints, configs, parallel
from dpm.runs.folder import Run, locked
from dpm.runs.stopping import say
from dpm.runs.weights import load_shipped, refuse_other_experiment
from dpm.stored import read_json
from dpm.study.records import sha256, write_atomically
from dpm.training import Learner

WENT_ON = "went_on_at", "went_on_from"  # what a record says of it
STEPS, SCHEDULE = "training.steps", "scheduler."


@dataclass(frozen=True)
class Shorter:
    """A finished run of fewer steps, and what in this run's schedule differs because it has more."""

    folder: Path
    steps: int
    follows: list[str]


def shorter(run: Run) -> Shorter | None:
    """Of those with this run's seed, the one with the most steps that is otherwise the same but for the learning rate."""
    root, found = Path(run.config["outputs"], run.name), list[Shorter]()
    for done in (*root.glob(f"seed{run.seed}/done.json"), *root.glob(f"*/seed{run.seed}/done.json")):
        try:
            config = read_json(done.with_name("config.json"), "left out; move this folder away", training=dict)
        except UserError as error:  # of another run, which is no reason not to begin this one
            print(f"warning: {error}", file=sys.stderr)
            continue
        changed = [line.split(":")[0] for line in configs.differences(config, run.config)]
        follows, steps = [key for key in changed if key.startswith(SCHEDULE)], config["training"].get("steps", 0)
        if STEPS in changed and steps < run.plan.steps and len(changed) == 1 + len(follows):
            found.append(Shorter(done.parent, steps, follows))
    return max(found, key=lambda run: (not run.follows, run.steps), default=None)


def go_on(run: Run, learner: Learner) -> None:
    """Where a run has not begun: the end of a shorter one as its first checkpoint, from which it is resumed like any other."""
    if run.done.is_file() or checkpoints.recognises(run.folder):
        return
    if run.config["weights"] is not None:
        go_on_from_weights(run, learner, Path(run.config["weights"]))
        return
    begun = shorter(run)
    if begun is None:
        if run.config["go_on"]:
            raise UserError(f"go_on=true: there is no finished run of fewer steps of {run.name} with seed {run.seed}")
        return
    if begun.follows and not run.config["go_on"]:
        why = f"{' and '.join(begun.follows)} follows {STEPS}"
        say(f"starting anew: {begun.folder} has {begun.steps:,} of these steps, but {why}; go_on=true goes on from there")
        return
    state, complaints = checkpoints.load_newest(begun.folder)
    before, now = (state or {}).get("processes", 1), parallel.processes()
    if complaints or state is None or state["step"] != begun.steps or before != now:
        why = complaints[0] if complaints else f"trained by {before} processes, which draw other noise than {now}"
        say(f"starting anew, and not from {begun.folder}: {why}")
        return
    if begun.follows:
        state = {**rescheduled(state, learner), "went_on_at": begun.steps}
    with locked(run.folder):
        write_atomically(run.folder / "metrics.jsonl", (begun.folder / "metrics.jsonl").read_bytes())
        checkpoints.save(run.folder, begun.steps, state)
    say(f"going on from {begun.folder}, step {begun.steps:,}")


def go_on_from_weights(run: Run, learner: Learner, path: Path) -> None:
    """Shipped weights of fewer steps as the first checkpoint: the average begins at them too, and the record names the file."""
    if not path.is_file():
        raise UserError(f"weights: there is no file {path}")
    check = partial(refuse_other_experiment, run, path, may_differ=(STEPS, SCHEDULE))
    spent = load_shipped(learner.reverse, path, check).get("budget", {})
    steps = int(spent.get("steps", 0))
    if not 0 < steps < run.plan.steps:
        raise UserError(f"{path} has {steps:,} steps behind it; to go on from there, {STEPS} is more than that")
    learner.ema.module.load_state_dict(learner.reverse.state_dict())
    learner.ema.n_averaged.fill_(steps + 1)
    state = rescheduled({**learner.state_dict(), "step": steps}, learner)
    origin = {"went_on_at": steps, "went_on_from": sha256(path.read_bytes()), "seconds_before": spent.get("seconds", 0.0)}
    with locked(run.folder):
        checkpoints.save(run.folder, steps, {**state, **origin, "losses": [], "processes": parallel.processes()})
    say(f"going on from {path}, step {steps:,}, with an optimizer that begins anew")


def rescheduled(state: dict[str, Any], learner: Learner) -> dict[str, Any]:
    """The same state with the learning rate where the learner's own schedule, which has not begun, is at that step."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of", UserWarning)  # of a scheduler before its optimizer
        for _ in range(state["step"]):
            learner.scheduler.step()
    own = learner.state_dict()
    groups = {"param_groups": own["optimizer"]["param_groups"]}
    return {**state, "scheduler": own["scheduler"], "optimizer": {**state["optimizer"], **groups}}
