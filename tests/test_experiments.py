"""Every file below conf/ works: experiments train two steps and are evaluated, groups compose and build what they describe."""

from pathlib import Path

import numpy as np
import pytest
import test_runs
import torch
import yaml

from dpm import configs, runs
from dpm.claims import load_claims, verdict
from dpm.data import files
from dpm.records import Record

CONF = test_runs.ROOT / "conf"
EXPERIMENTS = sorted(str(path.relative_to(CONF / "experiment").with_suffix("")) for path in CONF.glob("experiment/**/*.yaml"))
GROUPS = [
    (path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in ("claims", "experiment")
]
OF_BITS = {  # options that describe binary data; all others compose with the Swiss roll
    *(("data", "binary_heartbeat"), ("evaluators", "binary_heartbeat"), ("network", "sigmoid_mlp")),
    *(("process", "binomial"), ("reverse", "binomial")),
}
OF_IMAGES = {
    *(("data", "cifar10"), ("network", "laptop_unet"), ("prediction", "linear_residual")),
    *(("evaluators", "ddpm"), ("validation", "sampled")),
}
HEARTBEAT, CIFAR = "sohl_dickstein_2015/binary_heartbeat", "ho_2020/cifar10_bound"
SIMPLE = "ho_2020/cifar10_simple"
FIXED_VARIANCE = {("network", "unet")}  # images too, but without an output for the variance
OUTPUTS = {test_runs.ROLL: (4,), HEARTBEAT: (20,), CIFAR: (6, 32, 32), SIMPLE: (3, 32, 32)}  # mean and variance; a bit's logit
SMALLER = {SIMPLE: ["reverse.network.network.ch=32"], CIFAR: ["reverse.network.network.network.ch=32"]}  # the same in seconds
TINY = ["training.steps=2", "training.batch_size=8", "training.log_every=1", "training.validate_every=2"]
TINY += ["validation_examples=16", "examples=64"]


@pytest.fixture(autouse=True)
def small_image_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in place of the files, which a machine need not have and which take seconds to go through."""
    grey = np.random.default_rng(0).integers(0, 256, (2200, 3, 32, 32), np.uint8)
    monkeypatch.setattr(files, "cifar10", lambda folder: (grey[:2100], grey[2100:]))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_trains_and_leaves_a_record(tmp_path: Path, experiment: str) -> None:
    line = [*TINY, *SMALLER.get(experiment, [])]
    run, verb = (test_runs.configured(tmp_path, *line, experiment=experiment, verb=verb) for verb in ("train", "evaluate"))
    assert run.name == experiment
    done = runs.train(run)
    record = runs.evaluate(verb)
    assert np.isfinite(done["value"])
    assert record == Record.load(verb.record)
    assert record.experiment == experiment
    assert record.budget["steps"] == 2
    for m in record.measurements:
        assert np.isfinite([m.value, m.stderr]).all(), m
        assert m.protocol["split"] in ("held-out", "test")
        if m.claim:  # it exists, and is about this quantity in this unit
            assert verdict(load_claims(CONF / "claims")[m.claim], [m], record.tier).value == m.value
    with np.load(verb.record.with_suffix(".npz")) as arrays:
        assert all(np.isfinite(array).all() for array in arrays.values())
        assert arrays["curve_step"].tolist() == [2]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_has_every_tier_and_says_what_it_is(tmp_path: Path, experiment: str) -> None:
    tiers = test_runs.configured(tmp_path, experiment=experiment).config["tiers"]
    assert tiers.keys() == {"smoke", "laptop", "paper"}
    assert tiers["smoke"].keys() == tiers["laptop"].keys() == tiers["paper"].keys()
    assert tiers["smoke"]["steps"] < tiers["laptop"]["steps"] <= tiers["paper"]["steps"]
    head = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()[:2]
    assert head[0] == "# @package _global_"
    assert head[1].startswith("# ")


@pytest.mark.parametrize(("group", "option"), GROUPS)
def test_a_group_composes_and_builds(tmp_path: Path, group: str, option: str) -> None:
    """Every option in the place of the default one, in an experiment that gives it what it refers to."""
    needs = {HEARTBEAT: OF_BITS, CIFAR: OF_IMAGES, SIMPLE: FIXED_VARIANCE}
    experiment = next((name for name, options in needs.items() if (group, option) in options), test_runs.ROLL)
    run = test_runs.configured(tmp_path, f"{group}={option}", experiment=experiment)
    for key in ("data", "reverse", "objective", "optimizer", "scheduler", "tracker", "validation", "evaluators"):
        assert configs.build(run.config, key) is not None
    x_t, t = configs.build(run.config, "data").held_out(3), torch.full((3,), 5)
    assert run.reverse().network(x_t, t).shape == (3, *OUTPUTS[experiment])


def test_groups_are_files_that_say_what_they_build() -> None:
    for group, option in GROUPS:
        content = yaml.safe_load((CONF / group / f"{option}.yaml").read_text())
        described = content if "_target_" in content else content.get("bound", {})
        assert "_target_" in described or "defaults" in content, (group, option)
