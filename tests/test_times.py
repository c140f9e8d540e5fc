"""Times of the one-term objective: spread by any q as evenly as whole numbers allow, and whatever q is, without bias."""

import gc
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_bound import frozen_noise
from torch import Tensor, nn

from dpm import schedules
from dpm.baselines.gaussian_images import GaussianImages
from dpm.bound import bound, decoder_edges, draw, term
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.objectives.one_term import OneTerm
from dpm.objectives.simple import OfNoise
from dpm.predictions.residual import LinearResidual
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.times import AsLinear, AsLinearNoise, NoiseLevels, Times, Uniform, stratified
from dpm.variances import LearnedPosterior

T, SHAPE, D = 6, (1, 1, 2), 2
VARIANCES = torch.tensor([[[1.5, 0.03]]], dtype=torch.float64)

positive = st.floats(1e-3, 1e3)
distributions = st.lists(positive, min_size=1, max_size=60).map(lambda values: torch.tensor(values, dtype=torch.float64))
sizes, firsts, seeds = st.integers(1, 300), st.integers(1, 2), st.integers(0, 2**31)


class Given(Times):
    def __init__(self, masses: Tensor) -> None:
        self.q = masses

    def masses(self, reverse, first: int) -> Tensor:
        return self.q[first - 1 :]


class Constant(nn.Module):
    """A prediction that is not the best, and a z that is not 0."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x_t, 0.3), torch.full_like(x_t, -0.5)], 1)


class Zero(nn.Module):
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x_t).repeat(1, 2, 1, 1)


def model() -> GaussianImages:
    images = GaussianImages(*SHAPE)
    images.mean.fill_(0.4)
    images.variances.copy_(VARIANCES)
    return images


def reverse(network: nn.Module | None = None, steps: int = T, beta_T: float = 0.5) -> GaussianReverse:
    q = GaussianDiffusion(schedules.linear(steps, 1e-3, beta_T))
    return GaussianReverse(q, network or Constant(), LinearResidual(model()), LearnedPosterior(), Network())


def examples(xi: Tensor) -> Tensor:
    """x_0 of the model's distribution for xi ~ N(0, I), (B, D)."""
    images = model()
    return images.image(images.variances.sqrt() * xi.reshape(-1, *SHAPE))


def exact_bound(p: GaussianReverse) -> Tensor:
    """(prior, transitions, reconstruction) in the mean over x_0 and noise, each a quadratic: the mean over all +-1."""
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2 * D)), dtype=torch.float64)
    with frozen_noise(corners[:, D:].reshape(-1, *SHAPE)):
        parts = bound(p, examples(corners[:, :D]), decoder_edges)
    return torch.cat([parts.prior[:, None], parts.transitions, parts.reconstruction[:, None]], 1).mean(0)


def check_one_term_is_unbiased(times: Times | None) -> None:
    """Over many batches the mean is that of the bound, all terms of it, within four standard errors."""
    p, objective, exact = reverse(), OneTerm(decoder_edges, times), float(exact_bound(reverse()).sum())
    means = torch.stack([objective(p, examples(torch.randn(500, D).double())).mean() for _ in range(250)])
    error = means.std().item() / math.sqrt(len(means))
    assert error < 0.01 * abs(exact)
    assert means.mean().item() == pytest.approx(exact, abs=4 * error)


@given(distributions, sizes, firsts, seeds)
def test_every_time_comes_as_often_as_it_should(masses: Tensor, n: int, first: int, seed: int) -> None:
    """n q(t) times, rounded up or down; in order, each with its weight 1 / q(t)."""
    torch.manual_seed(seed)
    t, weights = stratified(masses, n, first)
    assert (t.shape, weights.shape, t.dtype, weights.dtype) == ((n,), (n,), torch.int64, torch.float64)
    assert (t.diff() >= 0).all()
    assert t.min() >= first
    q = masses / masses.sum()
    counts, expected = torch.bincount(t - first, minlength=len(q)), n * q
    assert len(counts) == len(q)
    assert (counts >= (expected - 1e-9).floor()).all()
    assert (counts <= (expected + 1e-9).ceil()).all()
    assert torch.allclose(weights, 1 / q[t - first], rtol=1e-12)


@given(st.integers(1, 1000), sizes, firsts, seeds)
def test_uniform_times_are_whole_parts_of_a_stratified_uniform(count: int, n: int, first: int, seed: int) -> None:
    """first + floor(count (k + u) / n), one u for all k = 0..n-1; every weight is the number of terms."""
    torch.manual_seed(seed)
    t, weights = stratified(torch.ones(count, dtype=torch.float64), n, first)
    torch.manual_seed(seed)
    u = (torch.arange(n) + torch.rand(1, dtype=torch.float64)) / n
    assert torch.equal(t, first + (u * count).long())
    assert torch.equal(weights, torch.full((n,), float(count), dtype=torch.float64))


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_are_times_too(u: float, monkeypatch) -> None:
    """torch.rand can be 0, which belongs to the first time; the float below 1 is rounded up, but not beyond the last."""
    monkeypatch.setattr(torch, "rand", lambda n, **kwargs: torch.full((n,), u, dtype=torch.float64))
    t, _ = stratified(torch.ones(8, dtype=torch.float64), 8, 1)
    assert t.max() == 8
    if u == 0:
        assert t.tolist() == list(range(1, 9))


def test_uniform_masses_are_one_for_each_term_that_needs_the_network() -> None:
    for first in (1, 2):
        masses = Uniform().masses(reverse(), first)
        assert masses.dtype == torch.float64
        assert torch.equal(masses / masses[0], torch.ones(T - first + 1))


@pytest.mark.parametrize("n", [1, 7, 40])
def test_weighted_terms_are_unbiased_for_their_sum(n: int) -> None:
    """E of the mean of f(t) / q(t) is sum f, also for fewer draws than times."""
    f, masses = (torch.randn(12).double() / 2).exp(), (torch.randn(12).double() / 2).exp()
    means = []
    for _ in range(3000):
        t, weights = stratified(masses, n, 3)
        means.append((weights * f[t - 3]).mean())
    estimates = torch.stack(means)
    error = estimates.std().item() / math.sqrt(len(estimates))
    assert estimates.mean().item() == pytest.approx(f.sum().item(), abs=4 * error)
    assert error < 0.05 * f.sum().item()


def test_times_in_proportion_to_the_terms_leave_no_spread() -> None:
    f = torch.randn(12).double().exp()
    t, weights = stratified(f, 40, 1)
    assert torch.allclose(weights * f[t - 1], f.sum().expand(40), rtol=1e-12)


@pytest.mark.parametrize("first", [1, 2])
def test_linear_times_follow_the_terms_of_the_model(first: int) -> None:
    """q = 0.9 terms / sum of terms + 0.1 / number: positive everywhere, at least a tenth of the uniform."""
    p = reverse(steps=120, beta_T=0.2)  # more times than are computed at once
    q, n = AsLinear().masses(p, first), 121 - first
    assert (q.shape, q.dtype) == ((n,), torch.float64)
    assert (q >= 0.1 / n).all()
    assert q.sum().item() == pytest.approx(1, rel=1e-12)
    terms = torch.cat([p.prediction.model.terms(p.process, torch.tensor([t])) for t in range(first, 121)])
    ratio = (q - 0.1 / n) / terms
    assert torch.allclose(ratio, (0.9 / terms.sum()).expand(n), rtol=1e-9)
    assert terms.max() > 100 * terms.min()


@pytest.mark.parametrize("first", [1, 2])
def test_linear_noise_times_follow_the_error_of_eps(first: int) -> None:
    """Without its tenth of the uniform q is E|eps - eps_theta|^2 of the best linear denoiser, by draws of images and noise."""
    p = reverse(steps=120, beta_T=0.2)
    q, n = AsLinearNoise().masses(p, first), 121 - first
    assert (q.shape, q.dtype, q.requires_grad) == ((n,), torch.float64, False)
    assert q.sum().item() == pytest.approx(1, rel=1e-12)
    shares = (q - 0.1 / n) / 0.9
    torch.manual_seed(0)
    c = torch.randn(100_000, D).double()
    squares = {}
    for t in (first, 30, 120):
        alpha, sigma = (float(c) for c in p.process.schedule(torch.tensor(t)))
        eps = torch.randn_like(c)
        v = VARIANCES.flatten()
        x_t = alpha * v.sqrt() * c + sigma * eps
        of_eps = (x_t - alpha * (alpha * v / (alpha**2 * v + sigma**2)) * x_t) / sigma
        squares[t] = (eps - of_eps).square().mean().item()
    for t in (30, 120):
        ratio = (shares[t - first] / shares[0]).item()
        assert ratio == pytest.approx(squares[t] / squares[first], rel=0.03)


@pytest.mark.parametrize("times", [AsLinearNoise(), AsLinear(), Given(torch.tensor([9, 1, 2, 1, 1, 1.0]).double())])
def test_an_unbiased_loss_is_that_of_uniform_times_whatever_they_are_drawn_from(times: Times) -> None:
    """Over many batches, within four standard errors, and not so without the weights; uniform times need none."""
    p, objectives = reverse(), {True: OfNoise(times, unbiased=True), False: OfNoise(times)}
    torch.manual_seed(1)
    uniform = [OfNoise()(p, examples(torch.randn(400, D).double())).mean() for _ in range(400)]
    exact, error = torch.stack(uniform).mean().item(), torch.stack(uniform).std().item() / 20
    for unbiased, objective in objectives.items():
        means = torch.stack([objective(p, examples(torch.randn(400, D).double())).mean() for _ in range(400)])
        both = math.hypot(error, means.std().item() / 20)
        assert both < 0.02 * exact
        assert (abs(means.mean().item() - exact) < 4 * both) == unbiased
    losses = []
    for unbiased in (True, False):
        torch.manual_seed(2)
        losses.append(OfNoise(Uniform(), unbiased)(p, examples(torch.ones(5, D).double())))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("first", [1, 2])
def test_noise_levels_are_a_bell_around_the_median(first: int) -> None:
    """q = 0.9 bell / sum of bell + 0.1 / number, with its top where sigma / alpha is nearest to the median."""
    p = reverse(steps=200, beta_T=0.1)
    q, n = NoiseLevels(0.6, 0.5).masses(p, first), 201 - first
    assert (q.shape, q.dtype) == ((n,), torch.float64)
    assert q.sum().item() == pytest.approx(1, rel=1e-12)
    alpha, sigma = p.process.schedule(torch.arange(first, 201))
    log_r = (sigma / alpha).log()
    assert q.argmax() == (log_r - math.log(0.6)).abs().argmin()
    bell = torch.distributions.Normal(math.log(0.6), 0.5).log_prob(log_r).exp()
    assert torch.allclose((q - 0.1 / n) / (q - 0.1 / n).sum(), bell / bell.sum(), rtol=1e-9)


@pytest.mark.parametrize(("median", "spread"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_noise_levels_refuse_what_has_no_logarithm(median: float, spread: float) -> None:
    with pytest.raises(UserError, match="median > 0"):
        NoiseLevels(median, spread)


def test_linear_times_are_computed_once_for_each_reverse_process(monkeypatch) -> None:
    calls: list[int] = []
    real = GaussianImages.terms

    def counted(self: GaussianImages, q: GaussianDiffusion, t: Tensor) -> Tensor:
        calls.append(len(t))
        return real(self, q, t)

    monkeypatch.setattr(GaussianImages, "terms", counted)
    times, p, other = AsLinear(), reverse(), reverse(steps=9)
    one, two = times.masses(p, 1), times.masses(p, 2)
    assert (len(one), len(two)) == (T, T - 1)
    known = sum(calls)
    assert torch.equal(times.masses(p, 1), one)
    assert torch.equal(times.masses(p, 2), two)
    assert sum(calls) == known
    assert len(times.masses(other, 1)) == 9
    assert sum(calls) == known + 9
    del p
    gc.collect()
    assert len(times.known) == 1


def test_linear_times_carry_no_gradient() -> None:
    p = reverse()
    p.prediction.model.variances.requires_grad_()
    assert not AsLinear().masses(p, 1).requires_grad


@pytest.mark.parametrize("name", ["none", "uniform", "linear", "any"])
def test_one_term_is_unbiased_for_the_bound(name: str) -> None:
    """With the decoder as the term at t = 1, whatever the times are drawn from."""
    times = {
        "none": None,
        "uniform": Uniform(),
        "linear": AsLinear(),
        "any": Given(torch.tensor([3, 1, 2, 1, 4, 2.0]).double()),
    }
    check_one_term_is_unbiased(times[name])


def test_one_term_of_an_example_is_its_prior_and_its_weighted_term() -> None:
    p, x_0, q = reverse(), examples(torch.randn(9, D).double()), torch.tensor([3, 1, 2, 1, 4, 2.0]).double()
    torch.manual_seed(3)
    value = OneTerm(decoder_edges, Given(q))(p, x_0)
    torch.manual_seed(3)
    t, weights = stratified(q, 9, 1)
    terms = term(p, x_0, draw(p.process, x_0, t), t - 1, t)
    assert t.min() == 1
    assert torch.allclose(value, decoder_edges.prior(p, x_0) + weights * terms, rtol=1e-12)


def test_terms_come_back_in_the_order_of_the_batch() -> None:
    """Where the decoder's step and transitions are mixed in one batch, and not sorted."""
    p, t = reverse(), torch.tensor([3, 1, 6, 1, 2])
    x_0, x_t = examples(torch.randn(5, D).double()), torch.randn(5, *SHAPE).double()
    alone = torch.cat([term(p, x_0[i : i + 1], x_t[i : i + 1], t[i : i + 1] - 1, t[i : i + 1]) for i in range(5)])
    assert torch.allclose(term(p, x_0, x_t, t - 1, t), alone, rtol=1e-12)


def test_one_term_in_float32_stays_so() -> None:
    p = reverse()
    assert OneTerm(decoder_edges, AsLinear())(p, examples(torch.randn(9, D).double()).float()).dtype == torch.float32


def test_linear_times_lower_the_spread_of_the_objective() -> None:
    """Where the terms span orders of magnitude: here those of the best linear process on data of its own model."""
    p = reverse(Zero(), steps=200, beta_T=0.1)
    x_0 = examples(torch.randn(4000, D).double())
    uniform, linear = (OneTerm(decoder_edges, times)(p, x_0).std().item() for times in (Uniform(), AsLinear()))
    assert linear < 0.5 * uniform
