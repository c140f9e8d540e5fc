"""Samples in a given number of network evaluations: (reverse, x at the end of time, evaluations) -> x_0."""

import numpy as np
from torch import Tensor

from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import last
from dpm.samplers.consistency import evenly
from dpm.samplers.ddim import ddim
from dpm.samplers.flow import in_time
from dpm.samplers.ode import euler


def flow(reverse: GaussianReverse, x: Tensor, evaluations: int) -> Tensor:
    """Equal steps of Euler's method along the process's own flow."""
    return last(in_time(reverse, x, euler, evaluations))


def implicit(reverse: GaussianReverse, x: Tensor, evaluations: int) -> Tensor:
    """DDIM without noise, on whole times spread evenly over the chain, T of them at most."""
    times = np.linspace(reverse.process.schedule.end, 0, evaluations + 1).round().astype(int).tolist()
    return last(ddim(reverse, x, dict.fromkeys(times)))


def consistency(reverse: GaussianReverse, x: Tensor, evaluations: int) -> Tensor:
    """Each step to the data, noise again in between, at evenly spread times."""
    return last(evenly(reverse, x, evaluations))
