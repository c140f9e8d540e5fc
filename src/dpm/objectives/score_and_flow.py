"""[SF]2M: velocity and score of bridges, regressed together without a simulation (Tong et al. 2023, eq. 10)."""

from torch import Tensor

from dpm.objectives.matching import Matching
from dpm.processes import per_example
from dpm.reverse.scored import ScoredTransport


class ScoreAndFlow(Matching):
    """Mean over coordinates of |velocity - v|^2 + |lambda_t w + z|^2, lambda_t = 2 c_t / sigma^2, shape (B,).

    The score of a bridge is -z / c_t, and w = sigma^2 / 2 score: lambda_t gives its target the same size at all times.
    """

    def __call__(self, reverse: ScoredTransport, batch: Tensor) -> Tensor:  # type: ignore[override]
        ends = self.coupling(batch)
        t = self.times(ends)
        x_t, velocity, z = reverse.process(ends, t)
        v, w = reverse.parts(x_t, t)
        noise = reverse.process.noise
        weighted = per_example(2 / noise.scale**2 * noise(t), w) * w
        return ((velocity - v).square() + (weighted + z).square()).flatten(1).mean(1)
