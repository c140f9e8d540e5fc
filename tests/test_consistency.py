"""Consistency models where everything is known, EDM's scalings, and the parts that flows of images are made of."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import seeds
from dpm.baselines.gaussian_images import GaussianImages
from dpm.continuous import Rectified, VarianceExploding
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators.consistency import FixedPoints, MapErrors, rms
from dpm.evaluators.flow_likelihood import FlowLikelihood
from dpm.evaluators.regression import Regression
from dpm.evaluators.solver_orders import SolverOrders
from dpm.flows import flow_in_time, probability_flow
from dpm.networks.clocks import Clock, LogClock
from dpm.objectives.consistency import Consistency, OneStep, SameNoise, evenly, levels
from dpm.objectives.reflow import Reflow
from dpm.objectives.simple import Simple
from dpm.oracles.consistency import distilled, exact, flow, trained
from dpm.predictions import DataPrediction
from dpm.predictions.flow import FlowVelocity
from dpm.predictions.flow_residual import LinearFlowResidual
from dpm.predictions.papers import X0
from dpm.predictions.preconditioned import Preconditioned
from dpm.processes import at
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.runs import checkpoints
from dpm.runs.teachers import of_run
from dpm.samplers import few
from dpm.samplers.consistency import multistep
from dpm.samplers.ode import euler, euler_step, geometric, heun, heun_step
from dpm.schedules import Schedule, linear
from dpm.times import Continuous, LogNormal
from dpm.variances import FixedSmall

GAUSSIAN = GaussianMixture([1.0], [[0.0]], [[0.25]])
TWO = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[0.25], [0.25]])
FIRST, LAST, SD = 0.002, 80.0, 0.5
EXPLODING = VarianceExploding(LAST)


class Function(nn.Module):
    """network(x, t) = function(x, t)."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.asked = function, 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.asked += 1
        return self.function(x, t)


def reversed_by(function, prediction: DataPrediction | None = None, schedule: Schedule = EXPLODING) -> GaussianReverse:
    q = GaussianDiffusion(schedule)
    return GaussianReverse(q, Function(function), prediction or X0(), FixedSmall(), Network())


def teacher(data: GaussianMixture, schedule: Schedule = EXPLODING) -> GaussianReverse:
    return GaussianReverse(GaussianDiffusion(schedule), MixtureDenoiser(data, schedule), X0(), FixedSmall(), Network())


def slope(maps: tuple[Tensor, Tensor]) -> float:
    x, f = maps
    return float(f[-1] / x[-1])


# --- what is trained ---------------------------------------------------------------------------------------------------------


def test_the_boundary_condition_holds_whatever_the_network_says() -> None:
    seeds.seed_everything(0)
    x = torch.randn(50, 1, dtype=torch.float64)
    p = reversed_by(lambda x, t: 100 * torch.randn_like(x), Preconditioned(SD, FIRST))
    assert float((p.predicted(x, at(x, FIRST)) - x).abs().max()) < 1e-12
    assert float((p.predicted(x, at(x, 0.01)) - x).abs().max()) > 0.1


def test_what_a_preconditioned_network_sees_and_says_has_unit_variance_at_every_noise_level() -> None:
    seeds.seed_everything(1)
    q, prediction, n = GaussianDiffusion(VarianceExploding(LAST)), Preconditioned(SD), 200_000
    x_0 = SD * torch.randn(n, 1, dtype=torch.float64)
    for s in (0.01, 0.5, 20.0):
        t = at(x_0, s)
        x_t = q.marginal(x_0, t).sample()
        target = prediction.target(q, x_0, x_t, t)
        for values in (prediction.input(q, x_t, t), target):
            assert float(values.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / n))
        torch.testing.assert_close(prediction.x_0(q, target, x_t, t), x_0)
        # c_skip is the one that leaves the least to say: the target is not correlated with what is seen
        assert float((target * x_t).mean() / x_t.std()) == pytest.approx(0, abs=4 / math.sqrt(n))


def test_training_has_the_loss_of_the_table_at_its_fixed_point_and_distillation_none() -> None:
    """Fact sheet, table 4.2: 1.598e-2 for nine levels, where the slopes are products of Euler's factors."""
    seeds.seed_everything(2)
    times = torch.tensor(levels(FIRST, LAST, 9), dtype=torch.float64)
    (s, t), n = (times[:-1], times[1:]), 400_000
    factors = {"euler": 1 + (s - t) * t / (SD**2 + t**2)}
    factors["heun"] = 1 + (s - t) / 2 * (t / (SD**2 + t**2) + s / (SD**2 + s**2) * factors["euler"])
    x_0 = GAUSSIAN.sample(n, seeds.generator(3))
    for name, step in (("euler", euler_step), ("heun", heun_step)):
        slopes = torch.cat([torch.ones(1, dtype=torch.float64), factors[name].cumprod(0)])
        p = reversed_by(lambda x, t, slopes=slopes: x * slopes[torch.searchsorted(times, t * 0.999)][:, None])
        assert float(Consistency(times.tolist(), OneStep(teacher(GAUSSIAN), step))(p, x_0).max()) < 1e-20
        if name == "euler":
            loss = Consistency(times.tolist(), SameNoise())(p, x_0)
            assert float(loss.mean()) == pytest.approx(1.598e-2, abs=4 * float(loss.std()) / math.sqrt(n) + 5e-6)


def test_the_target_of_consistency_has_no_gradient() -> None:
    a = nn.Parameter(torch.ones(1, dtype=torch.float64))
    p = reversed_by(lambda x, t: torch.where(t[:, None] > 1.5, torch.zeros_like(x), a * x))
    Consistency([1.0, 2.0], SameNoise())(p, torch.ones(4, 1, dtype=torch.float64)).mean().backward()
    assert a.grad is None or float(a.grad) == 0
    with pytest.raises(UserError, match="increasing"):
        Consistency([2.0, 1.0], SameNoise())


# --- what it tends to --------------------------------------------------------------------------------------------------------


def test_slopes_on_a_gaussian_are_those_of_the_table() -> None:
    x, _ = trained(GAUSSIAN, levels(FIRST, LAST, 9))
    assert slope((x, exact(GAUSSIAN, FIRST, x, LAST))) == pytest.approx(6.249928e-3, rel=1e-6)
    for number, by_euler, by_heun in (
        (9, 4.368731e-3, 7.988378e-3),
        (18, 5.287978e-3, 6.595413e-3),
        (36, 5.762545e-3, 6.326315e-3),
    ):
        times = levels(FIRST, LAST, number)
        assert slope(distilled(GAUSSIAN, times, euler)) == pytest.approx(by_euler, rel=1e-6)
        assert slope(trained(GAUSSIAN, times)) == pytest.approx(by_euler, rel=1e-6)
        assert slope(distilled(GAUSSIAN, times, heun)) == pytest.approx(by_heun, rel=1e-6)


def test_on_a_mixture_training_is_farther_from_the_flow_than_distillation() -> None:
    times = levels(FIRST, LAST, 18)
    (x, by_training), (_, by_euler) = trained(TWO, times), distilled(TWO, times, euler)
    truth = exact(TWO, FIRST, x, LAST)
    assert (rms(by_euler - truth), rms(by_training - truth)) == pytest.approx((0.1213, 0.2053), abs=1e-4)


def test_the_evaluator_of_fixed_points_finds_the_orders() -> None:
    evaluation = FixedPoints(FIRST, LAST, [36, 54], {"heun": "a/claim"})(teacher(GAUSSIAN), GAUSSIAN, torch.zeros(1, 1), 0)
    order = {m.protocol["method"]: m for m in evaluation.measurements if m.quantity == "convergence_order"}
    assert order["euler"].value == pytest.approx(order["training"].value, abs=1e-4) == pytest.approx(1, abs=0.05)
    assert order["heun"].value == pytest.approx(2, abs=0.15)
    assert [order[name].claim for name in ("heun", "euler")] == ["a/claim", None]
    with pytest.raises(UserError, match="two numbers"):
        FixedPoints(FIRST, LAST, [9, 36])


def test_the_three_errors_of_a_map_add_up() -> None:
    """A network that is the exact map has an error of training as large as that of the grid, and none in all."""
    scale = math.sqrt(SD**2 + FIRST**2)
    p = reversed_by(lambda x, t: x * scale / (SD**2 + t[:, None] ** 2).sqrt())
    times = levels(FIRST, LAST, 18)
    rows = MapErrors(times, partial(distilled, solver=euler), 0.5, 20_000)(p, GAUSSIAN, torch.zeros(1, 1), 0).measurements
    error = {m.protocol["of"]: m.value for m in rows if m.quantity == "map_error"}
    assert error["both"] < 1e-8
    assert error["boundary"] < 1e-12
    assert error["training"] == pytest.approx(error["grid"], rel=1e-6)
    assert error["grid"] == pytest.approx(LAST * (6.249928e-3 - 5.287978e-3), rel=1e-3)
    for m in rows:
        if m.quantity == "deviation":
            share = LAST / math.hypot(LAST, SD) if m.protocol["evaluations"] == 1 else 1  # the first starts without the data
            assert m.value == pytest.approx(scale * share, abs=4 * m.stderr)


def test_two_steps_add_the_noise_between_the_start_and_the_second_time() -> None:
    seeds.seed_everything(4)
    start, n = 0.5, 100_000
    p = reversed_by(lambda x, t: x * ((SD**2 + start**2) / (SD**2 + t[:, None] ** 2)).sqrt())
    x = math.sqrt(SD**2 + 4) * torch.randn(n, 1, dtype=torch.float64)
    for sample in multistep(p, x, [2.0, 1.0], start):
        assert float(sample.var()) == pytest.approx(SD**2 + start**2, rel=4 * math.sqrt(2 / n))


def test_levels_go_from_first_to_last() -> None:
    times = levels(FIRST, LAST, 5)
    assert [len(times), sorted(times)] == [5, times]
    assert (times[0], times[-1]) == pytest.approx((FIRST, LAST))
    assert times[2] == pytest.approx(((FIRST ** (1 / 7) + LAST ** (1 / 7)) / 2) ** 7)
    assert evenly(1.0, 4) == [0, 0.25, 0.5, 0.75, 1]


# --- flows in the process's own time ------------------------------------------------------------------------------------------


def test_steps_take_times_of_their_own_for_each_example() -> None:
    x, t, s = (
        torch.ones(3, 1, dtype=torch.float64),
        torch.tensor([1.0, 2.0, 3.0]).double(),
        torch.tensor([0.5, 1.0, 3.5]).double(),
    )
    for step, solver in ((euler_step, euler), (heun_step, heun)):
        together = step(flow(TWO), x, t, s)
        for k in range(3):
            (alone,) = solver(flow(TWO), x[k : k + 1], (float(t[k]), float(s[k])))
            torch.testing.assert_close(together[k : k + 1], alone)


def test_the_flow_in_time_of_straight_lines_is_that_of_the_paper_also_at_the_end() -> None:
    """Fact sheet, check of the conversions: dx/dt = (t - (1 - t) s^2) x / ((1 - t)^2 s^2 + t^2) for N(0, s^2)."""
    x, t = torch.tensor([[-1.0], [0.3], [2.0]]).double(), torch.tensor([0.2, 0.7, 1.0]).double()
    expected = (t - (1 - t) * SD**2) / ((1 - t) ** 2 * SD**2 + t**2)
    torch.testing.assert_close(flow_in_time(teacher(GAUSSIAN, Rectified()))(x, t), expected[:, None] * x)
    noise = teacher(TWO)
    torch.testing.assert_close(flow_in_time(noise)(x, t), probability_flow(noise)(x, t))


def test_what_a_gaussian_model_knows_of_the_velocity_is_no_task_of_the_network() -> None:
    seeds.seed_everything(5)
    q, model = GaussianDiffusion(Rectified()), GaussianImages(1, 4, 4)
    model.variances.copy_(torch.rand(1, 4, 4) + 0.1)
    prediction, whole = LinearFlowResidual(model), FlowVelocity()
    x_0, t = torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.linspace(0.1, 1, 6, dtype=torch.float64)
    x_t = q.marginal(x_0, t).sample()
    target = prediction.target(q, x_0, x_t, t)
    torch.testing.assert_close(prediction.x_0(q, target, x_t, t), x_0)
    best = model.posterior_mean(q, x_t, t)
    torch.testing.assert_close(prediction.x_0(q, torch.zeros_like(x_t), x_t, t), best)
    torch.testing.assert_close(target, whole.target(q, x_0, x_t, t) - whole.target(q, best, x_t, t))
    torch.testing.assert_close(prediction.x_0(q, 100 * target, x_t, 0 * t), x_t, atol=1e-12, rtol=0)  # the boundary condition


@pytest.mark.parametrize("evaluations", [1, 5])
@pytest.mark.parametrize("sampler", [few.flow, few.consistency, few.implicit])
def test_samplers_look_at_the_network_as_often_as_they_say(sampler, evaluations: int) -> None:
    p = reversed_by(lambda x, t: 0.5 * x, schedule=linear(20, 1e-3, 0.3) if sampler is few.implicit else Rectified())
    sampler(p, torch.ones(2, 1, dtype=torch.float64), evaluations)
    assert p.network.asked == evaluations


def test_one_step_of_a_flow_is_the_mean_of_the_data_and_many_end_in_their_law() -> None:
    x = torch.randn(1000, 1, dtype=torch.float64, generator=seeds.generator(6))
    p = teacher(GAUSSIAN, Rectified())
    assert float(few.flow(p, x, 1).abs().max()) < 1e-12
    torch.testing.assert_close(few.flow(p, x, 2000), SD * x, rtol=2e-3, atol=0)


def test_reflow_regresses_the_straight_lines_between_the_ends_of_the_teachers_paths() -> None:
    seeds.seed_everything(7)
    p = teacher(GAUSSIAN, Rectified())
    ratio = float(few.flow(p, torch.ones(1, 1, dtype=torch.float64), 20))  # x_0 = ratio x_1
    straight = reversed_by(lambda x, t: (1 - ratio) * x / ((1 - t) * ratio + t)[:, None], FlowVelocity(), Rectified())
    reflow = Reflow(p, 50, 20, seed=0, times=Continuous(), batch_size=20)
    x_0 = torch.zeros(100, 1, dtype=torch.float64)
    assert float(reflow(straight, x_0).max()) < 1e-20
    flow_of_teacher = reversed_by(lambda x, t: flow_in_time(p)(x, t), FlowVelocity(), Rectified())
    assert float(reflow(flow_of_teacher, x_0).mean()) > 0.1
    assert torch.equal(reflow.ends, Reflow(p, 50, 20, seed=0, times=Continuous(), batch_size=20).made(x_0[:1]))


def test_a_teacher_has_the_averaged_weights_of_its_run(tmp_path: Path) -> None:
    def built(folder: Path | None) -> GaussianReverse:
        parts = Clock(nn.Linear(1, 1), 1.0), X0(), FixedSmall(), Network()
        return of_run(str(folder) if folder else None, GaussianDiffusion(Rectified()), *parts)

    given = built(None)
    checkpoints.save(tmp_path, 1, {"ema": {f"module.{key}": value for key, value in given.state_dict().items()}})
    for own, theirs in zip(built(tmp_path).parameters(), given.parameters(), strict=True):
        assert torch.equal(own, theirs)
    with pytest.raises(UserError, match="train"):
        built(tmp_path / "nothing")


# --- times, networks and evaluators -------------------------------------------------------------------------------------------


def test_log_normal_levels_have_their_moments_and_weights() -> None:
    seeds.seed_everything(8)
    _, t, weights = LogNormal(-1.2, 0.7).draw(reversed_by(lambda x, t: x, schedule=Rectified()), torch.zeros(20_000, 1), 1)
    log_s = (t / (1 - t)).log()  # the noise level of straight lines
    assert (float(log_s.mean()), float(log_s.std())) == pytest.approx((-1.2, 0.7), abs=0.01)
    torch.testing.assert_close(weights, 1 / torch.distributions.Normal(-1.2, 0.7).log_prob(log_s).exp(), rtol=2e-6, atol=0)


def test_clocks_tell_a_network_its_own_time() -> None:
    x, t = torch.zeros(3, 1), torch.tensor([FIRST, math.sqrt(FIRST * LAST), LAST], dtype=torch.float64)
    torch.testing.assert_close(LogClock(Function(lambda x, t: t), FIRST, LAST)(x, t), torch.tensor([0, 0.5, 1]).double())
    torch.testing.assert_close(Clock(Function(lambda x, t: t), 1000)(x, t), 1000 * t + 1)


def test_the_loss_of_a_regression_is_the_mean_of_its_objective() -> None:
    """The best velocity leaves E |eps - x_0|^2 - E |u|^2 = V: (pi / 2) s on straight lines from N(0, s^2) to N(0, 1)."""
    p = reversed_by(lambda x, t: flow_in_time(teacher(GAUSSIAN, Rectified()))(x, t), FlowVelocity(), Rectified())
    x_0 = GAUSSIAN.held_out(100_000)
    (m,) = Regression(Simple(Continuous()), 10_000)(p, GAUSSIAN, x_0, 0).measurements
    assert m.value == pytest.approx(math.pi / 2 * SD, abs=4 * m.stderr)


def test_solvers_have_their_orders_with_any_field() -> None:
    evaluation = SolverOrders(FIRST, LAST, [40, 80])(teacher(TWO), TWO, torch.zeros(1, 1), 0)
    of = {
        (m.protocol["field"], m.protocol["method"]): m.value
        for m in evaluation.measurements
        if m.quantity == "convergence_order"
    }
    assert of["exact", "euler"] == pytest.approx(1, abs=0.1)
    assert of["network", "heun"] == pytest.approx(of["exact", "heun"], abs=1e-3) == pytest.approx(2, abs=0.2)
    assert next(m.value for m in evaluation.measurements if m.protocol.get("of") == "score") < 1e-5


class Levels:
    """Images of one pixel, black, grey or white."""

    train = np.array([0] * 5 + [128] * 3 + [255] * 2, np.uint8).repeat(100)[:, None, None, None]


def test_the_likelihood_of_an_exact_flow_is_the_probability_of_the_image() -> None:
    shares, values = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0, 128, 255]).double() / 127.5 - 1

    def denoised(x: Tensor, t: Tensor) -> Tensor:
        distance = (x.flatten(1) - (1 - t[:, None]) * values) / t[:, None]
        return ((shares.log() - distance.square() / 2).softmax(1) * values).sum(1).view_as(x)

    p, solve = reversed_by(denoised, schedule=Rectified()), partial(geometric, steps=60)
    for value, share in zip(values.tolist(), shares.tolist(), strict=True):
        x_0 = torch.full((4, 1, 1, 1), value, dtype=torch.float64)
        rows = FlowLikelihood(0.01, solve, partial(geometric, steps=30), 4, 1, 4)(p, Levels(), x_0, 0).measurements
        assert rows[0].protocol["estimator"] == "flow"
        assert 0 <= rows[0].value + math.log2(share) + 0.005 < 0.03  # levels that never occur have some mass
        assert abs(rows[1].value) < 0.02  # a coarser solver
