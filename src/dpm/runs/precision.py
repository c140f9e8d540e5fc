"""`precision: auto`: bfloat16 where convolutions are faster in it on this machine, float32 elsewhere.

With AMX, or on a GPU, bfloat16 is up to twice as fast; on a processor that has no instructions for it, many times slower.
"""

import os
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpm.stored import read_json

AUTO = "auto"
MARGIN = 1.1  # by which bfloat16 has to be faster, so that a resumed sweep of many runs does not change its mind on a tie
REPETITIONS = 5


def settled(config: dict[str, Any], earlier: Path) -> dict[str, Any]:
    """The configuration with the precision that `auto` stands for: that of the run's earlier part, or the faster one.

    Only networks that are asked to compute in some precision have one; without them nothing is measured.
    """
    if used(config) != AUTO:
        return config
    known = read_json(earlier, "delete it: training writes it again").get("precision") if earlier.is_file() else None
    chosen = known if known in ("bfloat16", "float32") else fastest(torch.device(config["device"]).type)
    return {key: _with(chosen, value) for key, value in {**config, "precision": chosen}.items()}


def used(config: Mapping[str, Any]) -> str | None:
    """The precision that the networks of a configuration are asked for, None where no network is."""
    return next(_said(config["reverse"]), None)


def _said(node: Mapping[str, Any]) -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _said(value)
        elif key == "precision":
            yield str(value)


@cache
def fastest(device: str) -> str:
    """By a convolution of 64 channels forth and back, in turns, the least processor time of each; several processes agree on
    float32."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device != "cpu" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "float32"
    with torch.random.fork_rng(devices=[]):
        x = torch.randn(16, 64, 16, 16).contiguous(memory_format=torch.channels_last)
        layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    least = {False: float("inf"), True: float("inf")}
    for _ in range(REPETITIONS):
        for rounded in least:
            start = time.process_time()
            with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=rounded):
                layer(x).float().square().mean().backward()
            least[rounded] = min(least[rounded], time.process_time() - start)
    return "bfloat16" if MARGIN * least[True] < least[False] else "float32"


def _with(chosen: str, node: Any) -> Any:
    if isinstance(node, dict):
        return {key: chosen if (key, value) == ("precision", AUTO) else _with(chosen, value) for key, value in node.items()}
    return [_with(chosen, value) for value in node] if isinstance(node, list) else node
