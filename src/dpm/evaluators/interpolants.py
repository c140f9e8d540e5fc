"""Stochastic interpolants in one dimension: equal marginals whatever the noise, and what an error of the drift does to them.

With the drift b + eps s and g^2 = 2 eps all processes have the marginals of the interpolant (Albergo et al. 2023,
arXiv 2303.08797, eq. 2.33); eps = 0 is the flow.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dpm import samplers, seeds
from dpm.data.ends import TwoEnds
from dpm.data.mixtures import GaussianMixture
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.facts import Scalar
from dpm.flows import Field, axes, transported
from dpm.fokker_planck import CHANG_COOPER, Scheme, cells, derivative, faces, step
from dpm.oracles.interpolants import InterpolatedMixtures
from dpm.paths import ConstantNoise, Path, Trigonometric
from dpm.processes import at
from dpm.reverse.transport import Transport
from dpm.samplers.ode import adaptive
from dpm.samplers.sde import euler_maruyama
from dpm.study.records import Measurement

SCHEME = Scheme(CHANG_COOPER.jump, 1 / 2)  # Scharfetter and Gummel's rates, Crank and Nicolson's steps
TIMES, BINS = 100, 60  # of an integral over t; of a histogram
LIMIT, TOLERANCE = 9.0, 1e-8  # of the cells; of the flow
Span = tuple[float, float]


class Marginals:
    """`transport_residual`: root mean square of d/dt log rho + b d/dx log rho + db/dx for the exact rho and b, over x and t.

    `distribution_distance`: the largest difference of distribution functions, between n samples in `steps` of Euler and
    Maruyama's with the exact drift and score and the exact one, for each of `noise` (eps); of n exact samples it is
    0.87 / sqrt(n) on average. All between t = `margin` and 1 - `margin`. Arrays: their histograms beside the exact density.

    Then what the network's drift makes of it, see `divergences`.
    """

    def __init__(self, margin: float, noise: Sequence[float], steps: int, n: int, points: int) -> None:
        self.span, self.noise, self.steps, self.n, self.points = (margin, 1 - margin), list(noise), steps, n, points

    @torch.no_grad()
    def __call__(self, reverse: Transport, data: TwoEnds, x_0: Tensor, seed: int) -> Evaluation:
        reverse = copy.deepcopy(reverse).cpu()  # where quadrature is
        exact, (first, last) = known(reverse.process, data), self.span
        rows = [Measurement("transport_residual", residual(exact), 0.0, TIMES, "1", {}, recipe={})]
        ends = data.sample(self.n, seeds.generator(seed, seeds.SAMPLING))
        seeds.seed_everything(seed, seeds.SAMPLING)
        start, x = reverse.process(ends, at(ends, first)).x_t, torch.from_numpy(cells(LIMIT, self.points))
        density = exact.log_density(x[:, None], at(x, last)).exp()
        edges, histograms = np.linspace(-LIMIT, LIMIT, BINS + 1), []
        for eps in self.noise:
            drift, times = with_noise(exact.drift, exact.score, eps), np.linspace(first, last, self.steps + 1)
            samples = samplers.last(euler_maruyama(drift, start, times, math.sqrt(2 * eps)))[:, 0].numpy()
            shares = np.interp(np.sort(samples), x + (x[1] - x[0]) / 2, density.cumsum(0) * (x[1] - x[0]))
            distance = float(np.abs(shares - (np.arange(self.n) + 0.5) / self.n).max())
            about: dict[str, Scalar] = {"noise": eps, "steps_of_solver": self.steps}
            rows.append(Measurement("distribution_distance", distance, 0.26 / math.sqrt(self.n), self.n, "1", about, recipe={}))
            histograms.append(np.histogram(samples, edges, density=True)[0].astype(np.float32))
        rows += divergences(exact, reverse.field, self.noise, self.span, self.points, {"drift": "network"})
        shown = {"x": x[::10].float().numpy(), "density": density[::10].float().numpy()}
        return Evaluation(tuple(rows), {**shown, "edges": edges, "histograms": np.array(histograms)})


class PlantedErrors:
    """An error `size` sin(k x) in a drift that is known, for each of `waves` (k): N(0, 1) at all times, where b = 0.

    See `divergences`; `bounded_share`, of the cases with a bound, answers `claim`. Arrays: the divergences, a row for each eps.
    """

    def __init__(
        self, size: float, waves: Sequence[float], noise: Sequence[float], points: int, claim: str | None = None
    ) -> None:
        self.size, self.waves, self.noise, self.points, self.claim = size, list(waves), list(noise), points, claim

    @torch.no_grad()
    def __call__(self, reverse: Transport, data: TwoEnds, x_0: Tensor, seed: int) -> Evaluation:
        normal = GaussianMixture([1.0], [[0.0]], [[1.0]])
        exact = InterpolatedMixtures(Path(Trigonometric(), ConstantNoise(0.0)), normal, normal)

        def drift(x: Tensor, t: Tensor, k: float) -> Tensor:
            return exact.drift(x, t) + self.size * (k * x).sin()

        rows: list[Measurement] = []
        for k in self.waves:
            about: dict[str, Scalar] = {"drift": "planted", "wave": k}
            found = divergences(exact, partial(drift, k=k), self.noise, (0.0, 1.0), self.points, about)
            rows += [replace(m, recipe={}) for m in found]
        held = [m.value <= 1 for m in rows if m.quantity == "bound_ratio"]
        about = {"drift": "planted"}
        rows.append(Measurement("bounded_share", float(np.mean(held)), 0.0, len(held), "1", about, self.claim, recipe={}))
        table = np.array([m.value for m in rows if m.quantity == "marginal_divergence"]).reshape(len(self.waves), -1).T
        return Evaluation(tuple(rows), {"waves": np.array(self.waves), "noise": np.array(self.noise), "divergence": table})


def divergences(
    exact: InterpolatedMixtures,
    drift: Field,
    noise: Sequence[float],
    span: Span,
    points: int,
    about: Mapping[str, Scalar],
) -> list[Measurement]:
    """`drift_error` E int |drift - b|^2 dt; for each eps `marginal_divergence`, KL(rho || rho-hat) at the end of `span`.

    And `bound_ratio`, that over its bound, E int |drift - b|^2 dt / 4 eps (Albergo et al. 2023, eq. 2.43). rho-hat starts as
    rho and has the drift drift + eps score, g^2 = 2 eps; by the Fokker-Planck equation, and for eps = 0, where there is no
    bound, along the flow.
    """
    x = torch.from_numpy(cells(LIMIT, points))[:, None]
    h, rho = float(x[1] - x[0]), exact.log_density(x, at(x, span[1]))
    error = drift_error(exact, drift, span, x)
    rows = [Measurement("drift_error", error, 0.0, points, "1", about)]
    for eps in noise:
        log_p = by_noise(exact, drift, eps, span, x) if eps else by_flow(exact, drift, span, x)
        divergence = float((rho.exp() * (rho - log_p)).sum()) * h
        rows.append(Measurement("marginal_divergence", divergence, 0.0, points, "nats", {**about, "noise": eps}))
        if eps and error:
            rows.append(Measurement("bound_ratio", 4 * eps * divergence / error, 0.0, points, "1", {**about, "noise": eps}))
    return rows


def known(path: Path, data: TwoEnds) -> InterpolatedMixtures:
    if not (isinstance(data.source, GaussianMixture) and isinstance(data.target, GaussianMixture)):
        raise UserError(f"drift and score are known between two mixtures, and these are data of {data.name}")
    return InterpolatedMixtures(path, data.source, data.target)


def with_noise(drift: Field, score: Field, eps: float) -> Field:
    """drift + eps score."""
    return lambda x, t: drift(x, t) + eps * score(x, t)


def residual(exact: InterpolatedMixtures) -> float:
    """Of the transport equation, over rho: root mean square over a grid of x and t."""
    t, x = (torch.linspace(a, b, TIMES, dtype=torch.float64) for a, b in ((0.05, 0.95), (-4.0, 4.0)))
    t, x = torch.cartesian_prod(t, x).unbind(1)
    by_t = derivative(lambda t: exact.log_density(x[:, None], t), t)
    by_x = derivative(lambda x: exact.log_density(x[:, None], t), x)
    divergence = derivative(lambda x: exact.drift(x[:, None], t)[:, 0], x)
    left = by_t + exact.drift(x[:, None], t)[:, 0] * by_x + divergence
    return math.sqrt(float(left.square().mean()))


def drift_error(exact: InterpolatedMixtures, drift: Field, span: Span, x: Tensor) -> float:
    """E int |drift - b|^2 dt, by the midpoint rule in t and in x, (n, 1)."""
    first, last = span
    total = 0.0
    for k in range(TIMES):
        t = at(x, first + (k + 0.5) / TIMES * (last - first))
        square = (drift(x, t) - exact.drift(x, t)).square()[:, 0]
        total += float((exact.log_density(x, t).exp() * square).sum() * (x[1] - x[0])) * (last - first) / TIMES
    return total


def by_noise(exact: InterpolatedMixtures, drift: Field, eps: float, span: Span, x: Tensor) -> Tensor:
    """log rho-hat at the end, (n,), by the Fokker-Planck equation in the cells x."""
    (first, last), cell = span, x[:, 0].numpy()
    field, on, dt = with_noise(drift, exact.score, eps), torch.from_numpy(faces(cell))[:, None], (last - first) / (len(x) // 6)
    p = exact.log_density(x, at(x, first)).exp().numpy()
    for k in range(len(x) // 6):
        p = step(SCHEME, field(on, at(on, first + (k + 0.5) * dt))[:, 0].numpy(), 2 * eps, cell, p, dt)
    return torch.from_numpy(p).clamp(min=torch.finfo(torch.float64).tiny).log()


def by_flow(exact: InterpolatedMixtures, drift: Field, span: Span, x: Tensor) -> Tensor:
    """log rho-hat at the end, (n,), along the flow back to the start."""
    first, last = span
    y, gained = transported(lambda f, y: adaptive(f, y, last, first, TOLERANCE), drift, x, axes(x))
    return exact.log_density(y, at(y, first)) + gained
