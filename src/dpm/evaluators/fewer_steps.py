"""The bound on fewer steps than a network was trained for: even strides, quadratic ones, and the steps that maximise it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.bound import decoder_edges
from dpm.data import Data
from dpm.errors import UserError
from dpm.evaluators import Arrays, Evaluation
from dpm.evaluators.bound import nats_per_unit
from dpm.reverse import Reverse, facts_of
from dpm.samplers import ancestral
from dpm.samplers.steps import all_pairs, best_grids, costs, pairs_of, quadratic, remembering
from dpm.study.records import Measurement, standard_error

CHOICE, MEASURED = 10**6 + 1, 10**6 + 2  # numbers of our own among the evaluation's random streams


def times_to_choose_from(T: int, most: int) -> list[int]:
    """0 and at most `most` of the times 1..T, every one of the first and then in geometric progression."""
    return [0, *np.unique(np.geomspace(1, T, most).round().astype(int)).tolist()]


class FewerSteps:
    """L on grids of `lengths` steps and on all T, every grid at the same x_t; its excess over L on all steps, paired.

    The `chosen` grid of each length is the best one by dynamic programming on `validation` images, among at most `candidates`
    times. The excess is a difference on the same images and noise: its error is much smaller than that of the bound, most of
    which is the choice of the images. Arrays: K, mean and standard error of each curve, and the times that were chosen.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        validation: int,
        candidates: int,
        unit: str,
        batch_size: int,
        wrap: Callable[[Any], Reverse],
    ) -> None:
        if validation < 2 or candidates < 2 or min(lengths, default=0) < 1:
            raise UserError(
                f"two images and two candidates at least, and lengths, got {validation=}, {candidates=}, {lengths=}"
            )
        self.lengths, self.validation, self.candidates = lengths, validation, candidates
        self.unit, self.batch_size, self.wrap = unit, batch_size, wrap

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        model, kept = remembering(self.wrap(reverse)), data.validation(self.validation).to(x_0.device)  # type: ignore[arg-type]
        T, scale, key = len(model.process.schedule), nats_per_unit(self.unit, x_0), (seed, seeds.EVALUATION)
        times = times_to_choose_from(T, self.candidates)
        seen = costs(model, kept, all_pairs(times), self.batch_size, *key, CHOICE)
        grids = self.grids(T, best_grids(times, seen.table(times)))
        found = costs(model, x_0, pairs_of(grids.values()), self.batch_size, *key, MEASURED)
        prior = decoder_edges.prior(model, x_0).double().cpu()
        totals = {name: ((prior + found.total(grid)) / scale).numpy() for name, grid in grids.items()}
        shared = {**facts_of(model), "terms": "all", "edges": "decoder"}
        rows: list[Measurement] = []
        for (strides, K), total in totals.items():
            about = {**shared, "strides": strides, "K": K}
            if strides == "chosen":
                about |= {"chosen_on": "validation", "n_chosen_on": len(kept), "candidates": len(times) - 1}
            for quantity, values in (("nll_bound", total), ("nll_excess", total - totals["all", T])):
                rows.append(Measurement(quantity, float(values.mean()), standard_error(values), len(x_0), self.unit, about))
        del rows[-1]  # of all steps over themselves
        return Evaluation(tuple(rows), arrays_of(rows, grids))

    def grids(self, T: int, best: dict[int, list[int]]) -> dict[tuple[str, int], list[int]]:
        """By strides and number of steps; K from T on is `all` alone."""
        few = [K for K in self.lengths if K < T]
        made = {("even", K): ancestral.grid(T, K) for K in few} | {("quadratic", K): quadratic(T, K) for K in few}
        return made | {("chosen", K): best[K] for K in few if K in best} | {("all", T): list(range(T, -1, -1))}


def arrays_of(rows: Iterable[Measurement], grids: dict[tuple[str, int], list[int]]) -> Arrays:
    arrays = {f"chosen_times_{K}": np.array(grid) for (strides, K), grid in grids.items() if strides == "chosen"}
    for strides in dict.fromkeys(name for name, _ in grids):
        own = [m for m in rows if m.protocol["strides"] == strides]
        arrays[f"{strides}_K"] = np.array([m.protocol["K"] for m in own if m.quantity == "nll_bound"])
        for quantity in ("nll_bound", "nll_excess"):
            curve = np.array([(m.value, m.stderr) for m in own if m.quantity == quantity])
            named = zip(("mean", "stderr"), curve.T, strict=False)
            arrays |= {f"{strides}_{quantity}_{name}": column for name, column in named}
    return arrays
