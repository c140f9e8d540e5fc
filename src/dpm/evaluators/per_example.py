"""The bound of every example by itself, from a few of its terms at stratified times: for paired differences between models."""

import torch
from torch import Tensor

from dpm import seeds
from dpm.bound import Edges, draw, term
from dpm.data import Data
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import nats_per_unit
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.study.records import Measurement, standard_error
from dpm.times import Times, Uniform


@torch.no_grad()
def bounds(reverse: Reverse, x_0: Tensor, edges: Edges, times: Times, draws: int, batch_size: int, seed: int) -> Tensor:
    """L of each example in nats, (n,), unbiased: one term / q(t) in each of `draws` strata of q, each at a draw of its own."""
    q = times.masses(reverse, edges.first).to(x_0.device)
    q = q / q.sum()
    total = edges.prior(reverse, x_0) + (edges.reconstruction(reverse, x_0) if edges.first == 2 else 0)
    for stratum in range(draws):
        parts = []
        for number, x in enumerate(x_0.split(batch_size)):  # type: ignore[no-untyped-call]
            seeds.seed_everything(seed, seeds.EVALUATION, stratum, number)
            u = (stratum + torch.rand(len(x), dtype=torch.float64)) / draws
            index = torch.searchsorted(q.cumsum(0), u.to(x.device), right=True).clamp(max=len(q) - 1)
            t = edges.first + index
            parts.append(term(reverse, x, draw(reverse.process, x, t), t - 1, t) / q[index] / draws)
        total = total + torch.cat(parts)
    return total


def measured(quantity: str, values: Tensor, unit: str, about: dict[str, Scalar]) -> Measurement:
    array = values.double().cpu().numpy()
    return Measurement(quantity, float(array.mean()), standard_error(array), len(array), unit, about)


class DrawnBound:
    """L on the examples, its error that of examples and draws together."""

    def __init__(self, unit: str, edges: Edges, draws: int, times: Times | None = None, batch_size: int = 200) -> None:
        self.unit, self.edges, self.times, self.draws, self.batch_size = unit, edges, times or Uniform(), draws, batch_size

    def of(self, reverse: Reverse, x_0: Tensor, seed: int, edges: Edges | None = None) -> Tensor:
        """(n,), in `unit`."""
        L = bounds(reverse, x_0, edges or self.edges, self.times, self.draws, self.batch_size, seed)
        return L / nats_per_unit(self.unit, x_0)

    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        about: dict[str, Scalar] = {"terms": "sampled", "draws": self.draws, "edges": self.edges.name}
        return Evaluation((measured("nll_bound", self.of(reverse, x_0, seed), self.unit, about),))
