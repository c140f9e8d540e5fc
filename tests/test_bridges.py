"""Schroedinger bridges between Gaussians: closed forms, the iterations that lead to them, and what is learned."""

import math
from collections import deque
from functools import partial
from itertools import islice

import numpy as np
import ot
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from dpm import seeds
from dpm.bridges import GaussianBridges, markovian_fitting, plan, proportional_fitting
from dpm.couplings import AsDrawn, MiniBatchEntropic, MiniBatchOT, Reference
from dpm.data.ends import CoupledBatches, GaussianEnds, TrainingSet
from dpm.errors import UserError
from dpm.evaluators.bridges import AuditOfTable, BridgeMarginals, MarginalsOfLastRound, variance_ratios
from dpm.evaluators.rounds import CouplingOfRounds, ReflowCosts
from dpm.gaussian_fits import divergence, floor
from dpm.networks.plain_mlp import PlainMLP
from dpm.objectives.matching import Matching
from dpm.objectives.rounds import InRounds
from dpm.objectives.score_and_flow import ScoreAndFlow
from dpm.paths import BridgeDrift, RunnerBridge, brownian_bridge, rectified
from dpm.reverse.rounds import BackAndForth, Reflow, Rounds
from dpm.reverse.scored import ScoredTransport
from dpm.reverse.transport import Transport
from dpm.samplers.sde import euler_maruyama, stochastic_heun

ONE = np.eye(1)
GOLDEN = (math.sqrt(5) - 1) / 2
S_0, S_1 = np.array([[1, 0.5], [0.5, 1]]), np.array([[2, -0.6], [-0.6, 0.5]])
SEQUENCES = {  # s_0, s_1, sigma: c*, Markovian fitting, proportional fitting (fact sheet, by quadrature and by hand)
    (1.0, 1.0, 1.0): (GOLDEN, [0.546293, 0.611143, 0.617385, 0.617973], [1 / 2, 2 / 3, 3 / 5, 5 / 8, 8 / 13, 13 / 21]),
    (1.0, 2.0, 1.0): (1.561553, [1.423062, 1.552538, 1.560980], [2, 1.333333, 1.714286, 1.473684]),
    (1.0, 1.0, 0.3): (0.956012, [0.933579, 0.955688, 0.956007], [0.917431, 0.992624, 0.923682, 0.986503]),
    (1.0, 1.0, 3.0): (0.109772, [0.106387, 0.109668, 0.109769], [0.1, 0.109890, 0.109771]),
}


def known(s_0: float, s_1: float, c: float, sigma: float) -> GaussianBridges:
    return GaussianBridges(s_0**2 * ONE, s_1**2 * ONE, c * ONE, sigma)


@pytest.mark.parametrize("scales", SEQUENCES)
def test_both_iterations_walk_through_their_sequences(scales: tuple[float, float, float]) -> None:
    s_0, s_1, sigma = scales
    c, markovian, proportional = SEQUENCES[scales]
    assert plan(s_0**2 * ONE, s_1**2 * ONE, sigma)[0, 0] == pytest.approx(c, abs=1e-6)
    for fitting, wanted in ((markovian_fitting, markovian), (proportional_fitting, proportional)):
        found = [C[0, 0] for C in islice(fitting(s_0**2 * ONE, s_1**2 * ONE, sigma), len(wanted))]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_markovian_fitting_is_fast_where_proportional_fitting_stalls() -> None:
    def error(fitting: object, sigma: float, rounds: int) -> float:
        *_, C = islice(fitting(ONE, ONE, sigma), rounds)
        return abs(float(C[0, 0]) - float(plan(ONE, ONE, sigma)[0, 0]))

    assert error(markovian_fitting, 0.3, 4) < 1e-6
    assert error(proportional_fitting, 0.3, 20) > 5e-3  # ratio -0.91 a half step
    a, b = (error(proportional_fitting, 1.0, k) for k in (9, 10))
    assert b / a == pytest.approx(GOLDEN / (GOLDEN + 1), abs=1e-4)


@pytest.mark.parametrize("sigma", [1.0, 0.5])
def test_the_matrix_form_is_where_proportional_fitting_ends(sigma: float) -> None:
    C = plan(S_0, S_1, sigma)
    *_, last = islice(proportional_fitting(S_0, S_1, sigma), 400)
    np.testing.assert_allclose(last, C, atol=1e-12)
    np.testing.assert_allclose(
        GaussianBridges(S_0, S_1, C, sigma).projected().C, C, atol=1e-9
    )  # and a fixed point of the other
    if sigma == 1.0:
        np.testing.assert_allclose(C, [[0.907726, -0.166527], [0.190316, 0.194041]], atol=1e-6)
        middle = GaussianBridges(S_0, S_1, C, sigma).covariance(0.5)
        np.testing.assert_allclose(middle, [[1.453863, -0.019053], [-0.019053, 0.722020]], atol=1e-6)


def test_markovian_fitting_too_slows_down_where_covariances_do_not_commute() -> None:
    rates = []
    for sigma in (1.0, 0.5, 0.25):
        errors = [np.abs(C - plan(S_0, S_1, sigma)).max() for C in islice(markovian_fitting(S_0, S_1, sigma), 11)]
        rates.append((errors[10] / errors[6]) ** 0.25)
    assert rates[0] < 0.65 < 0.85 < rates[1] < rates[2] < 1  # reflow, sigma = 0, leaves what rotates


def test_the_limits_are_optimal_transport_and_independence() -> None:
    C = plan(S_0, S_1, 1e-4)
    np.testing.assert_allclose(C, [[1.320079, -0.193089], [0.220673, 0.492554]], atol=1e-6)
    assert np.trace(S_0 + S_1 - C - C.T) == pytest.approx(0.874733, abs=1e-6)  # W_2^2
    assert np.abs(plan(S_0, S_1, 1e3)).max() < 1e-4


@pytest.mark.parametrize("C", [plan(S_0, S_1, 0.7), np.array([[0.3, -0.2], [0.1, 0.2]])])
def test_flow_and_drift_carry_the_marginals(C: np.ndarray) -> None:
    bridges, t, h = GaussianBridges(S_0, S_1, C, 0.7), 0.3, 1e-5
    S, rate = bridges.covariance(t), (bridges.covariance(t + h) - bridges.covariance(t - h)) / (2 * h)
    K, A = bridges.velocity(t), bridges.drift(t)
    np.testing.assert_allclose(K @ S + S @ K.T, rate, atol=1e-8)
    np.testing.assert_allclose(A @ S + S @ A.T + 0.7**2 * np.eye(2), rate, atol=1e-8)
    np.testing.assert_allclose(A, K - 0.7**2 / 2 * np.linalg.inv(S), atol=1e-9)  # drift = velocity + sigma^2 / 2 score


def test_energies_of_a_bridge() -> None:
    """N(-0.1, 1) -> N(0.1, 1), sigma = 1: half of E int |drift|^2 is KL(P || Q), that of the ends; the flow takes less."""
    bridge = known(1, 1, GOLDEN, 1)
    drift, flow = (
        quad(lambda t, of=of: 0.2**2 + of(t)[0, 0] ** 2 * bridge.covariance(t)[0, 0], 0, 1)[0]
        for of in (bridge.drift, bridge.velocity)
    )
    c = GOLDEN  # static: KL(N(-0.1, 1; x_1 | x_0) || N(x_0, 1))
    static = ((1 - c**2) + 0.2**2 + (1 - c) ** 2 - 1 - math.log(1 - c**2)) / 2
    assert (drift / 2, flow) == (pytest.approx(0.1425719, abs=1e-7), pytest.approx(0.0445379, abs=1e-7))
    assert drift / 2 == pytest.approx(static, abs=1e-9)


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_sinkhorn_on_a_grid_finds_the_plan(sigma: float) -> None:
    x = np.linspace(-11, 11, 441)
    weights = [np.exp(-(x**2) / (2 * s**2)) / np.exp(-(x**2) / (2 * s**2)).sum() for s in (1.0, 1.5)]
    P = ot.sinkhorn(*weights, (x[:, None] - x) ** 2, 2 * sigma**2, stopThr=1e-12, numItermax=5000)
    assert float(x @ P @ x) == pytest.approx(plan(ONE, 1.5**2 * ONE, sigma)[0, 0], abs=1e-5)


def pairs(n: int, C: float) -> Tensor:
    seeds.seed_everything(0)
    z = torch.randn(n, 2, 1, dtype=torch.float64)
    return torch.stack([z[:, 0], C * z[:, 0] + math.sqrt(1 - C**2) * z[:, 1]], 1)


def test_regressions_find_velocity_score_and_drift_of_a_bridge() -> None:
    """Slopes of targets on x_t near one t, for ends with covariance 0.4, sigma = 0.8."""
    ends, bridges, at = pairs(400_000, 0.4), known(1, 1, 0.4, 0.8), 0.3
    t = torch.full((len(ends),), at, dtype=torch.float64)
    x, velocity, z = brownian_bridge(0.8)(ends, t)
    x_drift, drift, _ = BridgeDrift(0.8)(ends, t)
    c = 0.8 * math.sqrt(at * (1 - at))
    targets = {
        "velocity": (x, velocity, bridges.velocity(at)[0, 0]),
        "drift": (x_drift, drift, bridges.drift(at)[0, 0]),
        "score": (x, -z / c, -1 / bridges.covariance(at)[0, 0]),
    }
    for name, (x_t, target, slope) in targets.items():
        found = float((x_t * target).mean() / x_t.square().mean())
        error = float((target - slope * x_t).std() / x_t.std()) / len(ends) ** 0.5
        assert abs(found - slope) < 4 * error, name


def test_the_runner_s_target_is_another_one() -> None:
    ends, t = pairs(6, 0.0), torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    seeds.seed_everything(1)
    x, right, z = brownian_bridge(2.0)(ends, t)
    seeds.seed_everything(1)
    x_r, wrong, _ = RunnerBridge(2.0)(ends, t)
    torch.testing.assert_close(x_r, x)
    straight = ends[:, 1] - ends[:, 0]
    torch.testing.assert_close(right - straight, (2 * (1 - 2 * t) / (2 * (t * (1 - t)).sqrt()))[:, None] * z)
    torch.testing.assert_close(wrong - straight, (4 * (1 - 2 * t))[:, None] * z)


class Linear(nn.Module):
    """(velocity, sigma^2 / 2 score) of Gaussian bridges, or their drift."""

    def __init__(self, *slopes: object) -> None:
        super().__init__()
        self.slopes, self.unused = slopes, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([float(slope(float(t[0]))) * x for slope in self.slopes], 1) + 0 * self.unused


def exact_bridge(sigma: float = 1.0) -> ScoredTransport:
    b = known(1, 1, float(plan(ONE, ONE, sigma)[0, 0]), sigma)
    slopes = lambda t: b.velocity(t)[..., 0, 0], lambda t: -(sigma**2) / 2 / b.covariance(t)[..., 0, 0]
    return ScoredTransport(brownian_bridge(sigma), Linear(*slopes))


def test_euler_maruyama_with_the_exact_drift_has_the_known_bias() -> None:
    """Variance at the end 1.01565 in 20 steps and 1.00310 in 100, covariance of the ends 0.61803 in both."""
    n = 200_000
    for steps, variance in ((20, 1.01565), (100, 1.00310)):
        seeds.seed_everything(2)
        start = torch.randn(n, 1, dtype=torch.float64)
        end = deque(euler_maruyama(exact_bridge().drift, start, np.linspace(0, 1, steps + 1).tolist(), 1.0), maxlen=1).pop()
        assert abs(float(end.var()) - variance) < 4 * variance * (2 / n) ** 0.5
        slope = float((start * end).mean() / start.square().mean())
        assert abs(slope - GOLDEN) < 4 * ((1 - GOLDEN**2) / n) ** 0.5
    ratios = variance_ratios(GOLDEN, 1.0, False)
    assert ratios[-1] == pytest.approx(1.01565, abs=1e-5)


def test_solvers_of_a_bridge_have_their_orders() -> None:
    """The mean of the end is linear in the start: Cov(x_0, x_1) of Markovian fitting without a draw, by steps without noise."""
    drift = Transport(BridgeDrift(1.0), Linear(lambda t: known(1, 1, 0.0, 1).drift(t)[0, 0])).field
    c, start = next(markovian_fitting(ONE, ONE, 1.0))[0, 0], torch.ones(1, 1, dtype=torch.float64)
    for solver, order in ((euler_maruyama, 1), (stochastic_heun, 2)):
        a, b = (
            float(deque(solver(drift, start, np.linspace(0, 1, N + 1).tolist(), 0.0), maxlen=1).pop()) - c for N in (40, 80)
        )
        assert math.log2(a / b) == pytest.approx(order, abs=0.1)
    torch.manual_seed(0)
    start = torch.zeros(100_000, 1, dtype=torch.float64)
    end = deque(stochastic_heun(drift, start, np.linspace(0, 1, 11).tolist(), 1.0), maxlen=1).pop()
    assert abs(float(end.var()) - (1 - c**2)) < 4 * (2 / 100_000) ** 0.5 + 0.003  # of ten steps


def test_the_exact_bridge_has_the_least_loss_of_score_and_flow() -> None:
    b = known(1, 1, GOLDEN, 1)
    losses = []
    for factor in (1.0, 0.5, 1.5):
        for part in (0, 1):
            slopes = [lambda t: b.velocity(t)[..., 0, 0], lambda t: -0.5 / b.covariance(t)[..., 0, 0]]
            slopes[part] = partial(lambda t, f, k: k * f(t), f=slopes[part], k=factor)
            model = ScoredTransport(brownian_bridge(1.0), PerExample(*slopes))
            seeds.seed_everything(4)
            losses.append(float(ScoreAndFlow(margin=0.01)(model, pairs(20_000, GOLDEN)).mean()))
    assert losses[0] == losses[1] < min(losses[2:])


class PerExample(Linear):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([torch.as_tensor(slope(t.numpy()))[:, None] * x for slope in self.slopes], 1)


@pytest.mark.parametrize(("d", "full", "diagonal"), [(2, 0.00025, 0.0002), (5, 0.001, 0.0005), (20, 0.01151, 0.002)])
def test_samples_alone_have_a_divergence(d: int, full: float, diagonal: float) -> None:
    n = 10_000
    assert floor(d, n) == pytest.approx(full, rel=5e-3)
    assert floor(d, n, diagonal=True) == pytest.approx(diagonal, rel=5e-3)
    x = np.random.default_rng(0).standard_normal((8, 400, d)) * math.sqrt(2) + 3
    for diag in (False, True):
        found = np.array([divergence(each, 2.0, 3.0, diag) for each in x])
        assert abs(found.mean() - floor(d, 400, diagonal=diag)) < 4 * found.std(ddof=1) / math.sqrt(8)
    assert floor(d, n, 1.1) - floor(d, n) == pytest.approx(d / 2 * (0.1 - math.log(1.1)), rel=5e-3)


AUDIT = {
    (2, 0.9825): (0.0095, 0.0030),
    (5, 0.9067): (0.0162, 0.0043),
    (20, 0.5886): (0.0117, 0.0347),
    (50, 0.3939): (0.1401, 0.3026),
}


@pytest.mark.parametrize(("d", "c"), AUDIT)
def test_the_audited_table(d: int, c: float) -> None:
    for slips, wanted in zip((False, True), AUDIT[d, c], strict=True):
        assert float(np.mean([floor(d, 10_000, r) for r in variance_ratios(c, 1.0, slips)])) == pytest.approx(wanted, abs=6e-5)


def test_the_audit_measures_the_coupling_of_batches() -> None:
    audit = AuditOfTable([-0.1, 0.1], [1], {"exact": MiniBatchOT(), "entropic": MiniBatchEntropic(1.0)}, 64, 20, 1000, 1.0)
    rows = audit(exact_bridge(), GaussianEnds(1, [-0.1, 0.1], [1.0, 1.0]), torch.zeros(0), 0).measurements
    exact, entropic = (m for m in rows if m.quantity == "covariance")
    assert abs(exact.value - 0.958771 + 1 / 64) < 4 * exact.stderr + 0.005  # rho_B, less what two means take
    assert abs(entropic.value - GOLDEN) < 0.1
    assert {m.protocol["formula"] for m in rows if m.quantity == "gaussian_divergence"} == {"paper", "runner"}


def test_the_exact_bridge_shows_the_floor() -> None:
    data = GaussianEnds(5, [0.0, 0.0], [1.0, 1.0])
    rows = BridgeMarginals([0.0, 0.0], 20)(exact_bridge(), data, data.held_out(10_000), 0).measurements
    found = {(m.protocol.get("estimator"), m.protocol.get("times")): m for m in rows}
    assert found["full", "all"].value == pytest.approx(0.0011, abs=4e-4)
    assert found["diagonal", "all"].value == pytest.approx(0.00061, abs=4e-4)
    assert found["full", "end"].oracle == pytest.approx(0.001, rel=1e-2)
    c = found[None, None]
    assert abs(c.value - GOLDEN) < 4 * c.stderr
    assert c.oracle == pytest.approx(GOLDEN)


def rounds_of(process: object, *slopes: object) -> Rounds:
    networks = iter([Linear(slope) for slope in slopes])
    return Rounds(process, lambda: next(networks), len(slopes))


def test_exact_rounds_are_measured_as_exact() -> None:
    """Markovian fitting by exact drifts: even rounds forward, odd ones back, and the covariances those of the sequence."""
    data = GaussianEnds(2, [0.0, 0.0], [1.0, 1.0])
    before = [0.0, *(C[0, 0] for C in islice(markovian_fitting(ONE, ONE, 1.0), 2))]
    reverse = rounds_of(BridgeDrift(1.0), *(lambda t, c=c: known(1, 1, c, 1).drift(t)[0, 0] for c in before))
    rows = CouplingOfRounds(BackAndForth(20), markovian_fitting)(reverse, data, data.held_out(40_000), 0).measurements
    for m in (m for m in rows if m.quantity == "covariance"):
        assert abs(m.value - m.oracle) < 4 * m.stderr + 0.002  # of 20 steps
    assert rows[0].quantity == "covariance_error"
    assert rows[0].value < 0.015
    for model in (reverse, Rounds(reverse.process, lambda: reverse.rounds[2].network, 2)):  # the last starts at either end
        m = MarginalsOfLastRound([0.0, 0.0], 20)(model, data, data.held_out(10_000), 0).measurements[1]
        assert m.protocol["times"] == "all"
        assert m.value == pytest.approx(0.0003, abs=3e-4)


def test_reflow_between_gaussians_has_its_closed_form() -> None:
    """N(0, 1) -> N(0, 4): S = (2 - pi/2) s, V = (pi/2) s, cost 5 -> 1, one Euler step ends at 0, and at s from round 2 on."""
    s, data = 2.0, GaussianEnds(1, [0.0, 0.0], [1.0, 4.0])
    straight = lambda t: (s - 1) / (1 + t * (s - 1))  # noqa: E731
    reverse = rounds_of(rectified(), lambda t: known(1, s, 0.0, 0).velocity(t)[..., 0, 0], straight)
    reverse.rounds[0].network.__class__ = reverse.rounds[1].network.__class__ = PerExample
    rows = ReflowCosts(100, [1, 2, 4])(reverse, data, data.held_out(40_000), 0).measurements
    found = {(m.quantity, m.protocol["round"], m.protocol.get("pairs", m.protocol["steps_of_solver"])): m for m in rows}
    exact = {"straightness": (2 - math.pi / 2) * s, "crossing": math.pi / 2 * s, "path_energy": 1.858407, "velocity_error": 0.0}
    for quantity, value in exact.items():
        m = found[quantity, 1, 100]
        assert abs(m.value - value) <= 4 * m.stderr + 0.01 * value, quantity
    assert abs(found["transport_cost", 1, "given"].value - 5) < 4 * found["transport_cost", 1, "given"].stderr
    assert abs(found["transport_cost", 1, "made"].value - 1) < 0.03
    assert found["straightness", 2, 100].value < 1e-9
    for number in (1, 2):
        m = found["cost_identity", number, 100]
        assert abs(m.value) < 4 * m.stderr + 5e-4, number  # of steps
    assert [round(found["deviation", 1, steps].value, 2) for steps in (1, 2, 4)] == pytest.approx([0, 0.8, 1.36], abs=0.02)
    assert found["deviation", 2, 1].value == pytest.approx(s, rel=0.02)


def test_rounds_learn_from_pairs_of_the_one_before() -> None:
    ends = GaussianEnds(1, [0.0, 3.0], [1.0, 1.0]).held_out(500)
    seeds.seed_everything(0)
    drift = Transport(BridgeDrift(1.0), Linear(lambda t: 0.0))
    for number in (0, 1):
        made = BackAndForth(20)(drift, ends, number)
        torch.testing.assert_close(made[:, 1], ends[:, number])  # where it started is where the next round ends
        assert abs(float((made[:, 0] - made[:, 1]).var()) - 1) < 4 * (2 / 500) ** 0.5  # without drift it is sigma W
    flow = Transport(rectified(), Linear(lambda t: 1.0))
    made = Reflow(10)(flow, ends, 1)
    torch.testing.assert_close(made[:, 0], ends[:, 0])
    torch.testing.assert_close(made[:, 1], 1.105**10 * ends[:, 0])
    reference = Reference(2.0)(ends)
    torch.testing.assert_close(reference[:, 1], ends[:, 1])
    assert abs(float((reference[:, 0] - reference[:, 1]).var()) - 4) < 4 * 4 * (2 / 500) ** 0.5


def test_a_round_has_no_gradient_from_the_next() -> None:
    ends = GaussianEnds(1, [0.0, 0.0], [1.0, 1.0]).held_out(16)
    reverse = Rounds(BridgeDrift(1.0), lambda: PlainMLP(1, 1, 4, 1, nn.SiLU()), 2)

    def gradient(model: Rounds) -> Tensor:
        seeds.seed_everything(0)
        loss = InRounds(BackAndForth(3), Matching(margin=0.1), AsDrawn())(model, ends).mean()
        return torch.autograd.grad(loss, list(model.rounds[0].parameters()))[0]

    both = gradient(reverse)
    del reverse.rounds[1]
    torch.testing.assert_close(both, gradient(reverse))


def test_batches_of_two_ends_are_independent_functions_of_their_step() -> None:
    ends = GaussianEnds(1, [0.0, 5.0], [1.0, 1.0])
    fixed = TrainingSet(ends, 50)
    batch = fixed.batch(4000, 3, 1)
    assert torch.equal(batch, TrainingSet(ends, 50).batch(4000, 3, 1))
    assert not torch.equal(batch, fixed.batch(4000, 3, 2))
    assert [len(batch[:, k].unique()) for k in (0, 1)] == [50, 50]
    x, y = (batch[:, k, 0] - batch[:, k, 0].mean() for k in (0, 1))
    assert abs(float((x * y).mean() / (x.std() * y.std()))) < 4 / 4000**0.5
    coupled = CoupledBatches(ends, MiniBatchOT(), 3)
    assert torch.equal(coupled.batch(64, 0, 1), coupled.batch(64, 0, 4))
    assert not torch.equal(coupled.batch(64, 0, 1), coupled.batch(64, 0, 2))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    CoupledBatches(ends, MiniBatchOT(), 3).batch(8, 0, 0)
    assert torch.equal(before, torch.get_rng_state())
    for wrong in (lambda: TrainingSet(ends, 0), lambda: CoupledBatches(ends, MiniBatchOT(), 0)):
        with pytest.raises(UserError):
            wrong()


def test_a_network_of_other_size_is_refused() -> None:
    with pytest.raises(UserError, match="twice as many"):
        ScoredTransport(brownian_bridge(1.0), Linear(lambda t: 0.0)).field(torch.zeros(2, 1), torch.zeros(2))
