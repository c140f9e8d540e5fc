"""`precision: auto` is settled once for a run, by its earlier part or by a measurement."""

import json
from pathlib import Path

import pytest
import torch
from helpers import configured

from dpm.runs import precision

IMAGES = {"experiment": "ho_2020/mnist"}


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured next; taken from the end."""
    left = ["float32", "bfloat16"]
    monkeypatch.setattr(precision, "fastest", lambda device: left.pop())
    return left


def test_what_is_measured_is_written_wherever_the_network_looks(tmp_path: Path, choices: list[str]) -> None:
    run = configured(tmp_path, **IMAGES)
    assert run.config["precision"] == run.config["reverse"]["network"]["precision"] == "bfloat16"
    assert run.reverse().network.precision is torch.bfloat16


def test_a_run_that_goes_on_keeps_its_precision(tmp_path: Path, choices: list[str]) -> None:
    first = configured(tmp_path, **IMAGES)
    first.folder.mkdir(parents=True)
    (first.folder / "config.json").write_text(json.dumps(first.config))
    assert configured(tmp_path, **IMAGES).config["precision"] == "bfloat16"
    assert configured(tmp_path, **IMAGES, verb="evaluate").config["reverse"]["network"]["precision"] == "bfloat16"
    assert choices == ["float32"]


def test_what_is_given_is_not_measured(tmp_path: Path, choices: list[str]) -> None:
    assert configured(tmp_path, "precision=float32", **IMAGES).config["reverse"]["network"]["precision"] == "float32"
    assert configured(tmp_path).config["precision"] == "auto"  # points: no network that computes in another precision
    assert len(choices) == 2


def test_a_measurement_is_one_of_the_two_and_leaves_random_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    precision.fastest.cache_clear()
    assert precision.fastest("cpu") in ("bfloat16", "float32")
    assert torch.equal(torch.rand(1), expected)
    precision.fastest.cache_clear()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert precision.fastest("cpu") == "float32"
    assert precision.fastest("mps") == "float32"
    precision.fastest.cache_clear()
