"""An evaluation: trained weights, held-out examples, and the record of what was measured."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch

from dpm.evaluators import Evaluation
from dpm.facts import Scalar, named
from dpm.reverse import facts_of
from dpm.runs import configs
from dpm.runs.folder import Run, curve
from dpm.runs.longer import WENT_ON
from dpm.runs.precision import used
from dpm.runs.rehearsal import require_memory
from dpm.runs.stopping import deferred_signals, say
from dpm.runs.weights import ABOUT, Loaded, load_weights, rounded
from dpm.stored import refuse_unwritable
from dpm.study.records import Record, packed, provenance, sha256, write_atomically

KEPT = {True: "beside the record", False: "not kept"}


def evaluate(run: Run) -> Record:
    """Evaluate the weights of a run on held-out examples and write its record, arrays and weights below `results`.

    The record is written last and holds the hashes of the other two, which are checked when they are read: a process that is
    killed between the writes leaves nothing that is taken for a result.
    """
    files = [run.record.with_suffix(suffix) for suffix in (".safetensors", ".npz", ".json")]
    refuse_unwritable(*files)
    data = run.data()
    require_memory(data, "examples", run.config["examples"])
    measure, (reverse, loaded, weights) = run.evaluation("evaluators", data), prepared(run)
    trained = recipe(run, reverse, loaded)
    evaluation = measure(reverse)
    arrays = {**evaluation.arrays, **(curve(run) if run.about_training else {})}
    stored = packed(arrays) if arrays else None
    record = recorded(run, reverse, data, loaded, trained, evaluation, weights, stored)
    with deferred_signals("the record is written", "the record is written") as asked:
        kept = weights if run.config["keep"] and run.about_training else None
        for path, content in zip(files, (kept, stored), strict=False):
            if content is not None:
                write_atomically(path, content)
        record.save(run.record)
        if stored is None:
            files[1].unlink(missing_ok=True)  # those of an earlier record
        for part in run.record.parent.glob(f".{run.record.stem}.*.part"):  # of an evaluation that was killed
            part.unlink(missing_ok=True)
    say(f"{run.record} (weights: {loaded.source})")
    if asked.signal:
        asked.stop("after an evaluation")
    return record


def prepared(run: Run) -> tuple[Any, Loaded, bytes]:
    """The trained process as it is shipped, in evaluation mode; where its weights are from; the file that holds them."""
    reverse = run.reverse()
    loaded = load_weights(run, reverse)
    tensors = rounded(reverse, run.config["shipped"])
    about = {"budget": loaded.budget, "config": configs.essential(run.config)}
    return reverse.eval(), loaded, safetensors.torch.save(tensors, {ABOUT: json.dumps(about, sort_keys=True)})


def recorded(
    run: Run,
    reverse: Any,
    data: Any,
    loaded: Loaded,
    trained: Mapping[str, Scalar],
    evaluation: Evaluation,
    weights: bytes,
    arrays: bytes | None,
) -> Record:
    """Its record: protocol and recipe are read off the data, the process, the objective and the budget.

    Numbers with a recipe of their own are about another model: what the process means is no part of their protocol.
    """
    weighed = "ema" if run.config["averaged"] and run.plan.ema_decay > 0 else "last"
    of_data = {**data.facts, "seed": run.seed}
    of_process = {**of_data, **facts_of(reverse), "weights": weighed}
    examples = data.held_out(run.config["examples"]).numpy().tobytes()
    origin = provenance(configs.essential(run.config), examples, weights)
    if arrays is not None:
        origin["arrays_sha256"] = sha256(arrays)
    if precision := used(run.config):
        origin["precision"] = precision
    kept = KEPT[run.config["keep"]] if run.about_training else f"those of {run.name}"
    return Record(
        *(run.config["recorded_as"], run.seed, run.config["tier"], trained),
        loaded.budget if evaluation.budget is None else evaluation.budget,
        {**origin, "weights": kept},
        tuple(m.with_protocol(of_process if m.recipe is None else of_data) for m in evaluation.measurements),
    )


def recipe(run: Run, reverse: Any, loaded: "Loaded") -> dict[str, Scalar]:
    """Network, prediction and variance of the process, and how it was trained, or which published weights it has."""
    if loaded.released:
        return {**reverse.recipe, **loaded.released}
    objective, optimizer = configs.build(run.config, "objective"), configs.build(run.config, "optimizer")
    facts = {**reverse.recipe, "objective": named(objective), "optimizer": optimizer.func.__name__}
    facts |= {"ema_decay": run.plan.ema_decay, "ema_warm_up": run.plan.ema_warm_up} if run.plan.ema_decay > 0 else {}
    facts |= {"starts": run.plan.starts} if run.plan.starts > 1 else {}
    facts |= {key: loaded.budget[key] for key in WENT_ON if key in loaded.budget}
    if steps := int(loaded.budget.get("steps", 0)):
        facts |= {"steps": steps, "batch_size": int(loaded.budget["examples"]) // steps}
    return facts
