"""Outputs of unit scale at every noise level, and x_0 itself at the least (Karras et al. 2022; Song et al. 2023)."""

from torch import Tensor

from dpm.errors import UserError
from dpm.predictions import DataPrediction
from dpm.processes import per_example
from dpm.processes.gaussian import GaussianDiffusion


class Preconditioned(DataPrediction):
    """x_0 = c_skip y + c_out output, the network sees c_in y, with y = x_t / alpha_t, s = sigma_t / alpha_t, d = `data_std`:

        c_skip = d^2 / ((s - start)^2 + d^2),   c_out = d (s - start) / (s^2 + d^2)^1/2,   c_in = (s^2 + d^2)^-1/2

    Karras et al. 2022, Table 1, for start = 0: L_simple is then their loss, whose weight is c_out^-2. With start = eps > 0 this
    is the boundary condition of consistency models: x_0 = x at s = eps, whatever the network says (Song et al. 2023, eq. 5).
    """

    def __init__(self, data_std: float, start: float = 0.0) -> None:
        if not (data_std > 0 and start >= 0):
            raise UserError(f"preconditioning: data_std > 0 and start >= 0 must hold, got {data_std=}, {start=}")
        self.data_std, self.start = data_std, start

    def input(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        y, s = self.observed(q, x_t, t)
        return y / (s.square() + self.data_std**2).sqrt()

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        (y, _), (c_skip, c_out) = self.observed(q, x_t, t), self.scalings(q, x_t, t)
        return (x_0 - c_skip * y) / c_out

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        (y, _), (c_skip, c_out) = self.observed(q, x_t, t), self.scalings(q, x_t, t)
        return c_skip * y + c_out * output

    def observed(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """y and s."""
        alpha, sigma = q.schedule(t)
        return x_t / per_example(alpha, x_t), per_example(sigma / alpha, x_t)

    def scalings(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """c_skip and c_out."""
        _, s = self.observed(q, x_t, t)
        variance, past = self.data_std**2, s - self.start
        return variance / (past.square() + variance), self.data_std * past / (s.square() + variance).sqrt()
