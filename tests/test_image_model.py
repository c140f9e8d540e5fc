"""The Gaussian model of images is linear algebra: every formula per coefficient against the dense matrices that it stands for.

A function of eps that is a quadratic has its exact mean over N(0, I) as the mean over the 2 D vectors +- sqrt(D) e_j.
"""

import math

import pytest
import torch
from test_bound import CONVENTIONS, frozen_noise
from torch import Tensor, nn

from dpm import schedules
from dpm.baselines.gaussian_images import GaussianImages, resized
from dpm.bound import bound
from dpm.data.dead_leaves import DeadLeaves
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network
from dpm.oracles.gaussian import GaussianOracle
from dpm.predictions.papers import Epsilon
from dpm.predictions.residual import LinearResidual, WhitenedResidual
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse, clipped
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


@pytest.mark.parametrize(("method", "rtol", "atol"), [("posterior_mean", 1e-4, 1e-5), ("whitened", 1e-3, 1e-4)])
def test_in_float32_it_is_that_of_float64(method: str, rtol: float, atol: float) -> None:
    of, t = getattr(spectral(), method), torch.tensor([1, 2, 10, 100, 500, 1000])
    x_t = torch.randn(6, *SHAPE, dtype=torch.float64)
    single, double = of(DDPM, x_t.float(), t), of(DDPM, x_t, t)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, rtol=rtol, atol=atol)


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
            left, right = LearnedPosterior().split(output)
            variance = LearnedPosterior()(DDPM, right, *at, step)
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


# --- whitened ------------------------------------------------------------------------------------------------------------


def test_whitening_is_the_inverse_square_root_of_the_dense_covariance() -> None:
    """(alpha^2 Sigma + sigma^2 I)^(-1/2) (x_t - alpha mean), the symmetric root."""
    model, x_t = spectral(), 2 * torch.randn(4, *SHAPE, dtype=torch.float64)
    white = model.whitened(Q, x_t, TIMES)
    for i, t in enumerate(TIMES.tolist()):
        alpha, sigma = (c.item() for c in Q.schedule(torch.tensor(t)))
        values, vectors = torch.linalg.eigh(alpha**2 * covariance(model) + sigma**2 * EYE)
        root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
        assert torch.allclose(white[i].flatten(), root @ (x_t[i] - alpha * model.mean).flatten(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", TIMES.tolist())
def test_data_of_the_model_are_white_after_it(t: int) -> None:
    """Mean 0 and covariance I, exactly: both are quadratics in x_0 and eps."""
    model, both = spectral(), exact_noise(2 * D)
    alpha, sigma = (c.item() for c in Q.schedule(torch.tensor(t)))
    x_0 = model.image(model.variances.sqrt() * both[:, :D].reshape(-1, *SHAPE))
    white = model.whitened(Q, alpha * x_0 + sigma * both[:, D:].reshape(-1, *SHAPE), times(t, x_0)).flatten(1)
    assert torch.allclose(white.mean(0), torch.zeros(D).double(), atol=1e-9)
    assert torch.allclose(white.T @ white / len(white), EYE, atol=1e-9)


class Watched(nn.Module):
    """Keeps what it is shown; the output is a function of it and of t."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.seen = x_t
        return torch.cat([x_t.sin(), x_t / 3], 1) * t[:, None, None, None] / 50


@pytest.mark.parametrize("wrap", [lambda p: p, clipped], ids=["as it is", "clipped"])
def test_the_network_sees_what_its_prediction_says(wrap) -> None:
    """White images with the whitened residual, x_t itself with any other; clipping changes the mean and not the input."""
    model, x_t, t = spectral(), 2 * torch.randn(4, *SHAPE, dtype=torch.float64), TIMES
    for prediction, expected in (
        (WhitenedResidual(model), model.whitened(Q, x_t, t)),
        (LinearResidual(model), x_t),
        (Epsilon(), x_t),
    ):
        p = wrap(GaussianReverse(Q, Watched(), prediction, LearnedPosterior(), Network()))
        for call in (p.step, p.__call__, lambda x, s, t, p=p: p.output(x, t)):
            p.network.seen = None
            call(x_t, t - 1, t)
            assert torch.equal(p.network.seen, expected)
        assert torch.equal(p.output(x_t, t), p.raw(x_t, t)[:, :2])


def test_the_whitened_residual_is_the_linear_one_with_a_whitened_input() -> None:
    model, x_t, t = spectral(), torch.randn(4, *SHAPE, dtype=torch.float64), TIMES
    ours = GaussianReverse(Q, Watched(), WhitenedResidual(model), LearnedPosterior(), Network())(x_t, t - 1, t)

    class Before(Watched):
        def forward(self, x: Tensor, times: Tensor) -> Tensor:
            return super().forward(model.whitened(Q, x, times), times)

    expected = GaussianReverse(Q, Before(), LinearResidual(model), LearnedPosterior(), Network())(x_t, t - 1, t)
    assert torch.equal(ours.mean, expected.mean)
    assert torch.equal(ours.variance, expected.variance)
    x_0 = torch.randn_like(x_t)
    target = WhitenedResidual(model).target(Q, x_0, x_t, t)
    assert torch.allclose(WhitenedResidual(model).x_0(Q, target, x_t, t), x_0, rtol=1e-9, atol=1e-9)


# --- resized -------------------------------------------------------------------------------------------------------------


def exponential(height: int, width: int, lengths: tuple[float, float] = (1.0, 0.5)) -> GaussianImages:
    """Cov = exp(-|dy| / a - |dx| / b) on an image of this size: the variances of its cosines, from the dense matrices."""
    model, variances = GaussianImages(1, height, width), []
    for n, length in zip((height, width), lengths, strict=True):
        i = torch.arange(n, dtype=torch.float64)
        variances.append((cosines(n) @ torch.exp(-(i - i[:, None]).abs() / length) @ cosines(n).T).diagonal())
    model.variances.copy_(torch.outer(*variances)[None])
    return model


def miss(height: int, width: int, factor: float, lengths: tuple[float, float]) -> Tensor:
    """How far the prediction for `factor` times the size is off, relative, for each cosine."""
    other = round(factor * height), round(factor * width)
    return exponential(height, width, lengths).resized(*other).variances[0] / exponential(*other, lengths).variances[0] - 1


def test_what_the_border_takes_from_the_spectrum() -> None:
    """v = S - (H' + H / sin theta) / n, at k = 0 without the second one, and for long correlations that is nearly S^2 / n."""
    n, length, d = 128, 4.0, torch.arange(1, 400).double()
    variances = exponential(n, 1, (length, 1.0)).variances[0, :, 0]
    c, theta = torch.exp(-d / length), math.pi * torch.arange(n)[:, None].double() / n
    S, H = 1 + 2 * (c * torch.cos(d * theta)).sum(1), 2 * (c * torch.sin(d * theta)).sum(1)
    bracket = 2 * (d * c * torch.cos(d * theta)).sum(1)
    bracket[1:] += H[1:] / torch.sin(theta[1:, 0])
    assert torch.allclose(variances, S - bracket / n, rtol=1e-9)
    assert bracket[0] == pytest.approx(float(S[0]) ** 2 / 2, rel=0.03)
    assert torch.allclose(bracket[1:20], S[1:20] ** 2, rtol=0.1)


@pytest.mark.parametrize("lengths", [(1.0, 0.5), (6.0, 3.0)])
@pytest.mark.parametrize("factor", [2.0, 1.5, 0.5])
def test_the_spectrum_of_a_stationary_process_is_found_at_another_size(lengths: tuple[float, float], factor: float) -> None:
    """Within a few per cent for each cosine, wherever correlations reach; the error falls faster than 1 / size."""
    coarse, fine = (miss(height, width, factor, lengths) for height, width in ((32, 24), (64, 48)))
    assert fine.abs().max() < (0.012 if lengths[0] == 1 else 0.07)
    assert fine.square().mean().sqrt() < coarse.square().mean().sqrt() / 2


def test_a_pixel_keeps_its_variance() -> None:
    """In every colour, exactly; white noise, which has no neighbours to lose, stays nearly white."""
    model = spectral(2.0)
    for size in ((16, 12), (2, 2), (4, 30), (1, 1)):
        variances = model.resized(*size).variances
        assert torch.allclose(variances.mean((1, 2)), model.variances.mean((1, 2)), rtol=1e-12)
        assert (variances > 0).all()
    white = GaussianImages(1, 64, 48).resized(128, 192).variances
    assert torch.allclose(white, torch.ones(1, 128, 192).double(), rtol=0.03)


def test_dead_leaves_of_one_size_say_what_larger_ones_are() -> None:
    """Fitted to 16 x 16 and to 64 x 64 pixels of the same images. A quarter of the size misses no more than a few per cent."""
    source = DeadLeaves(n_training=60, n_test=1, side=64, exponent=3.0, r_min=1.0, r_max=8.0, noise=2.0, seed=0)
    images = torch.tensor(source(".")[0]).double()
    small, large = GaussianImages(1, 16, 16), GaussianImages(1, 64, 64)
    small.fit(images.unfold(2, 16, 16).unfold(3, 16, 16).reshape(-1, 1, 16, 16))
    large.fit(images)
    found, truth = small.resized(64, 64).variances[0], large.variances[0]
    frequency = torch.hypot(torch.arange(64.0)[:, None], torch.arange(64.0)) / 4
    for low, high in ((0, 1), (1, 2), (2, 4), (4, 8), (8, 99)):  # in units of the lowest one known
        band = (frequency >= low) & (frequency < high)
        error = truth[band].norm() / truth[band].sum() * math.sqrt(2 / len(images))  # of a variance from n draws
        assert float(found[band].sum() / truth[band].sum()) == pytest.approx(1, abs=0.06 + 2 * float(error))


def test_the_same_size_has_the_same_spectrum_and_any_size_the_mean_colour() -> None:
    model = spectral()
    same, other = model.resized(*SHAPE[1:]), model.resized(10, 7)
    assert torch.allclose(same.variances, model.variances, rtol=1e-12)
    for copy in (same, other):
        assert torch.equal(copy.colours, model.colours)
        assert torch.allclose(copy.mean, model.mean.mean((1, 2), keepdim=True).expand_as(copy.mean), rtol=1e-12)
    flat = model
    flat.mean.copy_(model.mean.mean((1, 2), keepdim=True).expand_as(model.mean))
    x_t = torch.randn(4, *SHAPE, dtype=torch.float64)
    assert torch.allclose(same.posterior_mean(Q, x_t, TIMES), flat.posterior_mean(Q, x_t, TIMES), rtol=1e-9, atol=1e-9)


def test_a_resized_process_is_another_one_for_the_other_size() -> None:
    """Its network and schedule are copies, its Gaussian model is resized; the original is as it was, to the last bit."""
    model, network = exponential(8, 6), nn.Conv2d(1, 2, 3, padding=1).double()

    class OfAnySize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = network

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            return self.convolution(x_t)

    p = GaussianReverse(Q, OfAnySize(), WhitenedResidual(model), LearnedPosterior(), Network())
    before = {name: value.clone() for name, value in p.state_dict().items()}
    x_t, t = torch.randn(2, 1, 8, 6).double(), torch.tensor([3, 30])
    mean = p(x_t, t - 1, t).mean
    large = resized(p, 16, 18)
    assert large(torch.randn(2, 1, 16, 18).double(), t - 1, t).mean.shape == (2, 1, 16, 18)
    assert torch.equal(large.prediction.model.variances, model.resized(16, 18).variances)
    for value in (*large.parameters(), *large.buffers()):
        value.data.zero_()
    assert torch.equal(p(x_t, t - 1, t).mean, mean)
    assert p.prediction.model is model
    assert all(torch.equal(before[name], value) for name, value in p.state_dict().items())


def test_the_model_inside_of_a_clipped_prediction_is_resized() -> None:
    model, x_t, t = exponential(8, 6), torch.randn(2, 1, 16, 18).double(), torch.tensor([3, 30])
    p = clipped(GaussianReverse(Q, Zero(), LinearResidual(model), LearnedPosterior(), Network()))
    large = resized(p, 16, 18)
    expected = LinearResidual(model.resized(16, 18)).x_0(Q, torch.zeros_like(x_t), x_t, t).clamp(-1, 1)
    assert torch.equal(large.predicted(x_t, t), expected)
    assert p.prediction.prediction.model is model


def test_a_process_without_a_model_is_copied() -> None:
    p = GaussianReverse(Q, Zero(), Epsilon(), LearnedPosterior(), Network())
    copy, x_t, t = resized(p, 9, 9), torch.randn(4, *SHAPE).double(), TIMES
    assert copy is not p
    assert torch.equal(copy(x_t, t - 1, t).mean, p(x_t, t - 1, t).mean)
