"""Samplers of p(x_0 | y) for mixtures observed linearly, ranked by their distance from the exact posterior."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import ot
import torch
from torch import Tensor

from dpm import seeds
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators import Array, Evaluation
from dpm.facts import Scalar
from dpm.observations import Matrix, Observation
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import Reverse
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import last
from dpm.samplers.ancestral import ancestral, grid
from dpm.samplers.mcgdiff import mcgdiff
from dpm.study.records import Measurement
from dpm.variances import FixedSmall

FAR = 1e3  # beyond any mode: a chain that has diverged, and is counted
Wrap = Callable[[Any, Observation], Any]


class PosteriorSampler(Protocol):
    def __call__(self, reverse: Any, A: Matrix, y: Tensor, noise: float, n: int, times: Sequence[float]) -> Tensor:
        """n samples for each row of y, (K, m) -> (K, n, d)."""


class OnePass(PosteriorSampler):
    """Ancestral sampling of a wrapped process, in `sweeps` of each step; all observations at once."""

    def __init__(self, wrap: Wrap, sweeps: int = 1) -> None:
        self.wrap, self.sweeps = wrap, sweeps

    def __call__(self, reverse: Any, A: Matrix, y: Tensor, noise: float, n: int, times: Sequence[float]) -> Tensor:
        process: Reverse = self.wrap(reverse, Observation(A, y.repeat_interleave(n, 0), noise))
        x_T = torch.randn(len(y) * n, A.A.shape[1], dtype=y.dtype)
        x: Tensor = last(ancestral(process, x_T, times, self.sweeps))
        return x.reshape(len(y), n, -1)


class Filtered(PosteriorSampler):
    """n of the `particles` times as many particles of a filter, one filter for each observation."""

    def __init__(self, particles: int) -> None:
        self.particles = particles

    def __call__(self, reverse: Any, A: Matrix, y: Tensor, noise: float, n: int, times: Sequence[float]) -> Tensor:
        def of(one: Tensor) -> Tensor:
            x_T = torch.randn(n * self.particles, A.A.shape[1], dtype=y.dtype)
            x: Tensor = last(mcgdiff(reverse, Observation(A, one[None], noise), x_T, times)).x
            return x[torch.randperm(len(x))[:n]]

        return torch.stack([of(one) for one in y])


class Ranked:
    """Total variation of the weights of modes, sliced W1 and cost of each method, in each number of `dimensions`.

    y = x_1 + x_2 / 2 + n on `mixture(d)`, as many samples as `counts` says, by the exact x_0-hat. Rows `posterior` are
    exact samples, the floor, and `exact_score` the reverse process of the posterior itself. With `observations` also by the
    network's x_0-hat, on its data; and by the exact one for that many x_0 with a y each: the share of x_0 within the
    central 90 % of 19 samples of each posterior (first coordinate). Samples that diverge are counted, and left out; a
    method that loses half of them has no distance. Arrays: `<method>_ranks`, `<method>_samples` (500, 2).
    """

    NOISE, SAMPLES = 1.0, 19

    def __init__(
        self,
        mixture: Callable[[int], GaussianMixture],
        dimensions: Sequence[int],
        counts: Sequence[int],
        methods: Mapping[str, PosteriorSampler],
        steps: int,
        observations: int,
        y: float = 4.0,
    ) -> None:
        if len(dimensions) > len(counts) or min(counts) < 2 or observations < 0:
            raise UserError(
                f"ranked: for each of the dimensions two samples at least, got {dimensions=}, {counts=}, {observations=}"
            )
        self.mixture, self.methods, self.steps, self.observations = mixture, methods, steps, observations
        self.y, self.counts = y, dict(zip(dimensions, counts, strict=False))

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: GaussianMixture, x_0: Tensor, seed: int) -> Evaluation:
        reverse = copy.deepcopy(reverse).cpu()  # where the mixtures are
        rows: list[Measurement] = []
        arrays: dict[str, Array] = {}
        for d in self.counts:
            mixture = self.mixture(d)
            kept = arrays if self.observations else {}
            rows += self.distances(exact(reverse.process, mixture), mixture, seed, kept, denoiser="exact")
        if self.observations:
            network = reverse.replacing(variance=FixedSmall(), decoder=Network())
            rows += self.distances(network, data, seed, {}, denoiser="network")
            rows += self.coverage(exact(reverse.process, data), data, seed, arrays)
        return Evaluation(tuple(rows), arrays)

    def distances(
        self, reverse: GaussianReverse, mixture: GaussianMixture, seed: int, arrays: dict[str, Array], **about: Scalar
    ) -> list[Measurement]:
        d = mixture.dimensions
        A, y, n = direction(d), torch.tensor([[self.y]], dtype=torch.float64), self.counts[d]
        posterior, times = mixture.given(A.A, y[0], self.NOISE), grid(len(reverse.process.schedule), self.steps)
        truth, floor = (posterior.sample(n, seeds.generator(seed, seeds.EVALUATION, k)) for k in (0, 1))
        u = ot.sliced.get_random_projections(d, 50, seed=seed)
        apart = round(float(torch.pdist(mixture.means[:, :2]).min()), 6)  # whatever d
        protocol: dict[str, Scalar] = {"dimensions": d, "modes_apart": apart, "sampling_steps": len(times) - 1, **about}
        rows = []

        def row(method: str, x: Tensor, calls: float) -> None:
            said: dict[str, Scalar] = {**protocol, "method": method}

            def error(x: Tensor) -> float:
                return float((shares(mixture, x) - posterior.weights).abs().sum() / 2)

            def distance(x: Tensor) -> float:
                return float(ot.sliced_wasserstein_distance(x.numpy(), truth.numpy(), projections=u, p=1))

            for quantity, value, spread, unit in (
                ("mode_error", error(x), of_parts(error, x), "1"),
                ("posterior_distance", distance(x), of_parts(distance, x), "1"),
                ("evaluations_per_sample", calls, 0.0, "evaluations"),
            ):
                of_network: dict[str, Scalar] | None = None if about["denoiser"] == "network" else {}
                rows.append(Measurement(quantity, value, spread, len(x), unit, said, recipe=of_network))
            arrays.update({f"{method}_samples": x[:500].float().numpy()} if d == 2 else {})

        row("posterior", floor, 0)
        methods = {"exact_score": OnePass(lambda _, __: exact(reverse.process, posterior)), **self.methods}
        for number, (name, method) in enumerate(methods.items()):
            seeds.seed_everything(seed, seeds.SAMPLING, d, number)
            calls = Calls(reverse)
            x = method(reverse, A, y, self.NOISE, n, times)[0]
            finite = x[(x.abs() < FAR).all(1)]
            said = {**protocol, "method": name}
            rows.append(Measurement("diverged_share", 1 - len(finite) / n, 0.0, n, "1", said, recipe={}))
            if len(finite) >= n / 2:
                row(name, finite, calls.stop() / n)
        return rows

    def coverage(
        self, reverse: GaussianReverse, data: GaussianMixture, seed: int, arrays: dict[str, Array]
    ) -> list[Measurement]:
        A, rows = direction(data.dimensions), []
        generator, times = seeds.generator(seed, seeds.EVALUATION, 2), grid(len(reverse.process.schedule), self.steps)
        x = data.sample(self.observations, generator)
        y = A(x) + self.NOISE * torch.randn(len(x), 1, generator=generator, dtype=torch.float64)
        for number, (name, method) in enumerate(self.methods.items()):
            seeds.seed_everything(seed, seeds.SAMPLING, data.dimensions, 100 + number)
            samples = method(reverse, A, y, self.NOISE, self.SAMPLES, times)
            rank = (samples[..., 0] < x[:, None, 0]).sum(1)
            inside = float(((rank > 0) & (rank < self.SAMPLES)).double().mean())
            protocol: dict[str, Scalar] = {"method": name, "sampling_steps": self.steps, "denoiser": "exact"}
            error = max(inside * (1 - inside) / len(x), 1 / len(x) ** 2) ** 0.5
            rows.append(Measurement("coverage", inside, error, len(x), "1", {**protocol, "level": 0.9}, recipe={}))
            arrays[f"{name}_ranks"] = rank.numpy().astype(np.uint8)
        return rows


class Calls:
    """Counts the examples that the network of a process looks at, until it is stopped."""

    def __init__(self, reverse: GaussianReverse) -> None:
        self.number = 0
        self.hook = reverse.network.register_forward_hook(self._count)

    def _count(self, network: torch.nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        self.number += len(output)

    def stop(self) -> int:
        self.hook.remove()
        return self.number


def direction(d: int) -> Matrix:
    """(1, 1/2, 0, ...): whatever d, the modes have the same weights in the posterior."""
    return Matrix(torch.tensor([[1.0, 0.5] + [0.0] * (d - 2)], dtype=torch.float64))


def exact(process: GaussianDiffusion, mixture: GaussianMixture) -> GaussianReverse:
    """Its exact x_0-hat, and the smaller of 2020's variances."""
    return GaussianReverse(process, MixtureDenoiser(mixture, process.schedule), X0(), FixedSmall(), Network())


def shares(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """The share of x that is nearest to each mode, (K,)."""
    return torch.bincount(torch.cdist(x, mixture.means).argmin(1), minlength=len(mixture.means)) / len(x)


def of_parts(statistic: Callable[[Tensor], float], x: Tensor) -> float:
    """The standard error of a statistic of samples: its spread over five parts of them, over sqrt 5."""
    return float(np.std([statistic(x[k::5]) for k in range(5)], ddof=1)) / 5**0.5
