"""Weights on their way from a run, a file or a release into a reverse process, and into the file that is shipped."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.networks import diffusers_layout
from dpm.networks.diffusers_scheduler import refuse_other_scheduler
from dpm.runs import checkpoints, configs
from dpm.runs.folder import Run, refuse_other_configuration
from dpm.stored import read_json
from dpm.study.records import sha256, verified

ABOUT = "dpm"  # one entry of a file of weights: of several, safetensors mixes the order, and with it the bytes


@dataclass(frozen=True)
class Loaded:
    """Where weights came from, and what they cost to train; for published ones their name and the hash of their file."""

    source: str
    budget: dict[str, Scalar]
    released: dict[str, Scalar] = field(default_factory=dict)


def load_weights(run: Run, reverse: nn.Module) -> Loaded:
    """Weights from `weights=PATH`, else this folder's finished run, else those beside its record, yours or the shipped one.

    PATH is a file that `evaluate` wrote, a run's folder or a checkpoint in it, or released weights of the network alone, whose
    cost is not known: they are named by their folder.
    """
    given = run.config["weights"]
    shipped = Path(given) if given else run.weights
    if given is None and run.done.is_file():
        refuse_other_configuration(run)
        done, (state, complaints) = run.finished(), checkpoints.load_newest(run.folder)
        if complaints or state is None:
            what = complaints[0] if complaints else "it says that it is finished, and holds no checkpoint"
            raise UserError(f"{run.folder}: {what}; delete {run.done.name} there and train again: what is good is resumed")
        load_averaged(reverse, state, run.folder)
        return Loaded(str(run.folder), done["budget"])
    if given and checkpoints.recognises(shipped):
        return load_from_run(run, reverse, shipped)
    if diffusers_layout.recognises(shipped):
        diffusers_layout.load_into(reverse, shipped)
        file, config = diffusers_layout.located(shipped)
        refuse_other_scheduler(config, reverse)
        content = b"".join(shard.read_bytes() for shard in diffusers_layout.shards(file))
        name = (shipped if shipped.is_dir() else shipped.absolute().parent).name
        return Loaded(str(shipped), {}, {"released": name, "released_sha256": sha256(content)})
    if not shipped.is_file():
        where = (
            str(shipped) if given else f"neither a finished run in {run.folder} nor {shipped}; train it first, `{run.training}`"
        )
        raise UserError(f"no weights: {where}")
    about = load_shipped(reverse, shipped, partial(refuse_other_experiment, run, shipped))
    return Loaded(str(shipped), about.get("budget", {}))


def load_shipped(reverse: nn.Module, path: Path, check: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The weights in a .safetensors file of `evaluate`, into the process; what the file says of itself.

    `check` sees the configuration of the experiment that the file is of; files of before it was written have their schedule
    alone.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: give a .safetensors file, a run's folder or a checkpoint in it, or a folder of diffusers")
    content = verified(path)
    try:
        tensors, about = safetensors.torch.load(content), _about(content)
        if config := about.get("config"):
            check(config)
        keep_own_schedule(reverse, path, tensors)
        reverse.load_state_dict(tensors)
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} does not fit this configuration: {str(error).splitlines()[-1].strip()}") from error
    return about


def load_from_run(run: Run, reverse: nn.Module, path: Path) -> Loaded:
    """Averaged weights of a training that need not be finished: of the newest checkpoint in its folder, or of the one named."""
    folder = path if path.is_dir() else path.parent
    refuse_other_experiment(run, path, read_json(folder / "config.json", "name a .safetensors file instead"))
    state, complaints = (checkpoints.load(path), []) if path.is_file() else checkpoints.load_newest(folder)
    if complaints or state is None:
        raise UserError(f"{folder}: {complaints[0]}; or name an older checkpoint, weights={folder}/step-....pt")
    load_averaged(reverse, state, folder)
    examples = state["step"] * run.plan.batch_size
    return Loaded(str(path), {"steps": state["step"], "examples": examples})


def load_averaged(reverse: nn.Module, state: dict[str, Any], folder: Path) -> None:
    """The averaged weights in a checkpoint of this folder, into the process."""
    try:
        average = {key.removeprefix("module."): value for key, value in state["ema"].items() if key != "n_averaged"}
        reverse.load_state_dict(average)
    except checkpoints.MISFITS as error:
        raise checkpoints.misfit(folder, error) from error


def _about(content: bytes) -> dict[str, Any]:
    """What a file of weights says of itself: one entry of its metadata, or as entries side by side in older files."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    ours = {key: json.loads(metadata[key]) for key in (ABOUT, "budget", "config") if key in metadata}
    return {**ours, **ours.pop(ABOUT, {})}


def keep_own_schedule(reverse: nn.Module, path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """The schedule is always our own, to the last digit; raises UserError where that of the weights is another one."""
    for key, own in reverse.named_buffers():
        if key.startswith("process.") and key in tensors:
            if tensors[key].shape != own.shape or not torch.allclose(tensors[key].to(own), own, rtol=1e-9):
                raise UserError(f"{path} holds weights for another noise schedule; evaluate them with its T and betas")
            tensors[key] = own


def refuse_other_experiment(run: Run, path: Path, config: dict[str, Any], may_differ: tuple[str, ...] = ()) -> None:
    """`config` is that of the run which the weights at `path` are from; keys may differ that begin in one of these ways."""
    changed = [line for line in configs.differences(config, run.config) if not line.startswith(may_differ)]
    if changed:
        raise UserError(f"{path} holds weights of another configuration: {'; '.join(changed[:3])} (theirs -> asked for)")


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
