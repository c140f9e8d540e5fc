"""One variance for each step: the best there is, by closed forms for Gaussian images and by what any other one loses."""

import math

import numpy as np
import pytest
import torch
from test_correlated import Q, linear
from test_image_model import draws, spectral
from torch import Tensor, nn

from dpm import schedules, seeds
from dpm.bound import term
from dpm.decoders import Discretized, Network
from dpm.errors import UserError
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import facts_of
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.isotropic import Isotropic, isotropic, mean_square_error
from dpm.variances import FixedLarge, Learned

T, N = 12, 400
SHORT = GaussianDiffusion(schedules.linear(T, 1e-4, 0.3))


class Shrunk(nn.Module):
    """Gives 0.9 x_t, and as much again for a variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.repeats = channels

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.cat([0.9 * x_t] * self.repeats, 1)


def images(n: int = N) -> Tensor:
    """8-bit, of two colours; grey levels that noise and pixels move a little."""
    levels = 128 + 20 * torch.randn(n, 2, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return levels.round().clamp(0, 255) / 127.5 - 1


def reverse() -> GaussianReverse:
    return GaussianReverse(SHORT, Shrunk(1), X0(), FixedLarge(), Discretized())


def times(t: int, n: int = N) -> Tensor:
    return torch.full((n,), t)


def loss(process: GaussianReverse, t: int) -> float:
    """The mean term at the draws of x_t that variances are fitted to."""
    seeds.seed_everything(0, seeds.VALIDATION, t, 0)
    x_0 = images()
    return term(process, x_0, process.process.marginal(x_0, times(t)).sample(), times(t - 1), times(t)).mean().item()


def test_for_gaussian_images_it_is_the_variance_of_the_best_linear_process() -> None:
    """beta-tilde + b^2 times the mean of Var[x_0 | x_t] over the coordinates, known in closed form at every t."""
    model, n = spectral(), 4000
    best, x_0 = linear(model), draws(model, n)
    every = torch.arange(1, len(Q.schedule) + 1)
    wrapped = best.replacing(variance=Isotropic(best.variance, model.error(Q, every)))
    for s, t in ((0, 1), (1, 2), (6, 7), (2, 9), (49, 50)):
        one, other = (p.step(x_0[:3], times(s, 3), times(t, 3)) for p in (best, wrapped))
        assert torch.allclose(one.variance, other.variance, rtol=1e-6)
        assert torch.equal(one.mean, other.mean)
        error = 4 / math.sqrt(n * x_0[0].numel() / 8)  # of a mean of squares, some of whose coordinates are alike
        assert mean_square_error(best, x_0, t, 1500, 0) == pytest.approx(model.error(Q, times(t, 1)).item(), rel=error)


def test_any_other_variance_loses_on_its_examples() -> None:
    """In the decoder, which has no closed form, and in every step."""
    fitted = isotropic(reverse(), images(), 0, 100, N)
    for t in range(1, T + 1):
        for factor in (0.9, 1.1):
            m = fitted.variance.missed.clone()
            m[t - 1] *= factor
            assert loss(fitted.replacing(variance=Isotropic(fitted.variance.trained, m)), t) > loss(fitted, t)
        assert loss(fitted, t) < loss(reverse(), t)


def test_between_its_knots_the_error_is_a_power_of_t() -> None:
    x_0 = images()
    m = isotropic(reverse(), x_0, 0, 2, N).variance.missed.numpy()
    ends = [mean_square_error(reverse(), x_0, t, N, 0) for t in (1, T)]
    power = math.log(ends[1] / ends[0]) / math.log(T)
    assert m[1:] == pytest.approx(ends[0] * np.arange(2, T + 1) ** power)
    every = isotropic(reverse(), x_0, 0, 100, N).variance.missed
    assert every[1:].tolist() == pytest.approx([mean_square_error(reverse(), x_0, t, N, 0) for t in range(2, T + 1)])


def test_the_mean_is_that_of_the_network_whose_learned_variance_is_left_aside() -> None:
    learned = GaussianReverse(SHORT, Shrunk(2), X0(), Learned(), Discretized())
    one, other = (isotropic(process, images(), 0, 5, N) for process in (reverse(), learned))
    assert torch.equal(one.variance.missed, other.variance.missed)
    for s in (0, 3):
        p, q = (process.step(images(), times(s), times(4)) for process in (one, other))
        assert torch.equal(p.mean, q.mean)
        assert torch.equal(p.variance, q.variance)
        assert len(p.variance.unique()) == 1


def test_a_protocol_says_so() -> None:
    assert facts_of(reverse())["covariance"] == "pixels"
    assert facts_of(isotropic(reverse(), images(), 0, 3, N))["covariance"] == "isotropic"


def test_bins_and_two_knots_are_required() -> None:
    for process, knots in ((reverse(), 1), (reverse().replacing(decoder=Network()), 5)):
        with pytest.raises(UserError, match="discretised decoder, 2 knots at least"):
            isotropic(process, images(), 0, knots, N)
