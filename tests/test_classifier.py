"""The classifier of digits: what it learns, that it is what was shipped, and that its scores are the formulas of FID and IS."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
import safetensors.torch
import torch
from test_parzen import MEAN, STD, Exact, Grey, T
from torch import Tensor

from dpm.data import files
from dpm.data.images import DiscreteImages
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.evaluators import classifier as evaluators
from dpm.evaluators.classifier import ClassifierScore, ClassifierScores
from dpm.evaluators.features import determined, fitted, frechet, inception_score, of_images_alone
from dpm.evaluators.parzen import draws
from dpm.evaluators.samples import levels
from dpm.networks import classifier
from dpm.networks.classifier import Classifier, correct, fit, load
from dpm.runs import configs
from dpm.runs.weights import rounded
from dpm.study.records import Measurement, Record, sha256, standard_error


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten patterns of bright squares under noise, and which of them it is."""
    patterns = np.random.default_rng(100).integers(0, 2, (10, 1, 7, 7)).repeat(4, 2).repeat(4, 3) * 150
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n).astype(np.uint8)
    return (patterns[labels] + rng.integers(0, 100, (n, 1, 28, 28))).astype(np.uint8), labels


def trained(steps: int, seed: int = 0, batch_size: int = 32) -> tuple[Classifier, list[float]]:
    torch.manual_seed(seed)
    model = Classifier()
    return model, list(fit(model, *digits(500, 1), steps, batch_size, 2e-3, seed))


# --- the network -------------------------------------------------------------------------------------------------------------


def test_logits_are_linear_in_the_features_and_an_image_is_judged_alone() -> None:
    model, images = Classifier().eval(), torch.tensor(digits(9, 0)[0])
    features, logits = model(images)
    assert (features.shape, logits.shape) == ((9, classifier.FEATURES), (9, 10))
    assert (features >= 0).all()
    torch.testing.assert_close(logits, features @ model.classes.weight.T + model.classes.bias)
    assert of_images_alone(model, images) == classifier.FEATURES


def test_grey_levels_are_scaled_to_minus_one_to_one() -> None:
    seen: list[Tensor] = []
    model = Classifier()
    model.features[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 28, 28))
    assert seen[0].amin((1, 2, 3)).tolist() == seen[0].amax((1, 2, 3)).tolist() == [-1, 1]


def test_it_learns_what_can_be_told_apart_and_nothing_from_labels_by_chance() -> None:
    images, labels = digits(400, 2)
    model, losses = trained(40, batch_size=16)
    assert np.mean(losses[-5:]) < 0.1 < np.log(10) - 0.5 < losses[0]
    assert correct(model, images, labels).mean() > 0.98
    shuffled = np.random.default_rng(3).permutation(labels)
    assert correct(model, images, shuffled).mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 400))


def test_training_is_a_function_of_the_seed() -> None:
    (one, losses), (other, same), (_, different) = (trained(3, seed, 8) for seed in (0, 0, 1))
    assert losses == same != different
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_rate_falls_to_zero() -> None:
    model = Classifier()
    before = None
    for _ in fit(model, *digits(20, 0), 50, 4, 1e-2, 0):
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        moved, before = None if before is None else float((after - before).abs().max()), after.clone()
    assert moved is not None
    assert moved < 1e-4  # of 1e-2 at the start


def test_correct_counts_images() -> None:
    images, labels = digits(25, 0)
    model = Classifier()
    with torch.no_grad():
        model.classes.weight.zero_()
        model.classes.bias.copy_(torch.eye(10)[3])  # always a three
    assert correct(model, images, labels, batch_size=7).tolist() == (labels == 3).astype(float).tolist()


def test_what_cannot_be_trained_is_refused() -> None:
    for wrong in ({"steps": 0}, {"batch_size": 0}, {"rate": 0.0}):
        with pytest.raises(UserError, match=f"got .*{next(iter(wrong))}=0"):
            next(fit(Classifier(), *digits(4, 0), **{"steps": 1, "batch_size": 1, "rate": 1.0, "seed": 0, **wrong}))


def test_weights_are_small_and_what_is_missing_or_wrong_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no classifier at .*python experiments/classifier\.py") as missing:
        load(tmp_path / "nowhere.safetensors")
    path, model = tmp_path / "weights.safetensors", Classifier()
    path.write_bytes(safetensors.torch.save(rounded(model, "float16")))
    assert path.stat().st_size < 1e6
    images = torch.tensor(digits(5, 0)[0])
    assert all(torch.equal(a, b) for a, b in zip(model(images), load(path)(images), strict=True))
    for content in (b"nothing", safetensors.torch.save({"weight": torch.zeros(3)})):
        path.write_bytes(content)
        with pytest.raises(UserError, match="holds no classifier of digits") as wrong:
            load(path)
        assert "\n" not in str(wrong.value) + str(missing.value)


# --- its scores --------------------------------------------------------------------------------------------------------------


def means(images: Tensor) -> tuple[Tensor, Tensor]:
    """Four features, the means of quarters, and three logits."""
    quarters = images.float().unfold(2, 14, 14).unfold(3, 14, 14).mean((1, 4, 5)).flatten(1)
    return quarters, quarters[:, :3]


def test_a_score_is_the_formula_with_other_features_under_its_own_name() -> None:
    train, test, images = (digits(n, seed)[0] for n, seed in ((600, 1), (300, 2), (200, 3)))
    score = ClassifierScore(means, train, test, 200)
    to_train, to_test, classes = score(torch.tensor(images))
    features, logits = means(torch.tensor(images))
    for m, real in ((to_train, train), (to_test, test)):
        expected = frechet(fitted([features]), fitted([means(torch.tensor(real))[0]]))
        assert m.value == pytest.approx(expected, rel=1e-5)
    assert classes.value == pytest.approx(inception_score(logits, 1)[0], rel=1e-9)
    assert [m.protocol.get("statistics") for m in (to_train, to_test, classes)] == ["train", "test", None]
    assert all(m.protocol["features"] == "mnist_classifier" and m.n == 200 for m in (to_train, to_test, classes))
    names = ["classifier_frechet_distance"] * 2 + ["classifier_score"]
    assert [m.quantity for m in (to_train, to_test, classes)] == names
    assert score(torch.tensor(train))[0].value == pytest.approx(0, abs=1e-6 * score.real.references["train"].square)


def test_the_errors_are_those_of_repetitions() -> None:
    score = ClassifierScore(lambda x: tuple(y / 10 for y in means(x)), digits(2000, 1)[0] // 2, digits(300, 2)[0], 100)
    found = [score(torch.tensor(digits(100, 10 + k)[0])) for k in range(40)]
    for rows in zip(*found, strict=True):
        spread = np.std([m.value for m in rows], ddof=1)
        assert np.mean([m.stderr for m in rows]) == pytest.approx(spread, rel=0.35), rows[0].quantity


def test_nothing_is_scored_before_the_calibration() -> None:
    with pytest.raises(UserError, match="images are few for 4"):
        ClassifierScore(means, digits(20, 1)[0], digits(20, 2)[0], 10)
    with pytest.raises(UserError, match="depend on the batch"):
        ClassifierScore(lambda x: tuple(y - y.mean(0) for y in means(x)), digits(99, 1)[0], digits(20, 2)[0], 10)
    with pytest.raises(UserError, match="4 images do not determine"):
        ClassifierScore(means, digits(99, 1)[0], digits(99, 2)[0], 4)
    with pytest.raises(UserError):
        determined(classifier.FEATURES, classifier.FEATURES)


# --- scores of samples -------------------------------------------------------------------------------------------------------


def gaussian_images(n: int, seed: int) -> np.ndarray:
    return (MEAN + STD * np.random.default_rng(seed).standard_normal((n, 1, 1, 2))).round().clip(0, 255).astype(np.uint8)


class Waves:
    """Sines and cosines of both pixels as features, and two logits."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.float().flatten(1) / 30
        return torch.cat([wave(k * x) for k in (1, 2, 3) for wave in (torch.sin, torch.cos)], 1), x


@pytest.fixture
def perfect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Exact, Grey, ClassifierScores]:
    """An exact reverse process of Gaussian images, their data, and the evaluator with another network in its place."""
    (tmp_path / "weights").write_bytes(b"weights")
    monkeypatch.setattr(evaluators, "load", lambda path: Waves())
    data = Grey(*(gaussian_images(n, seed) for n, seed in ((4000, 0), (100, 1), (3000, 2))))
    return Exact(Stationary()), data, ClassifierScores(1000, T, 300, str(tmp_path / "weights"))


def select(rows: tuple[Measurement, ...], **wanted: Any) -> Measurement:
    (found,) = [m for m in rows if wanted.items() <= {"quantity": m.quantity, **m.protocol}.items()]
    return found


def test_samples_of_a_perfect_model_are_as_far_as_test_images(perfect: Any) -> None:
    reverse, data, evaluator = perfect
    x_0 = torch.zeros(3, 1, 1, 2, dtype=torch.float64)
    rows = evaluator(reverse, data, x_0, 0).measurements
    samples = levels(torch.cat([data.grey(x) for x in draws(reverse, x_0[:1].float(), 1000, T, 300, 0)]))
    reference = fitted([Waves()(torch.tensor(data.train))[0]])
    model = select(rows, quantity="classifier_frechet_distance", source="model", statistics="train")
    real = select(rows, quantity="classifier_frechet_distance", source="test_images", statistics="train")
    assert model.value == pytest.approx(frechet(fitted([Waves()(torch.tensor(samples))[0]]), reference), rel=1e-4)
    assert model.n == real.n == 1000
    assert abs(model.value - real.value) < 5 * (model.stderr + real.stderr)
    assert len(rows) == 5
    assert all(m.protocol["classifier_sha256"] == sha256(b"weights")[:8] for m in rows)
    about = {"sampler": "ancestral", "sampling_steps": T, "last_step": "drawn"}
    assert all((about.items() <= m.protocol.items()) == (m.protocol["source"] == "model") for m in rows)


def test_test_images_are_drawn_from_all_of_them(perfect: Any) -> None:
    """The first ones differ from the others: a sample of all is off by a share of that, which the first alone are not."""
    reverse, data, evaluator = perfect
    split = np.concatenate([gaussian_images(1000, 3) // 2, data.test[1000:]])
    rows = evaluator(reverse, Grey(data.train, data.kept, split), torch.zeros(1, 1, 1, 2), 0).measurements
    real = select(rows, quantity="classifier_frechet_distance", source="test_images")
    whole, first = (
        frechet(fitted([Waves()(torch.tensor(part))[0]]), fitted([Waves()(torch.tensor(data.train))[0]]))
        for part in (split, split[:1000])
    )
    assert real.value == pytest.approx(whole, rel=0.3)
    assert first > 4 * whole


def test_samples_of_another_distribution_are_farther(perfect: Any) -> None:
    reverse, data, evaluator = perfect

    class Brighter(Grey):
        def grey(self, x: Tensor) -> Tensor:
            return super().grey(x) + 20

    rows = evaluator(reverse, Brighter(data.train, data.kept, data.test), torch.zeros(1, 1, 1, 2), 0).measurements
    of = {"quantity": "classifier_frechet_distance", "statistics": "train"}
    assert select(rows, source="model", **of).value > 5 * select(rows, source="test_images", **of).value


def test_without_images_to_score_nothing_is_needed(tmp_path: Path) -> None:
    evaluator = ClassifierScores(0, 4, 5, str(tmp_path / "nowhere"))
    assert evaluator(Exact(Stationary()), None, torch.zeros(1, 1, 1, 2), 0).measurements == ()
    with pytest.raises(UserError, match="no classifier at"):
        ClassifierScores(1, 4, 5, str(tmp_path / "nowhere"))
    for wrong in ({"n": -1}, {"steps": 0}, {"batch_size": 0}):
        with pytest.raises(UserError, match="n from 0"):
            ClassifierScores(**{"n": 1, "steps": 1, "batch_size": 1, "weights": "", **wrong})


# --- the entrypoint and what reads its file -----------------------------------------------------------------------------------


def test_the_entrypoint_writes_what_the_experiment_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy and weights are of the same, rounded network; the experiment finds them, and says what to run without them."""
    images, labels = digits(10_300, 5)
    monkeypatch.setattr(files, "mnist", lambda folder: (images[:10_200], images[10_200:]))
    monkeypatch.setattr(files, "mnist_labels", lambda folder: (labels[:10_200], labels[10_200:]))
    run = helpers.configured(tmp_path, "tier=laptop", experiment="ho_2020/mnist_samples", verb="evaluate")
    with pytest.raises(UserError, match=r"no classifier at .*: train it first by `python experiments/classifier\.py`") as error:
        configs.build(run.config, "evaluators")
    assert "\n" not in str(error.value)
    settings = ["--steps=20", "--batch-size=32", "--threads=1", f"--results={run.config['results']}"]
    monkeypatch.setattr(sys, "argv", ["experiments/classifier.py", *settings])
    runpy.run_path(str(helpers.ROOT / "experiments" / "classifier.py"), run_name="__main__")
    path = Path(run.config["results"], "ho_2020", "mnist_classifier", "seed0.json")
    record, model = Record.load(path), load(path.with_suffix(".safetensors"))
    (test,) = record.measurements
    right = correct(model, images[10_200:], labels[10_200:])
    assert (test.quantity, test.value, test.stderr, test.n) == ("accuracy", right.mean(), standard_error(right), 100)
    assert record.provenance["weights_sha256"] == sha256(path.with_suffix(".safetensors").read_bytes())
    assert {"steps": 20, "examples": 640, "device": "cpu"}.items() <= record.budget.items()
    assert json.loads(path.read_text())["experiment"] == "ho_2020/mnist_classifier"
    assert isinstance(configs.build(run.config, "evaluators")["classifier"].evaluator.network, Classifier)


def test_it_is_trained_on_what_the_diffusion_model_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(10_004, dtype=np.int64).astype(np.uint8)[:, None, None, None].repeat(28, 2).repeat(28, 3)
    monkeypatch.setattr(files, "mnist", lambda folder: (images, images[:5]))
    monkeypatch.setattr(files, "mnist_labels", lambda folder: (np.arange(10_004), np.arange(5)))
    module = runpy.run_path(str(helpers.ROOT / "experiments" / "classifier.py"))
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    monkeypatch.setitem(module["train"].__globals__, "fit", lambda model, *rest: seen.append(rest[:2]) or iter(()))
    settings = {"seed": 0, "steps": 1, "batch_size": 1, "rate": 1.0, "threads": 1}
    module["train"](type("Settings", (), settings)())
    data = DiscreteImages(files.mnist, 10_000, False)
    ((trained_on, labels),) = seen
    assert np.array_equal(trained_on, data.train)
    assert labels.tolist() == [0, 1, 2, 3]
