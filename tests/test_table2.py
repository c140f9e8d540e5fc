"""Table 2 of 2020: its six cells differ in what the table varies, train on the release's scale, and are drawn as measured."""

import math
from pathlib import Path

import helpers
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.distributions import Distribution

from dpm.bound import decoder_edges
from dpm.data import files
from dpm.data.images import DiscreteImages
from dpm.decoders import Discretized
from dpm.errors import UserError
from dpm.evaluators.features import PatchDistance, patches
from dpm.evaluators.patches import SampleDistance, of_real_images
from dpm.figures import table2
from dpm.figures.images import row_by_row, tile
from dpm.objectives.mean_term import MeanTerm
from dpm.objectives.one_term import OneTerm
from dpm.predictions.papers import Epsilon
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse.gaussian import GaussianReverse
from dpm.runs import configs
from dpm.runs.evaluate import evaluate
from dpm.runs.folder import Run
from dpm.runs.train import train
from dpm.schedules import linear
from dpm.study.records import Record
from dpm.variances import FixedLarge

EXPERIMENT = "ho_2020/table2"
CELLS = sorted(yaml.safe_load((helpers.ROOT / "conf" / "experiment" / f"{EXPERIMENT}.yaml").read_text())["cells"])
TINY = ["training={steps:2,batch_size:4,log_every:1,validate_every:2}", "validation_examples=20", "examples=20"]
VARIED = {
    "reverse.prediction._target_": ("mean", "epsilon"),
    "objective._target_": ("bound", "simple"),
    "reverse.variance._target_": ("learned", "fixed"),
    "reverse.network.network.network.out_channels": ("learned", "fixed"),
}


def configured(root: Path, cell: str, *overrides: str, verb: str = "train") -> Run:
    return helpers.configured(root, f"cell={cell}", *overrides, experiment=EXPERIMENT, verb=verb)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Random images in place of CIFAR-10."""
    grey = np.random.default_rng(0).integers(0, 256, (2080, 3, 32, 32), np.uint8)
    monkeypatch.setattr(files, "cifar10", lambda folder: (grey[:2040], grey[2040:]))
    return grey


# --- the cells -----------------------------------------------------------------------------------------------------------


def test_the_cells_differ_in_what_the_table_varies_and_in_nothing_else(tmp_path: Path):
    """Two cells have the same value of a key if and only if their names agree in the word that stands for it."""
    assert len(CELLS) == 6
    plain = {cell: configured(tmp_path, cell, "tier=laptop").config for cell in CELLS}
    for one in CELLS:
        for other in CELLS:
            changed = {line.split(":")[0] for line in configs.differences(plain[one], plain[other])}
            words = [{*name.split("_"), *(["fixed"] if name.endswith("simple") else [])} for name in (one, other)]
            assert changed == {key for key, choice in VARIED.items() if (words[0] ^ words[1]) & set(choice)}, (one, other)


@pytest.mark.parametrize("cell", CELLS)
def test_at_the_paper_tier_the_network_is_the_released_one(tmp_path: Path, cell: str):
    """35,746,307 parameters, and for a learned variance the weights and biases of three outputs more."""
    with torch.device("meta"):
        network = configs.build(configured(tmp_path, cell, "tier=paper").config["reverse"], "network")
    learned = cell.endswith("learned")
    assert sum(p.numel() for p in network.parameters()) == 35_746_307 + learned * 3 * (128 * 9 + 1)


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_starts_as_the_release_does(tmp_path: Path, images: np.ndarray, cell: str):
    """A network whose output is zero: mu-tilde = 0 or eps = 0, and a variance of 1 if it is learned, beta_t if it is not."""
    reverse = configured(tmp_path, cell).reverse()
    x_t, t = torch.randn(2, 3, 32, 32), torch.tensor([3, 900])
    p, step = reverse(x_t, t - 1, t), reverse.process.step(t - 1, t)
    mean = torch.zeros_like(x_t) if cell.startswith("mean") else x_t / per_example(step.alpha, x_t)
    variance = torch.ones_like(x_t) if cell.endswith("learned") else per_example(step.variance, x_t).expand_as(x_t)
    torch.testing.assert_close(p.mean, mean, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(p.variance, variance, rtol=1e-3, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_trains_and_leaves_a_record_of_bound_and_quality(tmp_path: Path, images: np.ndarray, cell: str):
    train(configured(tmp_path, cell, *TINY))
    verb = configured(tmp_path, cell, *TINY, verb="evaluate")
    record = evaluate(verb)
    assert record == Record.load(verb.record)
    assert verb.record.parent.relative_to(tmp_path / "results").as_posix().startswith(f"{EXPERIMENT}/cell={cell},")
    found = {(m.quantity, m.protocol.get("source")): m for m in record.measurements}
    bound, distance = found["nll_bound", None], found["patch_distance", "samples"]
    assert np.isfinite([bound.value, bound.stderr, distance.value, distance.stderr]).all()
    assert bound.facts["prediction"] == cell.split("_")[0].title()
    assert bound.protocol["clip_x_0"] is cell.startswith("epsilon")
    assert found["patch_distance", "test_images"].n == distance.n
    with np.load(verb.record.with_suffix(".npz")) as arrays:
        assert arrays["samples"].shape == (4, 3, 32, 32)


# --- L on the release's scale --------------------------------------------------------------------------------------------


class KnowsData(nn.Module):
    """The noise of x_t for data that are `value` everywhere, missed by `delta`."""

    def __init__(self, process: GaussianDiffusion, value: float, delta: float) -> None:
        super().__init__()
        self.process, self.value, self.delta = process, value, delta

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return Epsilon().target(self.process, torch.full_like(x_t, self.value), x_t, t) + self.delta


@pytest.fixture
def known() -> GaussianReverse:
    process = GaussianDiffusion(linear(T=5, beta_1=1e-3, beta_T=0.2))
    return GaussianReverse(process, KnowsData(process, 0.2, 0.3), Epsilon(), FixedLarge(), Discretized())


def test_the_mean_term_is_equation_12_in_bits_per_dimension(known: GaussianReverse):
    """w_t delta^2, w_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)), sigma_t^2 = beta_t, and what beta-tilde costs."""
    x_0, t = torch.full((5, 2, 3, 3), 0.2), torch.arange(1, 6)
    step, (_, sigma) = known.process.step(t - 1, t), known.process.schedule(t)
    ratio = step.posterior_variance / step.variance
    nats = (ratio - 1 - ratio.log()) / 2 + step.variance / (2 * step.alpha**2 * sigma**2) * 0.3**2
    bits = MeanTerm()(known, x_0)  # as many examples as terms: each t once, in order
    torch.testing.assert_close(bits[1:].double(), nats[1:] / math.log(2), rtol=1e-4, atol=1e-6)


def test_the_mean_term_is_the_bound_without_its_prior_over_T_and_D(known: GaussianReverse):
    x_0 = 2 * torch.rand(7, 2, 3, 3) - 1
    torch.manual_seed(1)
    mean_term = MeanTerm()(known, x_0)
    torch.manual_seed(1)
    bound = OneTerm(decoder_edges)(known, x_0) - decoder_edges.prior(known, x_0)
    torch.testing.assert_close(mean_term * (5 * 18 * math.log(2)), bound)


# --- the distance of samples ---------------------------------------------------------------------------------------------


class Always:
    """A reverse process that ends at one image, whatever it comes from."""

    def __init__(self, image: Tensor) -> None:
        self.process, self.image = GaussianDiffusion(linear(T=4, beta_1=1e-3, beta_T=0.2)), image

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        return normal(self.image.expand_as(x_t), torch.ones(()))


def test_equal_samples_are_as_far_as_the_closed_form_says(images: np.ndarray):
    """d^2 = E |patch - c|^2 over training patches where all samples are the constant image c: their covariance is 0."""
    data = DiscreteImages(files.cifar10, 2000, flip=False)
    evaluator = SampleDistance(n=5, steps=3, side=8, sets=4, shown=3)
    evaluation = evaluator(Always(torch.full((3, 32, 32), 0.6)), data, data.held_out(40), 0)
    samples, real = evaluation.measurements
    level = 204  # 127.5 * 1.6
    square = (data.train.astype(float) - level) ** 2
    patch_means = patches(torch.tensor(data.train), 8).flatten(0, 1)
    unbiased = len(patch_means) / (len(patch_means) - 1)  # of the covariance
    mean = float((patch_means.mean(0) - level).square().mean())
    assert samples.value == pytest.approx(math.sqrt(mean + (square.mean() - mean) * unbiased), rel=1e-9)
    assert samples.stderr == pytest.approx(0, abs=1e-9)
    assert (evaluation.arrays["samples"] == level).all()
    assert evaluation.arrays["samples"].shape == (3, 3, 32, 32)
    assert (samples.protocol["source"], samples.n, real.protocol["source"], real.n) == ("samples", 5, "test_images", 5)
    assert real.protocol["sets"] == 4


def test_real_images_are_compared_in_disjoint_sets(images: np.ndarray):
    distance = PatchDistance(images[:100], 8, 2)
    values = [distance(torch.tensor(images[k : k + 30]))[0].value for k in (100, 130, 160)]
    row = of_real_images(distance, images[100:200], 30)
    assert row.value == pytest.approx(np.mean(values))
    assert row.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))
    assert (row.n, row.protocol["sets"], row.unit) == (30, 3, "grey levels")
    with pytest.raises(UserError, match="two sets of 60 real images, there are 100"):
        of_real_images(distance, images[100:200], 60)


@pytest.mark.parametrize("settings", [{"n": 1}, {"sets": 1}])
def test_a_distance_without_an_error_is_refused(settings: dict[str, int]):
    with pytest.raises(UserError, match="at least"):
        SampleDistance(**{"n": 4, "steps": 3, "side": 8, "sets": 4, "shown": 3, **settings})


# --- figures -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cells() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    step, seen = np.arange(20, 2001, 20), np.arange(500, 2001, 500)

    def one(scale: float) -> dict[str, np.ndarray]:
        curves = {"loss": scale * rng.uniform(1, 2, len(step)), "gradient_norm": scale * rng.uniform(2, 9, len(step))}
        bound = {"curve_step": seen, "curve_K": 5 * scale + 100 / seen}
        return {"loss_step": step, **curves, **bound, "samples": rng.integers(0, 256, (12, 3, 32, 32)).astype(float)}

    return {cell: one(10.0**k) for k, cell in enumerate(CELLS)}


def test_the_training_of_every_cell_is_a_line_of_its_own(cells: dict[str, dict[str, np.ndarray]]):
    figure = table2.training(cells)
    for axes, (x, y) in zip(
        figure.axes, [("loss_step", "loss"), ("loss_step", "gradient_norm"), ("curve_step", "curve_K")], strict=True
    ):
        assert axes.get_yscale() == "log"
        for line, arrays in zip(axes.lines, cells.values(), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), np.stack([arrays[x], arrays[y]], 1))
        assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 6
    assert [text.get_text() for text in figure.legends[0].get_texts()] == CELLS


def test_the_samples_of_every_cell_are_a_row_with_its_label(cells: dict[str, dict[str, np.ndarray]]):
    (axes,) = row_by_row(cells, columns=5).axes
    expected = tile(np.concatenate([arrays["samples"][:5] for arrays in cells.values()]), 5)
    np.testing.assert_allclose(axes.images[0].get_array(), expected / 255)
    assert [label.get_text() for label in axes.get_yticklabels()] == CELLS
    assert axes.get_yticks().tolist() == [33 * k + 15.5 for k in range(6)]
