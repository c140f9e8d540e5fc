"""The Gaussian model of images is linear algebra: every formula per coefficient against the dense matrices that it stands for.

A function of eps that is a quadratic has its exact mean over N(0, I) as the mean over the 2 D vectors +- sqrt(D) e_j.
"""

import math

import pytest
import torch
from test_bound import CONVENTIONS, frozen_noise
from torch import Tensor, nn

from dpm import schedules
from dpm.bound import bound
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network
from dpm.image_model import GaussianImages
from dpm.oracles.gaussian import GaussianOracle
from dpm.predictions import LinearResidual
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.variances import LearnedPosterior

SHAPE, D = (2, 4, 3), 24  # taller than wide: rows are not columns
Q = GaussianDiffusion(schedules.linear(50, 1e-4, 0.2))
DDPM = GaussianDiffusion(schedules.linear(1000, 1e-4, 0.02))
TIMES = torch.tensor([2, 3, 10, 50])
EYE = torch.eye(D, dtype=torch.float64)


def cosines(n: int) -> Tensor:
    """The orthonormal DCT-II: c_k(i) = sqrt(2 / n) cos(pi (i + 1/2) k / n), sqrt(1 / n) for k = 0."""
    i = torch.arange(n, dtype=torch.float64)
    matrix = math.sqrt(2 / n) * torch.cos(math.pi * (i + 0.5) * i[:, None] / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def spectral(spread: float = 1.0) -> GaussianImages:
    """Any mean, any two colours, variances over several orders of magnitude; the first colour has less than the second."""
    model = GaussianImages(*SHAPE)
    variances = torch.exp(spread * torch.randn(SHAPE, dtype=torch.float64))
    model.variances.copy_(variances * torch.tensor([0.1, 1.0])[:, None, None])
    model.mean.copy_(torch.randn(SHAPE))
    angle = torch.tensor(0.6).double()
    model.colours.copy_(torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()]).reshape(2, 2))
    return model


def basis(model: GaussianImages) -> Tensor:
    """A, (D, D): row (d, k, l) is the coefficient's cosine pattern in the colour d."""
    _, height, width = model.mean.shape
    return torch.kron(model.colours, torch.kron(cosines(height), cosines(width)))


def covariance(model: GaussianImages) -> Tensor:
    """Sigma = A^T diag(v) A."""
    A = basis(model)
    return A.T @ torch.diag(model.variances.flatten()) @ A


def posterior(model: GaussianImages, q: GaussianDiffusion, t: int) -> tuple[float, Tensor, Tensor]:
    """alpha_t, the gain alpha Sigma (alpha^2 Sigma + sigma^2 I)^-1 and Cov[x_0 | x_t], dense."""
    alpha, sigma = (c.item() for c in q.schedule(torch.tensor(t)))
    Sigma = covariance(model)
    gain = alpha * Sigma @ torch.linalg.inv(alpha**2 * Sigma + sigma**2 * EYE)
    return alpha, gain, Sigma - alpha * gain @ Sigma


def draws(model: GaussianImages, n: int) -> Tensor:
    return model.image(model.variances.sqrt() * torch.randn(n, *model.mean.shape, dtype=torch.float64))


def exact_noise(dimensions: int) -> Tensor:
    """+- sqrt(D) e_j, over which a quadratic has its mean over N(0, I)."""
    eye = math.sqrt(dimensions) * torch.eye(dimensions, dtype=torch.float64)
    return torch.cat([eye, -eye])


def times(t: int, like: Tensor) -> Tensor:
    return torch.full((len(like),), t)


class Zero(nn.Module):
    """An untrained network: prediction and z are 0."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x_t).repeat(1, 2, 1, 1)


def test_coefficients_and_image_are_inverse_and_orthonormal() -> None:
    model, x = spectral(), torch.randn(5, *SHAPE, dtype=torch.float64)
    c = model.coefficients(x)
    assert torch.allclose(model.image(c), x, rtol=1e-12, atol=1e-12)
    assert torch.allclose(c.square().sum(), (x - model.mean).square().sum(), rtol=1e-12)
    assert torch.allclose(basis(model) @ basis(model).T, EYE, atol=1e-12)


def test_coefficients_are_those_of_the_cosines() -> None:
    model, x = spectral(), torch.randn(5, *SHAPE, dtype=torch.float64)
    assert torch.allclose(model.coefficients(x).flatten(1), (x - model.mean).flatten(1) @ basis(model).T, atol=1e-12)
    flat = torch.ones(1, *SHAPE).double()
    assert torch.allclose(GaussianImages(*SHAPE).coefficients(flat)[0, :, 0, 0], torch.full((2,), math.sqrt(12)).double())


def test_it_starts_as_the_standard_normal() -> None:
    model, q, t = GaussianImages(*SHAPE), Q, TIMES
    assert torch.allclose(covariance(model), EYE, atol=1e-12)
    assert not model.mean.any()
    alpha, sigma = (c[:, None, None, None] for c in q.schedule(t))
    x_t = torch.randn(4, *SHAPE, dtype=torch.float64)
    assert torch.allclose(model.posterior_mean(q, x_t, t), alpha * x_t, rtol=1e-9, atol=1e-12)
    assert torch.allclose(model.error(q, t), sigma.flatten().square(), rtol=1e-9)


def test_fit_recovers_the_model_that_drew_the_examples() -> None:
    truth, model, n = spectral(0.5), GaussianImages(*SHAPE), 20_000
    model.fit(draws(truth, n))
    standard_errors = (covariance(truth).diagonal().reshape(SHAPE) / n).sqrt()
    assert ((model.mean - truth.mean).abs() < 4.5 * standard_errors).all()
    assert torch.allclose(model.variances, truth.variances, rtol=4.5 * math.sqrt(2 / n))
    signs = torch.sign((model.colours * truth.colours).sum(1, keepdim=True))  # an axis has no direction
    assert torch.allclose(signs * model.colours, truth.colours, atol=0.02)


def test_fit_takes_the_moments_of_the_examples_and_the_principal_colours() -> None:
    """Exact for any examples: their mean, their mean squares in the model's basis, uncorrelated colours; in batches too."""
    mixed = torch.tensor([[1, 0.5, 0.2], [0, 1, 0.7], [0.3, 0, 1]]).double()
    x_0 = torch.einsum("dc,bchw->bdhw", mixed, torch.randn(50, 3, 4, 2).double().exp())
    x_0 = x_0.float().double()
    model, in_batches, in_float32 = (GaussianImages(3, 4, 2) for _ in range(3))
    model.fit(x_0)
    in_batches.fit(x_0, batch_size=7)
    in_float32.fit(x_0.float(), batch_size=7)
    centred = x_0 - x_0.mean(0)
    squares = (centred.flatten(1) @ basis(model).T).square().mean(0)
    assert torch.allclose(model.mean, x_0.mean(0), rtol=1e-12)
    assert torch.allclose(model.variances.flatten(), squares, rtol=1e-9)
    assert torch.allclose(model.variances.sum(), centred.square().sum((1, 2, 3)).mean(), rtol=1e-9)
    colours = model.colours @ centred.transpose(0, 1).flatten(1)
    products = colours @ colours.T
    assert torch.allclose(products, torch.diag(products.diagonal()), atol=1e-9 * float(products.max()))
    assert torch.allclose(model.colours @ model.colours.T, torch.eye(3).double(), atol=1e-12)
    for name, buffer in model.state_dict().items():
        assert torch.allclose(in_batches.state_dict()[name], buffer, rtol=1e-9, atol=1e-9)
        assert in_float32.state_dict()[name].dtype == torch.float64
        assert torch.allclose(in_float32.state_dict()[name], buffer, rtol=1e-9, atol=1e-9)  # sums are in float64


def test_the_posterior_is_that_of_the_dense_covariance() -> None:
    """E[x_0 | x_t] = mean + alpha Sigma (alpha^2 Sigma + sigma^2 I)^-1 (x_t - alpha mean), r^2 = tr Cov[x_0 | x_t] / D."""
    model, x_t = spectral(), 2 * torch.randn(4, *SHAPE, dtype=torch.float64)
    mean, error, (k, variance) = model.posterior_mean(Q, x_t, TIMES), model.error(Q, TIMES), model.gain(Q, TIMES)
    A = basis(model)
    for i, t in enumerate(TIMES.tolist()):
        alpha, gain, Cov = posterior(model, Q, t)
        expected = model.mean.flatten() + gain @ (x_t[i] - alpha * model.mean).flatten()
        assert torch.allclose(mean[i].flatten(), expected, rtol=1e-9, atol=1e-9)
        assert error[i].item() == pytest.approx(float(Cov.trace()) / D, rel=1e-9)
        assert torch.allclose(A @ gain @ A.T, torch.diag(k[i].flatten()), atol=1e-9)
        assert torch.allclose(A @ Cov @ A.T, torch.diag(variance[i].flatten()), atol=1e-9)


def test_the_posterior_mean_in_float32_is_that_of_float64() -> None:
    model, t = spectral(), torch.tensor([1, 2, 10, 100, 500, 1000])
    x_t = torch.randn(6, *SHAPE, dtype=torch.float64)
    single, double = model.posterior_mean(DDPM, x_t.float(), t), model.posterior_mean(DDPM, x_t, t)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, rtol=1e-4, atol=1e-5)


def test_the_expected_square_error_is_the_mean_over_the_noise() -> None:
    model, eps = spectral(), exact_noise(D).reshape(-1, *SHAPE)
    x_0 = 2 * torch.randn(len(TIMES), *SHAPE, dtype=torch.float64)
    squares = model.coefficients(x_0).square()
    expected = model.expected_square_error(Q, squares, TIMES)
    for i, t in enumerate(TIMES.tolist()):
        alpha, sigma = (c.item() for c in Q.schedule(torch.tensor(t)))
        miss = x_0[i] - model.posterior_mean(Q, alpha * x_0[i] + sigma * eps, times(t, eps))
        assert expected[i].item() == pytest.approx(miss.square().sum((1, 2, 3)).mean().item(), rel=1e-9)
        same = TIMES[i].expand(len(x_0))
        each, mean = (model.expected_square_error(Q, s, same) for s in (squares, squares.mean(0)))
        assert each.mean().item() == pytest.approx(mean[0].item(), rel=1e-12)
    of_the_model = model.expected_square_error(Q, model.variances, TIMES)
    assert torch.allclose(of_the_model, D * model.error(Q, TIMES), rtol=1e-9)


def test_terms_are_the_mutual_information_of_a_step() -> None:
    """With the exact reverse process, of full covariance, E KL is I(X_0; X_{t-1} | X_t) = I(X_0; X_{t-1}) - I(X_0; X_t)."""
    model, t = spectral(), torch.arange(2, 51)
    Sigma = covariance(model)

    def information(time: int) -> float:
        alpha, sigma = (c.item() for c in Q.schedule(torch.tensor(time)))
        return float(torch.linalg.slogdet(EYE + alpha**2 / sigma**2 * Sigma).logabsdet) / 2

    expected = [information(time - 1) - information(time) for time in t.tolist()]
    assert torch.allclose(model.terms(Q, t), torch.tensor(expected, dtype=torch.float64), rtol=1e-8)
    for time in (2, 50):
        _, _, Cov = posterior(model, Q, time)
        step = Q.step(torch.tensor(time - 1), torch.tensor(time))
        kl = torch.linalg.slogdet(EYE + step.on_x_0**2 / step.posterior_variance * Cov).logabsdet / 2
        assert model.terms(Q, torch.tensor([time])).item() == pytest.approx(float(kl), rel=1e-9)


def test_the_term_at_1_counts_grey_levels() -> None:
    """The variance of a grey level, 1/12 of its square, takes the place of beta-tilde, which is 0 there."""
    model = spectral()
    _, _, Cov = posterior(model, Q, 1)
    expected = torch.linalg.slogdet(EYE + Cov / ((2 / 255) ** 2 / 12)).logabsdet / 2
    assert model.terms(Q, torch.tensor([3, 1]))[1].item() == pytest.approx(float(expected), rel=1e-9)


def test_the_linear_residual_and_its_target_are_inverse() -> None:
    for model in (spectral(), GaussianImages(*SHAPE)):
        prediction, t = LinearResidual(model), torch.arange(1, 51)
        x_0 = 3 * torch.randn(50, *SHAPE, dtype=torch.float64)
        x_t = Q.marginal(x_0, t).sample()
        assert torch.allclose(prediction.x_0(Q, prediction.target(Q, x_0, x_t, t), x_t, t), x_0, rtol=1e-9, atol=1e-9)


def test_an_output_of_zero_is_the_linear_denoiser_and_one_is_its_error() -> None:
    model, x_t = spectral(), torch.randn(4, *SHAPE, dtype=torch.float64)
    prediction = LinearResidual(model)
    best, at_one = (prediction.x_0(Q, value * torch.ones_like(x_t), x_t, TIMES) for value in (0, 1))
    for i, t in enumerate(TIMES.tolist()):
        alpha, gain, Cov = posterior(model, Q, t)
        expected = model.mean.flatten() + gain @ (x_t[i] - alpha * model.mean).flatten()
        assert torch.allclose(best[i].flatten(), expected, rtol=1e-9, atol=1e-9)
        assert torch.allclose(at_one[i] - best[i], (Cov.trace() / D).sqrt().expand(SHAPE), rtol=1e-9)


@pytest.mark.parametrize("t", TIMES.tolist())
def test_the_target_has_mean_square_1_on_data_of_the_model(t: int) -> None:
    """r_t is the root mean square error: exact over x_0 and eps together, in which the square of the target is a quadratic."""
    model, both = spectral(), exact_noise(2 * D)
    alpha, sigma = (c.item() for c in Q.schedule(torch.tensor(t)))
    x_0 = model.image(model.variances.sqrt() * both[:, :D].reshape(-1, *SHAPE))
    x_t = alpha * x_0 + sigma * both[:, D:].reshape(-1, *SHAPE)
    target = LinearResidual(model).target(Q, x_0, x_t, times(t, x_0))
    assert target.square().mean().item() == pytest.approx(1, rel=1e-9)


def test_the_model_moves_and_is_saved_with_the_prediction() -> None:
    prediction = LinearResidual(spectral())
    assert set(prediction.state_dict()) == {"model.mean", "model.variances", "model.colours"}
    other = LinearResidual(GaussianImages(*SHAPE))
    other.load_state_dict(prediction.state_dict())
    x_t = torch.randn(4, *SHAPE, dtype=torch.float64)
    assert torch.equal(other.model.posterior_mean(Q, x_t, TIMES), prediction.model.posterior_mean(Q, x_t, TIMES))


def test_an_untrained_network_is_the_oracle_of_standard_normal_data() -> None:
    """z = 0 is Var[x_0 | x_t] = sigma_t^2: the variance, and with the linear residual the mean, of the best reverse process."""
    p = GaussianReverse(Q, Zero(), LinearResidual(GaussianImages(*SHAPE)), LearnedPosterior(), Network())
    oracle = GaussianOracle(Q, GaussianData(D), Network())
    for s, t in ((1, 2), (9, 10), (49, 50), (3, 30), (0, 1), (0, 7)):
        x_t = 2 * torch.randn(3, *SHAPE, dtype=torch.float64)
        ours, best = (reverse(x_t, times(s, x_t), times(t, x_t)) for reverse in (p, oracle))
        assert torch.allclose(ours.variance, best.variance, rtol=1e-9, atol=0)
        assert torch.allclose(ours.mean, best.mean, rtol=1e-9, atol=1e-12)


def test_the_bound_of_an_untrained_network_on_standard_normal_data_is_the_entropy() -> None:
    shape = (1, 2, 1)
    p = GaussianReverse(Q, Zero(), LinearResidual(GaussianImages(*shape)), LearnedPosterior(), Network())
    both = exact_noise(4)  # every term is a quadratic in (x_0, eps)
    with frozen_noise(both[:, 2:].reshape(-1, *shape)):
        total = bound(p, both[:, :2].reshape(-1, *shape), CONVENTIONS["decoder"][0]).total
    assert total.mean().item() == pytest.approx(math.log(2 * math.pi * math.e), rel=1e-9)


def test_the_learned_variance_is_its_formula_and_never_below_beta_tilde() -> None:
    """beta-tilde + b^2 sigma_t^2 exp(z), for s >= 1 and for the decoder's step, whose beta-tilde is 0."""
    z = torch.tensor([-1e6, -16, -2, 0.0, 3, 16, 1e6])
    for dtype in (torch.float32, torch.float64):
        for s, t in ((0, 1), (1, 2), (499, 500), (999, 1000)):
            output = torch.stack([torch.full_like(z, 7), z], 1)[:, :, None, None].to(dtype).requires_grad_()
            at = times(s, z), times(t, z)
            step = DDPM.step(*at)
            left, variance = LearnedPosterior()(DDPM, output, *at, step)
            assert torch.equal(left, torch.full_like(left, 7))
            assert variance.dtype == dtype
            assert variance.shape == (7, 1, 1, 1)
            values, beta_tilde = variance.detach().double().flatten(), step.posterior_variance
            assert (values >= beta_tilde.to(dtype).double()).all()
            assert ((values > 0) & values.isfinite()).all()
            assert (values.diff() >= 0).all()
            sigma2 = DDPM.schedule(torch.tensor(t))[1] ** 2
            formula = beta_tilde + step.on_x_0**2 * sigma2 * z.double().exp()
            assert torch.allclose(values[1:-1], formula[1:-1], rtol=1e-5 if dtype == torch.float32 else 1e-9, atol=0)
            variance.log().sum().backward()
            assert output.grad.isfinite().all()
