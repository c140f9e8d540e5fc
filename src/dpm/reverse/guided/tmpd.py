"""Tweedie moment projected diffusion (Boys et al. 2024), solved by conjugate gradients (MMPS, Rozet et al. 2024)."""

from torch import Tensor

from dpm.errors import UserError
from dpm.observations import Observation, conjugate_gradients
from dpm.reverse.guided import Denoising, Guided, Map


class TMPD(Guided):
    """R_t = noise^2 I + A C A^T with C = (sigma_t^2 / alpha_t) d x_0-hat / d x_t, Tweedie's covariance of x_0 given x_t.

    Exact where x_0 given x_t is Gaussian with a covariance that does not depend on x_t: for Gaussian data, up to the variance
    of the steps. `products` with C at most, each of which takes one product with the network's Jacobian.
    """

    def __init__(self, reverse: Denoising, observation: Observation, products: int) -> None:
        super().__init__(reverse, observation)
        if products < 1:
            raise UserError(f"conjugate gradients take one product at least, got {products}")
        self.products = products

    def solved(self, residual: Tensor, covariance: Map, t: Tensor) -> Tensor:
        A, noise2 = self.observation.operator, self.observation.noise**2
        return conjugate_gradients(lambda v: noise2 * v + A(covariance(A.adjoint(v))), residual, self.products)
