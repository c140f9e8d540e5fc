"""What is true of data whose density is known: the log likelihood itself, and the ceiling that beta_1 sets for any model."""

import torch
from torch import Tensor

from dpm import seeds
from dpm.data import KnownDensity
from dpm.data.synthetic import SwissRoll
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT
from dpm.reverse import Reverse
from dpm.study.records import Measurement, standard_error


@torch.no_grad()
def log_density_of_x_1(reverse: Reverse, data: KnownDensity, x_0: Tensor, seed: int) -> Tensor:
    """log q(x_1) at one draw of x_1 for each x_0, in nats, shape (B,): its mean -h(X_1) is the ceiling of K.

    The last step of 2015 is fixed (eq. 44), so K <= E[log pi(x_0) - log pi(x_1)] + max over models of E log p(x_1), which
    is -h(X_1) by Gibbs' inequality plus a bracket that is zero where E[log pi] is the same for x_0 and x_1.
    """
    one = torch.ones(len(x_0), dtype=torch.long, device=x_0.device)
    alpha, sigma = (float(c) for c in reverse.process.schedule(one[0]))
    seeds.seed_everything(seed, seeds.EVALUATION, 1)
    return data.log_density(reverse.process.marginal(x_0, one).sample(), alpha, sigma)


class ExactTruth:
    """E log q(x_0) and the ceiling E log q(x_1), over the data and not over examples of it: by quadrature, without error."""

    def __init__(self, unit: str) -> None:
        self.unit = unit

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: SwissRoll, x_0: Tensor, seed: int) -> Evaluation:
        alpha, sigma = (float(c) for c in reverse.process.schedule(torch.ones((), dtype=torch.long)))
        return Evaluation((self.mean("log_likelihood", data, 1.0, 0.0), self.mean("ceiling", data, alpha, sigma)))

    def mean(self, quantity: str, data: SwissRoll, alpha: float, sigma: float) -> Measurement:
        x, weights = data.expectation(alpha, sigma)
        bits = float(weights @ data.log_density(x, alpha, sigma)) / NATS_PER_BIT
        return Measurement(quantity, bits, 0.0, len(x), self.unit, {"terms": "exact"})


class Truth:
    """E log q(x_0), what a perfect model of the data reaches without any bound."""

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def __call__(self, reverse: Reverse, data: KnownDensity, x_0: Tensor, seed: int) -> Evaluation:
        values = (data.log_density(x_0.double().cpu(), 1.0, 0.0) / NATS_PER_BIT).numpy()
        exact = {"terms": "quadrature"}
        mean, error = float(values.mean()), standard_error(values)
        return Evaluation((Measurement("log_likelihood", mean, error, len(values), self.unit, exact),))
