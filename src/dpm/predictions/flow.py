"""The velocity of the path itself, d x_t / dt."""

from torch import Tensor

from dpm.predictions import DataPrediction
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion


class FlowVelocity(DataPrediction):
    """The network predicts u = alpha'_t x_0 + sigma'_t eps, real t: eps - x_0 on straight lines (Lipman et al. 2023, eq. 23).

    E[u | x_t] = dx/dt is the field of the probability flow, from data at t = 0 to noise at t = 1; papers with data at t = 1
    have -u there. Unlike `Velocity`, alpha_t eps - sigma_t x_0, it depends on how fast the schedule runs.
    """

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        (alpha, sigma), (d_alpha, d_sigma) = q.schedule(t), q.schedule.rates(t)
        on_x_t = d_sigma / sigma
        return per_example(on_x_t, x_t) * x_t + per_example(d_alpha - on_x_t * alpha, x_t) * x_0

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        (alpha, sigma), (d_alpha, d_sigma) = q.schedule(t), q.schedule.rates(t)
        wronskian = sigma * d_alpha - alpha * d_sigma  # below 0, since alpha / sigma falls
        return per_example(sigma / wronskian, x_t) * output - per_example(d_sigma / wronskian, x_t) * x_t
