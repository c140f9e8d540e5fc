"""Gaussian diffusion: composition, Bayes, predictions as inverse pairs, 2020's equations 11 and 12, variances."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import kl_divergence

from dpm import predictions, schedules, variances
from dpm.decoders import Network, Stationary
from dpm.errors import UserError
from dpm.objectives.simple import Simple
from dpm.predictions.papers import X0, Clipped, Epsilon, ForwardPerturbation, Mean, ScaledForwardPerturbation, Velocity
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.schedules import LearnedBetaSchedule
from dpm.variances import FixedLarge, FixedSmall, Learned, LearnedPosterior, SigmoidPerturbation

PROCESSES = {
    "linear": GaussianDiffusion(schedules.linear(50, 1e-4, 0.2)),
    "constant erasure": GaussianDiffusion(schedules.constant_erasure(6)),
    "geometric": GaussianDiffusion(schedules.geometric(10, 1e-6, 1e-3)),
    "learned": GaussianDiffusion(LearnedBetaSchedule(schedules.linear(20, 1e-3, 0.3)).requires_grad_(False)),
}
DDPM = GaussianDiffusion(schedules.linear(1000, 1e-4, 0.02))
DATA_PREDICTIONS = [X0(), Epsilon(), Velocity(), Mean()]

processes = st.sampled_from(list(PROCESSES.values()))
points = st.floats(-3, 3).map(lambda value: torch.tensor([[value]], dtype=torch.float64))


def at(*times: int) -> Tensor:
    return torch.tensor(times)


def normals(n: int) -> Tensor:
    return torch.randn(n, 3, dtype=torch.float64)


class Constant(nn.Module):
    """A network whose output is given."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.output


def reverse(q: GaussianDiffusion, output: Tensor, prediction=None, variance=None) -> GaussianReverse:
    return GaussianReverse(q, Constant(output), prediction or Epsilon(), variance or FixedLarge(), Network())


@st.composite
def times(draw, q: GaussianDiffusion, n: int, first: int = 0) -> list[Tensor]:
    """n different times, increasing."""
    every = st.lists(st.integers(first, len(q.schedule)), min_size=n, max_size=n, unique=True)
    return [at(t) for t in sorted(draw(every))]


@given(st.data(), processes, points)
def test_chapman_kolmogorov(data, q: GaussianDiffusion, x: Tensor) -> None:
    """q(x_t | x_s) is q(x_u | x_s) followed by q(x_t | x_u), and q(x_t | x_0) is the kernel from 0."""
    s, u, t = data.draw(times(q, 3))
    first, both = q.kernel(x, s, u), q.kernel(x, s, t)
    second = q.kernel(first.mean, u, t)
    slope = q.kernel(torch.ones_like(x), u, t).mean
    assert torch.allclose(second.mean, both.mean, rtol=1e-9)
    assert torch.allclose(slope**2 * first.variance + second.variance, both.variance, rtol=1e-9)
    assert torch.allclose(q.kernel(x, at(0), t).mean, q.marginal(x, t).mean, rtol=1e-12)
    assert torch.allclose(q.kernel(x, at(0), t).variance, q.marginal(x, t).variance, rtol=1e-12)


@given(st.data(), processes, points, points, points)
def test_bayes(data, q: GaussianDiffusion, x_0: Tensor, x_s: Tensor, x_t: Tensor) -> None:
    """q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0) as densities."""
    s, t = data.draw(times(q, 2, first=1))
    terms = q.kernel(x_s, s, t).log_prob(x_t), q.marginal(x_0, s).log_prob(x_s), q.marginal(x_0, t).log_prob(x_t)
    right = terms[0] + terms[1] - terms[2]
    tolerance = 1e-8 * (1 + float(sum(abs(term) for term in terms)))
    assert float(q.posterior(x_0, x_t, s, t).log_prob(x_s)) == pytest.approx(float(right), abs=tolerance)


@pytest.mark.parametrize("q", PROCESSES.values(), ids=PROCESSES)
@torch.no_grad()
def test_posterior_by_quadrature(q: GaussianDiffusion) -> None:
    """Mean and variance of the normalised product kernel x marginal over a grid of x_s."""
    s, t, x_0, x_t = at(2), at(5), torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double()
    posterior = q.posterior(x_0, x_t, s, t)
    x_s = (posterior.mean + posterior.stddev * torch.linspace(-12, 12, 2001, dtype=torch.float64)[:, None]).expand(2001, 1)
    weights = torch.softmax(q.kernel(x_s, s, t).log_prob(x_t.expand_as(x_s)) + q.marginal(x_0, s).log_prob(x_s), 0)
    mean = weights @ x_s
    assert torch.allclose(mean, posterior.mean, rtol=1e-8, atol=1e-10)
    assert torch.allclose(weights @ (x_s - mean) ** 2, posterior.variance, rtol=1e-8)


def test_distributions_are_per_example_and_sum_over_coordinates() -> None:
    q, x = PROCESSES["linear"], torch.randn(4, 3, 2, 2, dtype=torch.float64)
    marginal = q.marginal(x, at(1, 5, 9, 50))
    assert (marginal.batch_shape, marginal.event_shape) == ((4,), (3, 2, 2))
    one = 0.5 * math.log(2 * math.pi * math.e)
    assert torch.allclose(q.prior(x).entropy(), torch.full((4,), 12 * one, dtype=torch.float64))


@pytest.mark.parametrize("beta", [1e-6, 1e-8])
def test_a_tiny_beta_survives_data_in_float32(beta: float) -> None:
    q = GaussianDiffusion(schedules.BetaSchedule(torch.tensor([0.5, beta], dtype=torch.float64)))
    x = torch.randn(1, 2)
    assert q.kernel(x, at(1), at(2)).variance.dtype == torch.float32
    assert torch.allclose(q.kernel(x, at(1), at(2)).variance, torch.full((1, 2), beta), rtol=1e-5, atol=0)
    assert torch.allclose(q.posterior(x, x, at(1), at(2)).variance, torch.full((1, 2), beta), rtol=1e-5, atol=0)


def check_inverse_pair(prediction: predictions.DataPrediction) -> None:
    """x_0(target(x_0)) == x_0 at every t and for data of any size, outside [-1, 1] too."""
    for q in PROCESSES.values():
        t = torch.arange(1, len(q.schedule))  # the last step of constant erasure leaves no trace of x_0
        x_0 = 3 * normals(len(t))
        x_t = q.marginal(x_0, t).sample()
        assert torch.allclose(prediction.x_0(q, prediction.target(q, x_0, x_t, t), x_t, t), x_0, rtol=1e-6, atol=1e-6)


def check_equation_11(prediction: predictions.DataPrediction) -> None:
    """2020, eq. 11: mu = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_theta) / sqrt(1 - beta_t), for any eps_theta."""
    t = at(2, 10, 100, 999)
    beta, alpha_bar = DDPM.schedule.betas[t - 1, None], DDPM.schedule.alpha_bar(t)[:, None]
    x_t, eps = 2 * normals(4), 2 * normals(4)
    expected = (x_t - beta / (1 - alpha_bar).sqrt() * eps) / (1 - beta).sqrt()
    assert torch.allclose(reverse(DDPM, eps, prediction)(x_t, t - 1, t).mean, expected, rtol=1e-9)


@pytest.mark.parametrize("prediction", DATA_PREDICTIONS, ids=lambda p: type(p).__name__)
def test_prediction_and_target_are_inverse(prediction: predictions.DataPrediction) -> None:
    check_inverse_pair(prediction)


def test_equation_11() -> None:
    check_equation_11(Epsilon())


def test_targets_are_what_their_names_say() -> None:
    """With x_t = alpha x_0 + sigma eps: eps, v = alpha eps - sigma x_0, and the mean of the posterior."""
    q, t, x_0, eps = PROCESSES["linear"], at(2, 20, 50), normals(3), normals(3)
    alpha, sigma = (c[:, None].detach() for c in q.schedule(t))
    x_t = alpha * x_0 + sigma * eps
    assert torch.allclose(Epsilon().target(q, x_0, x_t, t), eps)
    assert torch.allclose(Velocity().target(q, x_0, x_t, t), alpha * eps - sigma * x_0)
    assert torch.allclose(Mean().target(q, x_0, x_t, t), q.posterior(x_0, x_t, t - 1, t).mean)
    assert torch.equal(X0().target(q, x_0, x_t, t), x_0)
    assert torch.allclose(Mean().target(q, x_0, x_t, torch.ones_like(t)), x_0)  # at t = 1 the step ends at the data


@pytest.mark.parametrize("prediction", DATA_PREDICTIONS, ids=lambda p: type(p).__name__)
def test_a_perfect_output_gives_the_mean_of_the_posterior(prediction: predictions.DataPrediction) -> None:
    q, t, x_0 = PROCESSES["linear"], at(2, 20, 49), normals(3)
    x_t = q.marginal(x_0, t).sample()
    p = reverse(q, prediction.target(q, x_0, x_t, t), prediction, FixedSmall())(x_t, t - 1, t)
    assert torch.allclose(p.mean, q.posterior(x_0, x_t, t - 1, t).mean, rtol=1e-8, atol=1e-10)
    assert torch.allclose(kl_divergence(q.posterior(x_0, x_t, t - 1, t), p), torch.zeros(3).double(), atol=1e-10)


def test_clipped_keeps_x_0_in_its_range_and_leaves_the_rest_alone() -> None:
    q, t = PROCESSES["linear"], at(5, 5)
    x_0, x_t = torch.tensor([[0.5], [3.0]]).double(), torch.zeros(2, 1).double()
    clipped = Clipped(Epsilon(), -1, 1)
    output = clipped.target(q, x_0, x_t, t)
    assert torch.equal(output, Epsilon().target(q, x_0, x_t, t))
    assert torch.allclose(clipped.x_0(q, output, x_t, t), torch.tensor([[0.5], [1.0]]).double())


@pytest.mark.parametrize(
    ("variance", "t", "weight"),
    [
        (FixedLarge(), 2, 0.2727),
        (FixedLarge(), 10, 0.0737),
        (FixedLarge(), 100, 0.01008),
        (FixedLarge(), 500, 0.00550),
        (FixedLarge(), 1000, 0.01020),
        (FixedSmall(), 2, 0.600),
        (FixedSmall(), 10, 0.0864),
        (FixedSmall(), 100, 0.01027),
    ],
)
def test_weights_of_equation_12(variance: variances.Variance, t: int, weight: float) -> None:
    """An error delta in eps costs beta_t^2 / (2 sigma_t^2 (1 - beta_t) (1 - alpha_bar_t)) |delta|^2 nats."""
    x_0, delta, time = normals(1), normals(1), at(t)
    x_t = DDPM.marginal(x_0, time).sample()
    eps, posterior = Epsilon().target(DDPM, x_0, x_t, time), DDPM.posterior(x_0, x_t, time - 1, time)
    right, wrong = (
        kl_divergence(posterior, reverse(DDPM, output, variance=variance)(x_t, time - 1, time)) for output in (eps, eps + delta)
    )
    assert float((wrong - right) / delta.square().sum()) == pytest.approx(weight, rel=1e-3)


def check_first_step() -> None:
    """Both fixed variances use beta-tilde_2 for the step to x_0 (2020, release), and beta_t or beta-tilde_t elsewhere."""
    s, t, output = at(0, 1, 499), at(1, 2, 500), normals(3)
    beta, step = DDPM.schedule.betas[t - 1], DDPM.step(s, t)
    large, small = (v(DDPM, output, s, s + 1, step).flatten() for v in (FixedLarge(), FixedSmall()))
    assert [float(large[0]), float(small[0])] == pytest.approx([5.453188e-5] * 2, rel=1e-6)
    assert torch.allclose(large[1:], beta[1:], rtol=1e-9)
    alpha_bar = DDPM.schedule.alpha_bar(torch.stack([s, t]))
    assert torch.allclose(small[1:], (beta * (1 - alpha_bar[0]) / (1 - alpha_bar[1]))[1:], rtol=1e-9)


def test_variance_of_the_first_step() -> None:
    check_first_step()


def test_learned_variances_read_the_second_half_of_the_channels() -> None:
    q, t, x_t = PROCESSES["linear"], at(3, 30), torch.randn(2, 3, 4, 4).double()
    mean, z = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    output, step, beta = torch.cat([mean, z], 1), q.step(t - 1, t), q.schedule.betas[t - 1].reshape(2, 1, 1, 1)
    for variance, expected in ((Learned(), z.exp()), (SigmoidPerturbation(), torch.sigmoid(z + torch.logit(beta)))):
        left, right = variance.split(output)
        assert torch.equal(left, mean)
        assert torch.allclose(variance(q, right, t - 1, t, step), expected, rtol=1e-9)
    assert reverse(q, output, variance=SigmoidPerturbation())(x_t, t - 1, t).event_shape == (3, 4, 4)


def test_the_scaled_forward_perturbation_starts_as_the_forward_step() -> None:
    q, t, x_t = PROCESSES["linear"], at(2, 40), normals(2)
    p = reverse(q, torch.zeros(2, 6).double(), ScaledForwardPerturbation(), SigmoidPerturbation())(x_t, t - 1, t)
    forward = q.kernel(x_t, t - 1, t)
    assert torch.allclose(p.mean, forward.mean)
    assert torch.allclose(p.variance, forward.variance)


def test_the_forward_perturbation_contains_the_forward_step() -> None:
    """2015, eqs. 64-65: at z_Sigma = 0 and z = x_t (sqrt(1 - beta) - (1 - beta)) / beta, p(. | x_t) is the forward kernel."""
    q, t, x_t = PROCESSES["linear"], at(2, 40), normals(2)
    beta = q.schedule.betas[t - 1, None]
    z = x_t * ((1 - beta).sqrt() - (1 - beta)) / beta
    p = reverse(q, torch.cat([z, torch.zeros_like(z)], 1), ForwardPerturbation(), SigmoidPerturbation())(x_t, t - 1, t)
    forward = q.kernel(x_t, t - 1, t)
    assert torch.allclose(p.mean, forward.mean, rtol=1e-9)
    assert torch.allclose(p.variance, forward.variance, rtol=1e-9)


@pytest.mark.parametrize(("outputs", "variance"), [(4, FixedLarge), (2, LearnedPosterior), (3, FixedSmall), (1, FixedLarge)])
def test_outputs_that_would_broadcast_are_refused(outputs: int, variance: type) -> None:
    """One value for both coordinates, or a variance's half that nothing takes: a bound of the wrong number, without a word."""
    network = Repeated(outputs)
    process = GaussianDiffusion(schedules.linear(10, 1e-3, 0.2))
    reverse = GaussianReverse(process, network, Epsilon(), variance(), Stationary())
    x, t = torch.zeros(3, 2), torch.full((3,), 5)
    for call in (lambda: reverse(x, t - 1, t), lambda: reverse.output(x, t), lambda: Simple()(reverse, x)):
        with pytest.raises(UserError, match=r"the network gives \(\d,\) for each x_t of \(2,\)"):
            call()


class Repeated(torch.nn.Module):
    """As many zeros as it is told, for each example."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(len(x), self.outputs)
