"""p(x_s | x_t) for bits, where the network says only what the bit itself does not."""

from torch import Tensor

from dpm.processes.binomial import BinomialDiffusion
from dpm.reverse.binomial import BinomialReverse

MOST = 15.0  # a probability of 1 - 3e-7: in float32 more would round to 1, and a surprise cost infinitely many nats


class ResidualBinomialReverse(BinomialReverse):
    """logit p(x_0,i = 1 | x_t) = logit P(x_0,i = 1 | x_t,i) + network: an output of zero is the model of independent bits.

    The first part is Bayes' rule for one bit whose prior is the base rate. It grows without limit as t -> 0, where the bit says
    all there is to know, so that the network need not.
    """

    def logit(self, x_t: Tensor, t: Tensor) -> Tensor:
        return (bit_logit(self.process, x_t, t) + super().logit(x_t, t)).clamp(-MOST, MOST)


def bit_logit(process: BinomialDiffusion, x_t: Tensor, t: Tensor) -> Tensor:
    """log r q(x_t,i | x_0,i = 1) / (1 - r) q(x_t,i | x_0,i = 0), in the shape of x_t."""
    on, off = (process.likelihood(x_t, bit, t.new_zeros(len(t)), t) for bit in (1.0, 0.0))
    logit: Tensor = (process.rate * on / ((1 - process.rate) * off)).log()
    return logit
