"""More steps for a finished run: a run that differs from it in `training.steps` alone goes on from its last checkpoint.

A step is a function of (seed, step), so it ends with the bytes that it would have ended with from the start. That is not so
where the learning rate follows `training.steps`, as one does that falls to zero at the end: such a run starts anew and says
so, or with `go_on=true` takes weights, averages and moments into the rest of its own schedule, and its record says where.
"""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpm.errors import UserError
from dpm.runs import checkpoints, configs, parallel
from dpm.runs.folder import Run, locked
from dpm.runs.stopping import say
from dpm.stored import read_json
from dpm.study.records import write_atomically
from dpm.training import Learner

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


def rescheduled(state: dict[str, Any], learner: Learner) -> dict[str, Any]:
    """The same state with the learning rate where the learner's own schedule, which has not begun, is at that step."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of", UserWarning)  # of a scheduler before its optimizer
        for _ in range(state["step"]):
            learner.scheduler.step()
    own = learner.state_dict()
    groups = {"param_groups": own["optimizer"]["param_groups"]}
    return {**state, "scheduler": own["scheduler"], "optimizer": {**state["optimizer"], **groups}}
