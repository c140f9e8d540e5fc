"""Signals of one dimension: what is Gaussian is exact, whatever the number of steps."""

import math
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from dpm.baselines.gaussian_images import GaussianImages
from dpm.baselines.gaussian_signals import GaussianSignals
from dpm.bound import bound, decoder_edges
from dpm.data.signals import Autoregressive, Recording
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators.per_example import DrawnBound, bounds
from dpm.evaluators.signals import spectrum
from dpm.networks.temporal import Temporal
from dpm.networks.unet import UNet
from dpm.objectives.simple import Simple
from dpm.oracles.linear import LinearOracle
from dpm.predictions.papers import Epsilon
from dpm.predictions.residual import WhitenedResidual
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.ancestral import sample
from dpm.schedules import geometric, linear
from dpm.times import AsLinear, Uniform
from dpm.trajectories import log_weights
from dpm.variances import FixedLarge, LearnedPosterior

AR = Autoregressive([1.5, -0.8], 16)


def exact(x: torch.Tensor) -> torch.Tensor:
    """log N(x; 0, C) by a Cholesky factor of the covariance."""
    return MultivariateNormal(torch.zeros(AR.length).double(), AR.covariance()).log_prob(x[:, 0])


def model() -> GaussianSignals:
    gaussian = GaussianSignals(AR.length)
    gaussian.take(torch.from_numpy(AR.autocovariance()))
    return gaussian


def oracle(T: int) -> LinearOracle:
    return LinearOracle(GaussianDiffusion(geometric(T, 1e-4, 1e-10)), model(), Network())


def test_the_autocovariance_solves_its_equations() -> None:
    r = AR.autocovariance()
    assert r[0] == pytest.approx(1)
    assert r[1] == pytest.approx(1.5 / 1.8)  # Yule and Walker: r(1) = a_1 / (1 - a_2)
    assert np.allclose(r[2:], 1.5 * r[1:-1] - 0.8 * r[:-2])
    assert np.allclose(Autoregressive([0.7], 9).autocovariance(), 0.7 ** np.arange(9))
    x = AR.sample(20000, torch.Generator().manual_seed(0))[:, 0]
    assert float((x.T @ x / 20000 - AR.covariance()).abs().max()) < 5 * (2 / 20000) ** 0.5
    with pytest.raises(UserError, match="stationary"):
        Autoregressive([1.5, -0.4], 9)


def test_the_model_of_a_signal_is_its_gaussian() -> None:
    x = AR.held_out(50)
    assert torch.allclose(model().log_density(x), exact(x))
    fitted = GaussianSignals(AR.length)
    fitted.fit(AR.sample(40000, torch.Generator().manual_seed(0)), batch_size=7000)
    assert float((exact(x) - fitted.log_density(x)).mean()) == pytest.approx(0, abs=16 * 1e-2)


@pytest.mark.parametrize("T", [2, 5, 40])
def test_every_trajectory_of_the_best_linear_chain_has_the_weight_of_the_gaussian(T: int) -> None:
    """log p(x_0..T) / q(x_1..T | x_0) = log N(x_0; 0, C): no slack, on any number of steps, down to the mismatch of pi."""
    x = AR.held_out(50)
    torch.manual_seed(0)
    assert torch.allclose(log_weights(oracle(T), x, range(T, -1, -1), 1)[:, 0], exact(x), atol=1e-3)


def test_the_bound_of_the_best_linear_denoiser_is_the_gaussian_row() -> None:
    """By all terms, each at its own draw, and by a few of them: within four standard errors."""
    x = AR.held_out(3000)
    torch.manual_seed(0)
    for L in (bound(oracle(20), x, decoder_edges).total, bounds(oracle(20), x, decoder_edges, Uniform(), 10, 1000, 0)):
        error = (L + exact(x)) / AR.length
        assert abs(float(error.mean())) < 4 * float(error.std()) / 3000**0.5 < 0.4


def test_cosines_of_one_dimension_are_those_of_a_row() -> None:
    """(B, C, L) is (B, C, 1, L) by the same code: mean, variances, denoiser, white coordinates."""
    x, q, t = AR.held_out(40), GaussianDiffusion(geometric(10, 1e-3, 1e-3)), torch.full((40,), 4)
    signal, row = GaussianImages(1, AR.length), GaussianImages(1, 1, AR.length)
    signal.fit(x)
    row.fit(x[:, :, None])
    assert torch.allclose(signal.variances, row.variances[:, 0])
    for name in ("posterior_mean", "whitened"):
        assert torch.allclose(getattr(signal, name)(q, x, t), getattr(row, name)(q, x[:, :, None], t)[:, :, 0])
    assert torch.allclose(signal.image(signal.coefficients(x)), x)
    assert torch.allclose(signal.log_density(x), row.log_density(x[:, :, None]))


def test_the_core_takes_signals() -> None:
    process = GaussianDiffusion(geometric(20, 1e-3, 1e-3))
    network = Temporal(1, 2, 20, features=8, width=3, dilations=(1, 2))
    reverse = GaussianReverse(process, network, WhitenedResidual(model()), LearnedPosterior(), Network())
    x = AR.held_out(4)
    assert sample(reverse, process.prior(x).sample(), 5).shape == x.shape
    L = DrawnBound("bits/sample", decoder_edges, 2, AsLinear()).of(reverse, x, 0)
    assert L.shape == (4,)
    assert bool(L.isfinite().all())
    assert network(x[..., :7].float(), torch.full((4,), 3)).shape == (4, 2, 7)  # of any length


def test_spectrum() -> None:
    """White noise has the spectrum 1; a process its own: sum_d r(d) (1 - |d| / L) cos 2 pi f d."""
    white = torch.randn(4000, 1, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert np.abs(spectrum(white) - 1).max() < 5 * (2 / 4000) ** 0.5
    r, d = AR.autocovariance(), np.arange(1, 16)
    wanted = [r[0] + 2 * float((r[1:] * (1 - d / 16) * np.cos(2 * math.pi * k / 16 * d)).sum()) for k in range(9)]
    x = AR.sample(20000, torch.Generator().manual_seed(0))
    assert np.allclose(spectrum(x), wanted, rtol=5 * (2 / 20000) ** 0.5, atol=1e-3)


def recorded(path: Path, values: np.ndarray, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 1, 11025, 0, "NONE", ""))
        file.writeframes(values.astype(np.uint8).tobytes())
    return path


def test_a_recording_in_three_parts(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, 1000)
    data = Recording(10, str(recorded(tmp_path / "a.wav", values)))
    test = data.held_out(20)
    assert test.shape == (20, 1, 10)
    assert data.training().shape == (691, 1, 10)
    grey = test.flatten() * data.std + data.mean
    assert torch.equal((grey + 0.5).floor().long().clamp(0), torch.from_numpy(values[800:]))  # u within a grey level
    assert float(data.training().square().mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(data.batch(3, 0, 1), data.batch(3, 0, 1))
    assert not torch.equal(data.batch(3, 0, 1), data.batch(3, 0, 2))
    with pytest.raises(UserError, match="windows asked for"):
        data.held_out(21)
    with pytest.raises(UserError, match="window = 101"):
        Recording(101, str(tmp_path / "a.wav"))


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match="mono"):
        Recording(10, str(recorded(tmp_path / "stereo.wav", np.zeros(100), 2)))
    for path in (tmp_path / "b.wav", tmp_path / "none.wav"):
        with pytest.raises(UserError, match="not readable"):
            Recording(10, str(path))


def test_the_recording_of_the_package() -> None:
    """78,331 samples; the Gaussian rows of the first tests of it: AR(2) takes 5.43 bits, windows of 64 take 5.40."""
    data = Recording(64)
    assert sum(map(len, data.parts.values())) == 78331
    gaussian, x = GaussianSignals(64), data.held_out(244)
    gaussian.fit(data.training())
    bits = -gaussian.log_density(x) / 64 / math.log(2) + math.log2(data.std)
    assert float(bits.mean()) == pytest.approx(5.399, abs=2e-3)


def test_the_u_net_of_images_learns_a_signal() -> None:
    """L_simple of AR(2) at these noise levels is far below 1, that of no denoiser; samples have the shape of the data."""
    torch.manual_seed(0)
    network = UNet(1, 1, 32, (1, 2), 1, axes=1)
    reverse = GaussianReverse(GaussianDiffusion(linear(50, 1e-3, 0.2)), network, Epsilon(), FixedLarge(), Network())
    optimizer, losses = torch.optim.Adam(network.parameters(), 2e-3), []
    for step in range(60):
        loss = Simple()(reverse, AR.batch(64, 0, step).float()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1, abs=0.2)
    assert sum(losses[-10:]) / 10 < 0.6
    assert sample(reverse, torch.randn(3, 1, AR.length), 10).shape == (3, 1, AR.length)
