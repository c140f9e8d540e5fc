"""Samples in a given number of network evaluations: (reverse, x at the end of time, evaluations) -> x_0."""

from collections import deque

import numpy as np
from torch import Tensor

from dpm.flows import flow_in_time
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.consistency import multistep
from dpm.samplers.ddim import ddim
from dpm.samplers.ode import euler


def flow(reverse: GaussianReverse, x: Tensor, evaluations: int) -> Tensor:
    """Equal steps of Euler's method along the process's own flow."""
    times = np.linspace(reverse.process.schedule.end, 0, evaluations + 1)
    return deque(euler(flow_in_time(reverse), x, times), maxlen=1).pop()


def implicit(reverse: GaussianReverse, x: Tensor, evaluations: int) -> Tensor:
    """DDIM without noise, on whole times spread evenly over the chain, T of them at most."""
    times = np.linspace(reverse.process.schedule.end, 0, evaluations + 1).round().astype(int).tolist()
    return deque(ddim(reverse, x, dict.fromkeys(times)), maxlen=1).pop()


def consistency(reverse: GaussianReverse, x: Tensor, evaluations: int) -> Tensor:
    """Each step to the data, noise again in between, at evenly spread times."""
    times = np.linspace(reverse.process.schedule.end, 0, evaluations + 1)[:-1]
    return deque(multistep(reverse, x, times, 0.0), maxlen=1).pop()
