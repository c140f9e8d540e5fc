"""Released weights compute here what they compute in diffusers; a checkpoint that does not fit is one line about its key."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from dpm.data import files
from dpm.errors import UserError
from dpm.networks import diffusers_layout
from dpm.networks.unet import UNet
from dpm.runs.evaluate import evaluate
from dpm.runs.folder import Run
from dpm.runs.weights import Loaded, load_weights
from dpm.study.claims import load_claims, verdict
from dpm.study.records import Record, sha256

SIMPLE = "ho_2020/cifar10_simple"
RELEASED = {  # config.json of google/ddpm-cifar10-32, in full
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
SMALL = {  # the arguments of our network that have a counterpart in config.json
    "in_channels": 3,
    "out_channels": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 2,
    "attention": [1],
}
DEEP = {**SMALL, "ch_mult": [1, 2, 1], "num_res_blocks": 1, "attention": [0, 2]}
PAPER = {**SMALL, "ch": 128, "ch_mult": [1, 2, 2, 2]}
ON_THE_COMMAND_LINE = ["reverse.network.network.ch=32", "reverse.network.network.ch_mult=[1,2]"]  # the rest is as in SMALL
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
ANY_ATTENTION = "mid_block.attentions.0"


def config(arguments: dict[str, Any]) -> dict[str, Any]:
    """The config.json of the released kind for these arguments of our network."""
    levels = range(len(arguments["ch_mult"]))
    kinds = ["Attn" if level in arguments["attention"] else "" for level in levels]
    return RELEASED | {
        "block_out_channels": [arguments["ch"] * factor for factor in arguments["ch_mult"]],
        "layers_per_block": arguments["num_res_blocks"],
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
    }


@torch.no_grad()
def theirs(arguments: dict[str, Any]) -> nn.Module:
    """diffusers' network with all weights random: nothing is zero, and no norm the identity."""
    from diffusers import UNet2DModel  # seconds; other tests need not wait for it

    network = UNet2DModel.from_config(config(arguments)).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    return network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkpoint as diffusers writes it."""
    theirs(SMALL).save_pretrained(tmp_path / "released")
    return tmp_path / "released"


@torch.no_grad()
def check_equal(ours: UNet, other: nn.Module, size: int) -> None:
    """The same images to 1e-5 of their scale, t = 1..T here being 0..T-1 there."""
    x = torch.randn(2, 3, size, size)
    for t in (torch.tensor([1, 1000]), torch.tensor([2, 500])):
        expected = other(x, t - 1).sample
        assert 0.1 < expected.std() < 10
        assert (ours.eval()(x, t) - expected).abs().max() < 1e-5 * expected.abs().max()


def loaded(path: Path, arguments: dict[str, Any] = SMALL) -> UNet:
    network = UNet(**arguments)
    diffusers_layout.load_into(network, path)
    return network


def evaluation(root: Path, weights: Path, *overrides: str) -> Run:
    line = [*ON_THE_COMMAND_LINE, "reverse.network.precision=float32", f"weights={weights}", *overrides]
    return helpers.configured(root, *line, experiment=SIMPLE, verb="evaluate")


# The same function


@pytest.mark.parametrize(
    ("arguments", "size"),
    [(SMALL, 8), (DEEP, 16), pytest.param(PAPER, 32, marks=pytest.mark.slow)],
    ids=["small", "deep", "paper"],
)
def test_the_network_computes_what_diffusers_computes(tmp_path: Path, arguments: dict[str, Any], size: int) -> None:
    network = theirs(arguments)
    network.save_pretrained(tmp_path)
    check_equal(loaded(tmp_path, arguments), network, size)


def test_the_published_names_and_a_pickle_are_read_as_diffusers_reads_them(tmp_path: Path) -> None:
    """A file of 2022: a pickle, attention under its first names, config.json without what was not yet a choice."""
    from diffusers import UNet2DModel

    state = theirs(SMALL).state_dict()
    for new, old in OLD_NAMES.items():
        state = {key.replace(f".{new}.", f".{old}."): value for key, value in state.items()}
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(config(SMALL)))
    assert f"{ANY_ATTENTION}.proj_attn.weight" in diffusers_layout.load(tmp_path)
    network = UNet2DModel.from_pretrained(tmp_path, low_cpu_mem_usage=False, use_safetensors=False)
    check_equal(loaded(tmp_path), network.eval(), 8)


def test_a_checkpoint_is_a_folder_or_the_folder_above_it_or_its_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "unet").symlink_to(folder)
    expected = diffusers_layout.load(folder)
    for path in (tmp_path / "pipeline", folder / "diffusion_pytorch_model.safetensors"):
        assert diffusers_layout.recognises(path)
        state = diffusers_layout.load(path)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in state)


# What does not fit


def rename(old: str, new: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.__setitem__(new, state.pop(old))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("conv_norm_out.weight"), "there is no conv_norm_out.weight in it"),
        (lambda s: s.pop("down_blocks.1.attentions.1.to_k.bias"), "no down_blocks.1.attentions.1.to_k.bias"),
        (lambda s: s.update({"up_blocks.2.resnets.0.conv1.bias": torch.zeros(1)}), "up_blocks.2.resnets.0.conv1.bias has no"),
        (
            lambda s: s.update({"conv_in.weight": torch.zeros(32, 1, 3, 3)}),
            "conv_in.weight has the shape (32, 1, 3, 3), not (32, 3",
        ),
        (
            lambda s: s.update({f"{ANY_ATTENTION}.to_q.weight": torch.zeros(64, 64, 1, 1)}),
            "to_q.weight has the shape (64, 64, 1, 1)",
        ),
        (rename(f"{ANY_ATTENTION}.to_v.bias", f"{ANY_ATTENTION}.value.bias"), f"there is no {ANY_ATTENTION}.to_v.bias"),
        (rename(f"{ANY_ATTENTION}.to_q.bias", f"{ANY_ATTENTION}.query.bias"), "attentions.0.query.weight in it"),
    ],
)
def test_the_first_key_that_does_not_fit_is_named(folder: Path, change: Callable[..., object], complaint: str) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)
    with pytest.raises(UserError) as caught:
        loaded(folder)
    assert complaint in str(caught.value)
    assert f"{folder} does not fit this configuration" in str(caught.value)
    assert helpers.one_line(str(caught.value))


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"there is no down_blocks\.0\.attentions\.0\.group_norm\.weight"):
        loaded(folder, {**SMALL, "attention": [0, 1]})
    with pytest.raises(UserError, match=r"time_embedding\.linear_1\.weight has the shape \(128, 32\), not \(256, 64\)"):
        loaded(folder, {**SMALL, "ch": 64})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flip_sin_to_cos", True),
        ("freq_shift", 0),
        ("downsample_padding", 1),
        ("norm_eps", 1e-5),
        ("norm_num_groups", 16),
        ("attention_head_dim", 8),
        ("act_fn", "gelu"),
        ("center_input_sample", True),
        ("time_embedding_type", "fourier"),
        ("resnet_time_scale_shift", "scale_shift"),
        ("_class_name", "UNet2DConditionModel"),
    ],
)
def test_a_configuration_that_computes_something_else_is_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config(SMALL) | {key: value}))
    with pytest.raises(UserError, match=f"{key} = {json.dumps(value)}; our U-Net computes {key} = "):
        diffusers_layout.refuse_other_conventions(path)


def test_a_missing_key_means_the_default_of_diffusers(tmp_path: Path) -> None:
    import inspect

    from diffusers import UNet2DModel

    parameters = inspect.signature(UNet2DModel.__init__).parameters
    for key, (_, default) in diffusers_layout.CONVENTIONS.items():
        assert key == "_class_name" or parameters[key].default == default, key
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in RELEASED.items() if key != "downsample_padding"}))
    with pytest.raises(UserError, match="downsample_padding = 1, the default of diffusers; our U-Net"):
        diffusers_layout.refuse_other_conventions(path)


def test_a_convention_is_heeded_beside_a_file_too(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config(SMALL) | {"flip_sin_to_cos": True}))
    for path in (folder, folder / "diffusion_pytorch_model.safetensors"):
        with pytest.raises(UserError, match="flip_sin_to_cos = true"):
            loaded(path)


class Code:
    """An object whose pickle would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise", "code", "more"])
@pytest.mark.parametrize("name", diffusers_layout.WEIGHTS[:2])
def test_a_damaged_file_is_one_line_and_runs_nothing(tmp_path: Path, name: str, damage: str) -> None:
    state, path = {"conv_in.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / name
    if name.endswith(".bin"):
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    content = {"truncated": path.read_bytes()[:-100], "empty": b"", "noise": b"not weights", "more": pickle.dumps({"step": 1})}
    path.write_bytes(content.get(damage, pickle.dumps({"weight": Code(tmp_path / "ran")})))
    (tmp_path / "config.json").write_text(json.dumps(RELEASED))
    with pytest.raises(UserError, match=f"{name} is no ") as caught:
        diffusers_layout.load(tmp_path)
    assert helpers.one_line(str(caught.value))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '"UNet2DModel"'])
def test_a_broken_config_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json: no"):
        diffusers_layout.refuse_other_conventions(tmp_path / "config.json")


def test_a_folder_without_weights_or_without_config_says_what_belongs_there(tmp_path: Path) -> None:
    for name in ("", "config.json", "unet/diffusion_pytorch_model.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name:
            (tmp_path / name).write_text("{}")
        with pytest.raises(UserError, match=r"neither .* nor its folder unet/ holds config\.json and diffusion_pytorch_model"):
            diffusers_layout.load(tmp_path)


# evaluate.py weights=PATH


@pytest.mark.parametrize("form", ["folder", "file"])
def test_weights_are_the_networks_and_all_else_is_the_configurations(tmp_path: Path, folder: Path, form: str) -> None:
    path = folder if form == "folder" else folder / "diffusion_pytorch_model.safetensors"
    run = evaluation(tmp_path, path)
    reverse, fresh = run.reverse(), run.reverse().state_dict()
    hashed = sha256((folder / "diffusion_pytorch_model.safetensors").read_bytes())
    said = {"released": "released", "released_sha256": hashed}
    assert load_weights(run, reverse) == Loaded(str(path), {}, said)
    expected = {f"network.network.{key}": value for key, value in loaded(folder).state_dict().items()}
    state = reverse.state_dict()
    assert expected.keys() < state.keys()
    for key, value in state.items():
        assert torch.equal(value, expected.get(key, fresh[key])), key


def test_our_own_file_is_not_taken_for_a_released_one(tmp_path: Path) -> None:
    safetensors.torch.save_file({"network.network.input.weight": torch.zeros(1)}, tmp_path / "own.safetensors")
    assert not diffusers_layout.recognises(tmp_path / "own.safetensors")
    assert not diffusers_layout.recognises(tmp_path / "missing.bin")
    run = evaluation(tmp_path, tmp_path / "own.safetensors")
    with pytest.raises(UserError, match=r"own\.safetensors does not fit this configuration"):
        load_weights(run, run.reverse())


def test_an_experiment_without_a_u_net_refuses_them(tmp_path: Path, folder: Path) -> None:
    run = helpers.configured(tmp_path, f"weights={folder}", verb="evaluate")
    with pytest.raises(UserError, match=f"this experiment has none; try {SIMPLE}"):
        load_weights(run, run.reverse())


SCHEDULER = {"_class_name": "DDPMScheduler", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, None),
        ({"clip_sample": True, "variance_type": "fixed_small"}, None),  # of sampling
        ({"trained_betas": torch.linspace(1e-4, 0.02, 1000).tolist()}, None),
        ({"prediction_type": "v_prediction"}, 'prediction_type = "v_prediction"; this experiment has "epsilon"'),
        ({"num_train_timesteps": 100}, "num_train_timesteps = 100; this experiment has 1000"),
        ({"beta_end": 0.012}, "other betas"),
        ({"beta_end": "a"}, "other betas"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "other betas"),
        ({"rescale_betas_zero_snr": True}, "other betas"),
    ],
)
def test_what_the_scheduler_says_is_heeded(tmp_path: Path, folder: Path, change, complaint: str | None) -> None:
    path = folder / ("../scheduler/scheduler_config.json" if len(change) == 1 else "scheduler_config.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(SCHEDULER | change))
    run = evaluation(tmp_path, folder)
    if complaint is None:
        load_weights(run, run.reverse())
    else:
        with pytest.raises(UserError, match=complaint):
            load_weights(run, run.reverse())


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, {"variant": "fp16"}])
@pytest.mark.parametrize("sharded", [{}, {"max_shard_size": "2MB"}])
@pytest.mark.parametrize("safe", [True, False])
def test_shards_and_variants_are_read_as_the_hub_serves_them(tmp_path: Path, variant, sharded, safe: bool) -> None:
    network, path = theirs(SMALL), tmp_path / "released"
    (network.half() if variant else network).save_pretrained(path, safe_serialization=safe, **variant, **sharded)
    check_equal(loaded(path), network.float(), 16)


def test_the_shards_of_an_index_are_read_and_a_missing_one_is_named(folder: Path) -> None:
    whole, weights = loaded(folder).state_dict(), folder / "diffusion_pytorch_model.safetensors"
    tensors = sorted(safetensors.torch.load_file(weights).items())
    shards = {"a.safetensors": dict(tensors[::2]), "b.safetensors": dict(tensors[1::2])}
    for name, part in shards.items():
        safetensors.torch.save_file(part, folder / name)
    index = {"weight_map": {key: name for name, part in shards.items() for key in part}}
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps(index))
    weights.unlink()
    assert all(torch.equal(value, whole[key]) for key, value in loaded(folder).state_dict().items())
    (folder / "b.safetensors").unlink()
    with pytest.raises(UserError, match=r"names b\.safetensors, which is not there"):
        loaded(folder)


@pytest.mark.slow
def test_evaluated_they_leave_a_record_about_the_papers_number(tmp_path: Path, folder: Path, monkeypatch) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (2200, 3, 32, 32), np.uint8)
    monkeypatch.setattr(files, "cifar10", lambda folder: (grey[:2100], grey[2100:]))
    for averaged, weights in ((True, "ema"), (False, "last")):
        record = evaluate(evaluation(tmp_path, folder, f"averaged={averaged}"))
        assert record.budget == {}
        (m,) = (m for m in record.measurements if m.quantity == "nll_bound")
        assert m.claim is not None
        claim = load_claims(helpers.ROOT / "conf/claims")[m.claim]
        assert (claim.id, claim.value) == ("ho_2020/table1/simple/nll", 3.75)
        assert (m.protocol["weights"], m.protocol["data"], m.facts["released"]) == (weights, "<lambda>", "released")
        named = {**m.recipe, "released": "ddpm-ema-cifar10-32"}  # the published folder, on the published images
        published = replace(m, protocol={**m.protocol, "data": "cifar10", "T": 1000}, n=10000, recipe=named)
        assert verdict(claim, [published]).word == ("differs" if averaged else "incomparable")
        assert verdict(claim, [m]).word == "incomparable"
    (path,) = tmp_path.glob("results/**/*.json")
    assert Record.load(path) == record
