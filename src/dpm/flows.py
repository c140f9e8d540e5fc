"""Velocity fields dx/dt = field(x, t): the probability flow of a reverse process, and the densities that a flow carries.

In y = x_t / alpha_t and the noise level s = sigma_t / alpha_t as time, every Gaussian process is the same one, y = x_0 + s eps
(Karras et al. 2022, section 2): its flow needs no rates of a schedule, and Euler's steps of it are DDIM's.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.predictions.flow import FlowVelocity
from dpm.processes import at, per_example
from dpm.reverse.gaussian import GaussianReverse
from dpm.schedules import Schedule

velocity = FlowVelocity()
Field = Callable[[Tensor, Tensor], Tensor]  # (x (B, ...), t (B,)) -> dx/dt, like x
Solve = Callable[[Field, Tensor, float, float], Tensor]  # (field, x, start, end) -> x at the end


def probability_flow(reverse: GaussianReverse) -> Field:
    """dy/ds = (y - x_0-hat) / s, s > 0: the flow with the marginals of the process (Song et al. 2021, eq. 13)."""

    def field(y: Tensor, s: Tensor) -> Tensor:
        t = reverse.process.schedule.time(s)
        alpha, _ = reverse.process.schedule(t)
        velocity: Tensor = (y - reverse.predicted(per_example(alpha, y) * y, t)) / per_example(s, y)
        return velocity

    return field


def flow_in_time(reverse: GaussianReverse) -> Field:
    """dx/dt = E[alpha_t' x_0 + sigma_t' eps | x_t], t > 0: the same in the process's own x and t (Lipman et al. 2023, eq. 8).

    Where alpha_t falls to 0, as at the end of straight lines, y has no limit and x_t has one.
    """
    return lambda x, t: velocity.target(reverse.process, reverse.predicted(x, t), x, t)


def noise_level(schedule: Schedule, t: float) -> float:
    """sigma_t / alpha_t, finite."""
    alpha, sigma = (float(c) for c in schedule(torch.tensor(t, dtype=torch.float64 if isinstance(t, float) else torch.long)))
    if alpha == 0:
        raise UserError(f"at t = {t:g} of {type(schedule).__name__} nothing is left of the data: end the path before")
    return sigma / alpha


def log_density(reverse: GaussianReverse, x: Tensor, t: float, solve: Solve, probes: Tensor) -> Tensor:
    """log p(x_t) of the model that draws x_end ~ pi and follows the probability flow to t > 0, (B,), in nats.

    `solve(field, y, start, end)` gives the end of the path that starts at y (`dpm.samplers.ode`); `probes` as in
    `with_divergence`. The change of variables along the path (Song et al. 2021, eq. 39), and x_t = alpha_t y.
    """
    schedule, d = reverse.process.schedule, x[0].numel()
    (alpha, _), (last, _) = (schedule(at(x[:1], time)) for time in (t, schedule.end))
    start, end = noise_level(schedule, t), noise_level(schedule, schedule.end)
    y, gained = transported(lambda f, y: solve(f, y, start, end), probability_flow(reverse), x / alpha.to(x.dtype), probes)
    x_end = last.to(x.dtype) * y
    log_p: Tensor = reverse.process.prior(x_end).log_prob(x_end) + gained + d * (last / alpha).log()
    return log_p


def signs(x: Tensor, number: int) -> Tensor:
    """Random probes with the covariance I, (number, B, ...): z . J z has the mean tr J (Hutchinson 1989).

    For S = (J + J^T) / 2 its variance is 2 (|S|_F^2 - sum_i S_ii^2).
    """
    return 2.0 * torch.randint(0, 2, (number, *x.shape), device=x.device).to(x.dtype) - 1


def axes(x: Tensor) -> Tensor:
    """d^1/2 e_i for i = 1..d, (d, B, ...): with them the mean of z . J z is tr J itself."""
    d = x[0].numel()
    unit = torch.eye(d, dtype=x.dtype, device=x.device).view(d, 1, *x.shape[1:])
    return torch.sqrt(torch.tensor(float(d))).to(unit) * unit.expand(d, *x.shape)


def with_divergence(field: Field, probes: Tensor) -> Field:
    """The field of (x, l), flattened to (B, d + 1), with dl/dt = div field(x, t), the mean of z . J z over the probes z.

    The probes stay the same along a path: the right-hand side of an ordinary differential equation is not random.
    """
    shape = probes.shape[2:]

    def augmented(y: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = y[:, :-1].reshape(-1, *shape).requires_grad_()
            velocity, divergence = field(x, t), y.new_zeros(len(y))
            for z in probes:
                (zJ,) = torch.autograd.grad(velocity, x, z, retain_graph=True)
                divergence = divergence + (zJ * z).flatten(1).sum(1) / len(probes)
        return torch.cat([velocity.detach().flatten(1), divergence[:, None]], 1)

    return augmented


def transported(solve: Callable[[Field, Tensor], Tensor], field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """(y, l): y where the flow takes x, and l = int div field dt, (B,), so that log p(x) = log p(y) + l."""
    y = solve(with_divergence(field, probes), torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1))
    return y[:, :-1].view_as(x), y[:, -1]
