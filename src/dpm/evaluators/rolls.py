"""Piano rolls: the bound beside exact models on the same windows; samples; the harmony that 2015's factor gives a melody."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.baselines.rolls import Drawn
from dpm.bound import Edges
from dpm.data.chorales import KEYS, LOWEST, SILENT, Chorales, roll_windows
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import nats_per_unit
from dpm.evaluators.per_example import DrawnBound, measured
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.reverse.conditioned import BitFactor, Conditioned
from dpm.samplers.ancestral import sample
from dpm.study.records import Measurement, standard_error

JOINT, GIVEN_PAST = "joint within a step", "independent given the past"


class Exact(Protocol):
    """A model whose likelihood has a closed form; `lower`: whether a step's notes see each other."""

    lower: bool

    def fit(self, x_0: Tensor, drawn: Drawn, seed: int) -> None: ...

    def nll(self, x_0: Tensor) -> Tensor: ...


def pieces(x_0: Tensor, window: int) -> Tensor:
    """(n, keys, L) -> (n L / window, keys, window), in order."""
    return x_0.unfold(2, window, window).movedim(2, 1).flatten(0, 1)


class AgainstExact:
    """L on windows of several lengths, exact models on the same windows, and the paired difference; nats per step.

    `same` also cuts the longest windows into the shorter ones: the same steps, some of them without their past.
    """

    def __init__(
        self, bound: DrawnBound, windows: Sequence[int], models: Mapping[str, Exact], fixed_last_step: Edges, unit: str
    ) -> None:
        self.bound, self.windows, self.models = bound, sorted(windows), models
        self.fixed, self.unit = fixed_last_step, unit

    def __call__(self, reverse: Reverse, data: Chorales, x_0: Tensor, seed: int) -> Evaluation:
        for model in self.models.values():
            model.fit(data.training(), data.drawn, seed)
        longest = data.windows("test", self.windows[-1]).to(x_0)
        found: list[Measurement] = []
        for w in self.windows:
            x = data.windows("test", w).to(x_0)
            found += self.measurements(reverse, x, len(x), {"window": w, "scored": "all"}, seed)
        for w in self.windows[:-1]:
            x = pieces(longest, w)
            found += self.measurements(reverse, x, len(longest), {"window": w, "scored": "longest"}, seed)
        return Evaluation(tuple(found))

    def measurements(self, reverse: Reverse, x: Tensor, groups: int, about: dict[str, Scalar], seed: int) -> list[Measurement]:
        """Means over examples, or over the longer windows that they are pieces of."""

        def grouped(values: Tensor) -> Tensor:
            return values.cpu().view(groups, -1).mean(1)

        of_bound: dict[str, Scalar] = {**about, "terms": "sampled", "draws": self.bound.draws, "outputs": JOINT}
        L = grouped(self.bound.of(reverse, x, seed))
        found = [measured("nll_bound", L, self.unit, {**of_bound, "edges": self.bound.edges.name})]
        if groups == len(x):
            fixed = self.bound.of(reverse, x, seed, self.fixed)
            found.append(measured("nll_bound", fixed, self.unit, {**of_bound, "edges": self.fixed.name}))
        for name, model in self.models.items():
            with torch.no_grad():
                nll = grouped(model.nll(x.cpu()) / nats_per_unit(self.unit, x))
            recipe: dict[str, Scalar] = {"model": name, "outputs": JOINT if model.lower else GIVEN_PAST}
            found.append(replace(measured("nll", nll, self.unit, {**about, **recipe}), recipe=recipe))
            against: dict[str, Scalar] = {**about, "edges": self.bound.edges.name, "against": name}
            found.append(measured("nll_excess", L - nll, self.unit, against))
        return found


class Music:
    """Samples, and windows of the test set whose soprano is given and whose other voices are drawn (2015, section 2.5).

    r(x) = 1 where the soprano's key is on and no higher one: d = 1 and 0, and 1/2 for the keys below (Table App.1).
    `valid_share` is the share of steps whose pitch classes sound together somewhere in the training chorales.
    """

    def __init__(self, n: int, steps: int) -> None:
        self.n, self.steps = n, steps

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Chorales, x_0: Tensor, seed: int) -> Evaluation:
        voices = data.voices("test", data.window)[:: max(1, len(x_0) // self.n)][: self.n]
        given = torch.from_numpy(roll_windows(voices)).to(x_0)
        seeds.seed_everything(seed, seeds.SAMPLING)
        free = sample(reverse, reverse.process.prior(given).sample(), self.steps)
        conditioned = Conditioned(reverse, BitFactor(factor(voices).to(x_0)))
        harmonised = sample(conditioned, conditioned.prior(given).sample(), self.steps)
        known = chords(data.training())
        found = {name: x.cpu() for name, x in (("samples", free), ("harmonised", harmonised), ("test", given))}
        shares = [self.share(name, x, known) for name, x in found.items()]
        return Evaluation(tuple(shares), {f"rolls_{name}": x.numpy().astype(np.uint8) for name, x in found.items()})

    def share(self, name: str, x: Tensor, known: set[bytes]) -> Measurement:
        shares = np.array([np.mean([chord in known for chord in chords_of(one)]) for one in x])
        about: dict[str, Scalar] = {"of": name, "sampling_steps": self.steps}
        return Measurement("valid_share", float(shares.mean()), standard_error(shares), len(shares), "1", about)


def factor(voices: "np.ndarray[Any, Any]") -> Tensor:
    """d of (n, steps, voices) whose first voice is known: (n, 88, steps). A silent soprano says nothing."""
    soprano = torch.from_numpy(voices[:, :, 0].astype(np.int64))[:, None]
    key = torch.arange(LOWEST, LOWEST + KEYS)[:, None]
    d = torch.where(key < soprano, 0.5, (key == soprano).double())
    return torch.where(soprano == SILENT, 0.5, d)


def chords_of(x: Tensor) -> list[bytes]:
    """The pitch classes of each step of a roll (88, steps), as a key."""
    classes = np.zeros((12, x.shape[1]), dtype=bool)
    for key, row in enumerate(x.numpy() > 0):
        classes[(key + LOWEST) % 12] |= row
    return [column.tobytes() for column in classes.T]


def chords(x_0: Tensor) -> set[bytes]:
    return {chord for x in x_0 for chord in chords_of(x)}
