"""What a released folder says of the chain and the prediction that its weights are for: diffusers' scheduler_config.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.facts import innermost
from dpm.stored import read_json

NAME = "scheduler_config.json"  # beside config.json, or in a folder scheduler/ beside unet/
DEFAULTS: Mapping[str, Any] = {  # key -> what diffusers does without it
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}
PREDICTIONS = {"Epsilon": "epsilon", "X0": "sample", "Velocity": "v_prediction"}  # ours -> theirs


def refuse_other_scheduler(config: Path, reverse: Any) -> None:
    """Raise UserError if the weights beside `config` are for another chain or prediction than those of `reverse`."""
    places = (config.with_name(NAME), config.parent.parent / "scheduler" / NAME)
    for path in (place for place in places if place.is_file()):
        theirs = {**DEFAULTS, **read_json(path, "download it again")}
        betas, name = reverse.process.schedule.betas.detach().cpu(), type(innermost(reverse.prediction)).__name__
        ours = {"num_train_timesteps": len(betas), "prediction_type": PREDICTIONS.get(name, name)}
        for key, value in ours.items():
            if theirs[key] != value:
                raise UserError(f"{path}: {key} = {json.dumps(theirs[key])}; this experiment has {json.dumps(value)}")
        same = betas_of(theirs)
        if same is None or same.shape != betas.shape or not torch.allclose(same, betas, rtol=1e-4, atol=0):
            said = ", ".join(f"{key} = {json.dumps(theirs[key])}" for key in ("beta_schedule", "beta_start", "beta_end"))
            raise UserError(f"{path}: other betas ({said}) than this experiment's, {betas[0]:.6g} to {betas[-1]:.6g}")


def betas_of(config: Mapping[str, Any]) -> Tensor | None:
    """beta_1..beta_T, float64, or None for a schedule that is none of ours."""
    try:
        if config["trained_betas"] is not None:
            return torch.tensor(config["trained_betas"], dtype=torch.float64)
        if config["beta_schedule"] != "linear" or config["rescale_betas_zero_snr"]:
            return None
        return torch.linspace(config["beta_start"], config["beta_end"], config["num_train_timesteps"], dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):  # numbers that are none
        return None
