"""What every configuration says besides what the experiment is made of, typed once; conf/base.yaml says what each key is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from dpm.errors import UserError
from dpm.runs import configs

LEAST = {"seed": 0, "examples": 2, "validation_examples": 2, "threads": 1}  # one value has no standard error
MOST = {"threads": 1024, "T": 1_000_000}  # torch dies of threads that the system cannot start; each step has a variance
BELOW = r"\w[\w.-]*(/\w[\w.-]*)*"  # a folder below another one


@dataclass(frozen=True)
class Settings:
    """Raises UserError for a value of another kind, or out of its range."""

    name: str
    T: int | None  # where an experiment says it in one place
    recorded_as: str
    tier: str
    tiers: dict[str, Any]
    budget: dict[str, Any]
    seed: int
    device: str
    threads: int
    precision: Literal["auto", "bfloat16", "float32"]
    tf32: bool
    fused: bool
    examples: int
    validation_examples: int
    training: dict[str, Any]
    outputs: str
    results: str
    published: str
    shipped: Literal["float32", "float16"]
    keep: bool
    averaged: bool
    weights: str | None
    go_on: bool
    pictures: dict[str, Any] | None
    not_the_experiment: dict[str, list[str]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        configs.require(config, cls)
        values: dict[str, Any] = {field.name: config.get(field.name) for field in fields(cls)}
        return cls(**values)

    def __post_init__(self) -> None:
        for key, least in LEAST.items():
            if getattr(self, key) < least:
                raise UserError(f"{key} = {getattr(self, key)}: give a whole number from {least}")
        for key, most in MOST.items():
            if (getattr(self, key) or 0) > most:
                raise UserError(f"{key} = {getattr(self, key)}: give a whole number to {most:,} at most")
        for key in ("name", "recorded_as"):
            if not re.fullmatch(BELOW, getattr(self, key)):
                raise UserError(f"{key} = {getattr(self, key)}: give a folder below those of all runs, such as mine/two_moons")
