"""Released weights in the layout of diffusers' UNet2DModel, as google/ddpm-cifar10-32 and -ema-cifar10-32 are published.

Both networks are the release's, block for block, so that weights only change their names, and those of the attention
their shape: a linear layer over channels is a convolution of size 1. Times differ by one (t = 1..T here, 0..T-1 there),
and our network subtracts it. What the weights do not show (padding, epsilon, the embedding of t) is in config.json.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dpm.errors import UserError
from dpm.networks.unet import EPSILON, GROUPS, Attention, Downsample, Residual, UNet, Upsample
from dpm.stored import read_json

AGAIN = "download it again"
WEIGHTS = (  # as the hub serves them; an index names the shards
    *("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    *("diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.bin.index.json"),
    *("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.fp16.bin"),
    *("diffusion_pytorch_model.safetensors.index.fp16.json", "diffusion_pytorch_model.bin.index.fp16.json"),
)
CONVENTIONS: Mapping[str, tuple[Any, Any]] = {  # key of config.json: (what our U-Net does, what diffusers does without the key)
    "_class_name": ("UNet2DModel", None),
    "act_fn": ("silu", "silu"),
    "add_attention": (True, True),
    "attention_head_dim": (None, 8),  # None is one head
    "attn_norm_num_groups": (None, None),
    "center_input_sample": (False, False),
    "class_embed_type": (None, None),
    "downsample_padding": (0, 1),  # 0 stands for one row and column below and on the right
    "downsample_type": ("conv", "conv"),
    "flip_sin_to_cos": (False, True),
    "freq_shift": (1, 0),
    "mid_block_scale_factor": (1, 1),
    "norm_eps": (EPSILON, 1e-5),
    "norm_num_groups": (GROUPS, 32),
    "resnet_time_scale_shift": ("default", "default"),
    "time_embedding_type": ("positional", "positional"),
    "upsample_type": ("conv", "conv"),
}
ENDS = {
    "time.0": "time_embedding.linear_1",
    "time.2": "time_embedding.linear_2",
    "input": "conv_in",
    "output.0": "conv_norm_out",
    "output.2": "conv_out",
}
PARTS: Mapping[type[nn.Module], str] = {
    Residual: "resnets",
    Attention: "attentions",
    Downsample: "downsamplers",
    Upsample: "upsamplers",
}
LAYERS = {
    "resnets": {
        "first.0": "norm1",
        "first.2": "conv1",
        "times.1": "time_emb_proj",
        "second.0": "norm2",
        "second.3": "conv2",
        "shortcut": "conv_shortcut",
    },
    "downsamplers": {"conv": "conv"},
    "upsamplers": {"conv": "conv"},
}
OUR_ATTENTION = ("norm", "qkv.0", "qkv.1", "qkv.2", "project")
ATTENTION = ("group_norm", "to_q", "to_k", "to_v", "to_out.0")
PUBLISHED_ATTENTION = ("group_norm", "query", "key", "value", "proj_attn")  # as the released files of 2022 have it


def recognises(path: Path) -> bool:
    """Whether `path` is in this layout: a folder, a file .bin, or a file .safetensors with the keys of a UNet2DModel."""
    if not path.is_file() or path.suffix != ".safetensors":
        return path.is_dir() or (path.is_file() and path.suffix == ".bin")
    try:
        with safetensors.safe_open(path, "pt") as file:
            return any(key.startswith("down_blocks.") for key in file.keys())  # noqa: SIM118 (no mapping)
    except safetensors.SafetensorError:
        return False


def load_into(module: nn.Module, path: Path) -> None:
    """Give the one U-Net in `module` the weights at `path` (see `load`); all else in `module` stays as it is.

    Raises UserError if there is no such U-Net, or the weights are those of another architecture.
    """
    networks = [m for m in module.modules() if isinstance(m, UNet)]
    if len(networks) != 1:
        raise UserError(f"{path} holds the weights of a U-Net, and this experiment has none; try ho_2020/cifar10_simple")
    state = load(path)
    try:
        networks[0].load_state_dict(mapped(state, networks[0]))
    except UserError as error:
        raise UserError(f"{path} does not fit this configuration: {error}") from error


def load(path: Path) -> dict[str, Tensor]:
    """The state_dict of the UNet2DModel at `path`, under its own names.

    `path` is a folder with config.json and the weights, a folder with such a folder unet/ in it, or the file of weights,
    where a config.json beside it is heeded. Raises UserError if something is missing, damaged, or another network's.
    """
    weights, config = located(path)
    if config.is_file():
        refuse_other_conventions(config)
    return {key: tensor for file in shards(weights) for key, tensor in tensors(file).items()}


def located(path: Path) -> tuple[Path, Path]:
    """(the file of weights, config.json); the second need not exist where the first is given itself."""
    if path.is_file():
        return path, path.with_name("config.json")
    for folder in (path, path / "unet"):
        for weights in (folder / name for name in WEIGHTS):
            if weights.is_file() and (folder / "config.json").is_file():
                return weights, folder / "config.json"
    raise UserError(f"no weights: neither {path} nor its folder unet/ holds config.json and {' or '.join(WEIGHTS[:2])}")


def shards(path: Path) -> list[Path]:
    """The files that hold the weights: of an index those that it names, in their order, else the file itself."""
    if path.suffix != ".json":
        return [path]
    names = sorted({Path(str(name)).name for name in read_json(path, AGAIN, weight_map=dict)["weight_map"].values()})
    files = [path.with_name(name) for name in names]
    for file in files:
        if not file.is_file():
            raise UserError(f"{path} names {file.name}, which is not there; {AGAIN}")
    return files


def refuse_other_conventions(path: Path) -> None:
    """Raise UserError if config.json describes a network that computes something else than ours with the same weights."""
    config = read_json(path, AGAIN)
    for key, (ours, default) in CONVENTIONS.items():
        theirs = config.get(key, default)
        if theirs != ours:
            stated = "" if key in config else ", the default of diffusers"
            raise UserError(f"{path}: {key} = {json.dumps(theirs)}{stated}; our U-Net computes {key} = {json.dumps(ours)}")


def tensors(path: Path) -> dict[str, Tensor]:
    """What a file of weights holds; a pickle (.bin) is read without running anything that is in it."""
    try:
        pickled = path.suffix != ".safetensors"
        state = torch.load(path, "cpu", weights_only=True) if pickled else safetensors.torch.load_file(path)
    except Exception as error:  # a damaged pickle fails in as many ways as there are
        raise UserError(f"{path} is no whole file of weights: {(str(error) or repr(error)).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(f"{path} is no file of weights: it holds more than named tensors")
    return state


def mapped(theirs: Mapping[str, Tensor], network: UNet) -> dict[str, Tensor]:
    """The state_dict of `network` made of that of a UNet2DModel of the same architecture.

    Raises UserError with the first key that is missing, too many, or of another shape.
    """
    ours, published = network.state_dict(), any(".query." in key for key in theirs)
    names = keys(network, PUBLISHED_ATTENTION if published else ATTENTION)
    for key in (name for name in names.values() if name not in theirs):
        raise UserError(f"there is no {key} in it")
    for key in sorted(theirs.keys() - set(names.values())):
        raise UserError(f"{key} has no place in this network")
    for key, value in ours.items():
        given, shape = theirs[names[key]].shape, value.shape[:2] if ".attentions." in names[key] else value.shape
        if given != shape:
            raise UserError(f"{names[key]} has the shape {tuple(given)}, not {tuple(shape)}")
    return {key: theirs[names[key]].reshape(value.shape) for key, value in ours.items()}


def keys(network: UNet, attention: Sequence[str]) -> dict[str, str]:
    """Our weights and biases -> theirs, of which the parts of an attention are called `attention`."""
    layers = {**ENDS, **dict(inner_layers(network, {**LAYERS, "attentions": dict(zip(OUR_ATTENTION, attention, strict=True))}))}
    parts = {key: key.rpartition(".") for key in network.state_dict()}
    return {key: f"{layers[layer]}.{kind}" for key, (layer, _, kind) in parts.items()}


def inner_layers(network: UNet, names: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """(our layer, theirs) by the `names` within each kind of part. They count the parts of a kind in a block, we all parts."""
    count = Counter[str]()
    for ours, block, module in modules(network):
        kind = PARTS[type(module)]
        part = f"{block}.{kind}"
        yield from ((f"{ours}.{layer}", f"{part}.{count[part]}.{name}") for layer, name in names[kind].items())
        count[part] += 1


def modules(network: UNet) -> Iterator[tuple[str, str, nn.Module]]:
    """(our name, the block of theirs, the module); a block of theirs is a level and ends with the change of resolution."""
    for ours, stages in (("down", network.down), ("up", network.up)):
        level = 0
        for i, stage in stages.named_children():
            for j, module in stage.named_children():
                yield f"{ours}.{i}.{j}", f"{ours}_blocks.{level}", module
                level += isinstance(module, Downsample | Upsample)
    for j, module in network.middle.named_children():
        yield f"middle.{j}", "mid_block", module
