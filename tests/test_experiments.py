"""Every file below conf/ works: experiments train two steps and are evaluated, options compose and fit their experiment."""

import math
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
import skimage.io
import torch
import yaml
from elsewhere import ELSEWHERE, Accelerator, accelerator
from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from dpm.data import chorales, dead_leaves, files, textures
from dpm.errors import UserError
from dpm.networks import peers
from dpm.optimizers import QuasiNewton
from dpm.runs import configs, precision
from dpm.runs.evaluate import evaluate
from dpm.runs.folder import BUILT, Run
from dpm.runs.train import make_learner, train
from dpm.runs.weights import rounded
from dpm.study.claims import load_claims, verdict
from dpm.study.records import Record
from dpm.training import fit

CONF = helpers.ROOT / "conf"
EXPERIMENTS = sorted(str(path.relative_to(CONF / "experiment").with_suffix("")) for path in CONF.glob("experiment/**/*.yaml"))
GROUPS = ("data", "network", "evaluators", "sampler", "draw", "tracker")
OPTIONS = [  # those of `sampler` and `draw` come with an evaluator, or to be shown: test_drawn.py, test_sample.py
    (group, path.stem) for group in GROUPS if group not in ("sampler", "draw") for path in sorted((CONF / group).glob("*.yaml"))
]
SHIPPED = [
    *(
        f"sohl_dickstein_2015/{name}"
        for name in ("cifar10", "cifar10_published", "mnist", "dead_leaves", "dead_leaves_kernels")
    ),
    *("sohl_dickstein_2015/textures", "sohl_dickstein_2015/bark", "ho_2020/mnist"),
]
TINY = ["training={steps:2,batch_size:8,log_every:1,validate_every:2}", "validation_examples=16"]


@cache
def composed(experiment: str, *overrides: str) -> DictConfig:
    """The configuration with Hydra's own part, which says which option of each group it is composed of."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [f"experiment={experiment}", *overrides], return_hydra_config=True)


def an_experiment_with(group: str, option: str) -> tuple[str, str]:
    """One that is composed of this option, and where in it; the Swiss roll for an option that no experiment has."""
    choices = ((name, place, chosen) for name in EXPERIMENTS for place, chosen in composed(name).hydra.runtime.choices.items())
    uses = ((name, place) for name, place, chosen in choices if place.split("@")[0] == group and chosen == option)
    return next(uses, (helpers.ROLL, group))


def own_data(root: Path) -> dict[str, tuple[str, ...]]:
    """The options that are somebody's own files, with an experiment for each and where its files are."""
    np.save(root / "points.npy", np.random.default_rng(0).standard_normal((40, 2)))
    for index in range(12):
        image = np.full((40, 48, 3), index, np.uint8)
        skimage.io.imsave(root / f"{index}.png", image, check_contrast=False)
    kept = ("data.n_validation=4", "data.n_held_out=4")
    return {
        "points": (helpers.ROLL, f"data.path={root}/points.npy", *kept),
        "image_folder": (
            *("ho_2020/cifar10_bound", f"data.source.path={root}", "data.source.n_test=4", "data.n_validation=4"),
        ),
    }


def smaller(path: str, node: Any) -> Iterator[str]:
    """The same network with few channels, as overrides: `ch` of a U-Net, `features` of the convolutions of 2015."""
    if not isinstance(node, DictConfig):
        return
    if "ch" in node:
        yield f"{path}.ch=32"
    if "upper" in node:
        where = "lower" if "features" in node.lower else "lower.pathways.convolutions"
        features = OmegaConf.select(node, f"{where}.features")
        if features is not None:
            yield from (f"{path}.{where}.features=4", f"{path}.upper.inputs={node.upper.inputs - features + 4}")
    for key in node:
        yield from smaller(f"{path}.{key}", node._get_node(key))


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
    music = [chorales.Chorale(str(i), grey(70, 4).astype(np.int16) % 40 + 40) for i in range(16)]
    monkeypatch.setattr(chorales.Corpus, "__call__", lambda self, folder: dict.fromkeys(("train", "valid", "test"), music))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_trains_and_leaves_a_record(tmp_path: Path, experiment: str) -> None:
    config = composed(experiment, "tier=smoke")
    every_term_of_images = "side" in config.data and "draws" in config.evaluators.bound
    line = [*TINY, *smaller("reverse.network", config.reverse.network), *(["T=30"] if every_term_of_images else [])]
    run, verb = (helpers.configured(tmp_path, *line, experiment=experiment, verb=verb) for verb in ("train", "evaluate"))
    assert run.name == experiment
    done = train(run)
    record = evaluate(verb)
    assert np.isfinite(done["value"])
    assert record == Record.load(verb.record)
    assert record.experiment == experiment
    assert record.provenance.get("precision") == precision.used(verb.config) != precision.AUTO
    assert record.budget["steps"] == 2 + (run.plan.starts - 1) * run.plan.start_steps
    for m in record.measurements:
        assert np.isfinite([m.value, m.stderr]).all(), m
        assert m.protocol["split"] in ("held-out", "test", "model")
        if m.claim:  # it exists, and is about this quantity in this unit
            assert verdict(load_claims(CONF / "claims")[m.claim], [m]).value == m.value
    with np.load(verb.record.with_suffix(".npz")) as arrays:
        assert all(np.isfinite(array).all() for array in arrays.values())
        assert arrays["curve_step"].tolist() == [2]


DONE_WITH = {  # a trained experiment
    "fewer_steps": ("ho_2020/cifar10_bound", "T=30"),
    "generation": ("ho_2020/cifar10_bound", "T=30"),
    "estimators": ("ho_2020/cifar10_bound", "T=30"),
    "mcgsm": ("sohl_dickstein_2015/dead_leaves",),
    "likelihoods": ("ho_2020/cifar10_bound", "T=30"),
    "likelihoods_of_points": ("sohl_dickstein_2015/swiss_roll_mlp",),
    "causal": ("sohl_dickstein_2015/dead_leaves",),
    "mnist_implicit": ("ho_2020/mnist", "T=30"),
    "restored": ("ho_2020/mnist", "T=30"),
    "inpainted": ("ho_2020/mnist", "T=30"),
    "drawn": ("ho_2020/cifar10_bound", "T=30"),
    "patches": ("ho_2020/cifar10_bound", "T=30"),
    "isotropic": ("ho_2020/cifar10_bound", "T=30"),
    "deep_memory": ("ho_2020/cifar10_bound", "T=30"),
    "refined": ("ho_2020/cifar10_bound", "T=30"),
    "code": ("ho_2020/mnist", "T=30"),
    "progressive": ("ho_2020/mnist", "T=30"),
    "fid": ("ho_2020/cifar10_bound", "T=30"),
}


@pytest.mark.slow
@pytest.mark.parametrize("evaluators", DONE_WITH)
def test_what_is_done_with_trained_weights_has_a_record_of_its_own(tmp_path: Path, evaluators: str) -> None:
    experiment, *line = DONE_WITH[evaluators]
    line += [*TINY, *smaller("reverse.network", composed(experiment).reverse.network)]
    train(helpers.configured(tmp_path, *line, experiment=experiment))
    run = helpers.configured(tmp_path, *line, f"evaluators={evaluators}", experiment=experiment, verb="evaluate")
    record = evaluate(run)
    assert record == Record.load(run.record)
    assert record.experiment == run.config["recorded_as"] != experiment
    assert run.record.is_relative_to(tmp_path / "results" / record.experiment)
    assert not run.record.with_suffix(".safetensors").exists()
    assert record.provenance["weights"] == f"those of {experiment}"
    for m in record.measurements:
        assert np.isfinite([m.value, m.stderr or 0.0]).all(), m
        assert ("T" in m.protocol) == (evaluators not in ("mcgsm", "causal") or m.quantity == "gain_over_mcgsm")


OF_PEERS = {"denoising_diffusion_pytorch_unet": ("ho_2020/cifar10_bound_peers",)}  # a library that no other test needs
QUICK = ("swiss_roll", "binary_heartbeat")
SMALL_CHAIN = {  # where every term is looked at, again and again
    "sohl_dickstein_2015/swiss_roll": ["T=6"],
    "sohl_dickstein_2015/binary_heartbeat": ["T=20", "reverse.network.blocks=[1,10]"],
    **{f"sohl_dickstein_2015/{name}": ["T=10"] for name in ("textures", "bark", "mnist")},
    **{f"sohl_dickstein_2015/cifar10{form}": ["T=10"] for form in ("", "_eighth", "_published", "_published_eighth")},
    **{
        f"ho_2020/{name}": ["T=8"]
        for name in (
            *("cifar10_bound", "cifar10_bound_shares", "cifar10_bound_ladder", "cifar10_bound_peers"),
            *("cifar10_bound_resolved", "cifar10_bound_resolved_shares"),
            *("cifar10_simple", "cifar10_simple_residual", "cifar10_simple_resolved"),
        )
    },
}
ON_CPU = {  # their evaluators take a copy of the network there, which the pretended device cannot give
    *("song_2021/mixture", "cardoso_2024/grid_of_modes"),
    *("daras_2024/clean", "daras_2024/naive", "daras_2024/corrected", "daras_2024/consistent"),
}
OF_NO_NETWORK = {"oracles"}  # about other chains, made on the CPU from their schedules: minutes, and nothing on the device
MAY_WAIT = {  # for numbers of the device during a training step, besides the loss and the norm of its gradient
    "__init__.py",  # of processes: which rows of this batch are at small t?
    *("rbf.py", "sigmoid_mlp.py"),  # a read-out for each time: which times are there, and how often
    "optimizers.py",  # line searches
    "noisy.py",  # the first step of a chain above the noise of its data, and the one that a draw goes to
}


def slow_param(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture
def another_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """There is one besides the CPU; autocast, which does not know it, is that of the CPU: in float32 it does nothing."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda kind, *arguments, **options: autocast("cpu", *arguments, **options))
    with accelerator() as there:
        yield there


def on_another_device(root: Path, experiment: str, *overrides: str, verb: str = "train") -> Run:
    config = composed(experiment, "tier=smoke")
    line = [*smaller("reverse.network", config.reverse.network), *SMALL_CHAIN.get(experiment, []), "training.batch_size=2"]
    line += ["training.steps=2", "device=meta", "precision=float32", "validation_examples=16", *overrides]
    return helpers.configured(root, *line, experiment=experiment, verb=verb)


@pytest.mark.parametrize("experiment", [n if n.split("/")[1] in QUICK else slow_param(n) for n in EXPERIMENTS])
def test_a_training_step_mixes_no_devices_and_waits_once_for_its_numbers(
    tmp_path: Path, another_device: Accelerator, experiment: str
) -> None:
    """Found without a GPU, see tests/elsewhere.py."""
    run = on_another_device(tmp_path, experiment)
    data, objective = configs.build(run.config, "data"), configs.build(run.config, "objective")
    learner = make_learner(run, data)
    assert {p.device for p in (*learner.reverse.parameters(), *learner.ema.module.parameters())} == {ELSEWHERE}
    before = [p.detach().cpu() for p in learner.reverse.parameters()]
    another_device.waits.clear()
    (*_, last) = fit(learner, data, objective, run.plan, run.seed)
    waits = Counter(another_device.waits)
    assert math.isfinite(last.loss)
    assert any(not torch.equal(old, new.detach().cpu()) for old, new in zip(before, learner.reverse.parameters(), strict=True))
    assert waits.keys() <= {"training.py", *MAY_WAIT}
    if not isinstance(learner.optimizer, QuasiNewton):  # which asks for the loss as often as it needs
        assert waits["training.py"] == run.plan.steps


@pytest.mark.parametrize(
    ("experiment", "evaluators"),
    [
        *(
            (name, None) if name.endswith("/swiss_roll") else slow_param(name, None)
            for name in EXPERIMENTS
            if name not in ON_CPU
        ),
        *(slow_param(experiment, name) for name, (experiment, *_) in DONE_WITH.items()),
    ],
)
def test_evaluators_mix_no_devices(
    tmp_path: Path, another_device: Accelerator, experiment: str, evaluators: str | None
) -> None:
    """All of them but those of no network; weights are the initial ones."""
    run = on_another_device(tmp_path, experiment, *([f"evaluators={evaluators}"] if evaluators else []), verb="evaluate")
    data, reverse = configs.build(run.config, "data"), run.reverse()
    reverse.fit(data)
    for which in ("validation", "evaluators"):
        for name in OF_NO_NETWORK & run.config[which].keys():
            run.config[which][name] = None
        run.config["examples"] = min(20, run.config["examples"])
        evaluation = run.evaluation(which, data)(reverse)
        assert all(math.isfinite(m.value) for m in evaluation.measurements)
        assert all(isinstance(array, np.ndarray) for array in evaluation.arrays.values())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_has_every_tier_and_says_what_it_is(tmp_path: Path, experiment: str) -> None:
    tiers = helpers.configured(tmp_path, experiment=experiment).config["tiers"]
    assert tiers.keys() == {"smoke", "laptop", "paper"}
    assert tiers["smoke"].keys() == tiers["laptop"].keys() == tiers["paper"].keys()
    assert tiers["smoke"]["steps"] < tiers["laptop"]["steps"] <= tiers["paper"]["steps"]
    head = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()[:2]
    assert head[0] == "# @package _global_"
    assert head[1].startswith("# ")


@pytest.mark.parametrize("experiment", SHIPPED)
def test_shipped_weights_are_small(tmp_path: Path, experiment: str) -> None:
    """Below 8 MB at the configured sizes and in the precision that is shipped: results stay a part of the repository."""
    run = helpers.configured(tmp_path, experiment=experiment)
    assert sum(tensor.nbytes for tensor in rounded(run.reverse(), run.config["shipped"]).values()) < 8e6


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_an_option_composes_and_builds(tmp_path: Path, group: str, option: str) -> None:
    """Every option in an experiment that has it: all parts are built, and fit each other."""
    special = own_data(tmp_path) if group == "data" else DONE_WITH | OF_PEERS
    if option in OF_PEERS:
        try:
            peers.library(option.removesuffix("_unet"), "Unet")
        except UserError as error:
            pytest.skip(str(error))
    (experiment, place), where = an_experiment_with(group, option), list[str]()
    if option in special:
        (experiment, *where), place = special[option], group
    run = helpers.configured(tmp_path, f"{place}={option}", *where, experiment=experiment)
    for key in BUILT:
        assert configs.build(run.config, key) is not None
    reverse, examples, t = run.reverse(), configs.build(run.config, "data").held_out(3), torch.full((3,), 5)
    x_t = reverse.process.marginal(examples, t).mean
    assert reverse(x_t, t - 1, t).mean.shape == x_t.shape  # the network has the outputs that prediction and variance read


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_run_is_decided_by_eight_files_at_most(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """train, base, tracker, the experiment and one parent, data, network, evaluators."""
    read: set[str] = set()
    load = ConfigRepository.load_config

    def recorded(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        found = load(self, config_path)
        if found is not None and found.provider == "main":  # ours, and not Hydra's own
            read.add(config_path.removesuffix(".yaml"))
        return found

    monkeypatch.setattr(ConfigRepository, "load_config", recorded)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("train", [f"experiment={experiment}"])
    assert {"train", "base", f"experiment/{experiment}"} < read
    assert len(read) <= 8
    assert sum(path.startswith("experiment/") for path in read) <= 2


def test_the_only_groups_are_those_that_are_chosen_from() -> None:
    assert {path.parent.name for path in CONF.glob("*/*.yaml")} == {*GROUPS, "claims"}
    for path in [
        *CONF.glob("*.yaml"),
        *(path for group in (*GROUPS, "experiment") for path in CONF.glob(f"{group}/**/*.yaml")),
    ]:
        assert "hydra.utils" not in path.read_text(), path  # a function is a _target_ with _partial_


@pytest.mark.parametrize(("group", "option"), [("network", "fourier_mlp"), ("data", "swiss_roll_quasirandom")])
def test_a_network_or_data_set_of_ones_own_takes_the_place_of_the_experiments(group: str, option: str) -> None:
    """Nothing is left of the one before: the node is what the file says."""
    for experiment in EXPERIMENTS:
        if "swiss_roll" in experiment and not (group == "network" and experiment.endswith("eq_65")):
            config = composed(experiment, f"{group}={option}")
            node = config.reverse.network if group == "network" else config.data
            assert node.keys() == yaml.safe_load((CONF / group / f"{option}.yaml").read_text()).keys()
