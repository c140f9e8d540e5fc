"""p(x_s | x_t) = B(f_b(x_t, t)), independent bits (2015, Table App.1)."""

from torch import Tensor, nn
from torch.distributions import Distribution

from dpm.decoders import Decoder
from dpm.processes.binomial import BinomialDiffusion, bernoulli, same
from dpm.reverse import ReverseStep, require_shape


class BinomialReverse(ReverseStep):
    """The network's output is the logit of x_0 = 1: the reverse rate mixes the two posteriors by it.

    p(x_s = 1 | x_t) = sum_b p(x_0 = b | x_t) q(x_s = 1 | x_t, x_0 = b) per bit. The best factorised reverse step has
    this form, and the small change from t to s comes from q, exactly, instead of from the network.
    """

    def __init__(self, process: BinomialDiffusion, network: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.process: BinomialDiffusion = process
        self.network, self.decoder = network, decoder

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        x_0 = self.logit(x_t, t).sigmoid()
        require_shape(x_0, x_t, "the network gives")
        off, on = (self.process.posterior(same(b, x_t), x_t, s, t).mean for b in (0.0, 1.0))
        return bernoulli(off + x_0 * (on - off))

    def logit(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_0,i = 1 | x_t) / p(x_0,i = 0 | x_t), in the shape of x_t."""
        logit: Tensor = self.network(x_t, t)
        return logit
