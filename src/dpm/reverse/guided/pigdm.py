"""Pseudoinverse-guided diffusion (Song et al. 2023, PiGDM): x_0 given x_t as if it had one variance everywhere."""

from torch import Tensor

from dpm.observations import conjugate_gradients
from dpm.processes import per_example
from dpm.reverse.guided import Guided, Map


class PiGDM(Guided):
    """R_t = noise^2 I + r_t^2 A A^T with r_t^2 = sigma_t^2 / (alpha_t^2 + sigma_t^2): that of data of unit variance."""

    solves = 100  # products with A A^T at most

    def solved(self, residual: Tensor, covariance: Map, t: Tensor) -> Tensor:
        alpha, sigma = self.process.schedule(t)
        r2 = per_example(sigma.square() / (alpha.square() + sigma.square()), residual)
        A, noise2 = self.observation.operator, self.observation.noise**2
        return conjugate_gradients(lambda v: noise2 * v + r2 * A(A.adjoint(v)), residual, self.solves)
