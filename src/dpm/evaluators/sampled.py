"""The bound on all examples and all its terms from about one network evaluation per example, with an interval that is right.

The sum over t of the mean over examples of the terms is a sum over a table of n x T cells. A pass visits n of its cells:
each example once, in random order, at times that are stratified with respect to a distribution q(t). What varies with t
alone or with the example alone then cancels, and is left out of the reported error too:

    estimate = sum_h 1/(2 H) (y_h1 + y_h2),  y = (L_t - beta c) / q(t),  H = n / 2 strata of q with two draws in each,
    variance = (mean of (y_h1 - y_h2)^2 / 2 - variance of the examples' own means) / n.

c is a control variate with a known mean: the squared error of the best linear denoiser at the same x_t. A pilot chooses
beta and q; the examples' own variance is the covariance of two visits to the same example at independent times.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.baselines.gaussian_images import GaussianImages
from dpm.bound import Edges, decoder_edges, draw, stationary_edges, term
from dpm.data import Data
from dpm.decoders import Discretized
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import Derived, layout_of, nats_per_unit
from dpm.evaluators.distortion import reverse_steps
from dpm.facts import Scalar
from dpm.processes import Process
from dpm.reverse import Reverse, facts_of
from dpm.study import units
from dpm.study.records import Measurement
from dpm.times import Uniform, as_linear

Z = 1.959964  # of a 95 % interval
FEWEST = 20  # draws of the pilot from which a slope is taken


class Control(Protocol):
    """c(x_0, x_t, t), about as large as the bound's term and correlated with it, and its expectation in closed form."""

    def __call__(self, process: Process, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """(B,), nats."""

    def expectations(self, process: Process, x_0: Tensor, t: Tensor) -> Tensor:
        """The mean over the examples x_0 of E c over x_t ~ q(x_t | x_0), for each of the times t, float64."""

    def masses(self, process: Process, first: int) -> Tensor:
        """How often the pilot looks at t = first..T, up to a factor."""


class LinearError(Control):
    """c = w_t |x_0 - E_lin[x_0 | x_t]|^2: w_t makes its mean under the Gaussian model the model's own term of the bound."""

    def __init__(self, model: GaussianImages) -> None:
        self.model = model

    def weights(self, process: Any, t: Tensor) -> Tensor:
        errors = self.model.error(process, t) * self.model.variances.numel()
        return self.model.terms(process, t) / errors

    def __call__(self, process: Any, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        square = (x_0 - self.model.posterior_mean(process, x_t, t)).square().flatten(1).sum(1)
        return self.weights(process, t).to(x_0.dtype) * square

    def expectations(self, process: Any, x_0: Tensor, t: Tensor) -> Tensor:
        batches = x_0.split(1000)  # type: ignore[no-untyped-call]
        squares = torch.stack([self.model.coefficients(b.double()).square().sum(0) for b in batches]).sum(0) / len(x_0)
        parts = t.split(50)  # type: ignore[no-untyped-call]
        return torch.cat([self.weights(process, p) * self.model.expected_square_error(process, squares, p) for p in parts])

    def masses(self, process: Any, first: int) -> Tensor:
        return as_linear(self.model, process, first)


def linear_error(data: Any, device: torch.device) -> LinearError:
    """The control variate whose Gaussian model is fitted to the training examples of `data`."""
    x_0 = data.training()
    model = GaussianImages(*x_0.shape[1:]).to(device)
    model.fit(x_0)
    return LinearError(model)


@dataclass(frozen=True)
class Pass:
    """One visit to each of `examples`, in order of time; pairs of neighbours share a stratum of q. Float64, all (m,)."""

    examples: Tensor
    t: Tensor
    term: Tensor  # L_t / q(t)
    control: Tensor  # c / q(t)

    @property
    def shares(self) -> Tensor:
        """The weight of each draw in the estimate: strata count alike, also a last one with a single draw."""
        strata, single = (len(self.t) + 1) // 2, len(self.t) % 2
        shares = torch.full((len(self.t),), 1 / (2 * strata), dtype=torch.float64)
        shares[len(shares) - single :] *= 2
        return shares


@torch.no_grad()
def visit(
    reverse: Reverse, x_0: Tensor, masses: Tensor, first: int, control: Control | None, m: int, batch_size: int, *key: int
) -> Pass:
    """Visit m random examples once each at stratified times; every draw is a function of `key`. Memory: one batch."""
    generator = seeds.generator(*key)
    examples = torch.randperm(len(x_0), generator=generator)[:m]
    q, strata = masses / masses.sum(), (m + 1) // 2
    u = (torch.arange(m) // 2 + torch.rand(m, generator=generator, dtype=torch.float64)) / strata
    index = torch.searchsorted(q.cumsum(0), u, right=True).clamp(max=len(q) - 1)
    index = index.sort(stable=True).values
    terms, controls = [], []
    for number, (i, k) in enumerate(zip(index.split(batch_size), examples.split(batch_size), strict=True)):  # type: ignore[no-untyped-call]
        seeds.seed_everything(*key, number)
        t, x = (first + i).to(x_0.device), x_0[k.to(x_0.device)]
        x_t = draw(reverse.process, x, t)
        terms.append(term(reverse, x, x_t, t - 1, t).double().cpu() / q[i])
        controls.append(control(reverse.process, x, x_t, t).double().cpu() / q[i] if control else torch.zeros(len(i)).double())
    return Pass(examples, first + index, torch.cat(terms), torch.cat(controls))


@dataclass(frozen=True)
class Strategy:
    """Where to look and what to subtract: masses of q and the coefficient beta for each t >= first, in groups of times."""

    first: int
    masses: Tensor  # (T - first + 1,), q up to a factor
    beta: Tensor  # (T - first + 1,)
    groups: Tensor  # (T - first + 1,), the number of the group that a time belongs to

    def values(self, p: Pass) -> Tensor:
        """y = (L_t - beta c) / q(t)."""
        return p.term - self.beta[p.t - self.first] * p.control

    def residuals(self, p: Pass, low: int, high: int) -> Tensor:
        """The values of the terms with low <= t <= high, less the mean over their group of times."""
        y, groups = self.values(p) * _within(p, low, high), self.groups[p.t - self.first]
        sums = torch.zeros(int(self.groups.max()) + 1, dtype=torch.float64).index_add(0, groups, y)
        return y - (sums / torch.bincount(groups, minlength=len(sums)).clamp(min=1))[groups]


def strategy_from(pilot: Pass, masses: Tensor, first: int, per_group: int = 40) -> Strategy:
    """beta = Cov(L, c) / Var(c) and q proportional to the standard deviation of L - beta c, in groups of neighbouring times.

    With times stratified, this q gives the least variance (Neyman's allocation). A tenth of the old q is mixed in, so that
    a group that looked quiet to the pilot is still visited.
    """
    times = torch.arange(first, first + len(masses))
    transitions = pilot.t[pilot.t > 1]
    starts = [first, 2, *transitions[per_group : len(transitions) + 1 - per_group : per_group].tolist()]
    groups = torch.bucketize(times, torch.tensor(sorted(set(starts))), right=True) - 1
    beta, spread = torch.zeros_like(masses), torch.ones_like(masses)
    of_draw = groups[pilot.t - first]
    for group in of_draw.unique():  # type: ignore[no-untyped-call]
        y, c = pilot.term[of_draw == group], pilot.control[of_draw == group]
        fitted = slope(y, c) if len(y) >= FEWEST else 0.0
        beta[groups == group] = fitted
        spread[groups == group] = (y - fitted * c).std() if len(y) >= FEWEST else pilot.term.std()
    adapted = masses * spread
    return Strategy(first, 0.9 * adapted / adapted.sum() + 0.1 * masses / masses.sum(), beta, groups)


def slope(y: Tensor, c: Tensor) -> float:
    """Cov(y, c) / Var(c), and 0 for a control that is constant."""
    deviation = c - c.mean()
    return float((y * deviation).sum() / deviation.square().sum().clamp(min=1e-300))


def stratified_variance(y: Tensor) -> float:
    """The variance of one draw about the mean of its stratum, examples' own means included: half a pair's mean square."""
    pairs = y[: len(y) // 2 * 2].reshape(-1, 2)
    return float((pairs[:, 0] - pairs[:, 1]).square().mean() / 2)


def variance_of_examples(residuals: list[tuple[Tensor, Tensor]], n: int) -> float:
    """Var over examples of E[y | example]: the covariance of two visits, over all pairs of visits (examples, residual of y)."""
    table = torch.full((len(residuals), n), torch.nan, dtype=torch.float64)
    for row, (examples, values) in zip(table, residuals, strict=True):
        row[examples] = values
    products, count = 0.0, 0
    for one in range(len(table)):
        for other in range(one):
            both = ~(table[one] * table[other]).isnan()
            products += float((table[one] * table[other])[both].sum())
            count += int(both.sum())
    return max(products / count, 0.0) if count else 0.0


@dataclass(frozen=True)
class Sampled:
    """Sums of terms over ranges of t, as means over n examples in nats, each with its standard error."""

    strategy: Strategy
    pilot: Pass
    visits: list[Pass]
    expectations: Tensor  # of the control, for t >= first
    n: int

    @property
    def evaluations(self) -> int:
        return len(self.pilot.t) + sum(len(p.t) for p in self.visits)

    def part(self, low: int, high: int) -> tuple[float, float]:
        """sum of the terms with low <= t <= high, and its standard error."""
        strategy, times = self.strategy, torch.arange(len(self.expectations)) + self.strategy.first
        exact = float((strategy.beta * self.expectations)[(times >= low) & (times <= high)].sum())
        values = [strategy.values(p) * _within(p, low, high) for p in self.visits]
        estimate = sum(float((p.shares * y).sum()) for p, y in zip(self.visits, values, strict=True)) / len(values)
        seen = [(p.examples, strategy.residuals(p, low, high)) for p in (self.pilot, *self.visits)]
        shared = variance_of_examples(seen, self.n)
        of_draws = [stratified_variance(y) for y in values]
        variances = [max(v - shared, 0.1 * v) / len(y) for v, y in zip(of_draws, values, strict=True)]  # shared is noisy
        return exact + estimate, math.sqrt(sum(variances)) / len(values)


def _within(p: Pass, low: int, high: int) -> Tensor:
    return (p.t >= low) & (p.t <= high)


def sampled(
    reverse: Reverse,
    x_0: Tensor,
    first: int,
    masses: Tensor,
    control: Control | None,
    pilot: int,
    half_width: float,
    passes: int,
    batch_size: int,
    seed: int,
) -> Sampled:
    """A pilot at times with these masses (on the CPU), then passes over all of x_0, at most `passes`.

    It stops when the interval's half width, in nats per example, is reached.
    """
    T = len(reverse.process.schedule)

    def look(masses: Tensor, m: int, number: int) -> Pass:
        return visit(reverse, x_0, masses, first, control, m, batch_size, seed, seeds.EVALUATION, number)

    trial = look(masses, min(pilot, len(x_0)), 0)
    strategy = strategy_from(trial, masses, first)
    expectations = torch.zeros(len(masses), dtype=torch.float64)
    if control is not None:
        expectations = control.expectations(reverse.process, x_0, torch.arange(first, T + 1, device=x_0.device)).cpu()
    result = Sampled(strategy, trial, [], expectations, len(x_0))
    for number in range(1, passes + 1):
        result.visits.append(look(strategy.masses, len(x_0), number))
        if Z * result.part(first, T)[1] <= half_width:
            break
    return result


class SampledTerms:
    """Any bound by sampled terms: what is common to the two papers' ways to report it.

    `pilot` evaluations choose q and beta; then passes over all examples, at most `passes`, until the 95 % interval is within
    `half_width` (in `unit`) of the estimate. `control(data=, device=)` makes the control variate, which also says where the
    pilot looks (without one: everywhere alike), and `wrap` makes the process that is evaluated of the trained one
    (`dpm.reverse.gaussian.clipped`). `stderr` is that of the bound on the given examples: the choice of the examples is not
    part of it.
    """

    def __init__(
        self,
        unit: str,
        pilot: int,
        half_width: float,
        passes: int,
        batch_size: int,
        control: Callable[..., Control] | None,
        wrap: Callable[[Any], Reverse] | None,
    ) -> None:
        if pilot < 10 or passes < 1 or batch_size < 1 or not half_width > 0:
            raise UserError(
                f"pilot >= 10; passes, batch_size >= 1; half_width > 0: {pilot=}, {passes=}, {batch_size=}, {half_width=}"
            )
        units.unit("nll_bound", unit)  # or UserError
        self.unit, self.pilot, self.half_width, self.passes, self.batch_size = unit, pilot, half_width, passes, batch_size
        self.control, self.wrap = control, wrap or (lambda reverse: reverse)

    def sampled(self, reverse: Reverse, data: Data, x_0: Tensor, first: int, seed: int) -> Sampled:
        control = None if self.control is None else self.control(data=data, device=x_0.device)
        masses = Uniform().masses(reverse, first) if control is None else control.masses(reverse.process, first).cpu()
        half_width = self.half_width * nats_per_unit(self.unit, x_0)
        return sampled(
            *(self.wrap(reverse), x_0, first, masses, control, self.pilot, half_width, self.passes, self.batch_size, seed)
        )

    def mean(self, part: Callable[[Reverse, Tensor], Tensor], reverse: Reverse, x_0: Tensor) -> float:
        """The mean over the examples of a part in closed form, in `unit`."""
        batches = x_0.split(self.batch_size)  # type: ignore[no-untyped-call]
        total = sum(float(part(reverse, b).double().sum()) for b in batches)
        return total / len(x_0) / nats_per_unit(self.unit, x_0)

    def protocol(self, reverse: Reverse, result: Sampled, edges: Edges) -> dict[str, Scalar]:
        return {**facts_of(self.wrap(reverse)), "terms": "sampled", "edges": edges.name, "evaluations": result.evaluations}


class SampledNLL(SampledTerms):
    """L >= -log p(x_0) of 2020, eq. 5, split into rate (L_1 + ... + L_T) and distortion (L_0); claims[quantity] as answered.

    With `points`, the rate that is paid before x_0 is predicted at that many reverse times s = T - t + 1 (Table 4):
    L_T + the terms of t = T - s + 2 .. T. `point_claim`, with {} for s, is the claim that such a rate answers.
    """

    def __init__(
        self,
        pilot: int,
        half_width: float = 0.01,
        passes: int = 5,
        batch_size: int = 200,
        unit: str = "bits/dim",
        control: Callable[..., Control] | None = linear_error,
        wrap: Callable[[Any], Reverse] | None = None,
        claims: Mapping[str, str] | None = None,
        points: int = 0,
        point_claim: str | None = None,
    ) -> None:
        super().__init__(unit, pilot, half_width, passes, batch_size, control, wrap)
        self.claims, self.points, self.point_claim = claims or {}, points, point_claim

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        scale, T = nats_per_unit(self.unit, x_0), len(reverse.process.schedule)
        decoder = getattr(reverse, "decoder", None)
        if isinstance(decoder, Discretized):
            decoder.require(x_0)
        result, prior = self.sampled(reverse, data, x_0, 1, seed), self.mean(decoder_edges.prior, reverse, x_0)
        total, transitions, decoded = (np.array(result.part(*r)) / scale for r in ((1, T), (2, T), (1, 1)))
        parts = {"prior": prior, "transitions": float(transitions[0]), "reconstruction": float(decoded[0])}
        shared = self.protocol(reverse, result, decoder_edges)

        def measured(
            quantity: str, closed: float, part: "np.ndarray[Any, Any]", claim: str | None, **about: Scalar
        ) -> Measurement:
            value, stderr, protocol = closed + float(part[0]), float(part[1]), {**shared, **about}
            return Measurement(quantity, value, stderr, len(x_0), self.unit, protocol, claim, error="estimate")

        def paid(s: int) -> Measurement:
            part, claim = np.array(result.part(T - s + 2, T)) / scale, self.point_claim and self.point_claim.format(s)
            return measured("rate", prior, part, claim, reverse_step=s)

        measurements = (
            replace(measured("nll_bound", prior, total, self.claims.get("nll_bound")), parts=parts),
            measured("rate", prior, transitions, self.claims.get("rate")),
            measured("distortion", 0.0, decoded, self.claims.get("distortion")),
            replace(measured("prior_kl", prior, np.zeros(2), self.claims.get("prior_kl")), stderr=0.0),  # in closed form
            *map(paid, reverse_steps(T, self.points)),
        )
        return Evaluation(measurements, curve(result, scale, T))


class SampledK(SampledTerms):
    """K of 2015, eq. 14, and K - L_null, for each of `edges` (stationary); claims[name] and `also` as in AllTerms."""

    def __init__(
        self,
        pilot: int,
        half_width: float = 0.02,
        passes: int = 5,
        batch_size: int = 200,
        unit: str = "bits/pixel",
        control: Callable[..., Control] | None = None,
        wrap: Callable[[Any], Reverse] | None = None,
        edges: Mapping[str, Edges] | None = None,
        claims: Mapping[str, Mapping[str, str]] | None = None,
        also: Sequence[Derived] = (),
    ) -> None:
        super().__init__(unit, pilot, half_width, passes, batch_size, control, wrap)
        self.edges, self.claims, self.also = edges or {"stationary": stationary_edges}, claims or {}, also
        if any(e.first != 2 for e in self.edges.values()):
            raise UserError("K has a last step in closed form (entropy or stationary edges); use SampledNLL with a decoder")

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        scale, T = nats_per_unit(self.unit, x_0), len(reverse.process.schedule)
        result = self.sampled(reverse, data, x_0, 2, seed)
        transitions, stderr = (number / scale for number in result.part(2, T))
        null = self.mean(lambda p, x: p.process.prior(x).log_prob(x), reverse, x_0)
        measurements = []
        for name, edges in self.edges.items():
            prior, reconstruction = (
                float(edge.double().mean()) / scale for edge in edges(reverse, x_0)
            )  # judges x_0 as a whole
            parts = {"prior": prior, "transitions": transitions, "reconstruction": reconstruction}
            K, ceiling, claims = -sum(parts.values()), -(prior + reconstruction), self.claims.get(name, {})
            about = (stderr, len(x_0), self.unit, self.protocol(reverse, result, edges))
            of_K = Measurement("log_likelihood_bound", K, *about, claims.get("K"), parts=parts, ceiling=ceiling)
            gain = Measurement("gain_over_null", K - null, *about, claims.get("K_minus_null"), ceiling=ceiling - null)
            of_K, gain = (replace(m, error="estimate") for m in (of_K, gain))  # not of the choice of the examples
            measurements += [of_K, gain, *(derived(of_K, data, layout_of(x_0)) for derived in self.also)]
        return Evaluation(tuple(measurements), curve(result, scale, T))


def curve(result: Sampled, scale: float, T: int, bins: int = 40) -> dict[str, "np.ndarray[Any, Any]"]:
    """The mean term in bins low <= t <= high, about evenly spaced in log t, and what the strategy made of the pilot."""
    starts = np.unique(np.geomspace(result.strategy.first, T + 1, bins + 1).round().astype(int))
    low, high = starts[:-1], starts[1:] - 1
    means = np.array([result.part(int(a), int(b)) for a, b in zip(low, high, strict=True)]) / scale
    width = (high - low + 1)[:, None]
    return {"term_low": low, "term_high": high, "term_mean": (means / width)[:, 0], "term_stderr": (means / width)[:, 1]}
