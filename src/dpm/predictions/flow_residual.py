"""The network predicts what is left of the velocity of a path when a Gaussian model of the data has done its part."""

from torch import Tensor

from dpm.predictions.flow import FlowVelocity
from dpm.predictions.residual import LinearResidual
from dpm.processes.gaussian import GaussianDiffusion

velocity = FlowVelocity()


class LinearFlowResidual(LinearResidual):
    """u = u_lin + output, u_lin the velocity that belongs to the best linear denoiser, E_lin[x_0 | x_t].

    The error is in the units of the velocity: L_simple is the loss of flow matching (Lipman et al. 2023, eq. 14) itself. With
    an output of zero the flow is that of the Gaussian model. At t = 0, where u has no value, x_0 = x.
    """

    def target(self, q: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return velocity.target(q, x_0, x_t, t) - self.linear(q, x_t, t)

    def x_0(self, q: GaussianDiffusion, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.model.posterior_mean(q, x_t, t) + velocity.x_0(q, output, 0 * x_t, t)

    def linear(self, q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
        """u_lin, like x_t."""
        return velocity.target(q, self.model.posterior_mean(q, x_t, t), x_t, t)
