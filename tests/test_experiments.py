"""Every file below conf/ works: experiments train two steps and are evaluated, groups compose and build what they describe."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import test_runs
import torch
import yaml

from dpm.data import dead_leaves, files, textures
from dpm.runs import configs
from dpm.runs.evaluate import evaluate
from dpm.runs.train import train
from dpm.runs.weights import rounded
from dpm.study.claims import load_claims, verdict
from dpm.study.records import Record

CONF = test_runs.ROOT / "conf"
EXPERIMENTS = sorted(str(path.relative_to(CONF / "experiment").with_suffix("")) for path in CONF.glob("experiment/**/*.yaml"))
GROUPS = [
    (path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in ("claims", "experiment")
]
HEARTBEAT, CIFAR, SIMPLE = "sohl_dickstein_2015/binary_heartbeat", "ho_2020/cifar10_bound", "ho_2020/cifar10_simple"
CIFAR_2015, PUBLISHED = "sohl_dickstein_2015/cifar10", "sohl_dickstein_2015/cifar10_published"
TABLE_2, CELLS = "ho_2020/table2", sorted(path.stem for path in CONF.glob("cell/*.yaml"))
MNIST, LEAVES = "sohl_dickstein_2015/mnist", "sohl_dickstein_2015/dead_leaves"
LEAVES_UNET, LEAVES_KERNELS = f"{LEAVES}_unet", f"{LEAVES}_kernels"
MNIST_2020, MNIST_SAMPLES, SHARES = "ho_2020/mnist", "ho_2020/mnist_samples", "ho_2020/cifar10_bound_shares"
QUASI_NEWTON = f"{test_runs.ROLL}_quasi_newton"
TEXTURES, BARK = "sohl_dickstein_2015/textures", "sohl_dickstein_2015/bark"
NEEDS = {  # options that only some data, networks or reverse processes go with; all others compose with the Swiss roll
    HEARTBEAT: {
        *(("data", "binary_heartbeat"), ("evaluators", "binary_heartbeat"), ("network", "sigmoid_mlp")),
        *(("process", "binomial"), ("reverse", "binomial")),
    },
    CIFAR: {
        *(("data", "cifar10"), ("network", "laptop_unet"), ("prediction", "linear_residual")),
        *(("evaluators", "ddpm"), ("evaluators", "bound_2020"), ("validation", "sampled")),
        ("evaluators", "correlated"),
    },
    SIMPLE: {("network", "unet"), ("answers", "l_simple")},  # without an output for the variance
    TABLE_2: {("network", "table2_unet"), ("evaluators", "table2"), *(("cell", cell) for cell in CELLS)},
    CIFAR_2015: {
        *(("data", "cifar10_standardized"), ("network", "multiscale"), ("prediction", "whitened_residual")),
        *(("evaluators", "cifar10_2015"), ("validation", "sampled_K"), ("objective", "image_bound")),
    },
    MNIST: {
        *(("data", "mnist_standardized"), ("network", "dense_2015")),
        *(("evaluators", "mnist_2015"), ("evaluators", "images_2015")),
    },
    MNIST_2020: {("data", "mnist"), ("network", "mnist_unet")},
    MNIST_SAMPLES: {("evaluators", "mnist_2020")},
    LEAVES: {("data", "dead_leaves"), ("network", "convolutions_and_pixel"), ("evaluators", "dead_leaves")},
    LEAVES_UNET: {("network", "dead_leaves_unet")},
    LEAVES_KERNELS: {("network", "dead_leaves_kernels"), ("prediction", "noiseless")},
    TEXTURES: {("data", "textures"), ("network", "convolutions_2015"), ("evaluators", "textures")},
    BARK: {("data", "uiuc_bark")},
    QUASI_NEWTON: {
        *(("network", "orthonormal_rbf"), ("objective", "quasirandom_terms"), ("optimizer", "quasi_newton")),
        *(("start", kind) for kind in ("any", "data", "normal", "pairs")),
    },
}
OUTPUTS = {  # mean and variance; a bit's logit
    **{
        test_runs.ROLL: (4,),
        QUASI_NEWTON: (4,),
        HEARTBEAT: (20,),
        CIFAR: (6, 32, 32),
        SIMPLE: (3, 32, 32),
        CIFAR_2015: (6, 32, 32),
    },
    **{
        MNIST: (2, 28, 28),
        MNIST_2020: (2, 28, 28),
        MNIST_SAMPLES: (2, 28, 28),
        LEAVES: (2, 64, 64),
        LEAVES_UNET: (2, 64, 64),
        LEAVES_KERNELS: (2, 64, 64),
        TEXTURES: (2, 64, 64),
        BARK: (2, 64, 64),
        TABLE_2: (3, 32, 32),
    },
}
NETWORK = "reverse.network.network"
PATHWAYS = [f"{NETWORK}.lower.pathways.convolutions.features=4", f"{NETWORK}.upper.inputs=8"]
CONVOLUTIONS = [f"{NETWORK}.lower.features=4", f"{NETWORK}.upper.inputs=4"]
ALL_TERMS = ["T=30", "examples=4"]
SMALLER = {  # the same in seconds
    SIMPLE: [f"{NETWORK}.ch=32"],
    CIFAR: [f"{NETWORK}.network.ch=32"],
    CIFAR_2015: PATHWAYS,
    PUBLISHED: PATHWAYS,
    MNIST_2020: [f"{NETWORK}.network.ch=32"],
    MNIST_SAMPLES: [f"{NETWORK}.network.ch=32"],
    LEAVES_UNET: [f"{NETWORK}.network.ch=32"],
    LEAVES_KERNELS: [f"{NETWORK}.network.network.ch=32"],
    SHARES: [f"{NETWORK}.network.ch=32"],
    LEAVES: [f"{NETWORK}.lower.pathways.convolutions.features=4", f"{NETWORK}.upper.inputs=5"],
    TEXTURES: CONVOLUTIONS + ALL_TERMS,
    BARK: CONVOLUTIONS + ALL_TERMS,
}
TINY = ["training={steps:2,batch_size:8,log_every:1,validate_every:2}", "validation_examples=16", "examples=64"]


@cache
def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(autouse=True)
def small_image_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in place of the files, which a machine need not have and which take seconds to go through."""
    cifar, mnist, leaves = grey(2200, 3, 32, 32), grey(10200, 1, 28, 28), grey(60, 1, 128, 128).astype(np.float32)
    monkeypatch.setattr(files, "cifar10", lambda folder: (cifar[:2100], cifar[2100:]))
    monkeypatch.setattr(files, "mnist", lambda folder: (mnist[:10100], mnist[10100:]))
    monkeypatch.setattr(dead_leaves.DeadLeaves, "__call__", lambda self, folder: (leaves[:40], leaves[40:]))
    monkeypatch.setattr(textures, "paths", lambda root, name: [root / name] * textures.UIUC[name])
    monkeypatch.setattr(textures, "grey", lambda path: grey(128, 128))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_trains_and_leaves_a_record(tmp_path: Path, experiment: str) -> None:
    line = [*TINY, *SMALLER.get(experiment, [])]
    run, verb = (test_runs.configured(tmp_path, *line, experiment=experiment, verb=verb) for verb in ("train", "evaluate"))
    assert run.name == experiment
    done = train(run)
    record = evaluate(verb)
    assert np.isfinite(done["value"])
    assert record == Record.load(verb.record)
    assert record.experiment == experiment
    assert record.budget["steps"] == 2 + (run.plan.starts - 1) * run.plan.start_steps
    for m in record.measurements:
        assert np.isfinite([m.value, m.stderr]).all(), m
        assert m.protocol["split"] in ("held-out", "test", "model")
        if m.claim:  # it exists, and is about this quantity in this unit
            assert verdict(load_claims(CONF / "claims")[m.claim], [m]).value == m.value
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


@pytest.mark.parametrize("experiment", [CIFAR_2015, PUBLISHED, MNIST, MNIST_2020, LEAVES, LEAVES_KERNELS, TEXTURES, BARK])
def test_shipped_weights_are_small(tmp_path: Path, experiment: str) -> None:
    """Below 8 MB at the configured sizes and in the precision that is shipped: results stay a part of the repository."""
    run = test_runs.configured(tmp_path, experiment=experiment)
    assert sum(tensor.nbytes for tensor in rounded(run.reverse(), run.config["shipped"]).values()) < 8e6


@pytest.mark.parametrize(("group", "option"), GROUPS)
def test_a_group_composes_and_builds(tmp_path: Path, group: str, option: str) -> None:
    """Every option in the place of the default one, in an experiment that gives it what it refers to."""
    experiment = next((name for name, options in NEEDS.items() if (group, option) in options), test_runs.ROLL)
    run = test_runs.configured(tmp_path, f"{group}={option}", experiment=experiment)
    for key in ("data", "reverse", "objective", "optimizer", "scheduler", "tracker", "validation", "evaluators"):
        assert configs.build(run.config, key) is not None
    x_t, t = configs.build(run.config, "data").held_out(3), torch.full((3,), 5)
    learned = (group, option) in {("cell", "mean_bound_learned"), ("cell", "epsilon_bound_learned")}
    channels, *rest = OUTPUTS[experiment]
    reverse = run.reverse()
    assert getattr(reverse, "raw", reverse.network)(x_t, t).shape == (3, channels * (1 + learned), *rest)


def test_groups_are_files_that_say_what_they_build_or_answer() -> None:
    for group, option in GROUPS:
        content = yaml.safe_load((CONF / group / f"{option}.yaml").read_text())
        described = content if "_target_" in content else content.get("bound") or content.get(group, {})  # data may be global
        assert described.keys() & {"_target_", "claims"} or "defaults" in content, (group, option)
