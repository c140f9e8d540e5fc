"""DDIM: every eta keeps the marginals of q, eta = 1 is the ancestral step, eta = 0 is a map that transports noise to data.

The data is Gaussian with a covariance, so that E[x_0 | x_t] and every walk are affine: a map is known from its values at 0
and at the unit vectors, and its mean and covariance need no sampling.
"""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from dpm import schedules
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.predictions import DataPrediction
from dpm.predictions.papers import X0, Clipped, Epsilon, ForwardPerturbation, Mean, Velocity
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import ddim as samplers
from dpm.samplers.ancestral import ancestral
from dpm.samplers.ddim import DDIM, ddim, encode
from dpm.schedules import BetaSchedule
from dpm.variances import FixedSmall

MEAN = torch.tensor([0.8, -0.3, 0.1], dtype=torch.float64)
ROOT = torch.tensor([[0.9, 0.0, 0.0], [0.5, 0.4, 0.0], [-0.2, 0.3, 0.7]], dtype=torch.float64)
COVARIANCE, ONE, EYE = ROOT @ ROOT.T, torch.ones(1, dtype=torch.long), torch.eye(3, dtype=torch.float64)


def circle(T: int) -> BetaSchedule:
    """alpha_t = cos(pi t / 2 T), sigma_t = sin(pi t / 2 T): x_T is noise exactly, and the path of x_t to the data is smooth."""
    alpha_bar = torch.cos(torch.arange(T + 1, dtype=torch.float64) * math.pi / (2 * T)).square()
    return BetaSchedule(1 - alpha_bar[1:] / alpha_bar[:-1])


class Exact(nn.Module):
    """What a perfect network outputs for x_0 ~ N(MEAN, COVARIANCE): the target of the prediction at E[x_0 | x_t]."""

    def __init__(self, q: GaussianDiffusion, prediction: DataPrediction) -> None:
        super().__init__()
        self.q, self.prediction = q, prediction

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        (alpha, sigma), time = (c[0] for c in self.q.schedule(t)), t[0]
        assert bool((t == time).all())
        gain = alpha * COVARIANCE @ torch.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * EYE)
        return self.prediction.target(self.q, MEAN + (x_t - alpha * MEAN) @ gain.T, x_t, t)


def exact(schedule: BetaSchedule, prediction: DataPrediction | None = None) -> GaussianReverse:
    q, prediction = GaussianDiffusion(schedule), prediction or X0()
    return GaussianReverse(q, Exact(q, prediction), prediction, FixedSmall(), Network())


START = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()


def moments(T: int, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_0 at the end of the deterministic walk from x_T ~ N(0, I), exactly: A x_T + b, from START."""
    *_, x = samplers.ddim(exact(circle(T)), START, range(T, -1, -T // steps))
    A, b = (x[1:] - x[0]).T, x[0]
    return b, A @ A.T


# --- eta = 0: a map ------------------------------------------------------------------------------------------------------


def check_it_is_of_first_order() -> None:
    """The mean is exact; twice the steps, half the error in the covariance."""
    errors = []
    for steps in (32, 64, 128, 256):
        mean, covariance = moments(256, steps)
        assert torch.allclose(mean, MEAN, rtol=1e-9)
        errors.append(float((covariance - COVARIANCE).abs().max()))
    ratios = torch.tensor(errors[:-1]) / torch.tensor(errors[1:])
    assert ((ratios - 2).abs() < 0.05).all(), (errors, ratios)
    assert errors[-1] < 0.01, errors


def test_the_deterministic_map_transports_noise_to_data_to_first_order() -> None:
    check_it_is_of_first_order()


def test_it_is_deterministic_whatever_the_generator_says() -> None:
    reverse, x_T = exact(schedules.linear(20, 1e-3, 0.4)), torch.randn(5, 3, dtype=torch.float64)
    first = list(ddim(reverse, x_T, range(20, -1, -4)))
    torch.rand(7)
    for one, other in zip(first, ddim(reverse, x_T, range(20, -1, -4)), strict=True):
        assert torch.equal(one, other)


def check_encoding_is_the_inverse_in_the_limit() -> None:
    """From x_1 to x_T and back: twice the steps, half the distance; x_T tends to x_1, whitened."""
    T, x_1 = 257, MEAN + torch.randn(6, 3, dtype=torch.float64) @ ROOT.T
    reverse, distances = exact(circle(T)), []
    for stride in (4, 2, 1):
        grid = range(1, T + 1, stride)
        *_, x_T = samplers.encode(reverse, x_1, grid)
        *_, again, _ = samplers.ddim(reverse, x_T, [*reversed(grid), 0])
        distances.append(float((again - x_1).abs().max()))
    ratios = torch.tensor(distances[:-1]) / torch.tensor(distances[1:])
    assert ((ratios - 2).abs() < 0.1).all(), (distances, ratios)
    assert distances[-1] < 0.03, distances
    alpha, sigma = (c.item() for c in circle(T)(torch.tensor(1)))
    values, vectors = torch.linalg.eigh(COVARIANCE)
    whiten = vectors @ torch.diag((alpha**2 * values + sigma**2).rsqrt()) @ vectors.T
    assert torch.allclose(x_T, (x_1 - alpha * MEAN) @ whiten, atol=0.02)


def test_encoding_is_the_inverse_in_the_limit_of_many_steps() -> None:
    check_encoding_is_the_inverse_in_the_limit()


# --- any eta -------------------------------------------------------------------------------------------------------------

LINEAR = schedules.linear(50, 1e-4, 0.2)
PREDICTIONS = [X0(), Epsilon(), Velocity(), Mean()]


def check_the_marginals_are_kept(eta: float, s: int, t: int) -> None:
    """With the true x_0 for x_0-hat, x_t ~ q(x_t | x_0) gives x_s ~ q(x_s | x_0), whatever eta (lemma 1)."""

    class Known(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            return MEAN.expand_as(x_t)

    q = GaussianDiffusion(LINEAR)
    p = samplers.DDIM(GaussianReverse(q, Known(), X0(), FixedSmall(), Network()), eta)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (tuple(map(float, q.schedule(torch.tensor(time)))) for time in (s, t))
    centre, shifted = (p(alpha_t * MEAN[None] + shift, s * ONE, t * ONE) for shift in (0.0, 1.0))
    slope = shifted.mean - centre.mean
    assert torch.allclose(centre.mean, alpha_s * MEAN[None], rtol=1e-12)
    assert torch.allclose(
        slope**2 * sigma_t**2 + centre.variance, torch.tensor(sigma_s**2, dtype=torch.float64), rtol=1e-9, atol=1e-15
    )
    assert torch.allclose(centre.variance, eta**2 * q.step(s * ONE, t * ONE).posterior_variance, rtol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("s", "t"), [(0, 1), (0, 50), (1, 2), (3, 17), (49, 50)])
def test_the_marginals_are_kept_whatever_eta(eta: float, s: int, t: int) -> None:
    check_the_marginals_are_kept(eta, s, t)


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(("s", "t"), [(1, 2), (3, 17), (49, 50), (1, 50)])
def test_eta_1_is_the_posterior_at_the_predicted_data(prediction: DataPrediction, s: int, t: int) -> None:
    """The mean and variance of `FixedSmall`'s step."""
    reverse, x_t = exact(LINEAR, prediction), torch.randn(4, 3, dtype=torch.float64)
    times = s * ONE.expand(4), t * ONE.expand(4)
    one, other = DDIM(reverse, 1.0)(x_t, *times), reverse(x_t, *times)
    assert torch.allclose(one.mean, other.mean, rtol=1e-9)
    assert torch.allclose(one.variance, other.variance, rtol=1e-12)


def check_eta_1_is_ancestral(grid: Sequence[int]) -> None:
    """The same noise, the same walk."""
    reverse, x_T = exact(LINEAR), torch.randn(5, 3, dtype=torch.float64)
    walks = []
    for walk in (lambda: samplers.ddim(reverse, x_T, grid, eta=1.0), lambda: ancestral(reverse, x_T, grid)):
        torch.manual_seed(3)
        walks.append(torch.stack(list(walk())))
    assert torch.allclose(*walks, rtol=1e-9, atol=1e-12)
    assert walks[0].std() > 0.1


@pytest.mark.parametrize("grid", [range(50, -1, -1), (50, 20, 7, 1, 0), (50, 0)], ids=["every step", "uneven", "one jump"])
def test_eta_1_walks_as_ancestral_sampling_does(grid: Sequence[int]) -> None:
    check_eta_1_is_ancestral(grid)


def test_it_starts_where_nothing_is_left_of_the_data() -> None:
    """alpha_T = 0: eps-hat is x_T itself, and at eta = 1 rounding must not leave a negative variance for it."""
    for T in (3, 7, 10):
        reverse, x_T = exact(schedules.constant_erasure(T)), torch.randn(5, 3, dtype=torch.float64)
        for eta in (0.0, 1.0):
            for x in ddim(reverse, x_T, range(T, -1, -1), eta):
                assert x.isfinite().all()


def test_a_clipped_prediction_is_what_the_walk_ends_in() -> None:
    reverse = exact(LINEAR)
    clipped = GaussianReverse(reverse.process, reverse.network, Clipped(reverse.prediction), reverse.variance, reverse.decoder)
    *_, x = ddim(clipped, 5 * torch.randn(20, 3, dtype=torch.float64), [50, 10, 0])
    assert x.abs().max() == 1
    assert (x.abs() < 1).any()


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_other_etas_are_refused(eta: float) -> None:
    with pytest.raises(UserError, match="from 0"):
        DDIM(exact(LINEAR), eta)


@pytest.mark.parametrize("grid", [[], [1], [0, 50], [50, 1], [1, 5, 5, 50], [1, 49]])
def test_bad_encoding_grids_are_refused(grid: list[int]) -> None:
    with pytest.raises(UserError, match="increases from 1 or later to T = 50"):
        next(encode(exact(LINEAR), torch.zeros(1, 3).double(), grid))


def test_a_prediction_that_is_not_of_the_data_is_refused() -> None:
    reverse = GaussianReverse(GaussianDiffusion(LINEAR), nn.Identity(), ForwardPerturbation(), FixedSmall(), Network())
    with pytest.raises(UserError, match="predicts no x_0"):
        next(ddim(reverse, torch.zeros(1, 3).double(), [50, 0]))


# --- mutants -------------------------------------------------------------------------------------------------------------

MOVED = samplers.moved


def all_noise_kept(reverse: GaussianReverse, x_t: Tensor, s: Tensor, t: Tensor, left: Tensor) -> Tensor:
    return MOVED(reverse, x_t, s, t, torch.ones_like(left))


def one_minus_the_deviation(reverse: GaussianReverse, x_t: Tensor, s: Tensor, t: Tensor, left: Tensor) -> Tensor:
    return MOVED(reverse, x_t, s, t, left.square())


def predicted_at_the_other_end(reverse: GaussianReverse, x_t: Tensor, s: Tensor, t: Tensor, left: Tensor) -> Tensor:
    predicted = GaussianReverse.predicted

    class Late(GaussianReverse):
        def predicted(self, x_t: Tensor, t: Tensor) -> Tensor:
            return predicted(self, x_t, s.clamp(min=1))

    late = Late(reverse.process, reverse.network, reverse.prediction, reverse.variance, reverse.decoder)
    return MOVED(late, x_t, s, t, left)


@pytest.mark.parametrize("mutant", [all_noise_kept, one_minus_the_deviation])
def test_a_wrong_share_of_noise_is_noticed(mutant, monkeypatch) -> None:
    monkeypatch.setattr(samplers, "moved", mutant)
    with pytest.raises(AssertionError):
        check_the_marginals_are_kept(0.3, 3, 17)
    with pytest.raises(AssertionError):
        check_eta_1_is_ancestral((50, 20, 7, 1, 0))


def test_a_prediction_at_the_wrong_time_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(samplers, "moved", predicted_at_the_other_end)
    with pytest.raises(AssertionError):
        check_eta_1_is_ancestral((50, 20, 7, 1, 0))
    with pytest.raises(AssertionError):
        check_it_is_of_first_order()


def test_noise_in_the_deterministic_map_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(samplers, "ddim", lambda reverse, x_T, grid: ancestral(DDIM(reverse, 0.05), x_T, grid))
    with pytest.raises(AssertionError):
        check_it_is_of_first_order()
    with pytest.raises(AssertionError):
        check_encoding_is_the_inverse_in_the_limit()
