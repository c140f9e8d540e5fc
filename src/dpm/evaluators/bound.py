"""The bound on given examples, every term of it, with its standard error: K, K - L_null and the terms per time step."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.bound import Edges, stationary_edges, transition
from dpm.data import Data
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.study import units
from dpm.study.records import Measurement, standard_error

NATS_PER_BIT = math.log(2)


def nats_per_unit(unit: str, x_0: Tensor) -> float:
    """How many nats per example one `unit` ("bits", "bits/pixel", "bits/dim") is, for examples (n, d) or (n, C, ...)."""
    meaning, layout = units.unit("nll_bound", unit), layout_of(x_0)
    assert meaning.measure.nats is not None
    return meaning.measure.nats * layout.dimensions(units.EXAMPLE) / layout.dimensions(meaning.per)


@dataclass(frozen=True)
class Terms:
    """The T - 1 transitions on n examples: their sum per example, and per time step mean and standard error."""

    total: Tensor  # (n,)
    mean: Tensor  # (T - 1,), t = 2..T
    stderr: Tensor  # (T - 1,)


@torch.no_grad()
def all_terms(reverse: Reverse, x_0: Tensor, draws: int, batch_size: int, seed: int, scale: float = NATS_PER_BIT) -> Terms:
    """Every transition of every example, each the mean over `draws` fresh x_t; memory grows with neither n T nor draws.

    One unit of the result is `scale` nats.

    Noise depends on (seed, t, draw, batch) only: two models, or a model and its oracle, can be compared draw by draw.
    """
    total, means, errors = torch.zeros(len(x_0), dtype=torch.float64), [], []
    for t in range(2, len(reverse.process.schedule) + 1):
        term = sum(torch.cat(_one_draw(reverse, x_0, t, batch_size, seed, draw)) for draw in range(draws)) / (draws * scale)
        assert isinstance(term, Tensor)
        total += term
        means.append(float(term.mean()))
        errors.append(float(term.std()) / math.sqrt(len(term)))
    return Terms(total, torch.tensor(means, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64))


def _one_draw(reverse: Reverse, x_0: Tensor, t: int, batch_size: int, seed: int, draw: int) -> list[Tensor]:
    terms = []
    for index, batch in enumerate(x_0.split(batch_size)):  # type: ignore[no-untyped-call]
        seeds.seed_everything(seed, seeds.EVALUATION, t, draw, index)
        times = torch.full((len(batch),), t, dtype=torch.long, device=batch.device)
        terms.append(transition(reverse, batch, times - 1, times).double().cpu())
    return terms


class Limits(Protocol):
    """What no model exceeds, and what the best of the family reaches: one value per example (n,), or one exact value ()."""

    arrays: Mapping[str, "np.ndarray[Any, Any]"]
    ceiling: Tensor | None  # where it does not depend on the edges

    def of(self, edges: Edges, prior: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """The ceiling and the oracle, as far as they are known, given the two ends of each example's bound."""


Derived = Callable[[Measurement, Any, units.Layout], Measurement]  # (K, data, layout of an example) -> the same in other terms


def in_grey_levels(K: Measurement, data: Any, layout: units.Layout) -> Measurement:
    """-K on the scale of 8-bit grey levels, in bits/dim: what 2020 reports, of data.std grey levels for one unit of x_0.

    With uniform noise u of one grey level in x_0 it bounds -log P(g) of the 8-bit image g: P averages the density of g + u
    over u within the logarithm, K outside of it.
    """
    quantity = units.with_sign(units.stated(K.value, units.unit(K.quantity, K.unit), "K", K.stderr), units.NEGATIVE)
    scaled = units.on_scale(units.per(quantity, units.DIM, layout), units.GREY_LEVELS, data.std, layout)
    bits = units.in_measure(scaled, units.BITS)
    return Measurement("nll_bound", bits.value, bits.stderr, K.n, str(bits.unit), K.protocol, error=K.error)


def layout_of(x_0: Tensor) -> units.Layout:
    """Of examples (n, d) or (n, C, ...)."""
    channels = x_0.shape[1] if x_0.ndim > 2 else 1
    return units.Layout(x_0[0].numel() // channels, channels)


class AllTerms:
    """K by all terms, once for each edge convention in `edges` (stationary), beside what the oracle reaches on the same draws.

    `oracle(process=, data=)` makes the oracle for the very schedule in use; `ceiling(reverse, data, x_0, seed)` gives, in nats
    per example, what no model with this first step can exceed on average. `claims[name]` maps "K" and "K_minus_null" with the
    edges of that name to the claims they answer. `unit` is "bits", "bits/sequence", "bits/pixel", "bits/dim"; `also` are more
    ways to state each K.
    """

    def __init__(
        self,
        edges: Mapping[str, Edges] | None = None,
        unit: str = "bits",
        draws: int = 1,
        batch_size: int = 10000,
        oracle: Callable[..., Reverse] | None = None,
        ceiling: Callable[[Reverse, Data, Tensor, int], Tensor] | None = None,
        claims: Mapping[str, Mapping[str, str]] | None = None,
        also: Sequence[Derived] = (),
    ) -> None:
        if draws < 1 or batch_size < 1:
            raise UserError(f"draws and batch_size are at least 1, got {draws=}, {batch_size=}")
        units.unit("nll_bound", unit)  # which refuses one that it does not know
        self.edges = edges or {"stationary": stationary_edges}
        self.unit, self.draws, self.batch_size = unit, draws, batch_size
        self.oracle, self.ceiling, self.claims, self.also = oracle, ceiling, claims or {}, also

    def terms(self, reverse: Reverse, x_0: Tensor, seed: int) -> Terms:
        return all_terms(reverse, x_0, self.draws, self.batch_size, seed, nats_per_unit(self.unit, x_0))

    def limits(self, reverse: Reverse, data: Any, x_0: Tensor, seed: int) -> Limits:
        oracle = None if self.oracle is None else self.oracle(process=reverse.process, data=data)
        best = None if oracle is None else self.terms(oracle, x_0, seed)
        ceiling = None if self.ceiling is None else self.ceiling(reverse, data, x_0, seed).cpu() / nats_per_unit(self.unit, x_0)
        return SampledLimits(best, ceiling)

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        scale, terms, limits = (
            nats_per_unit(self.unit, x_0),
            self.terms(reverse, x_0, seed),
            self.limits(reverse, data, x_0, seed),
        )
        null = reverse.process.prior(x_0).log_prob(x_0).cpu() / scale
        measurements = [] if limits.ceiling is None else [self.measurement("ceiling", limits.ceiling, {})]
        for name, edges in self.edges.items():
            prior, reconstruction = (edge.cpu() / scale for edge in edges(reverse, x_0))
            parts = {"prior": prior, "transitions": terms.total, "reconstruction": reconstruction}
            measured = self.measure(name, edges, parts, null, limits.of(edges, prior, reconstruction))
            measurements += [*measured, *(derived(measured[0], data, layout_of(x_0)) for derived in self.also)]
        return Evaluation(tuple(measurements), {**arrays_of("term", terms), **limits.arrays})

    def measure(
        self, name: str, edges: Edges, parts: dict[str, Tensor], null: Tensor, limits: dict[str, Tensor]
    ) -> list[Measurement]:
        """K and K - L_null with their limits; and, where the oracle is drawn, its K and the paired difference."""
        K, claims, about = -sum(parts.values(), torch.zeros(())), self.claims.get(name, {}), {"edges": edges.name}
        of_K, of_gain = _means(limits), _means({name: limit - null for name, limit in limits.items()})
        measured = [
            self.measurement("log_likelihood_bound", K, about, claims.get("K"), parts=_means(parts), **of_K),
            self.measurement("gain_over_null", K - null, about, claims.get("K_minus_null"), **of_gain),
        ]
        if "oracle" in limits and limits["oracle"].ndim:
            measured.append(self.measurement("oracle_bound", limits["oracle"], about))
            measured.append(self.measurement("gain_over_oracle", K - limits["oracle"], about))
        return measured

    def measurement(
        self, quantity: str, values: Tensor, about: Mapping[str, Scalar], claim: str | None = None, **details: Any
    ) -> Measurement:
        array = values.double().cpu().numpy()
        protocol: dict[str, Scalar] = {"terms": "all", "draws": self.draws, **about}
        error = standard_error(array)
        return Measurement(quantity, float(array.mean()), error, len(array), self.unit, protocol, claim, **details)


class SampledLimits(Limits):
    """Limits from the same draws as the bound: their difference from it has less noise than either."""

    def __init__(self, oracle: Terms | None, ceiling: Tensor | None) -> None:
        self.oracle, self.ceiling = oracle, ceiling
        self.arrays = {} if oracle is None else arrays_of("oracle_term", oracle)

    def of(self, edges: Edges, prior: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        edges_alone = -(prior + reconstruction)  # the terms between are divergences, for whatever data
        ceiling = edges_alone if self.ceiling is None else self.ceiling
        oracle = {} if self.oracle is None else {"oracle": -(prior + self.oracle.total + reconstruction)}
        return {"ceiling": ceiling, **oracle}


def _means(parts: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in parts.items()}


def arrays_of(prefix: str, terms: Terms) -> dict[str, np.ndarray[Any, Any]]:
    times = np.arange(2, len(terms.mean) + 2)
    return {"term_times": times, f"{prefix}_mean": terms.mean.numpy(), f"{prefix}_stderr": terms.stderr.numpy()}
