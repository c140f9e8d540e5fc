"""The rivals of diffusion on the same images: means over fits and patches, their errors, and what other models gain on them."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm.data.images import StandardizedImages
from dpm.errors import UserError
from dpm.evaluators import rivals
from dpm.study.records import Measurement, Record, standard_error

RECIPE = {"network": "MultiScale"}


class Independent(nn.Module):
    """N(mean, 1) for each pixel; a fit moves the mean to one that depends on the seed."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))

    def log_density(self, x: Tensor) -> Tensor:
        return torch.distributions.Normal(self.mean, 1.0).log_prob(x[:, 0])

    def sample(self, n: int, height: int, width: int) -> Tensor:
        return self.mean.detach() + torch.randn(n, 1, height, width)


def fit(model: Independent, x: Tensor, steps: int, batch_size: int, seed: int) -> Iterator[float]:
    assert len(x) == 24  # the patches of six images
    for _ in range(steps):
        model.mean.data += 0.1 * (1 + seed)
        yield 0.0


def bound_record(K: float, stderr: float) -> Record:
    about = {"data": "leaves", "split": "test", "edges": "entropy", "T": 1000}
    rows = (Measurement("log_likelihood_bound", K, stderr, 100, "bits/pixel", about),)
    return Record("leaves", 0, "laptop", RECIPE, {}, {}, rows)


def exact_record(value: float) -> Record:
    """A record of another rival: of four means, that of whole test patches counts."""
    rows = [
        Measurement(
            "log_likelihood", value + shift, 0.1, 100, "bits/pixel", {"data": "leaves", "split": split, "pixels": pixels}
        )
        for shift, split, pixels in ((0, "test", "all"), (1, "test", "with_all_neighbours"), (2, "validation", "all"))
    ]
    return Record("causal", 0, "laptop", {"network": "CausalNetwork"}, {}, {}, tuple(rows))


def check_the_error_of_a_difference_has_both() -> None:
    whole = Measurement("log_likelihood", 1.2, 0.4, 100, "bits/pixel", {})
    difference = rivals.gain(bound_record(1.5, 0.3), whole, "a claim")
    assert difference.value == pytest.approx(0.3)
    assert difference.stderr == pytest.approx(0.5)
    assert (difference.claim, difference.recipe) == ("a claim", RECIPE)


def check_patches_of_an_image_are_not_independent() -> None:
    """The same images cut into more and more patches that say the same: the error stays that of the images."""
    images = torch.randn(30, dtype=torch.float64)
    for patches in (1, 4, 16):
        values = images.repeat_interleave(patches)[:, None].expand(-1, 5)
        error, n = rivals.of_images(values, patches)
        assert error == pytest.approx(standard_error(images.numpy()))
        assert n == 30


def test_the_error_of_a_difference_has_both() -> None:
    check_the_error_of_a_difference_has_both()


def test_patches_of_an_image_are_not_independent() -> None:
    check_patches_of_an_image_are_not_independent()


def test_a_rival_is_compared_with_another_by_whole_test_patches() -> None:
    whole = Measurement("log_likelihood", 1.2, 0.0, 100, "bits/pixel", {})
    difference = rivals.gain(exact_record(1.5), whole)
    assert (difference.value, difference.stderr) == (pytest.approx(0.3), 0.1)
    assert difference.recipe == {"network": "CausalNetwork"}
    assert "edges" not in difference.protocol


def images() -> StandardizedImages:
    grey = np.random.default_rng(0).normal(128, 20, (12, 1, 16, 16)).astype(np.float32)
    return StandardizedImages(lambda folder: (grey[:8], grey[8:]), 2, 8, 0)


def evaluator(root, **changes) -> rivals.FittedRival:
    about = {
        **{"model": Independent, "fit": partial(fit, steps=2, batch_size=5), "fits": 2, "reach": 2, "noise": 8.0},
        **{"results": str(root), "against": ["leaves", "others", "causal"], "side": 10},
        "claims": {"model": "the paper's", "leaves": "a claim"},
    }
    return rivals.FittedRival(**{**about, **changes})


def test_the_evaluator_measures_whole_patches_beside_the_records_there_are(tmp_path) -> None:
    data = images()
    bound_record(1.5, 0.3).save(tmp_path / "leaves" / "seed0.json")
    exact_record(1.6).save(tmp_path / "causal" / "seed0.json")
    x_0 = data.held_out(16)
    found = evaluator(tmp_path)(None, data, x_0, 0)  # no diffusion model has a part in it
    whole, inner, kept, _, over_diffusion, over_causal = found.measurements
    log_p = torch.stack([torch.distributions.Normal(mean, 1.0).log_prob(x_0[:, 0]) / math.log(2) for mean in (0.2, 0.4)])
    of_fits = standard_error(log_p.mean((1, 2, 3)).numpy())
    of_choice = standard_error(np.array([part.mean() for part in log_p.mean(0).flatten(1).split(4)]))
    assert whole.value == pytest.approx(float(log_p.mean()))
    assert whole.estimate_stderr == pytest.approx(of_fits)
    assert whole.stderr == pytest.approx(math.hypot(of_fits, of_choice))
    assert inner.value == pytest.approx(float(log_p[..., 2:, 2:-2].mean()))
    assert (whole.claim, inner.claim, kept.claim) == ("the paper's", None, None)
    assert (whole.protocol["pixels"], inner.protocol["pixels"]) == ("all", "with_all_neighbours")
    assert (kept.protocol["split"], kept.n, whole.n) == ("validation", 8, 16)
    assert whole.ceiling == pytest.approx(-math.log2(8.0 / data.std) - math.log2(2 * math.pi * math.e) / 2)
    assert (over_diffusion.value, over_diffusion.claim) == (pytest.approx(1.5 - whole.value), "a claim")
    assert (over_causal.value, over_causal.claim) == (pytest.approx(1.6 - whole.value), None)
    assert (found.budget["steps"], found.budget["examples"]) == (4, 20)
    assert (whole.recipe["network"], whole.recipe["fits"], whole.recipe["steps"]) == ("Independent", 2, 2)
    assert found.arrays["sample"].shape == (1, 10, 10)


def test_the_fits_of_another_seed_are_others_and_one_fit_has_no_spread(tmp_path) -> None:
    data = images()
    whole, *_ = evaluator(tmp_path, fits=1, side=None)(None, data, data.held_out(16), 3).measurements
    assert whole.value == pytest.approx(
        float(torch.distributions.Normal(0.8, 1.0).log_prob(data.held_out(16)).mean()) / math.log(2)
    )
    assert whole.estimate_stderr is None


@pytest.mark.parametrize("change", [{"noise": 0.0}, {"fits": 0}])
def test_an_evaluation_of_nothing_is_refused(tmp_path, change) -> None:
    with pytest.raises(UserError, match="noise > 0 and a fit at least"):
        evaluator(tmp_path, **change)


def test_a_rival_of_points_is_refused_in_one_line(tmp_path) -> None:
    with pytest.raises(UserError, match="to standardised images, not to int"):
        evaluator(tmp_path)(None, 3, torch.zeros(2, 1, 8, 8), 0)
