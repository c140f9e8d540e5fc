"""A training run in its folder: logged, validated, saved, stopped and resumed."""

import sys
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.runs import checkpoints, configs, parallel
from dpm.runs.folder import Metrics, Run, curve, locked, refuse_other_configuration, write_json
from dpm.runs.longer import WENT_ON, go_on
from dpm.runs.pictures import Draw, drawer
from dpm.runs.rehearsal import rehearse, rehearse_loss
from dpm.runs.stopping import deferred_signals, say
from dpm.stored import refuse_unwritable
from dpm.study.records import sha256, write_atomically
from dpm.training import Learner, Plan, best_start, fit

NEGLIGIBLE = 0.01  # share of the initial weights in the averaged ones
WAITING = "this step is done and saved", "the same command resumes from there"
Validate = Callable[[torch.nn.Module], Evaluation]


def train(run: Run) -> dict[str, Any] | None:
    """Train, or go on training, until the configured number of steps is done; the content of done.json, to process 0."""
    if run.config["weights"] is not None and not run.config["go_on"]:
        raise UserError("weights: a training starts from its seed's initialisation; with go_on=true it goes on from weights")
    refuse_unwritable(run.done)
    with parallel.joined(run.config["device"]):
        data, objective = run.data(), configs.build(run.config, "objective")
        rehearse(run, data)
        learner = make_learner(run, data)
        rehearse_loss(run, learner.reverse, data, objective)
        if parallel.rank() == 0:
            go_on(run, learner)
        parallel.wait()
        return (_lead if parallel.rank() == 0 else _accompany)(run, learner, data, objective)


def _accompany(run: Run, learner: Learner, data: Any, objective: Any) -> None:
    """Take the same steps as process 0 with another share of each batch, and stop with it."""
    refuse_other_configuration(run)
    if run.done.is_file():
        return
    _resume(run, learner)
    learner = started(run, learner, data, objective)
    with deferred_signals(*WAITING) as asked:
        for step in fit(learner, data, objective, run.plan, run.seed):
            if parallel.anyone(asked.signal is not None, torch.device(run.config["device"])):
                asked.stop(f"after step {step.step}")


def _resume(run: Run, learner: Learner) -> dict[str, Any]:
    """Bring the learner to the newest checkpoint, if there is one; what else it holds.

    "losses": those since the last row of the metrics; "processes": how many train; and perhaps "went_on_at", the step at which
    this run's learning rate took over from that of a shorter run, "went_on_from", the weights of which it did, and
    "seconds_before", what those had cost.
    """
    state, complaints = checkpoints.load_newest(run.folder)
    for complaint in complaints:
        print(f"warning: {complaint}; going on from an older one", file=sys.stderr)
    fresh = {"losses": [], "processes": parallel.processes()}
    if state is None:
        return fresh
    before, now = state.get("processes", 1), parallel.processes()
    if before != now:
        raise UserError(f"{run.folder}: begun by {before} processes, which draw other noise than {now}; start as many again")
    try:
        learner.load_state_dict(state)
    except checkpoints.MISFITS as error:
        raise checkpoints.misfit(run.folder, error) from error
    return {**fresh, **{key: state[key] for key in ("losses", "seconds_before", *WENT_ON) if key in state}}


def _lead(run: Run, learner: Learner, data: Any, objective: Any) -> dict[str, Any]:
    """Train, log, validate and save in the run's folder; done.json is written last."""
    mirror, validation, draw = configs.build(run.config, "tracker"), run.evaluation("validation", data), drawer(run, data)
    with locked(run.folder):
        refuse_other_configuration(run)
        if run.done.is_file():
            before = run.finished()
            say(f"{run.folder}: finished before; nothing to do")
            return before
        kept = _resume(run, learner)
        checkpoints.tidy(run.folder, learner.step)
        write_json(run.folder / "config.json", run.config)
        metrics = Metrics(run.folder / "metrics.jsonl", learner.step)
        name = f"{run.variant or 'default'}/seed{run.seed}"
        identity = sha256(f"{run.name}/{name}/{configs.digest(run.config)}".encode())[:16]
        mirror.start(run.folder.absolute(), identity, name, run.name, run.config)
        try:
            for row in metrics.rows:  # of before a restart
                mirror.log(shown(row))
            learner = started(run, learner, data, objective)
            look = partial(_validate, learner, validation, draw, metrics, mirror)
            _follow(run, learner, data, objective, look, kept, metrics, mirror)
            if metrics.last.get("validated") != run.plan.steps:
                look()
            mirror.image("validation", draw_curve(run, metrics.last["quantity"], metrics.last["unit"]))
        finally:
            mirror.finish()
        last = {key: metrics.last[key] for key in ("quantity", "value", "stderr", "unit")}
        spent = budget(run, round(metrics.seconds + kept.get("seconds_before", 0.0), 1))
        spent |= {key: kept[key] for key in WENT_ON if key in kept}
        done = {"config_sha256": configs.digest(run.config), "seed": run.seed, **last, "budget": spent}
        write_json(run.done, done)
        say(f"{run.folder}: trained")
        if run.plan.initial_share > NEGLIGIBLE and not run.plan.ema_warm_up:
            say(remark(run.plan))
        return done


def remark(plan: Plan) -> str:
    """What the averaged weights of a run are that was too short for its average."""
    return (
        f"the averaged weights still hold {100 * plan.initial_share:.0f} % of the initialisation "
        f"(ema_decay = {plan.ema_decay:g} over {plan.steps:,} steps); training.ema_warm_up=true avoids that"
    )


def make_learner(run: Run, data: Any, *start: int) -> Learner:
    optimizer, scheduler = run.optimizer(), configs.build(run.config, "scheduler")
    reverse = run.reverse(*start)
    reverse.fit(data)
    return Learner(reverse, optimizer, scheduler, run.plan.ema_decay, run.plan.ema_warm_up)


def started(run: Run, learner: Learner, data: Any, objective: Any) -> Learner:
    """A learner that has taken no step gives way to the best of the planned number of starts, itself the first of them."""
    if learner.step or run.plan.starts == 1:
        return learner
    others = (make_learner(run, data, start) for start in range(1, run.plan.starts))
    return best_start(chain([learner], others), data, objective, run.plan, run.seed)


def _follow(
    run: Run,
    learner: Learner,
    data: Any,
    objective: Any,
    look: Callable[[], None],
    kept: dict[str, Any],
    metrics: Metrics,
    mirror: Any,
) -> None:
    """Log, save and validate at their intervals while the training runs; a signal saves after the step it falls into.

    What is validated is saved before: a validation may take minutes, and a signal then need not wait for its end.
    kept: what a checkpoint holds beside the learner; its losses are those of the interval that the next row will cover.
    """
    plan, device, losses = run.plan, torch.device(run.config["device"]), kept["losses"]
    steps = fit(learner, data, objective, plan, run.seed)
    bar = tqdm(steps, total=plan.steps, initial=learner.step, mininterval=1, disable=not sys.stderr.isatty(), unit="step")
    with deferred_signals(*WAITING) as asked:

        def validate() -> None:
            asked.at_once = True
            look()
            asked.at_once = False

        if learner.step and learner.step % plan.validate_every == 0 and metrics.last.get("validated") != learner.step:
            validate()  # where the run was stopped
        for progress in bar:
            losses.append(progress.loss)
            if progress.step % plan.log_every == 0:
                rate = float(learner.scheduler.get_last_lr()[0])
                row = {"loss": sum(losses) / len(losses), "gradient_norm": progress.gradient_norm, "learning_rate": rate}
                mirror.log(shown(metrics.add(progress.step, row)))
                bar.set_postfix_str(in_bar(row["loss"], metrics.last), refresh=False)
                losses.clear()
            stop = parallel.anyone(asked.signal is not None, device)
            validated = progress.step % plan.validate_every == 0
            if stop or validated or progress.step % plan.checkpoint_every == 0 or progress.step == plan.steps:
                checkpoints.save(run.folder, learner.step, {**learner.state_dict(), **kept})
            if stop:
                asked.stop(f"after step {progress.step}")
            if validated:
                validate()


def shown(row: dict[str, Any]) -> dict[str, float]:
    """A row of the metrics as a mirror shows it: the validated quantity under its name."""
    return {"step": row["step"], f"validation/{row['quantity']}": row["value"]} if "validated" in row else row


def in_bar(loss: float, last: dict[str, Any]) -> str:
    """Beside the progress bar: the mean loss of the last interval, and what was validated last."""
    validated = f", {last['quantity']} {last['value']:.4g} {last['unit']}" if last else ""
    return f"loss {loss:.4g} nats{validated}"


def _validate(learner: Learner, validation: Validate, draw: Draw, metrics: Metrics, mirror: Any) -> None:
    """Evaluate the averaged weights on validation examples, and draw some; a sweep compares the first measurement."""
    m = validation(learner.ema.module).measurements[0]
    row = {"validated": learner.step, "quantity": m.quantity, "value": m.value, "stderr": m.stderr, "unit": m.unit}
    mirror.log(shown(metrics.add(learner.step, row)))
    say(f"step {learner.step}: {m.quantity} {m.value:.4g} ± {m.stderr:.2g} {m.unit} (validation, n = {m.n})")
    if picture := draw(learner.ema.module, learner.step):
        mirror.image("samples", picture)


def draw_curve(run: Run, quantity: str, unit: str) -> Path:
    """curve.png in the run's folder: what is validated against the training step."""
    from dpm.figures import render
    from dpm.figures.curve import validated

    path = run.folder / "curve.png"
    write_atomically(path, render(validated([curve(run)], unit, quantity.replace("_", " "))))
    return path


def budget(run: Run, seconds: float) -> dict[str, Scalar]:
    steps, n = run.plan.steps + (run.plan.starts - 1) * run.plan.start_steps, parallel.processes()
    examples = steps * run.plan.batch_size
    device = f"{n} x {run.config['device']}" if n > 1 else run.config["device"]
    return {"steps": steps, "examples": examples, "seconds": seconds, "device": device}
