"""-log P(x_0) of 8-bit images by a flow in real time, with an exact last step and dequantised."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.data.images import HALF_RANGE, DiscreteImages
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT
from dpm.facts import Scalar
from dpm.flows import Solve, flow_in_time, signs, transported
from dpm.processes import at, per_example
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement, standard_error

LEVELS = 256


class FlowLikelihood:
    """`nll_bound` in bits/dim by the density p(x_t) of the flow from noise to `start`, a small t > 0, on the first `n` images.

    estimator = flow: E_q[-log P(x_0 | x_t) - log p(x_t) + log q(x_t | x_0)], a bound on the probability of the image itself,
    with P(x_0 | x_t) proportional to q(x_t | x_0) P(x_0) for each value, P the share of its grey level in the training images.
    estimator = dequantised_flow: the density at x_0 + u, u uniform over a grey level, times its volume (Theis et al. 2016), of
    `again` batches. `nll_excess`: what a coarser solver changes of the first. The divergence is by one random probe.
    """

    def __init__(self, start: float, solve: Solve, coarse: Solve, n: int, again: int, batch_size: int) -> None:
        self.start, self.solve, self.coarse = start, solve, coarse
        self.n, self.again, self.batch_size = n, again, batch_size

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: DiscreteImages, x_0: Tensor, seed: int) -> Evaluation:
        x_0, scale, rows = x_0[: self.n], NATS_PER_BIT * x_0[0].numel(), []
        few = x_0[: self.again * self.batch_size]

        def row(quantity: str, nats: Tensor, estimator: str) -> None:
            values = (nats / scale).double().cpu().numpy()
            protocol: dict[str, Scalar] = {"estimator": estimator, "model": "flow", "probes": 1, "start": self.start}
            rows.append(Measurement(quantity, float(values.mean()), standard_error(values), len(values), "bits/dim", protocol))

        shares = torch.from_numpy(np.bincount(data.train.ravel(), minlength=LEVELS) + 1.0).to(x_0.device)
        exact = self.exact(reverse, x_0, shares.log(), self.solve, seed)
        row("nll_bound", exact, "flow")
        row("nll_excess", self.exact(reverse, few, shares.log(), self.coarse, seed) - exact[: len(few)], "coarse_flow")
        row("nll_bound", self.dequantised(reverse, few, seed), "dequantised_flow")
        return Evaluation(tuple(rows))

    def batches(self, x_0: Tensor, seed: int) -> Iterator[Tensor]:
        for number, batch in enumerate(x_0.split(self.batch_size)):  # type: ignore[no-untyped-call]
            seeds.seed_everything(seed, seeds.EVALUATION, number)
            yield batch

    def exact(self, reverse: GaussianReverse, x_0: Tensor, log_shares: Tensor, solve: Solve, seed: int) -> Tensor:
        """(n,), nats."""

        def of(x: Tensor) -> Tensor:
            q = reverse.process.marginal(x, at(x, self.start))
            x_t = q.sample()
            known = log_posterior(reverse, x, x_t, at(x, self.start), log_shares)
            return q.log_prob(x_t) - known - self.log_density(reverse, x_t, solve)

        return torch.cat([of(x) for x in self.batches(x_0, seed)])

    def dequantised(self, reverse: GaussianReverse, x_0: Tensor, seed: int) -> Tensor:
        """(n,), nats."""

        def of(x: Tensor) -> Tensor:
            alpha, _ = (float(c[0]) for c in reverse.process.schedule(at(x, self.start)))
            noisy = alpha * (x + (torch.rand_like(x) - 0.5) / HALF_RANGE)
            return -self.log_density(reverse, noisy, self.solve) - x[0].numel() * float(np.log(alpha / HALF_RANGE))

        return torch.cat([of(x) for x in self.batches(x_0, seed)])

    def log_density(self, reverse: GaussianReverse, x: Tensor, solve: Solve) -> Tensor:
        """log p(x_t) at `start`, (B,), nats."""
        end = reverse.process.schedule.end
        x_end, gained = transported(lambda f, y: solve(f, y, self.start, end), flow_in_time(reverse), x, signs(x, 1))
        log_p: Tensor = reverse.process.prior(x_end).log_prob(x_end) + gained
        return log_p


def log_posterior(reverse: GaussianReverse, x_0: Tensor, x_t: Tensor, t: Tensor, log_shares: Tensor) -> Tensor:
    """log P(x_0 | x_t) with the prior `log_shares` of the grey levels, up to a constant, alike for all values; (B,), nats."""
    alpha, sigma = (per_example(c, x_t)[..., None] for c in reverse.process.schedule(t))
    level = DiscreteImages.scaled(np.arange(LEVELS)).to(x_t)
    logits = log_shares - ((x_t[..., None] - alpha * level) / sigma).square() / 2
    index = DiscreteImages.grey(x_0).round().long()[..., None]
    return logits.log_softmax(-1).gather(-1, index).flatten(1).sum(1)
