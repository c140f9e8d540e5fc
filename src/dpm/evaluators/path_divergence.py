"""What a network loses on a mixture in one dimension: the excess of its denoising error, by quadrature over x and log SNR."""

import copy

import numpy as np
import torch
from torch import Tensor

from dpm.data.mixtures import GaussianMixture
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.flows import noise_level
from dpm.information import POINTS, Denoiser, denoising_error, excess_divergence, gaussian_error, moments
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement


class PathDivergence:
    """What the bound of infinitely many steps loses by the network, from the end of time to log SNR = `high`, in nats."""

    def __init__(self, high: float) -> None:
        self.high = high

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: GaussianMixture, x_0: Tensor, seed: int) -> Evaluation:
        reverse = copy.deepcopy(reverse).cpu()  # where quadrature is
        schedule = reverse.process.schedule
        terms: dict[str, Scalar] = {"terms": "quadrature", "log_snr_high": self.high}
        low = -2 * float(np.log(noise_level(schedule, schedule.end)))
        loss, log_snr = excess_divergence(data, denoiser(reverse), low, self.high), np.linspace(low, self.high, 80)
        mmse, excess = np.array([denoising_error(data, denoiser(reverse), each) for each in log_snr]).T
        arrays = {
            "log_snr": log_snr,
            "mmse": mmse,
            "excess": excess,
            "gaussian_mmse": gaussian_error(moments(data)[1], log_snr),
        }
        return Evaluation((Measurement("path_divergence", loss, 0.0, POINTS, "nats", terms),), arrays)


def denoiser(reverse: GaussianReverse) -> Denoiser:
    """x_0-hat of the network at the time that has the noise level."""
    return lambda x, alpha, sigma: reverse.predicted(x, reverse.process.schedule.time(x.new_ones(len(x)) * (sigma / alpha)))
