"""What diagonal steps cost Gaussian images: against dense matrices, and the chain without this cost against the entropy."""

import functools
import math

import numpy as np
import pytest
import torch
from test_image_model import SHAPE, D, basis, draws, posterior, spectral

from dpm import schedules
from dpm.baselines.gaussian_images import GaussianImages
from dpm.data.images import DiscreteImages
from dpm.errors import UserError
from dpm.evaluators.gaussian_steps import GaussianSteps, costs, entropy
from dpm.figures import gaussian_steps, render
from dpm.processes.gaussian import GaussianDiffusion

SCHEDULES = {
    name: functools.partial(schedule, beta_1=1e-4, beta_T=0.02, of=1000)
    for name, schedule in (("kept", schedules.linear_from), ("scaled", schedules.rescaled_linear))
}


def detailed() -> GaussianImages:
    model = spectral()
    model.variances.mul_(1e-3)
    return model


def test_the_loss_is_that_of_the_dense_covariances() -> None:
    """1/2 (log det of the best diagonal - log det of the covariance), of x_{t-1} or, at t = 1, of x_0 itself."""
    model, q = detailed(), GaussianDiffusion(schedules.linear(50, 1e-4, 0.2))
    lost = costs(model, q).lost
    for t in (1, 2, 7, 50):
        C = posterior(model, q, t)[2]
        step = q.step(torch.tensor(t - 1), torch.tensor(t))
        S = step.posterior_variance * torch.eye(D) + step.on_x_0.square() * C
        assert lost[t - 1].item() == pytest.approx((S.diagonal().log().sum() - torch.logdet(S)).item() / 2, rel=1e-6, abs=1e-10)
    assert bool((lost > 0).all())


def test_the_bound_without_the_loss_is_the_entropy() -> None:
    """Up to KL(q(x_T) || pi), which a chain that ends in noise has not; the basis diagonalises the covariance by itself."""
    model = detailed()
    _, log_det = torch.linalg.slogdet(basis(model).T @ torch.diag(model.variances.flatten()) @ basis(model))
    assert entropy(model) == pytest.approx((log_det.item() + D * math.log(2 * math.pi * math.e)) / 2)
    for T in (20, 200):
        assert costs(model, GaussianDiffusion(schedules.linear(T, 1e-4, 20 / T))).exact == pytest.approx(
            entropy(model), abs=0.01
        )


def test_no_detail_no_loss() -> None:
    """White images are independent pixels."""
    white = GaussianImages(*SHAPE)
    found = costs(white, GaussianDiffusion(schedules.linear(30, 1e-4, 0.5)))
    assert found.lost.abs().max() < 1e-9
    assert found.exact == pytest.approx(entropy(white), abs=1e-6)


def test_chains_of_any_length_diffuse_alike() -> None:
    whole = schedules.linear(1000, 1e-4, 0.02)
    for T in (50, 4000):
        kept, scaled = (schedule(T) for schedule in SCHEDULES.values())
        assert (kept.betas.sum().item(), scaled.betas.sum().item()) == pytest.approx([whole.betas.sum().item()] * 2)
        assert (kept.betas[0].item(), scaled.betas[0].item()) == pytest.approx((1e-4, 0.1 / T))
    for schedule in SCHEDULES.values():
        assert torch.allclose(schedule(1000).betas, whole.betas)


def images(n: int = 300) -> DiscreteImages:
    model = detailed()
    grey = ((draws(model, n) - model.mean) * 8 + 1).mul(127.5).round().clamp(0, 255).numpy().astype(np.uint8)
    return DiscreteImages(lambda folder: (grey[10:], grey[:10]), 10, flip=False)


def test_the_evaluator_measures_what_its_arrays_and_the_figure_show() -> None:
    data = images()
    evaluate = GaussianSteps([50, 100, 400], SCHEDULES, last=8, shown=100)
    evaluation = evaluate(None, data, data.held_out(5), 0)
    H, *gaps = evaluation.measurements
    model, a = GaussianImages(*SHAPE), evaluation.arrays
    model.fit(data.training())
    assert (H.quantity, H.unit, H.n) == ("nll", "bits/dim", 280)
    assert H.value == pytest.approx(entropy(model) / D / math.log(2) + math.log2(127.5))
    at = {(m.protocol["first_beta"], m.protocol["full_until"], m.protocol["T"]): m.value for m in gaps}
    assert set(at) == {(name, m, T) for name in SCHEDULES for m in (0, 1, 8) for T in (50, 100, 400)}
    for name in SCHEDULES:
        for m in (0, 1, 8):
            assert a[f"gaussian_{name}_lost_after_{m}"].tolist() == [at[name, m, T] for T in (50, 100, 400)]
    assert a["gaussian_terms"].sum() == pytest.approx(at["kept", 0, 100])
    assert a["gaussian_terms"][8:].sum() == pytest.approx(at["kept", 8, 100])
    figure = gaussian_steps.pixel_diagonal(a)
    left, right = figure.axes
    assert [len(line.get_xdata()) for line in left.lines] == [3, 3, 3, 3, 2]
    assert left.lines[1].get_ydata() == pytest.approx(H.value + a["gaussian_kept_lost_after_0"])
    assert right.get_xlabel() == "t (of T = 100)"
    assert render(figure)


@pytest.mark.parametrize("wrong", [{"lengths": []}, {"lengths": [1, 5]}, {"shown": 7}, {"last": 0}, {"schedules": {}}])
def test_settings_that_cannot_be_meant_are_refused(wrong) -> None:
    with pytest.raises(UserError, match="chains have 2 steps") as error:
        GaussianSteps(**{"lengths": [5, 10], "schedules": SCHEDULES, "last": 2, "shown": 5, **wrong})
    assert "\n" not in str(error.value)
