"""Examples drawn by any sampler, how many looks at the network they took, and how far they are from held-out ones."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor

from dpm import seeds
from dpm.data import Data
from dpm.errors import UserError
from dpm.evaluators import Array, Evaluation
from dpm.evaluators.samples import levels
from dpm.facts import Scalar
from dpm.reverse import facts_of
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import last
from dpm.study.records import Measurement, standard_error


class Drawn:
    """`sliced_distance` of samples from held-out examples, the mean over `sets` pairs of sets.

    Samples are the last of what `sampler(reverse, x_T)` yields.
    The distance is the root of the mean squared Wasserstein-2 distance of projections on random directions, in units of x_0;
    its floor is that of each held-out set from the next one. `sampling_evaluations` counts looks at the network for one batch.
    Arrays: `samples`, (n, d) or grey levels (n, C, H, W).
    """

    def __init__(
        self,
        sampler: Callable[[Any, Tensor], Iterator[Tensor]],
        sets: int,
        directions: int,
        wrap: Callable[[Any], GaussianReverse] | None = None,
    ) -> None:
        if sets < 2 or directions < 1:
            raise UserError(f"drawn: two sets and one direction at least, got {sets=}, {directions=}")
        self.sampler, self.sets, self.directions = sampler, sets, directions
        self.wrap = wrap or (lambda reverse: reverse)

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        size = len(x_0) // self.sets
        if size < 2:
            raise UserError(f"drawn: {self.sets} sets of two examples at least, there are {len(x_0)}; set examples=...")
        seeds.seed_everything(seed, seeds.SAMPLING)
        model, looks = self.wrap(reverse), []
        x_T = model.process.prior(x_0 if x_0.ndim == 2 else x_0.float()).sample()
        counter = model.network.register_forward_hook(lambda *_: looks.append(1))
        x = last(self.sampler(model, x_T))
        counter.remove()
        if not bool(x.isfinite().all()):
            raise UserError(f"samples that are not finite: {settings(self.sampler)} does not get to x_0; take more steps")
        held, drawn = (sets(each, size, self.sets) for each in (x_0, x))
        about = {**facts_of(model), **settings(self.sampler)}
        floor = self.row(np.roll(held, 1, 0), held, {"source": "held_out"}, seed)
        cost = Measurement("sampling_evaluations", len(looks), 0.0, len(x), "1", about)
        rows = (self.row(drawn, held, {**about, "source": "samples"}, seed), floor, cost)
        grey = getattr(data, "grey", None)
        return Evaluation(rows, {"samples": x.cpu().numpy() if grey is None else levels(grey(x.double()))})

    def row(self, ours: Array, held: Array, about: dict[str, Scalar], seed: int) -> Measurement:
        distances = [
            ot.sliced_wasserstein_distance(a, b, n_projections=self.directions, seed=seed)
            for a, b in zip(ours, held, strict=True)
        ]
        values, protocol = np.array(distances), {**about, "sets": self.sets, "directions": self.directions}
        return Measurement("sliced_distance", float(values.mean()), standard_error(values), len(held[0]), "1", protocol)


def sets(x: Tensor, size: int, number: int) -> Array:
    """(number, size, d), float64."""
    array: Array = x.double().flatten(1)[: size * number].view(number, size, -1).cpu().numpy()
    return array


def settings(sampler: Any) -> dict[str, Scalar]:
    """Who draws and what it was given: {"sampler": "flow.by_grid", "walk": "ode.heun", "sampling_steps": 25, ...}."""
    given, about = {"sampler": sampler, **getattr(sampler, "keywords", {})}, dict[str, Scalar]()
    for key, value in given.items():
        about["sampling_steps" if key == "steps" else key] = name(value) if callable(value) else value
        about |= value.keywords if key != "sampler" and isinstance(value, partial) else {}
    return about


def name(function: Any) -> str:
    """Of a function, or of one with some of its arguments: its file and its own."""
    function = getattr(function, "func", function)
    return f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"
