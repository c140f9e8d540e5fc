"""While training: pictures at validations that change nothing and cost little, a bar that says where it is, what is next."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, configured, final_state, metrics
from PIL import Image

from dpm.data import files
from dpm.errors import UserError
from dpm.evaluators.preview import Preview
from dpm.runs import configs
from dpm.runs.train import in_bar, train

CHEAP = ["pictures.n=2", "pictures.steps=2"]  # 4 looks at the network; 0.1 x 3 x 8 x 2 = 4.8 are allowed
DEAR = ["pictures.n=3", "pictures.steps=2"]


def drawn(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "samples").glob("*"))


def test_pictures_are_drawn_at_validations_where_they_are_cheap_and_change_nothing(tmp_path: Path) -> None:
    runs = {
        name: configured(tmp_path / name, *TINY, *more)
        for name, more in {"cheap": CHEAP, "dear": DEAR, "none": ["pictures=null"]}.items()
    }
    for run in runs.values():
        train(run)
    assert drawn(runs["cheap"].folder) == ["step-000000002.png", "step-000000004.png"]
    assert drawn(runs["dear"].folder) == drawn(runs["none"].folder) == []
    states, rows = ([read(run.folder) for run in runs.values()] for read in (final_state, metrics))
    assert states[0] == states[1] == states[2]
    assert rows[0] == rows[1] == rows[2]
    assert len({run.folder.relative_to(tmp_path / name) for name, run in runs.items()}) == 1  # how it is run
    assert len({configs.digest(run.config) for run in runs.values()}) == 1


def test_a_picture_of_images_shows_grey_levels_of_the_averaged_network(tmp_path: Path, monkeypatch) -> None:
    digits = np.random.default_rng(0).integers(0, 256, (10100, 1, 28, 28), np.uint8)
    monkeypatch.setattr(files, "mnist", lambda folder: (digits[:10050], digits[10050:]))
    line = [
        "T=10",
        "pictures={n: 3, steps: 2}",
        "reverse.network.network.network.ch=32",
        "precision=float32",
        "training.batch_size=16",
        "training.steps=2",
    ]
    run = configured(tmp_path, *line, "training.validate_every=2", "validation_examples=16", experiment="ho_2020/mnist")
    train(run)
    (path,) = (run.folder / "samples").glob("*.png")
    with Image.open(path) as picture:
        assert picture.mode == "L"
    preview, data, reverse = configs.build(run.config, "pictures"), run.data(), run.reverse()
    samples = preview(reverse.eval(), data, data.validation(2), 0).arrays["samples"]
    assert (samples.shape, samples.dtype) == ((3, 1, 28, 28), np.uint8)
    np.testing.assert_array_equal(samples, preview(reverse, data, data.validation(2), 0).arrays["samples"])


def test_a_preview_draws_by_the_sampler_that_it_is_given() -> None:
    reverse = configured(Path("unused")).reverse()
    preview = Preview(5, 7, lambda reverse, x_T, steps: torch.full_like(x_T, float(steps)))
    samples = preview(reverse, object(), torch.zeros(2, 2, dtype=torch.float64), 0).arrays["samples"]
    np.testing.assert_array_equal(samples, np.full((5, 2), 7.0))
    assert preview.looks == 35
    with pytest.raises(UserError, match="one sample and one step"):
        Preview(0, 7)


def test_the_bar_says_loss_and_bound() -> None:
    row = {"quantity": "nll_bound", "value": 3.14159, "stderr": 0.1, "unit": "bits/dim"}
    assert in_bar(1234.56, {}) == "loss 1235 nats"
    assert in_bar(1234.56, row) == "loss 1235 nats, nll_bound 3.142 bits/dim"


def test_training_ends_with_its_folder_and_the_command_that_evaluates_it(command, tmp_path: Path) -> None:
    result = command("train", *TINY, "evaluators.bound.claims={}")
    folder, following = result.out.splitlines()[-2:]
    run = configured(tmp_path, *TINY)
    assert folder == f"{run.folder}: trained"
    python, script, *overrides = shlex.split(following.removeprefix("next: "))
    assert (python, script) == ("python", "experiments/evaluate.py")
    evaluated = command("evaluate", *overrides)
    assert (evaluated.status, evaluated.err) == (0, "")
    assert f"(weights: {run.folder})" in evaluated.out
