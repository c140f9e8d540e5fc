"""Training objectives: the one-term estimate is unbiased for the bound, L_simple is a regression, times are spread evenly."""

import math

import pytest
import test_bound
import torch
from torch import Tensor, nn

from dpm import schedules
from dpm.bound import stationary_edges
from dpm.data.synthetic import GaussianData
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.objectives.one_term import OneTerm
from dpm.objectives.simple import OfNoise, Simple
from dpm.objectives.weighted import Weighted
from dpm.predictions import DataPrediction, Prediction
from dpm.predictions.papers import X0, Epsilon, ForwardPerturbation, Mean, Velocity
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.times import Uniform, stratified
from dpm.variances import FixedLarge, FixedSmall, LearnedPosterior, SigmoidPerturbation, Variance

T = 4
DATA = GaussianData(dimensions=test_bound.D)


class Output(nn.Module):
    """A network whose output is a constant, in `groups` channel groups."""

    def __init__(self, value: float, groups: int = 1) -> None:
        super().__init__()
        self.value, self.groups = value, groups

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x_t, self.value).repeat(1, self.groups)


def reverse(value: float, prediction: Prediction, variance: Variance | None = None, groups: int = 1) -> GaussianReverse:
    q = GaussianDiffusion(schedules.linear(T, 0.05, 0.4))
    return GaussianReverse(q, Output(value, groups), prediction, variance or FixedLarge(), Stationary())


def check_one_term_is_unbiased() -> None:
    """Over many batches the mean is that of the bound, all terms of it, within four standard errors."""
    p, objective = reverse(0.3, Epsilon()), OneTerm(stationary_edges)
    exact = test_bound.expected_total(p, 0.0, 1.0, stationary_edges)
    means = torch.stack([objective(p, DATA.batch(1000, 0, step)).mean() for step in range(200)])
    error = means.std().item() / math.sqrt(len(means))
    assert error < 0.01 * abs(exact)
    assert means.mean().item() == pytest.approx(exact, abs=4 * error)


def check_the_reported_error_is_honest() -> None:
    """std / sqrt(B) over a batch is no smaller than the true spread of the batch's mean (one shared t would make it so)."""
    p, objective = reverse(0.3, Epsilon()), OneTerm(stationary_edges)
    batches = torch.stack([objective(p, DATA.batch(256, 0, step)) for step in range(200)])
    reported = (batches.var(1).mean() / batches.shape[1]).sqrt().item()
    assert batches.mean(1).std().item() < 1.15 * reported


def test_one_term_is_unbiased_for_the_bound() -> None:
    check_one_term_is_unbiased()


def test_the_error_of_one_term_is_honest() -> None:
    check_the_reported_error_is_honest()


def test_one_term_of_a_chain_of_one_step_is_its_edges() -> None:
    p, x_0 = test_bound.oracle(schedules.linear(1, 0.4, 0.4), Stationary()), DATA.batch(5, 0, 0)
    assert torch.equal(OneTerm(stationary_edges)(p, x_0), sum(stationary_edges(p, x_0)))


def test_simple_of_a_network_that_outputs_zero_is_one() -> None:
    """E |eps|^2 per coordinate; a mean over coordinates, not a sum."""
    losses = Simple()(reverse(0.0, Epsilon()), DATA.batch(40_000, 0, 0))
    assert losses.shape == (40_000,)
    assert losses.mean().item() == pytest.approx(1, abs=4 * losses.std().item() / 200)


def test_simple_of_a_perfect_network_is_zero() -> None:
    assert float(Simple()(reverse(0.7, X0()), torch.full((9, 2), 0.7, dtype=torch.float64)).abs().max()) == 0


@pytest.mark.parametrize("prediction", [X0(), Epsilon(), Velocity(), Mean()], ids=lambda p: type(p).__name__)
def test_simple_regresses_the_half_of_the_output_that_is_the_mean(prediction: Prediction) -> None:
    x_0 = DATA.batch(16, 0, 0)
    losses = []
    for variance, groups in ((FixedLarge(), 1), (SigmoidPerturbation(), 2)):
        torch.manual_seed(1)
        losses.append(Simple()(reverse(0.1, prediction, variance, groups), x_0))
    assert torch.equal(*losses)


@pytest.mark.parametrize("prediction", [X0(), Velocity(), Mean()], ids=lambda p: type(p).__name__)
def test_simple_of_noise_is_the_error_of_eps_whatever_the_network_predicts(prediction: DataPrediction) -> None:
    """x_0-hat by another prediction stands for eps_theta = (x_t - alpha x_0-hat) / sigma; with Epsilon it is Simple."""
    x_0, other = DATA.batch(16, 0, 0), reverse(0.1, prediction)
    torch.manual_seed(1)
    loss = OfNoise()(other, x_0)
    torch.manual_seed(1)
    _, t, _ = Uniform().draw(other, x_0, 1)
    x_t = other.process.marginal(x_0, t).sample()
    of_eps = Epsilon()
    eps, of = (of_eps.target(other.process, x, x_t, t) for x in (x_0, other.predicted(x_t, t)))
    torch.testing.assert_close(loss, (eps - of).square().flatten(1).mean(1))
    losses = []
    for objective in (Simple(), OfNoise()):
        torch.manual_seed(1)
        losses.append(objective(reverse(0.1, of_eps), x_0))
    torch.testing.assert_close(*losses)


def test_simple_refuses_a_prediction_that_has_no_target() -> None:
    with pytest.raises(UserError, match="ForwardPerturbation has none"):
        Simple()(reverse(0.0, ForwardPerturbation()), DATA.batch(4, 0, 0))


def test_weighted_terms_are_the_square_error_of_the_velocity() -> None:
    """With the variance beta-tilde, and for the same times and noise: |v - v_theta|^2, t = 2..T."""
    p, x_0 = reverse(0.3, Velocity(), FixedSmall()), DATA.batch(12, 0, 0)
    torch.manual_seed(3)
    losses = Weighted()(p, x_0)
    torch.manual_seed(3)
    t, _ = stratified(torch.ones(T - 1, dtype=torch.float64), 12, 2)
    v = p.prediction.target(p.process, x_0, p.process.marginal(x_0, t).rsample(), t)
    assert set(t.tolist()) == {2, 3, 4}
    assert torch.allclose(losses, (v - 0.3).square().sum(1), rtol=1e-9)


def test_weights_do_not_move_the_best_variance() -> None:
    """Where there is one transition, the weighted loss is the bound's term times a number, whatever the learned variance."""
    x_0, q = DATA.batch(8, 0, 0), GaussianDiffusion(schedules.linear(2, 0.05, 0.4))
    ratios = []
    for value in (-0.5, 0.0, 0.5):  # of the velocity and of z
        p = GaussianReverse(q, Output(value, 2), Velocity(), LearnedPosterior(), Stationary())
        torch.manual_seed(0)
        weighted = Weighted()(p, x_0)
        torch.manual_seed(0)
        prior, reconstruction = stationary_edges(p, x_0)
        ratios.append((OneTerm(stationary_edges)(p, x_0) - prior - reconstruction) / weighted)
    assert torch.allclose(torch.stack(ratios), ratios[0][0], rtol=1e-9)
