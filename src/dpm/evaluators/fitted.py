"""Evaluators of a trained process with parts that are fitted to validation examples, stage by stage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpm import seeds
from dpm.bound import draw, term
from dpm.data import Data, Finite, refuse_lacking
from dpm.errors import UserError
from dpm.evaluators import Array, Evaluation, Evaluator
from dpm.evaluators.bound import nats_per_unit
from dpm.evaluators.sampled import stratified_variance
from dpm.facts import Scalar
from dpm.reverse import Reverse, facts_of
from dpm.study.records import Measurement
from dpm.times import stratified

Fit = Callable[[Any, Tensor, int], Reverse]  # (reverse, examples, seed) -> the same with one more part


@dataclass(frozen=True)
class Stage:
    """What is fitted, on top of the stages before, and how the result is evaluated.

    The evaluator's arrays are called <name>_<their own name>. `training`: the fit takes that many training examples instead.
    """

    name: str
    fit: Fit
    evaluator: Evaluator
    training: int = 0


class InStages:
    """Fit to the first n validation examples, or to training examples, and evaluate: each of `stages` on those before it.

    Then nll_excess, L of the last stage minus L of wrap(reverse), from the same x_t, of which most of the error of either is
    no part. They differ at t <= `last` only, the more the smaller t is: each example has one t, drawn in proportion to t^-2.
    """

    def __init__(
        self, n: int, wrap: Callable[[Any], Reverse], stages: Sequence[Stage], last: int, unit: str, batch_size: int
    ) -> None:
        if n < 1 or last < 1 or batch_size < 1 or not stages:
            raise UserError(f"stages need at least one of each: {n=}, {last=}, {batch_size=}, {len(stages)} stages")
        self.n, self.wrap, self.stages, self.last, self.unit, self.batch_size = n, wrap, stages, last, unit, batch_size

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        validation, process = data.validation(self.n).to(x_0.device), self.wrap(reverse)
        measurements: list[Measurement] = []
        arrays: dict[str, Array] = {}
        fitted: dict[str, Scalar] = {}
        for stage in self.stages:
            if stage.training:
                examples = of_training(data, stage.training).to(x_0.device)
                fitted |= {"trained_on": "training", "n_trained": len(examples)}
            else:
                examples = validation
                fitted |= {"fitted_on": "validation", "n_fitted": self.n}
            process = stage.fit(process, examples, seed)
            found = stage.evaluator(process, data, x_0, seed)
            measurements += [m.with_protocol(fitted) for m in found.measurements]
            arrays |= {f"{stage.name}_{key}": array for key, array in found.arrays.items()}
        measurements += self.excesses(self.wrap(reverse), process, x_0, seed, {**facts_of(process), **fitted})
        return Evaluation(tuple(measurements), arrays)

    def excesses(
        self, before: Reverse, after: Reverse, x_0: Tensor, seed: int, about: Mapping[str, Scalar]
    ) -> list[Measurement]:
        """Of all terms, of the decoder's and of the others."""
        t, y = self.differences(before, after, x_0, seed)
        parts, scale = {"all": t > 0, "reconstruction": t == 1, "transitions": t > 1}, nats_per_unit(self.unit, x_0)
        measured = []
        for part, chosen in parts.items():
            values = y * chosen / scale
            protocol: dict[str, Scalar] = {**about, "part": part}
            error = (stratified_variance(values) / len(values)) ** 0.5
            about_it = (float(values.mean()), error, len(x_0), self.unit, protocol)
            measured.append(Measurement("nll_excess", *about_it, error="estimate"))
        return measured

    def differences(self, before: Reverse, after: Reverse, x_0: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Times in order, and (L_t after - L_t before) / q(t) of one example each at one x_t, in nats; both (n,)."""
        seeds.seed_everything(seed, seeds.EVALUATION, 0)
        masses = torch.arange(1, self.last + 1, dtype=torch.float64).pow(-2)
        t, weight = stratified(masses, len(x_0), 1)
        order, values = torch.randperm(len(x_0)), []
        for k, times in zip(order.split(self.batch_size), t.split(self.batch_size), strict=True):  # type: ignore[no-untyped-call]
            x, at = x_0[k.to(x_0.device)], times.to(x_0.device)
            x_t = draw(before.process, x, at)
            values.append((term(after, x, x_t, at - 1, at) - term(before, x, x_t, at - 1, at)).double().cpu())
        return t, weight * torch.cat(values)


def of_training(data: Any, n: int) -> Tensor:
    """The first n training examples of data that have finitely many."""
    refuse_lacking(data, Finite, "a fit to training examples")
    examples: Tensor = data.training()[:n]
    return examples
