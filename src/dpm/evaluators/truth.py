"""What is true of data whose density is known: the log likelihood itself, and the ceiling that beta_1 sets for any model."""

import torch
from torch import Tensor

from dpm import seeds
from dpm.data import KnownDensity
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT
from dpm.records import Measurement, standard_error
from dpm.reverse import Reverse


class Truth:
    """E log q(x_0), and the ceiling K <= -h(X_1) = E log q(x_1): with the fixed last step of 2015, eq. 44, K is at most
    E[-log q(x_1 | x_0) + log q(x_1)] + E[log p(x_0 | x_1)], and for stationary pi the terms beside -h(X_1) cancel.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: KnownDensity, x_0: Tensor, seed: int) -> Evaluation:
        one = torch.ones(len(x_0), dtype=torch.long, device=x_0.device)
        alpha, sigma = (float(c) for c in reverse.process.schedule(one[0]))
        seeds.seed_everything(seed, seeds.EVALUATION, 1)
        x_1 = reverse.process.marginal(x_0, one).sample()
        at = {0: data.log_density(x_0, 1.0, 0.0), 1: data.log_density(x_1, alpha, sigma)}
        return Evaluation(tuple(self.measurement(log_q / NATS_PER_BIT, t) for t, log_q in at.items()))

    def measurement(self, log_q: Tensor, t: int) -> Measurement:
        values = log_q.double().cpu().numpy()
        return Measurement("log_likelihood", float(values.mean()), standard_error(values), len(values), self.unit, {"t": t})
