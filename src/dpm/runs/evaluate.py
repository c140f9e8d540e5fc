"""An evaluation: trained weights, held-out examples, and the record of what was measured."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import safetensors.torch

from dpm.facts import Scalar, named
from dpm.reverse import facts_of
from dpm.runs import configs
from dpm.runs.folder import Run, curve
from dpm.runs.weights import ABOUT, Loaded, load_weights, rounded
from dpm.study.records import Measurement, Record, provenance, save_arrays, write_atomically

KEPT = {True: "beside the record", False: "not kept"}


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
    facts |= {"ema_decay": run.plan.ema_decay, "ema_warm_up": run.plan.ema_warm_up} if run.plan.ema_decay > 0 else {}
    facts |= {"starts": run.plan.starts} if run.plan.starts > 1 else {}
    if steps := int(loaded.budget.get("steps", 0)):
        facts |= {"steps": steps, "batch_size": int(loaded.budget["examples"]) // steps}
    return facts
