"""A flow with its score: the stochastic differential equation between two ends as well (Tong et al. 2023)."""

from torch import Tensor

from dpm.errors import UserError
from dpm.reverse.transport import Transport


class ScoredTransport(Transport):
    """network(x, t) -> (v, w), (B, 2 d), for a path with the noise of a bridge of scale sigma, w = sigma^2 / 2 score.

    `field` is v, the probability flow, `drift` v + w of dx = drift dt + sigma dw (Tong et al. 2023, eqs. 4 and 5).
    """

    def parts(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """v and w, each like x."""
        output: Tensor = self.network(x, t)
        if output.shape[1] != 2 * x.shape[1]:
            raise UserError(f"velocity and score of {x.shape[1]} coordinates are twice as many outputs, got {output.shape[1]}")
        v, w = output.chunk(2, 1)
        return v, w

    def field(self, x: Tensor, t: Tensor) -> Tensor:
        return self.parts(x, t)[0]

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        v, w = self.parts(x, t)
        return v + w
