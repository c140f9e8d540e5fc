"""The MCGSM: a density, the chain rule, the entropy of data whose conditionals are known, and a sampler that draws from it."""

import math

import numpy as np
import pytest
import torch
from helpers import COLUMN, ROW, autoregressive, autoregressive_entropy, gaussian_entropy, responses
from scipy.stats import kstest
from torch import Tensor

from dpm.baselines.mcgsm import MCGSM, MCGSMImages, fit, fit_images
from dpm.errors import UserError


def random_model(inputs: int, components: int = 3, scales: int = 2, features: int = 4) -> MCGSM:
    """Parameters away from their initial values, and the coordinates of correlated data; float64."""
    model = MCGSM(inputs, components, scales, features)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    h = 2 + torch.randn(1000, inputs) @ torch.randn(inputs, inputs)
    model.precondition(h, 5 + 0.3 * h.sum(1) + torch.randn(1000))
    return model.double()


def random_images(reach: int = 1) -> MCGSMImages:
    images = MCGSMImages(reach, components=2, scales=2, features=2)
    images.inside = random_model(images.size, 2, 2, 2)
    images.border = random_model(images.size + 3 * reach, 2, 2, 2)
    return images


def fitted(model: MCGSM, h: Tensor, x: Tensor, steps: int) -> MCGSM:
    for loss in fit(model, h, x, steps, batch_size=500, rate=0.02, seed=0):
        assert math.isfinite(loss)
    return model


@torch.no_grad()
def log_density(model: MCGSM, h: Tensor, x: Tensor) -> Tensor:
    return model.log_density(h, x)


def test_the_conditional_density_integrates_to_one() -> None:
    model, x = random_model(3), torch.linspace(-60, 60, 20_001, dtype=torch.float64)
    for h in 2 + 2 * torch.randn(5, 3, dtype=torch.float64):
        centre = 5 + 0.3 * h.sum()
        log_p = log_density(model, h.expand(len(x), -1), centre + x)
        assert torch.trapezoid(log_p.exp(), x).item() == pytest.approx(1, abs=1e-6)


def test_the_density_is_the_formula_term_by_term() -> None:
    """Without vectorisation, in the coordinates of the definition."""
    model, h, x = random_model(3), torch.randn(3).double(), torch.tensor(4.0).double()
    white = torch.cat([(h - model.mean) @ model.whitening, torch.ones(1).double()])
    y = (x - white @ model.regression) / model.residual
    weights, densities = [], []
    for c in range(3):
        K = sum(model.beta[c, k] ** 2 * torch.outer(model.b[k], model.b[k]) for k in range(4))
        for s in range(2):
            precision = model.log_lambda[s, c].exp()
            weights.append((model.eta[s, c] - precision / 2 * white @ K @ white).exp())
            densities.append(torch.distributions.Normal(model.a[c] @ white, precision.rsqrt()).log_prob(y).exp())
    p = (torch.stack(weights) @ torch.stack(densities)) / sum(weights) / model.residual
    assert model.log_density(h[None], x[None]).exp().item() == pytest.approx(p.item(), rel=1e-10)


def test_preconditioned_data_is_white_and_the_rest_of_regression_has_unit_variance() -> None:
    h = torch.randn(5000, 4) @ torch.randn(4, 4) + 3
    h[:, 1] = h[:, 0] - 2 * h[:, 2]  # one direction less
    x = h[:, 0] - h[:, 3] + 0.1 * torch.randn(5000) + 7
    model = MCGSM(4, 1, 1, 1)
    model.precondition(h, x)
    white = model.white(h)[:, :-1]
    kept = white.std(0) > 0.5
    assert int(kept.sum()) == 3
    assert torch.allclose(white.T @ white / 5000, torch.diag(kept.float()), atol=1e-2)
    assert model.residual.item() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("reach", "height", "width"), [(1, 5, 6), (2, 7, 6), (2, 3, 3)])
def test_a_pixel_depends_on_the_pixels_before_it_in_its_window_and_on_no_other(reach: int, height: int, width: int) -> None:
    """Changing one pixel changes its own factor and those of the pixels whose neighbour it is."""
    images, x = random_images(reach), 2 + torch.randn(1, 1, height, width).double()
    for pixel, changed, later, down, aside in responses(images.log_density, x):
        assert torch.equal(changed, later & (down <= reach) & (aside <= reach)), pixel


def test_factors_are_those_of_the_models_pixel_by_pixel() -> None:
    """h in the order of reading; off the image 0, and what is said about the edges."""
    images, (height, width), r = random_images(2), (6, 7), 2
    x = 2 + torch.randn(1, 1, height, width).double()
    log_p = images.log_density(x)[0]
    for i in range(height):
        for j in range(width):
            positions = [(i + dy, j + dx) for dy in range(-r, 1) for dx in range(-r, r + 1) if (dy, dx) < (0, 0)]
            there = [0 <= a < height and 0 <= b < width for a, b in positions]
            h = [x[0, 0, a, b].item() if ok else 0.0 for (a, b), ok in zip(positions, there, strict=True)]
            near = [float(d >= k) for d in (i, j, width - 1 - j) for k in range(1, r + 1)]
            model, context = (images.inside, h) if all(there) else (images.border, h + near)
            expected = log_density(model, torch.tensor([context], dtype=torch.float64), x[0, 0, i, j][None])
            assert log_p[i, j].item() == pytest.approx(expected.item(), rel=1e-10)


def test_the_density_of_an_image_integrates_to_one() -> None:
    """Two pixels: the integral over the plane."""
    images, axis = random_images(), torch.arange(-40, 40, 0.25, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)[:, None, None]
    total = images.log_density(x).sum((1, 2)).exp().sum().item() * 0.25**2
    assert total == pytest.approx(1, abs=1e-4)


def test_samples_of_a_pixel_have_its_distribution() -> None:
    """Kolmogorov and Smirnov against the integral of the density."""
    model, h = random_model(3), 2 + torch.randn(3).double()
    with torch.no_grad():
        samples = model.sample(h.expand(20_000, -1)).numpy()
    x = torch.linspace(samples.min() - 20, samples.max() + 20, 100_001).double()
    cdf = torch.cumsum(log_density(model, h.expand(len(x), -1), x).exp(), 0) * (x[1] - x[0])
    assert kstest(samples, lambda v: np.interp(v, x.numpy(), cdf.numpy())).pvalue > 0.01


def test_samples_of_images_are_from_the_density() -> None:
    """E_p[q(x) / p(x)] = 1 for any density q: here the same model with other parameters."""
    p = MCGSMImages(1, components=2, scales=2, features=2)
    x = p.sample(6000, 3, 4)
    log_p = p.log_density(x)
    for part in ("inside", "border"):
        for name, value in list(getattr(p, part).named_parameters()):
            original, direction = value.detach().clone(), torch.randn_like(value)
            with torch.no_grad():
                value += 0.05 * direction
                ratio = (p.log_density(x) - log_p).double().sum((1, 2)).exp()
                value.copy_(original)
            assert ratio.std() > 1e-3, (part, name)
            assert ratio.mean().item() == pytest.approx(1, abs=4 * ratio.std().item() / math.sqrt(len(x))), (part, name)


@pytest.fixture(scope="module")
def gaussian_images() -> MCGSMImages:
    torch.manual_seed(0)
    images, x = MCGSMImages(1, components=4, scales=1, features=4), autoregressive(1500, 8, 8)
    assert len(list(fit_images(images, x, steps=400, batch_size=500, rate=0.02, per_image=25, seed=0))) == 800
    return images


def test_on_gaussian_images_it_reaches_the_conditional_entropy(gaussian_images: MCGSMImages) -> None:
    """Inside, and over the whole image, with its first row and column: both within a hundredth of a nat."""
    log_p = gaussian_images.log_density(autoregressive(1500, 8, 8))
    inside = gaussian_entropy((1 - ROW**2) * (1 - COLUMN**2))
    for values, entropy in ((log_p[:, 1:, 1:-1], inside), (log_p, autoregressive_entropy(8, 8))):
        mean = values.flatten(1).mean(1)
        error = mean.std().item() / math.sqrt(len(mean))
        assert -entropy - 0.01 - 4 * error < mean.mean().item() < -entropy + 4 * error


def test_samples_of_fitted_images_have_the_moments_of_the_data(gaussian_images: MCGSMImages) -> None:
    """Images of another size than those that it was fitted to."""
    samples = gaussian_images.sample(2000, 9, 7)[:, 0]
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 3), (5, 0)):
        products = (samples[:, dy:, dx:] * samples[:, : 9 - dy, : 7 - dx]).flatten(1).mean(1)
        error = products.std().item() / math.sqrt(len(products))
        assert products.mean().item() == pytest.approx(ROW**dy * COLUMN**dx, abs=4 * error + 0.03), (dy, dx)


def test_scales_beat_one_gaussian_by_the_gap_in_entropy() -> None:
    """x independent of h, 0.7 N(0, 0.2^2) + 0.3 N(0, 2^2): the gap is the Gaussian's entropy minus the mixture's."""
    scales, shares = torch.tensor([0.2, 2.0]), torch.tensor([0.7, 0.3])
    h, chosen = torch.randn(20_000, 2), torch.multinomial(shares, 20_000, replacement=True)
    x = scales[chosen] * torch.randn(20_000)
    grid = torch.linspace(-16, 16, 100_001).double()
    density = (shares * torch.distributions.Normal(0.0, scales).log_prob(grid[:, None]).exp()).sum(1)
    entropy = -torch.trapezoid(density * density.log(), grid).item()
    gap = gaussian_entropy(float(shares @ scales.square())) - entropy
    assert gap > 0.4
    models = [fitted(MCGSM(2, 1, n, 1), h[:10_000], x[:10_000], steps=300) for n in (1, 3)]
    gaussian, mixture = (log_density(model, h[10_000:], x[10_000:]) for model in models)
    gains = mixture - gaussian
    assert gains.mean().item() == pytest.approx(gap, abs=0.01 + 4 * gains.std().item() / 100)


def test_gates_choose_the_component_by_the_neighbours() -> None:
    """x = |h| + noise: no line fits, two components whose gates look at the sign of h do, up to where they meet."""
    h = torch.randn(20_000, 1)
    x = h[:, 0].abs() + 0.1 * torch.randn(20_000)
    model = fitted(MCGSM(1, 2, 1, 2), h[:10_000], x[:10_000], steps=500)
    log_p = log_density(model, h[10_000:], x[10_000:])
    assert log_p.mean().item() > -gaussian_entropy(0.1**2) - 0.1


def test_fitting_is_a_function_of_the_seed() -> None:
    h, x = torch.randn(500, 2), torch.randn(500)
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model = MCGSM(2, 2, 2, 2)
        losses = list(fit(model, h, x, 5, 50, 0.01, seed))
        weights.append((losses, model.state_dict()))
    assert weights[0][0] == weights[1][0] != weights[2][0]
    assert all(torch.equal(a, b) for a, b in zip(weights[0][1].values(), weights[1][1].values(), strict=True))


def test_pairs_are_pixels_of_the_images_with_their_neighbours() -> None:
    """As many as asked for, or all there are, of each part; each pixel carries its number."""
    images, (height, width) = MCGSMImages(2, 1, 1, 1), (6, 8)
    x = torch.arange(3 * height * width, dtype=torch.float32).reshape(3, 1, height, width)
    complete = (height - 2) * (width - 4)
    for model, there in ((images.inside, complete), (images.border, height * width - complete)):
        for per_image in (5, 1000):
            h, pixel = images.pairs(model, x, per_image, seed=0)
            assert len(h) == len(pixel) == len(pixel.unique()) == 3 * min(per_image, there)
            left, above = h[:, images.size - 1], h[:, 2 * 5 - 5 + 2]
            assert bool(((left == pixel - 1) | (pixel % width == 0)).all())
            assert bool(((above == pixel - width) | (pixel % (height * width) < width)).all())


@pytest.mark.parametrize("change", [{"inputs": 0}, {"components": 0}, {"scales": 0}, {"features": -1}])
def test_an_mcgsm_of_nothing_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least one of each"):
        MCGSM(**({"inputs": 1, "components": 1, "scales": 1, "features": 1} | change))


def test_a_neighbourhood_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="reach = 0"):
        MCGSMImages(0, 1, 1, 1)
