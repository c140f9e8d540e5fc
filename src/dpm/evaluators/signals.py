"""A signal: the bound beside Gaussian models of the same windows, in bits per sample of 8 bits; the spectrum of samples."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.baselines.gaussian_signals import GaussianSignals
from dpm.data.signals import Recording
from dpm.decoders import Network
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import nats_per_unit
from dpm.evaluators.per_example import DrawnBound, measured
from dpm.facts import Scalar
from dpm.oracles.linear import LinearOracle
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.ancestral import sample
from dpm.study.records import Measurement
from dpm.trajectories import log_weights


class AgainstGaussian:
    """L of the network; of the best linear denoiser by whole trajectories; of the Gaussian with the training autocovariance.

    All in bits per sample of the recording (that of x_0 plus log2 std), and L minus the Gaussian's on the same windows.
    `orders` are those of autoregressive models, by least squares, that see all that lies before a sample of the test set.
    """

    def __init__(self, bound: DrawnBound, orders: Sequence[int], samples: int) -> None:
        self.bound, self.orders, self.samples = bound, orders, samples

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Recording, x_0: Tensor, seed: int) -> Evaluation:
        model = GaussianSignals(data.window).to(x_0.device)
        model.fit(data.training())
        unit, scale, grey = self.bound.unit, nats_per_unit(self.bound.unit, x_0), math.log2(data.std)
        exact = -model.log_density(x_0) / scale + grey
        seeds.seed_everything(seed, seeds.EVALUATION)
        grid = range(len(reverse.process.schedule), -1, -1)
        linear = -log_weights(LinearOracle(reverse.process, model, Network()), x_0, grid, 1)[:, 0] / scale + grey
        L = self.bound.of(reverse, x_0, seed) + grey
        about: dict[str, Scalar] = {"terms": "sampled", "draws": self.bound.draws, "edges": self.bound.edges.name}

        def of(name: str) -> dict[str, Scalar]:
            return {"model": name}

        found = [
            measured("nll_bound", L, unit, about),
            replace(measured("nll", exact, unit, of("Gaussian")), recipe=of("Gaussian")),
            replace(measured("nll_bound", linear, unit, of("linear_denoiser")), recipe=of("linear_denoiser")),
            measured("nll_excess", L - exact, unit, {**about, "against": "Gaussian"}),
            measured("nll_excess", linear - exact, unit, {"against": "Gaussian", "of": "linear_denoiser"}),
            *(self.autoregression(data, order) for order in self.orders),
        ]
        seeds.seed_everything(seed, seeds.SAMPLING)
        prior = reverse.process.prior(x_0[:1].expand(self.samples, -1, -1))
        drawn = sample(reverse, prior.sample(), len(reverse.process.schedule))
        arrays = {
            "spectrum_samples": spectrum(drawn),
            "spectrum_test": spectrum(x_0),
            "spectrum_training": spectrum(data.training()),
        }
        return Evaluation(
            tuple(found), {**arrays, "shown": torch.cat([x_0[:4], drawn[:4]])[:, 0].cpu().numpy().astype(np.float32)}
        )

    @staticmethod
    def autoregression(data: Recording, order: int) -> Measurement:
        """-log2 p of a Gaussian AR(order), coefficients and noise by least squares on the training samples."""

        def rows(part: str, stream: int) -> tuple[Tensor, Tensor]:
            x = data.standardised(data.parts[part][None], seeds.generator(0, stream))[0, 0]
            return torch.cat([x.unfold(0, order, 1)[:-1], torch.ones(len(x) - order, 1)], 1), x[order:]

        past, now = rows("train", seeds.TRAINING)
        a = torch.linalg.lstsq(past, now[:, None]).solution[:, 0]
        v = float((now - past @ a).square().mean())
        past, now = rows("test", seeds.HELD_OUT)
        nats = ((now - past @ a).square() / v + math.log(2 * math.pi * v)) / 2
        recipe: dict[str, Scalar] = {"model": f"AR({order})", "order": order}
        by_window = nats[: len(nats) // data.window * data.window].view(-1, data.window).mean(1)  # neighbours are alike
        value = measured("nll", by_window / math.log(2) + math.log2(data.std), "bits/sample", recipe)
        return replace(value, recipe=recipe)


def spectrum(x: Tensor) -> "np.ndarray[Any, Any]":
    """E |sum_j x_j exp(-2 pi i f j)|^2 / L at the frequencies 0, 1 / L, ..., 1 / 2, of windows (n, 1, L)."""
    power = torch.fft.rfft(x[:, 0].cpu().double()).abs().square() / x.shape[2]
    mean: np.ndarray[Any, Any] = power.mean(0).numpy().astype(np.float32)
    return mean
