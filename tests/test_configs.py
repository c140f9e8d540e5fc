"""From configuration to objects: what Hydra takes without a word is refused in one line that names the key."""

import math
from pathlib import Path
from typing import Any

import helpers
import pytest
import yaml
from omegaconf import OmegaConf

from dpm.errors import UserError
from dpm.runs import configs
from dpm.runs.folder import refuse_additions, variant
from dpm.schedules import BetaSchedule

ROOT = Path(__file__).parents[1]
BASE = yaml.safe_load((ROOT / "conf" / "base.yaml").read_text())
ASIDE = {"not_the_experiment": BASE["not_the_experiment"]}
SCHEDULE = {"_target_": "dpm.schedules.linear", "T": 3, "beta_1": 0.1, "beta_T": 0.2}


def resolved(content: dict[str, Any]) -> dict[str, Any]:
    return configs.resolved(OmegaConf.create(content))


def test_a_configuration_becomes_plain_containers_with_its_references_filled_in() -> None:
    config = resolved({"T": 3, "schedule": {**SCHEDULE, "T": "${T}"}, "list": [1, "${T}"]})
    assert config == {"T": 3, "schedule": SCHEDULE, "list": [1, 3]}
    assert (type(config), type(config["schedule"]), type(config["list"])) == (dict, dict, list)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"T": "???"}, "Missing mandatory value"),
        ({"T": "${nowhere}"}, r"T: \$\{nowhere\} is not found"),
        ({"a": {"b": [{"c": math.nan}]}}, "a.b.0.c = nan: give a finite number"),
        ({"lr": -math.inf}, "lr = -inf: give a finite number"),
        ({"schedule": {**SCHEDULE, "beta_t": 1}}, "unknown configuration key schedule.beta_t; dpm.schedules.linear takes: T,"),
        ({"a": [{"deep": {**SCHEDULE, "foo": 1}}]}, "unknown configuration key a.0.deep.foo"),
        ({"tier": "c", "tiers": {"a": 1, "b": 2}, "budget": "${tiers.${tier}}"}, "no 'c' in `tiers`.*; choose from: a, b"),
        ({"a": {**SCHEDULE, "T": 3.0}}, "a.T = 3.0: give a whole number"),
        ({"a": {**SCHEDULE, "T": True}}, "a.T = true: give a whole number"),
        (
            {"a": {"_target_": "dpm.processes.gaussian.GaussianDiffusion", "schedule": None}},
            "a.schedule = null: give what it is",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(content: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        resolved(content)
    assert "\n" not in str(caught.value)


def test_keys_that_a_constructor_collects_are_left_to_it() -> None:
    assert resolved({"a": {"_target_": "dataclasses.replace", "_partial_": True, "anything": 1}})


def test_whoever_mistypes_a_key_is_told_which_one_there_is() -> None:
    config = {"optimizer": {"lr": 1, "eps": 2}, "evaluators": {"a": {"eps": 3}}, "beta_1": 0.1}
    assert configs.meant("lr", config) == configs.meant("trian.lr", config) == "; did you mean optimizer.lr?"
    assert configs.meant("eps", config) == "; did you mean optimizer.eps?"
    assert configs.meant("beta1", config) == "; did you mean beta_1?"
    assert configs.meant("nothing.like.it", config) == ""


def test_objects_are_built_with_plain_arguments() -> None:
    schedule = configs.build({"schedule": SCHEDULE}, "schedule")
    assert isinstance(schedule, BetaSchedule)
    assert len(schedule) == 3


def test_a_constructors_complaint_names_the_key() -> None:
    with pytest.raises(UserError, match=r"^a\.schedule: a schedule needs at least one step, got T = 0$"):
        configs.build({"a": {"schedule": {**SCHEDULE, "T": 0}}}, "a")


def test_our_own_complaint_is_not_lost_behind_what_it_came_from() -> None:
    node = {"_target_": "dpm.data.points.Points", "path": "nowhere.npy", "n_validation": 2, "n_held_out": 2}
    with pytest.raises(UserError, match=r"^data: nowhere.npy: no such file; write your points with numpy.save"):
        configs.build({"data": node}, "data")


@pytest.mark.parametrize("target", ["dpm.schedules.lienar", "dpm.nowhere.linear", "math.pi"])
def test_a_target_that_does_not_exist_is_refused(target: str) -> None:
    with pytest.raises(UserError, match=target):
        resolved({"schedule": {**SCHEDULE, "_target_": target}})


def test_unknown_keys_of_a_plain_mapping_are_refused() -> None:
    configs.known_keys({"steps": 1}, {"steps", "clip"})
    with pytest.raises(UserError, match="unknown configuration key 'stpes'; known: clip, steps"):
        configs.known_keys({"stpes": 1}, {"steps", "clip"})


def test_the_digest_covers_what_decides_the_weights_and_nothing_else() -> None:
    config = {**ASIDE, "optimizer": {"lr": 0.1}, "seed": 0, "outputs": "a", "tracker": 1, "tier": "smoke", "device": "cpu"}
    same = {**config, "outputs": "c", "tracker": 2, "tier": "laptop", "device": "cuda", "examples": 3, "evaluators": {"a": 1}}
    assert configs.essential(same) == {"optimizer": {"lr": 0.1}, "seed": 0}
    assert configs.digest(same) == configs.digest(dict(reversed(config.items())))
    for change in ({"seed": 1}, {"optimizer": {"lr": 0.2}}, {"new": 0}):
        assert configs.digest({**config, **change}) != configs.digest(config)


def test_differences_name_every_leaf() -> None:
    old = {"a": {"b": 1, "c": 2, "precision": 1}, "outputs": "x"}
    new = {**ASIDE, "a": {"b": 1, "c": 3, "precision": 2}, "d": 4, "outputs": "y"}
    assert configs.differences(old, new) == ["a.c: 2 -> 3", "d: None -> 4"]
    assert configs.differences(old, {**old, **ASIDE}) == []


def test_what_is_not_the_experiment_is_listed_once_and_is_in_the_configuration() -> None:
    """A key that is listed and that nothing reads would be a typing error; tables are an experiment's own."""
    listed = [key for keys in BASE["not_the_experiment"].values() for key in keys]
    assert len(set(listed)) == len(listed)
    assert set(listed) - BASE.keys() == {"tracker", "evaluators", "validation", "cell", "cells", "sizes", "sampler"}
    assert BASE.keys() - set(listed) == {"defaults", "hydra", "name", "seed", "training", "not_the_experiment"}


def test_a_share_of_a_run_is_a_complete_run(tmp_path: Path) -> None:
    """Steps, warm-up and averaging window shrink together, at every tier; the learning rate falls to zero at its end."""
    whole, part = (
        helpers.configured(tmp_path, f"share={share}", "tier=laptop", experiment="ho_2020/mnist").config
        for share in ("whole", "eighth")
    )
    assert part["training"]["steps"] == part["scheduler"]["steps"] == round(whole["training"]["steps"] / 8)
    assert (whole["scheduler"]["warm_up"], part["scheduler"]["warm_up"]) == (200, 25)
    assert (whole["training"]["ema_decay"], part["training"]["ema_decay"]) == (0.999, 0.992)
    own = helpers.configured(tmp_path, "share=half", "tier=laptop", experiment="ho_2020/table2").config  # windows of its own
    assert (own["scheduler"]["steps"], own["training"]["ema_decay"]) == (50, 0.99)
    tiny = helpers.configured(tmp_path, "share=sixteenth", experiment="ho_2020/mnist").config
    assert tiny["training"]["steps"] == 1
    with pytest.raises(UserError, match="there is no 'third' in `shares` of this experiment; choose from: sixteenth, eighth"):
        helpers.configured(tmp_path, "share=third", experiment="ho_2020/mnist")


def test_a_folders_name_says_what_was_changed_and_not_how_it_was_watched() -> None:
    overrides = [
        "experiment=a/b",
        "seed=3",
        "tier=smoke",
        "optimizer.lr=0.1",
        "tracker=none",
        "+reverse.network.width=4",
        "outputs=x",
        "evaluators.bound.half_width=0.1",
        "precision=float32",
        "reverse.network.precision=float32",
    ]
    assert variant(overrides, ASIDE) == "optimizer.lr=0.1,reverse.network.width=4,tier=smoke"
    assert variant(list(reversed(overrides)), ASIDE) == variant(overrides, ASIDE)
    assert variant(["outputs=/a/b", "network=a/b"], ASIDE) == "network=a-b"
    for named in ("tier=paper", "examples=100", "beta_1=1e-3", "cell=mean_simple", "share=half", "tiers.laptop.steps=3"):
        assert variant([named], ASIDE) == named
    assert variant([], ASIDE) == ""


def test_keys_may_be_added_to_constructors_only() -> None:
    config = {"schedule": {**SCHEDULE, "new": 1}, "training": {"new": 1}, "new": 1}
    refuse_additions(["+schedule.new=1", "seed=0"], config)
    for override in ("+new=1", "++new=1", "+training.new=1", "+nowhere.new=1", "~seed"):
        with pytest.raises(UserError, match="nothing reads a key"):
            refuse_additions([override], config)
