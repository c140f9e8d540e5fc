"""What each round of reflow, or of the fitting of a bridge, does between two Gaussians, against its closed form."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.bridges import GaussianBridges, Matrix, markovian_fitting, plan, proportional_fitting
from dpm.data.ends import GaussianEnds
from dpm.evaluators import Array, Evaluation
from dpm.facts import Scalar
from dpm.objectives.matching import Matching
from dpm.processes import per_example
from dpm.reverse.rounds import BackAndForth, Rounds
from dpm.reverse.transport import Transport
from dpm.samplers.ode import heun_step
from dpm.study.records import Measurement, standard_error
from dpm.times import spread
from dpm.transport import pushed


class ReflowCosts:
    """Of each round, in `steps` of Heun's: `transport_cost` E |x_1 - x_0|^2 of the pairs that it learns from and of those that
    it makes; `straightness` S = E int |z_1 - z_0 - v|^2 dt; `crossing` V, its loss at these pairs; and `cost_identity`,
    S + V - (cost before - after), a share of the cost before, 0 for the exact field. `path_energy`, and the `deviation` of what
    fewer of Euler's steps make. Of the first round `velocity_error`, (E int |v - u|^2 / E int |u|^2)^1/2, u exact. `claims`
    maps "straightness 1", of round 1, and the like to what they answer.
    """

    def __init__(self, steps: int, fewer: Sequence[int], claims: Mapping[str, str] | None = None) -> None:
        self.steps, self.fewer, self.claims = steps, fewer, claims or {}

    @torch.no_grad()
    def __call__(self, reverse: Rounds, data: GaussianEnds, x_0: Tensor, seed: int) -> Evaluation:
        rows: list[Measurement] = []
        reverse, pairs, n = copy.deepcopy(reverse).cpu(), x_0.cpu(), len(x_0)

        def row(quantity: str, value: float, stderr: float, **about: Scalar) -> None:
            protocol = {"round": number, "solver": "heun", "steps_of_solver": self.steps, **about}
            rows.append(Measurement(quantity, value, stderr, n, "1", protocol, self.claims.get(f"{quantity} {number}")))

        for number, flow in enumerate(reverse, 1):
            seeds.seed_everything(seed, seeds.EVALUATION, number)
            if number == 1:
                row("velocity_error", *velocity_error(flow, data, pairs))
            start, journey = pairs[:, 0], pushed(flow.field, pairs[:, 0], self.steps, step=heun_step)
            made = torch.stack([start, journey.end], 1)
            before, after = squared(pairs), squared(made)
            straight, crossing = journey.energy - after, squared_error(flow, pairs)
            for quantity, of, values in (
                *(("transport_cost", "given", before), ("transport_cost", "made", after)),
                *(("straightness", "", straight), ("crossing", "", crossing), ("path_energy", "", journey.energy)),
            ):
                row(quantity, float(values.mean()), standard_error(values.numpy()), **({"pairs": of} if of else {}))
            row("cost_identity", *ratio(straight + crossing - (before - after), before))
            for steps in self.fewer:
                end = pushed(flow.field, start, steps).end
                row(
                    "deviation",
                    float(end.std()),
                    float(end.std()) / (2 * end.numel()) ** 0.5,
                    solver="euler",
                    steps_of_solver=steps,
                )
            pairs = made
        return Evaluation(tuple(rows))


def squared(ends: Tensor) -> Tensor:
    """|x_1 - x_0|^2, (B,)."""
    return (ends[:, 1] - ends[:, 0]).square().flatten(1).sum(1)


def squared_error(flow: Transport, ends: Tensor) -> Tensor:
    """|x_1 - x_0 - v(x_t, t)|^2 at a t for each pair, (B,)."""
    return Matching()(flow, ends) * ends[0, 0].numel()


def ratio(x: Tensor, y: Tensor) -> tuple[float, float]:
    """mean x / mean y with its standard error, to first order."""
    r = float(x.mean() / y.mean())
    return r, standard_error(((x - r * y) / y.mean()).numpy())


def velocity_error(flow: Transport, data: GaussianEnds, ends: Tensor) -> tuple[float, float]:
    """Relative, for independent Gaussian ends on straight lines: v = m' + K_t (x - m_t)."""
    (S_0, S_1), (m_0, m_1) = map(isotropic, data.variances), data.means
    bridges = GaussianBridges(S_0, S_1, np.zeros((1, 1)), 0.0)
    t = spread(len(ends), ends.device)
    x_t, _, _ = flow.process(ends, t)
    K = torch.from_numpy(bridges.velocity(t.numpy())[:, 0, 0])
    mean = (1 - t) * m_0 + t * m_1
    exact = m_1 - m_0 + per_example(K, x_t) * (x_t - per_example(mean, x_t))
    r, stderr = ratio(*((v.square().flatten(1).sum(1)) for v in (flow.field(x_t, t) - exact, exact)))
    return r**0.5, stderr / (2 * r**0.5) if r > 0 else 0.0


class CouplingOfRounds:
    """`covariance` of the ends of each round's process, a mean over coordinates: s^2 times the slope of its end on its start.

    `oracle` is the exact one, from `exact(S_0, S_1, sigma)`, one after another; S_0 is where the reference of proportional
    fitting starts, the second end of the data. `covariance_error` is the largest difference over the rounds. `deviation` of the
    end, which has the bias of the solver's steps. `claims` maps "covariance 1", of round 1, and the like to what they answer.
    """

    def __init__(
        self,
        follow: BackAndForth,
        exact: Callable[[Matrix, Matrix, float], Iterator[Matrix]],
        claims: Mapping[str, str] | None = None,
    ) -> None:
        self.follow, self.exact, self.claims = follow, exact, claims or {}

    @torch.no_grad()
    def __call__(self, reverse: Rounds, data: GaussianEnds, x_0: Tensor, seed: int) -> Evaluation:
        reverse, x_0 = copy.deepcopy(reverse).cpu(), x_0.cpu()
        (S_1, S_0), (n, _, d) = map(isotropic, data.variances), x_0.shape
        sequence = self.exact(S_0, S_1, reverse.process.noise.scale)
        exact, found, rows = [float(next(sequence)[0, 0]) for _ in reverse], [], list[Measurement]()
        about: dict[str, Scalar] = {"solver": "stochastic_heun", "steps_of_solver": self.follow.steps}
        for number, (bridge, truth) in enumerate(zip(reverse, exact, strict=True)):
            seeds.seed_everything(seed, seeds.EVALUATION, number)
            end, start = ((x - x.mean(0)) for x in self.follow(bridge, x_0, number).unbind(1))
            slope = (start * end).sum(0) / start.square().sum(0)
            left, s2 = (end - slope * start).square().mean(0) / start.square().sum(0), data.variances[number % 2]
            found.append(s2 * float(slope.mean()))
            protocol = {**about, "round": number + 1}
            stderr = s2 * float(left.sum()) ** 0.5 / d
            claim = self.claims.get(f"covariance {number + 1}")
            rows.append(Measurement("covariance", found[-1], stderr, n, "1", protocol, claim, oracle=truth))
            deviation = float(end.square().mean() ** 0.5)
            rows.append(Measurement("deviation", deviation, deviation / (2 * n * d) ** 0.5, n, "1", protocol))
        worst = float(np.abs(np.subtract(found, exact)).max())
        error = Measurement("covariance_error", worst, max(m.stderr or 0.0 for m in rows), n, "1", about)
        return Evaluation((error, *rows), {"covariance": np.array(found), "exact_covariance": np.array(exact)})


class ExactSequences:
    """Arrays of the exact iterations between unit Gaussians: sigma and limit (S,), markovian and proportional (S, rounds)."""

    def __init__(self, sigmas: Sequence[float], rounds: int) -> None:
        self.sigmas, self.rounds = list(sigmas), rounds

    def __call__(self, reverse: Rounds, data: GaussianEnds, x_0: Tensor, seed: int) -> Evaluation:
        one = isotropic(1.0)

        def of(fitting: Callable[[Matrix, Matrix, float], Iterator[Matrix]]) -> Array:
            return np.array([[C[0, 0] for C in islice(fitting(one, one, s), self.rounds)] for s in self.sigmas])

        limit = np.array([plan(one, one, s)[0, 0] for s in self.sigmas])
        fitted = {"markovian": of(markovian_fitting), "proportional": of(proportional_fitting)}
        return Evaluation((), {"sigma": np.array(self.sigmas), "limit": limit, **fitted})


def isotropic(variance: float) -> Matrix:
    """Of one coordinate."""
    return np.array([[float(variance)]])
