"""Kernel prediction against its formula, one pixel and one neighbour at a time, and the noise that images have of their own."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from dpm import schedules
from dpm.baselines.gaussian_images import GaussianImages
from dpm.errors import UserError
from dpm.networks.kernels import KernelPrediction
from dpm.networks.wrappers import Autocast
from dpm.predictions.residual import Noiseless
from dpm.processes.gaussian import GaussianDiffusion

Q = GaussianDiffusion(schedules.geometric(T=50, beta_1=1e-4, alpha_bar_T=1e-2))
SIDE = 6
DILATIONS = (1, 2, 4, 1)


class Says(nn.Module):
    """Outputs of its own choice; keeps what it is shown."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen = x
        return self.outputs.to(x.dtype)


def channels(C: int, size: int, dilations: Sequence[int]) -> int:
    return 2 * C + 1 + len(dilations) * (size**2 + 2)


def inputs(n: int, C: int) -> tuple[Tensor, Tensor]:
    """White, y, l and tau: noise that differs from one example to the next."""
    tau = torch.linspace(0.1, 2, n)[:, None, None, None].expand(n, 1, SIDE, SIDE)
    return torch.cat([torch.randn(n, 3 * C, SIDE, SIDE), tau], 1), torch.arange(1, n + 1)


def at(image: Tensor, row: int, column: int) -> Tensor:
    """The colours there, or at the nearest pixel of the image."""
    return image[:, min(max(row, 0), SIDE - 1), min(max(column, 0), SIDE - 1)]


def formula(x: Tensor, outputs: Tensor, C: int, size: int, dilations: Sequence[int]) -> Tensor:
    """One example, (3 C + 1, H, W) and what the network says of it -> (2 C, H, W)."""
    y, linear, tau = x[C : 2 * C], x[2 * C : 3 * C], float(x[-1, 0, 0])
    squares = [(a, b) for a in range(-(size // 2), size // 2 + 1) for b in range(-(size // 2), size // 2 + 1)]
    for step, (g, c, *h) in zip(dilations, outputs[2 * C + 1 :].split(size**2 + 2), strict=True):
        after = torch.zeros_like(y)
        for i in range(SIDE):
            for j in range(SIDE):
                near = [at(y, i + step * a, j + step * b) for a, b in squares]
                logits = torch.stack(
                    [
                        h[k][i, j]
                        + (4 + g[i, j]) * torch.exp(-c[i, j].exp() * (near[k] - y[:, i, j]).square().mean() / (4 * tau**2))
                        for k in range(size**2)
                    ]
                )
                w = logits.exp() / logits.exp().sum()
                after[:, i, j] = sum(w[k] * near[k] for k in range(size**2))
        y = after
    p = 1 / (1 + torch.exp(-(outputs[2 * C] + 1)) * tau**2)
    mean = p * y + (1 - p) * linear + 0.3 * tau / math.sqrt(1 + tau**2) * outputs[:C]
    return torch.cat([mean, outputs[C : 2 * C]])


@pytest.mark.parametrize(("C", "size", "dilations"), [(1, 5, (1, 2, 4)), (1, 3, (1,)), (3, 3, (2, 1))])
def test_the_output_is_its_formula(C: int, size: int, dilations: Sequence[int]) -> None:
    x, t = inputs(2, C)
    outputs = torch.randn(2, channels(C, size, dilations), SIDE, SIDE)
    ours = KernelPrediction(Says(outputs), size, dilations)(x, t)
    expected = torch.stack([formula(x[i], outputs[i], C, size, dilations) for i in range(2)])
    assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_the_network_sees_which_neighbours_look_alike() -> None:
    """d_j for the half of the square before the pixel; the other half is the same differences seen from the other pixel."""
    x, t = inputs(2, 1)
    watched = Says(torch.zeros(2, channels(1, 3, (1,)), SIDE, SIDE))
    KernelPrediction(watched, 3, (1,))(x, t)
    assert watched.seen.shape == (2, 2 + 3**2 - 1, SIDE, SIDE)
    for i in range(2):
        for k, (a, b) in enumerate([(-1, -1), (-1, 0), (-1, 1), (0, -1)]):
            d = (at(x[i, 1:2], 3 + a, 2 + b) - x[i, 1, 3, 2]).square().item() / (2 * x[i, 3, 0, 0].item() ** 2)
            assert watched.seen[i, 2 + k, 3, 2].item() == pytest.approx(math.exp(-d / 2) - 0.5, rel=1e-4)
            assert watched.seen[i, 6 + k, 3, 2].item() == pytest.approx(math.exp(-d / 16) - 0.5, rel=1e-4)
    assert torch.equal(watched.seen[:, :2], x[:, [0, 2]])


def test_an_untrained_network_keeps_edges_and_averages_leaves() -> None:
    """Two leaves 20 tau apart: a twentieth of the contrast leaks, where equal weights would leave half of it."""
    clean = torch.zeros(64, 1, 32, 32)
    clean[..., 16:] = 1.0
    tau = torch.full_like(clean, 0.05)
    y = clean + tau * torch.randn_like(clean)
    x = torch.cat([torch.zeros_like(y), y, y, tau], 1)
    mean = KernelPrediction(Says(torch.zeros(64, channels(1, 5, DILATIONS), 32, 32)), 5, DILATIONS)(x, torch.ones(64))[:, :1]
    error = (mean - clean).square().mean((0, 1, 2)).sqrt()
    assert error[14:18].max() < 0.07, "at the edge"
    assert error[4:12].mean() < 0.01, "inside of a leaf"


def test_bfloat16_does_not_round_the_pixels() -> None:
    """What is averaged and mixed stays float32: with zeros for the network's outputs nothing changes at all."""
    x, t = inputs(2, 1)
    inside = KernelPrediction(Says(torch.zeros(2, channels(1, 5, DILATIONS), SIDE, SIDE)), 5, DILATIONS)
    full, half = (Autocast(inside, precision)(x, t) for precision in ("float32", "bfloat16"))
    assert torch.equal(full, half)
    assert Autocast(inside, "bfloat16")(x.double(), t).dtype is torch.float64


@pytest.mark.parametrize(("size", "dilations"), [(4, (1, 2)), (1, (1, 2)), (5, ()), (5, (1, 0))])
def test_bad_sizes_are_refused(size: int, dilations: Sequence[int]) -> None:
    with pytest.raises(UserError, match="size is odd, from 3, and dilations from 1"):
        KernelPrediction(nn.Identity(), size, dilations)


# --- images with noise of their own ---------------------------------------------------------------------------------------

NOISE = 0.3


def model() -> GaussianImages:
    """u ~ N(mean, any spectrum), and x_0 = u + N(0, NOISE^2)."""
    images = GaussianImages(1, 4, 3)
    images.mean.copy_(torch.randn(1, 4, 3))
    images.variances.copy_(torch.rand(1, 4, 3) + NOISE**2)
    return images


def test_the_posterior_mean_without_the_noise_gives_that_with_it() -> None:
    """Gaussian u, where both are known: E[u | x_t] as the output makes E[x_0 | x_t] at every t."""
    known = model()
    t = torch.arange(1, 51)
    x_t = torch.randn(50, 1, 4, 3, dtype=torch.float64)
    alpha, sigma = (c[:, None, None, None] for c in Q.schedule(t))
    clean = known.variances - NOISE**2
    gain = alpha * clean / (alpha.square() * known.variances + sigma.square())
    u = known.image(gain * known.coefficients(x_t + (1 - alpha) * known.mean))
    ours = Noiseless(known, NOISE).x_0(Q, u, x_t, t)
    assert torch.allclose(ours, known.posterior_mean(Q, x_t, t), rtol=1e-9, atol=1e-9)


def test_the_output_and_its_target_are_inverse() -> None:
    prediction, t = Noiseless(model(), NOISE), torch.arange(1, 51)
    x_0 = 3 * torch.randn(50, 1, 4, 3, dtype=torch.float64)
    x_t = Q.marginal(x_0, t).sample()
    assert torch.allclose(prediction.x_0(Q, prediction.target(Q, x_0, x_t, t), x_t, t), x_0, rtol=1e-9, atol=1e-9)


def test_the_network_is_told_what_is_known_of_the_image() -> None:
    prediction, t = Noiseless(model(), NOISE), torch.tensor([1, 20, 50])
    x_t = torch.randn(3, 1, 4, 3, dtype=torch.float64)
    white, y, linear, tau = prediction.input(Q, x_t, t).split(1, 1)
    assert torch.equal(white, prediction.model.whitened(Q, x_t, t))
    assert torch.equal(linear, prediction.model.posterior_mean(Q, x_t, t))
    for i in range(3):
        alpha, sigma = (float(c) for c in Q.schedule(t[i : i + 1]))
        assert torch.allclose(alpha * y[i], x_t[i], rtol=1e-12)
        assert torch.allclose(tau[i], torch.full_like(tau[i], math.hypot(sigma / alpha, NOISE)), rtol=1e-12)


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan])
def test_noise_that_is_none_is_refused(noise: float) -> None:
    with pytest.raises(UserError, match="noise > 0"):
        Noiseless(model(), noise)
