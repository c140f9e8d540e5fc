"""-log p(x_0) of one network by the estimators of the field, in one unit, on the same examples."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.bound import decoder_edges, draw, term
from dpm.data import Data
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import nats_per_unit
from dpm.facts import Scalar
from dpm.flows import Solve, axes, log_density, noise_level, probability_flow, signs
from dpm.processes import at, per_example
from dpm.reverse import facts_of
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.ancestral import grid
from dpm.study import units
from dpm.study.records import Measurement, standard_error
from dpm.trajectories import log_mean_exp, log_weights, transitions_in_the_limit

TRAJECTORIES, LIMIT, FLOW, AGAIN = range(4)  # random streams


class Likelihoods:
    """Rows of `quantity`, nll_bound or its negative, log_likelihood_bound, with the `estimator` in the protocol.

    Each bounds -log p(x_0) of the model that `model` names:

    `trajectories`, model = chain: the importance-weighted bound with K trajectories for every K of `groups`, on a grid of
    `chain_steps` steps; K = 1 is the bound. The deviation of log w over trajectories is `log_weight_deviation`.
    `limit`, model = sde: infinitely many steps, by `levels` noise levels an example; `information`, the same quantity by
    the difference from a Gaussian's denoising error at the same draws.
    `flow`, model = flow: the probability flow from t = 1 on, and the last step of the chain, whose decoder knows the data's
    units: E_q[-log p(x_0 | x_1) - log p_flow(x_1) + log q(x_1 | x_0)]. `probes` = 0 takes the divergence by all axes.
    `dequantised_flow`, for images whose values lie `width` apart: the density of x_1 / alpha_1 at x_0 + u, u uniform on
    (-width / 2, width / 2), times the volume of a cell; width = None leaves it out.

    The first `trajectories_on`, `flow_on` examples are used. `coarse_flow` (a row `nll_excess`) says what a solver of less
    accuracy, `coarse` in place of `solve`, changes on `again_on` of them, and `reconstruction_error` how far a path that is
    followed there and back ends from its start (root mean square, in units of x_1).
    """

    def __init__(
        self,
        quantity: str,
        unit: str,
        groups: Sequence[int],
        chain_steps: int,
        trajectories_on: int,
        levels: int,
        solve: Solve,
        coarse: Solve,
        probes: int,
        flow_on: int,
        again_on: int,
        batch_size: int,
        width: float | None = None,
        wrap: Callable[[Any], GaussianReverse] | None = None,
    ) -> None:
        if min(*groups, chain_steps, trajectories_on, levels, flow_on, again_on, batch_size) < 1 or probes < 0:
            raise UserError("likelihoods: groups, steps, levels, numbers of examples and batch_size are at least 1, probes 0")
        self.quantity, self.unit, self.groups = quantity, unit, groups
        self.chain_steps, self.trajectories_on = chain_steps, trajectories_on
        self.levels, self.solve, self.coarse, self.probes = levels, solve, coarse, probes
        self.flow_on, self.again_on, self.batch_size, self.width = flow_on, again_on, batch_size, width
        self.wrap = wrap or (lambda reverse: reverse)

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        model, scale = self.wrap(reverse), nats_per_unit(self.unit, x_0)
        signed = -units.unit(self.quantity, self.unit).sign.factor * scale  # nats of -log p in one unit of the quantity
        of_model, rows = facts_of(model), []

        def row(quantity: str, values: Tensor, unit: str, estimator: str, of: str, **about: Scalar) -> None:
            array = values.double().cpu().numpy()
            protocol = {**of_model, "estimator": estimator, "model": of, **about}
            rows.append(Measurement(quantity, float(array.mean()), standard_error(array), len(array), unit, protocol))

        steps = grid(len(model.process.schedule), self.chain_steps)
        about: dict[str, Scalar] = {"chain_steps": len(steps) - 1, "from": steps[0]}
        log_w = self.trajectories(model, x_0, steps, seed)
        for K in self.groups:
            row(self.quantity, -log_mean_exp(log_w, K) / signed, self.unit, "trajectories", "chain", K=K, **about)
        if log_w.shape[1] > 1:
            row("log_weight_deviation", log_w.std(1), "nats", "trajectories", "chain", **about)
        for estimator, values in zip(("limit", "information"), self.limit(model, x_0, seed), strict=True):
            row(self.quantity, values / signed, self.unit, estimator, "sde", levels=self.levels)
        flow, (start, again) = self.flow(model, x_0[: self.flow_on], self.solve, seed), self.round_trip(model, x_0, seed)
        row(self.quantity, flow / signed, self.unit, "flow", "flow", probes=self.probes)
        few = x_0[: self.again_on]
        change = self.flow(model, few, self.coarse, seed) - self.flow(model, few, self.solve, seed)
        row("nll_excess", change / scale, self.unit, "coarse_flow", "flow", probes=self.probes)
        row("reconstruction_error", (again - start).flatten(1).square().mean(1).sqrt(), "1", "flow_and_back", "flow")
        if self.width is not None:
            values = self.dequantised(model, x_0[: self.flow_on], self.width, seed) / signed
            row(self.quantity, values, self.unit, "dequantised_flow", "flow", probes=self.probes)
        return Evaluation(tuple(rows))

    def batches(self, x_0: Tensor, seed: int, stream: int) -> Iterator[Tensor]:
        """Batches, each with the generator in a state of its own."""
        for number, batch in enumerate(x_0.split(self.batch_size)):  # type: ignore[no-untyped-call]
            seeds.seed_everything(seed, seeds.EVALUATION, stream, number)
            yield batch

    def trajectories(self, model: GaussianReverse, x_0: Tensor, steps: Sequence[int], seed: int) -> Tensor:
        """log w, (n, the largest group), nats."""
        few = x_0[: self.trajectories_on]
        return torch.cat([log_weights(model, x, steps, max(self.groups)) for x in self.batches(few, seed, TRAJECTORIES)])

    def limit(self, model: GaussianReverse, x_0: Tensor, seed: int) -> Tensor:
        """L_T + the transitions of infinitely many steps + L_0, by both estimates, (2, n), nats."""

        def of(x: Tensor) -> Tensor:
            one = at(x, 1)
            edges = decoder_edges.prior(model, x) + term(model, x, draw(model.process, x, one), one - 1, one)
            return torch.stack(transitions_in_the_limit(model, x, self.levels)) + edges

        return torch.cat([of(x) for x in self.batches(x_0, seed, LIMIT)], 1)

    def flow(self, model: GaussianReverse, x_0: Tensor, solve: Solve, seed: int) -> Tensor:
        """(n,), nats; the same draws of x_1 and of probes whatever the solver."""

        def of(x: Tensor) -> Tensor:
            one = at(x, 1)
            x_1 = draw(model.process, x, one)
            known = term(model, x, x_1, one - 1, one) + model.process.marginal(x, one).log_prob(x_1)
            return known - log_density(model, x_1, 1, solve, self.directions(x))

        return torch.cat([of(x) for x in self.batches(x_0, seed, FLOW)])

    def dequantised(self, model: GaussianReverse, x_0: Tensor, width: float, seed: int) -> Tensor:
        """-log of alpha_1^d p_flow(alpha_1 (x_0 + u)) width^d, (n,), nats: a bound on -log P(x_0) for uniform u."""
        alpha, _ = (float(c) for c in model.process.schedule(torch.tensor(1)))

        def of(x: Tensor) -> Tensor:
            noisy = x + width * (torch.rand_like(x) - 0.5)
            log_p = log_density(model, alpha * noisy, 1, self.solve, self.directions(x))
            return -log_p - x[0].numel() * float(np.log(alpha * width))

        return torch.cat([of(x) for x in self.batches(x_0, seed, FLOW)])

    def round_trip(self, model: GaussianReverse, x_0: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """x_1, and where the flow to the end and back takes it."""
        few, field, schedule = x_0[: self.again_on], probability_flow(model), model.process.schedule
        seeds.seed_everything(seed, seeds.EVALUATION, AGAIN, 0)
        x = draw(model.process, few, at(few, 1))
        first, last = noise_level(schedule, 1), noise_level(schedule, schedule.end)
        alpha = per_example(schedule(at(x, 1))[0], x)
        return x, alpha * self.solve(field, self.solve(field, x / alpha, first, last), last, first)

    def directions(self, x: Tensor) -> Tensor:
        return signs(x, self.probes) if self.probes else axes(x)
