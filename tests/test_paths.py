"""Paths between two ends, couplings, and the regression of velocities: closed forms, and what each leaves as it is."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import seeds
from dpm.continuous import Rectified, VariancePreserving
from dpm.couplings import AsDrawn, MiniBatchEntropic, MiniBatchOT
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.objectives.matching import Matching
from dpm.objectives.simple import Simple
from dpm.paths import BridgeNoise, ConstantNoise, Path, Trigonometric, brownian_bridge, rectified, trigonometric
from dpm.predictions.flow import FlowVelocity
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.transport import Transport
from dpm.times import Continuous
from dpm.variances import FixedSmall

PATHS = [rectified(), rectified(0.1), trigonometric(), trigonometric(0.7), brownian_bridge(1.3)]


def two_ends(n: int, d: int = 2) -> Tensor:
    return torch.randn(n, 2, d, generator=seeds.generator(1), dtype=torch.float64)


def test_the_ends_of_a_path_are_its_ends() -> None:
    ends = two_ends(5)
    for path in (rectified(), trigonometric(), trigonometric(0.7), brownian_bridge(1.3)):
        for t, end in ((0.0, 0), (1.0, 1)):
            mean, std = (getattr(path.marginal(ends, torch.full((5,), t, dtype=torch.float64)), m) for m in ("mean", "stddev"))
            torch.testing.assert_close(mean, ends[:, end], atol=1e-15, rtol=0)
            assert float(std.max()) == 0


@pytest.mark.parametrize("path", PATHS)
def test_the_velocity_is_the_derivative_of_the_path_with_its_noise_held(path: Path) -> None:
    ends, t, h = two_ends(64), torch.linspace(0.05, 0.95, 64, dtype=torch.float64), 1e-5

    def at(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seeds.seed_everything(3)
        return path(ends, t)

    _, velocity, z = at(t)
    torch.testing.assert_close(velocity, (at(t + h).x_t - at(t - h).x_t) / (2 * h), atol=1e-7, rtol=0)
    q = path.marginal(ends, t)
    torch.testing.assert_close(at(t).x_t, q.mean + q.stddev * z)


def test_each_path_is_the_one_of_its_paper() -> None:
    t = torch.tensor([0.25, 0.8], dtype=torch.float64)
    a, b, c = rectified(0.1).coefficients(t)
    torch.testing.assert_close(torch.stack([a, b, c]), torch.stack([1 - t, t, torch.full_like(t, 0.1)]))
    torch.testing.assert_close(brownian_bridge(math.sqrt(2)).coefficients(t)[2], (2 * t * (1 - t)).sqrt())
    torch.testing.assert_close(brownian_bridge(0.5).rates(t)[2], 0.5 * (1 - 2 * t) / (2 * (t * (1 - t)).sqrt()))
    a, b, _ = trigonometric().coefficients(t)
    torch.testing.assert_close(a.square() + b.square(), torch.ones_like(t))  # variance 1 stays 1
    noise = torch.tensor([0.1, 3.0], dtype=torch.float64)
    alpha, sigma = Trigonometric()(Trigonometric().time(noise))
    torch.testing.assert_close(sigma / alpha, noise)


def flow(schedule: nn.Module, network: nn.Module) -> GaussianReverse:
    return GaussianReverse(GaussianDiffusion(schedule), network, FlowVelocity(), FixedSmall(), Network())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2, dtype=torch.float64)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.layer(torch.cat([x, t[:, None].to(x)], 1)).tanh()
        return out


def test_flow_matching_from_noise_is_simple_with_the_velocity() -> None:
    seeds.seed_everything(0)
    network, x_0 = Net(), two_ends(100)[:, 0]
    seeds.seed_everything(5)
    simple = Simple(Continuous())(flow(Rectified(), network), x_0)
    seeds.seed_everything(5)
    torch.rand(1, dtype=torch.float64)  # of the times
    ends = torch.stack([x_0, torch.randn_like(x_0)], 1)
    seeds.seed_everything(5)
    matching = Matching()(Transport(rectified(), network), ends)
    torch.testing.assert_close(matching, simple)  # example by example: one loss, one minimiser, two conventions of nothing


@pytest.mark.parametrize("schedule", [Rectified(), Trigonometric(), VariancePreserving()])
def test_a_flow_velocity_says_x_0_and_is_the_rate_of_the_path(schedule: nn.Module) -> None:
    q, prediction, (x_0, eps) = GaussianDiffusion(schedule), FlowVelocity(), two_ends(40).unbind(1)
    t = torch.linspace(0.02, 0.9, 40, dtype=torch.float64)

    def x(t: Tensor) -> Tensor:
        alpha, sigma = (c[:, None] for c in schedule(t))
        return alpha * x_0 + sigma * eps

    u, h = prediction.target(q, x_0, x(t), t), 1e-6
    torch.testing.assert_close(u, (x(t + h) - x(t - h)) / (2 * h), atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(prediction.x_0(q, u, x(t), t), x_0, atol=1e-9, rtol=1e-9)


def test_the_velocity_of_straight_lines_is_eps_minus_x_0() -> None:
    q, (x_0, eps) = GaussianDiffusion(Rectified()), two_ends(40).unbind(1)
    t = torch.full((40,), 0.3, dtype=torch.float64)
    torch.testing.assert_close(FlowVelocity().target(q, x_0, 0.7 * x_0 + 0.3 * eps, t), eps - x_0)


def test_the_loss_at_the_exact_field_is_the_crossing_of_the_lines() -> None:
    """N(0, 1) -> N(0, 2^2): E |x_1 - x_0 - v|^2 = (pi / 2) s, and any other field has more."""
    s, ends = 2.0, two_ends(200_000, 1) * torch.tensor([1.0, 2.0], dtype=torch.float64)[:, None]

    class Exact(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            k: Tensor = (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2)
            return k[:, None] * x

    seeds.seed_everything(0)
    loss = Matching()(Transport(rectified(), Exact()), ends)
    assert abs(float(loss.mean()) - math.pi / 2 * s) < 4 * float(loss.std()) / len(loss) ** 0.5


RHO = {2: 1 / math.pi, 4: 0.573915, 16: 0.859359, 64: 0.958771}


@pytest.mark.parametrize("B", RHO)
def test_mini_batches_pair_order_statistics(B: int) -> None:
    """In one dimension E x_0 x_1 = mean of (E Z_(i:B))^2: 1 / pi for two points, and 1 only in the limit."""
    seeds.seed_everything(B)
    products = torch.cat([MiniBatchOT()(torch.randn(B, 2, 1)).prod(1).mean(0, keepdim=True) for _ in range(1000)])
    assert abs(float(products.mean()) - RHO[B]) < 4 * float(products.std()) / len(products) ** 0.5


def test_a_plan_keeps_both_marginals_and_draws_from_itself() -> None:
    ends, cost = two_ends(6), np.random.default_rng(0).random((6, 6))
    for coupling in (MiniBatchOT(), MiniBatchEntropic(1.0)):
        plan = coupling.plan(cost)
        for axis in (0, 1):
            np.testing.assert_allclose(plan.sum(axis), 1 / 6, atol=1e-6)
        seeds.seed_everything(0)
        pairs = coupling(ends)
        assert all((pair[0] == ends[:, 0]).all(1).any() and (pair[1] == ends[:, 1]).all(1).any() for pair in pairs)
    assert AsDrawn()(ends) is ends


def test_an_entropic_plan_is_between_independence_and_the_least_cost() -> None:
    x = np.sort(np.random.default_rng(1).standard_normal((2, 50)))
    cost = (x[0][:, None] - x[1]) ** 2
    costs = [float((MiniBatchEntropic(sigma).plan(cost) * cost).sum()) for sigma in (0.3, 1.0, 30.0)]
    least, independent = float((MiniBatchOT().plan(cost) * cost).sum()), float(cost.mean())
    assert least < costs[0] < costs[1] < costs[2] < independent
    assert independent - costs[2] < 1e-2 * independent
    P, sigma = MiniBatchEntropic(1.0).plan(cost), 1.0  # log P = f_i + g_j - cost / 2 sigma^2: mixed differences have no f, g
    L = np.log(P) + cost / (2 * sigma**2)
    assert np.abs(L - L[:1] - L[:, :1] + L[0, 0]).max() < 1e-8


def test_what_cannot_be_meant_is_refused() -> None:
    for wrong in (
        lambda: ConstantNoise(-1),
        lambda: BridgeNoise(math.nan),
        lambda: MiniBatchEntropic(0.0),
        lambda: Matching(None, 0.5),
    ):
        with pytest.raises(UserError):
            wrong()
