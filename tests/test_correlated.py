"""Steps correlated in the cosine basis: every formula against the dense matrices that it stands for; what fitting promises."""

import math

import pytest
import torch
from test_image_model import SHAPE, basis, draws, spectral
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from dpm import schedules, seeds
from dpm.baselines.gaussian_images import GaussianImages
from dpm.bound import draw, term, transition
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.predictions.residual import LinearResidual
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse.correlated import Correlated, CorrelatedNormal, correlated, fitted_spectrum
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.ancestral import ancestral
from dpm.variances import LearnedPosterior

N, Q = 5, GaussianDiffusion(schedules.linear(50, 1e-4, 0.2))


def step(n: int = N) -> tuple[CorrelatedNormal, MultivariateNormal]:
    """Any mean, standard deviations and spectrum, one of each for an example; and the same with dense matrices."""
    model, generator = spectral(), torch.Generator().manual_seed(7)
    mean, std, spectrum = (torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    p, A = CorrelatedNormal(mean, std.exp(), spectrum.exp(), model), basis(model)
    D = torch.diag_embed(p.std.flatten(1))
    return p, MultivariateNormal(mean.flatten(1), D @ A.T @ torch.diag_embed(p.spectrum.flatten(1)) @ A @ D)


def values(n: int = N) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def test_the_diagonals_are_those_of_the_products() -> None:
    model, v = spectral(), values().exp()
    A, v_ = basis(model), torch.diag_embed(v.flatten(1))
    assert torch.allclose(model.at_pixels(v).flatten(1), (A.T @ v_ @ A).diagonal(dim1=1, dim2=2))
    assert torch.allclose(model.at_coefficients(v).flatten(1), (A @ v_ @ A.T).diagonal(dim1=1, dim2=2))
    assert torch.allclose(model.synthesised(model.analysed(v)), v)


def test_density_entropy_and_variance_are_those_of_the_dense_normal() -> None:
    p, dense = step()
    x = values()
    assert torch.allclose(p.log_prob(x), dense.log_prob(x.flatten(1)), rtol=1e-10)
    assert torch.allclose(p.entropy(), dense.entropy(), rtol=1e-10)
    assert torch.allclose(p.variance.flatten(1), dense.variance, rtol=1e-10)
    assert torch.equal(p.mean, p.mode)


def test_divergence_is_that_of_the_dense_normal() -> None:
    """From any independent normal values, whose variances differ, as from the isotropic posterior of the paper."""
    p, dense = step()
    for std in (values().exp(), torch.full_like(values(), 0.3)):
        q = normal(values(), std)
        expected = kl_divergence(MultivariateNormal(values().flatten(1), torch.diag_embed(std.flatten(1).square())), dense)
        assert kl_divergence(q, p).shape == (N,)
        assert torch.allclose(kl_divergence(q, p), expected, rtol=1e-10)
    with pytest.raises(NotImplementedError):
        kl_divergence(Independent(Normal(values(), values().exp()), 2), p)


def test_a_flat_spectrum_is_the_diagonal_normal() -> None:
    p, x, q = step()[0], values(), normal(values(), 0.2 + values().square())
    flat, diagonal = CorrelatedNormal(p.mean, p.std, torch.ones(()), p.basis), normal(p.mean, p.std)
    assert torch.allclose(flat.log_prob(x), diagonal.log_prob(x))
    assert torch.allclose(kl_divergence(q, flat), kl_divergence(q, diagonal))
    assert torch.allclose(flat.variance, diagonal.variance)


def test_draws_have_the_covariance() -> None:
    p, dense = step(2)
    n = 200_000
    torch.manual_seed(0)
    x = (p.sample((n,)) - p.mean).flatten(2)[:, 1]
    C = dense.covariance_matrix[1]
    errors = ((C.square() + C.diagonal()[:, None] * C.diagonal()) / n).sqrt()
    assert bool(((x.T @ x / n - C).abs() < 5.5 * errors).all())


# --- in a chain -----------------------------------------------------------------------------------------------------------


class Zero(nn.Module):
    """Nothing for the mean beyond the linear denoiser; for the variance what the Gaussian model misses on average."""

    def __init__(self, model: GaussianImages) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        z = per_example((self.model.error(Q, t) / Q.schedule(t)[1].square()).log(), x_t)
        return torch.cat([torch.zeros_like(x_t), z.expand_as(x_t)], 1)


def detailed() -> GaussianImages:
    """Images whose finer detail is as small as the noise of the first steps."""
    model = spectral()
    model.variances.mul_(1e-3)
    return model


def linear(model: GaussianImages) -> GaussianReverse:
    """The best reverse process of the model's images among those with one variance for all values of a step."""
    return GaussianReverse(Q, Zero(model), LinearResidual(model), LearnedPosterior(), Network())


def times(t: int, n: int) -> Tensor:
    return torch.full((n,), t)


def test_only_single_steps_with_a_spectrum_are_changed() -> None:
    reverse, x = linear(spectral()), values(6)
    wrapped = Correlated(reverse, spectral(), torch.full((3, *SHAPE), 2.0).double())  # t = 2, 3, 4
    for s, t, changed in ((1, 2, True), (3, 4, True), (4, 5, False), (2, 4, False), (0, 1, False), (0, 3, False)):
        assert isinstance(wrapped(x, times(s, 6), times(t, 6)), CorrelatedNormal) == changed
    t = torch.tensor([2, 4, 5, 9, 50, 3])
    both = torch.stack([p(x, t - 1, t).variance.flatten(1).mean(1) for p in (wrapped, reverse)])
    assert torch.allclose(both[0] / both[1], torch.where(t <= 4, 2.0, 1.0).double())
    assert wrapped.process is Q
    assert torch.allclose(term(wrapped, x, x, t - 1, t)[2:5], term(reverse, x, x, t - 1, t)[2:5])


def test_each_spectrum_of_a_batch_is_that_of_its_time() -> None:
    reverse, x = linear(spectral()), values(3)
    spectra = torch.tensor([2.0, 3.0, 5.0]).double()[:, None, None, None].expand(3, *SHAPE)
    t = torch.tensor([4, 2, 3])
    p = Correlated(reverse, spectral(), spectra)(x, t - 1, t)
    assert p.spectrum[:, 0, 0, 0].tolist() == [5, 2, 3]


def test_the_fitted_spectrum_has_the_least_divergence_on_its_examples() -> None:
    """And it is a minimum: any other spectrum loses, in whatever direction."""
    model = detailed()
    reverse, x_0, t = linear(model), draws(model, 200), 3

    def loss(v: Tensor) -> float:
        seeds.seed_everything(1, seeds.VALIDATION, t, 0)  # the draws that it was fitted to
        return transition(Correlated(reverse, model, v.expand(2, *SHAPE)), x_0, times(t - 1, 200), times(t, 200)).mean().item()

    v = fitted_spectrum(reverse, model, x_0, t, 200, 1)
    assert loss(v) < loss(torch.ones(SHAPE).double()) - 0.03
    for _ in range(20):
        assert loss(v * (0.1 * torch.randn(SHAPE)).exp()) > loss(v)


def test_on_gaussian_images_it_reaches_the_full_covariance() -> None:
    """Each fitted term is 1/2 sum_k log(1 + b^2 w_k / beta-tilde), that of the best reverse process of all."""
    model, n = detailed(), 4000
    reverse, x_0 = linear(model), draws(model, n)
    examples = draws(model, n)
    wrapped = Correlated(reverse, model, torch.stack([fitted_spectrum(reverse, model, examples, t, n, 0) for t in range(2, 7)]))
    for t in (2, 4, 6):
        x_t, step = draw(Q, x_0, times(t, n)), Q.step(times(t - 1, 1), times(t, 1))
        before, after = (term(p, x_0, x_t, times(t - 1, n), times(t, n)) for p in (reverse, wrapped))
        gain = before - after
        full = torch.log1p(step.on_x_0.square() / step.posterior_variance * model.gain(Q, times(t, 1))[1]).sum().item() / 2
        assert after.mean().item() == pytest.approx(full, abs=4 * after.std().item() / math.sqrt(n) + 24 / n)
        assert gain.mean().item() > 4 * gain.std().item() / math.sqrt(n)


def test_fitting_is_a_function_of_the_seed_and_the_chain_can_be_drawn_from() -> None:
    model = spectral()
    reverse, x_0 = linear(model), draws(model, 60)
    one, again, other = (correlated(reverse, x_0, seed, 3, 25).spectra for seed in (0, 0, 1))
    assert one.shape == (2, *SHAPE)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    chain = list(ancestral(correlated(reverse, x_0, 0, 3, 25), values(4), range(50, -1, -1)))
    assert chain[-1].isfinite().all()


@pytest.mark.parametrize(("last", "batch_size"), [(1, 10), (51, 10), (3, 0)])
def test_steps_that_are_not_there_are_refused(last: int, batch_size: int) -> None:
    model = spectral()
    with pytest.raises(UserError, match=f"last={last}") as error:
        correlated(linear(model), draws(model, 5), 0, last, batch_size)
    assert "\n" not in str(error.value)
