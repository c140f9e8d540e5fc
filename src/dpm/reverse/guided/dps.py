"""Diffusion posterior sampling (Chung et al. 2023): p(y | x_t) as if x_0 were x_0-hat."""

from torch import Tensor
from torch.distributions import Distribution

from dpm.errors import UserError
from dpm.observations import Observation, norm2
from dpm.processes import per_example
from dpm.reverse.guided import Denoising, Guided, Look, Map, shifted


class DPS(Guided):
    """R_t = noise^2 I: the gradient of log N(y; A x_0-hat, noise^2 I), with the weight that Bayes gives it."""

    def solved(self, residual: Tensor, covariance: Map, t: Tensor) -> Tensor:
        return residual / self.observation.noise**2


class NormDPS(DPS):
    """As released: every step's mean is moved by -zeta grad_{x_t} |y - A x_0-hat|, the norm and not its square.

    Neither the noise of y nor the length of the step has a part in it.
    """

    def __init__(self, reverse: Denoising, observation: Observation, zeta: float) -> None:
        super().__init__(reverse, observation)
        if not zeta > 0:
            raise UserError(f"zeta, the size of a step along the gradient, is above 0, got {zeta}")
        self.zeta = zeta

    def moved(self, p: Distribution, look: Look, s: Tensor, t: Tensor) -> Distribution:
        alpha, sigma = self.process.schedule(t)
        gradient = per_example(alpha / sigma.square(), look.shift) * look.shift * self.observation.noise**2  # of -|.|^2 / 2
        length = norm2(self.observation.residual(look.x_0)).sqrt().reshape(-1, *[1] * (gradient.ndim - 1))
        return shifted(p, self.zeta * gradient / length.clamp_min(1e-12))
