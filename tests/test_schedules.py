"""Noise schedules: products of betas, the ends of the chain, the published constants, learned betas, refusals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpm import schedules
from dpm.errors import UserError
from dpm.processes.gaussian import GaussianDiffusion
from dpm.schedules import BetaSchedule, LearnedBetaSchedule

EXAMPLES = {
    "linear": lambda: schedules.linear(50, 1e-4, 0.2),
    "constant erasure": lambda: schedules.constant_erasure(7),
    "geometric": lambda: schedules.geometric(12, 1e-5, 1e-3),
    "learned": lambda: LearnedBetaSchedule(schedules.linear(20, 1e-3, 0.3)),
    "one step": lambda: schedules.linear(1, 0.5, 0.5),
}
betas = st.lists(st.floats(1e-8, 1.0), min_size=1, max_size=20).map(lambda values: torch.tensor(values, dtype=torch.float64))


def check_published_constants() -> None:
    """2020, section 4: T = 1000, beta linear from 1e-4 to 0.02; the constants are those of the fact sheet, section 6."""
    schedule, one = schedules.linear(1000, 1e-4, 0.02), torch.tensor([1])
    assert float(schedule.alpha_bar(1000 * one)) == pytest.approx(4.035830e-5, rel=1e-6)
    assert float(GaussianDiffusion(schedule).step(one, one + 1).posterior_variance) == pytest.approx(5.453188e-5, rel=1e-6)
    assert float(schedule(one)[1] ** 2) == pytest.approx(1e-4, rel=1e-12)


def test_published_constants() -> None:
    check_published_constants()


@given(betas)
def test_alpha_bar_is_the_product_and_noise_is_what_is_missing_to_one(beta: Tensor) -> None:
    schedule, t = BetaSchedule(beta), torch.arange(len(beta) + 1)
    alpha, sigma = schedule(t)
    product = torch.cat([torch.ones(1), torch.cumprod(1 - beta, 0)])
    assert torch.allclose(schedule.alpha_bar(t), product, rtol=1e-12, atol=1e-300)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(len(t), dtype=torch.float64), rtol=1e-14)
    assert bool((sigma.diff() >= 0).all())


@pytest.mark.parametrize("make", EXAMPLES.values(), ids=EXAMPLES)
@torch.no_grad()
def test_time_zero_is_data_and_everything_is_float64(make) -> None:
    schedule, t = make(), torch.tensor([0])
    assert (float(schedule.alpha_bar(t)), *map(float, schedule(t))) == (1, 1, 0)
    assert {schedule.betas.dtype, schedule.alpha_bar(t).dtype, schedule(t)[0].dtype, schedule(t)[1].dtype} == {torch.float64}
    assert len(schedule) == len(schedule.betas)


def test_betas_in_float32_are_summed_in_float64() -> None:
    assert BetaSchedule(torch.full((3,), 0.1, dtype=torch.float32)).alpha_bar(torch.tensor(3)).dtype == torch.float64


@pytest.mark.parametrize("T", [1, 2, 40, 2000])
def test_constant_erasure_takes_the_same_share_of_the_signal_at_every_step(T: int) -> None:
    schedule, t = schedules.constant_erasure(T), torch.arange(T + 1)
    assert torch.allclose(schedule.alpha_bar(t), (T - t) / torch.tensor(T, dtype=torch.float64), rtol=1e-11, atol=0)
    assert tuple(map(float, schedule(t[-1]))) == (0, 1)  # beta_T = 1: nothing is left, and nothing is nan


def test_geometric_multiplies_the_noise_to_signal_ratio_by_a_constant() -> None:
    schedule = schedules.geometric(40, 1e-6, 1e-3)
    alpha_bar = schedule.alpha_bar(torch.arange(1, 41))
    growth = ((1 - alpha_bar) / alpha_bar).log().diff()
    assert torch.allclose(growth, growth.mean().expand(39), rtol=1e-8)
    assert float(schedule.betas[0]) == pytest.approx(1e-6, rel=1e-12)
    assert float(alpha_bar[-1]) == pytest.approx(1e-3, rel=1e-12)


def test_linear_is_equally_spaced_and_includes_both_ends() -> None:
    expected = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)
    assert torch.allclose(schedules.linear(5, 0.1, 0.5).betas, expected, rtol=1e-15)


def test_learned_betas_start_from_the_initial_ones_and_survive_a_state_dict() -> None:
    initial = schedules.geometric(10, 1e-6, 1e-3)
    learned = LearnedBetaSchedule(initial)
    assert torch.allclose(learned.betas, initial.betas, rtol=1e-12)
    with torch.no_grad():
        learned.logits += 1
    copy = LearnedBetaSchedule(initial)
    copy.load_state_dict(learned.state_dict())
    assert torch.equal(copy.betas, learned.betas)
    assert torch.equal(copy.alpha_bar(torch.arange(11)), learned.alpha_bar(torch.arange(11)))


def test_the_gradient_reaches_every_learned_beta_up_to_t_and_never_beta_1() -> None:
    """d log alpha_bar_t / d logit_u = -beta_u for 2 <= u <= t, and 0 for u > t."""
    learned = LearnedBetaSchedule(schedules.linear(6, 1e-3, 0.3))
    assert [name for name, _ in learned.named_parameters()] == ["logits"]
    (gradient,) = torch.autograd.grad(learned.log_alpha_bar(torch.tensor(4)), learned.logits)
    expected = torch.cat([-learned.betas[1:4], torch.zeros(2)]).detach()
    assert torch.allclose(gradient, expected, rtol=1e-12)
    with torch.no_grad():
        learned.logits += 3
    assert learned.betas[0].item() == 1e-3


@pytest.mark.parametrize("beta", [[], [0.0], [-0.1], [1.1], [0.5, float("nan")], [[0.5]]])
def test_betas_outside_0_to_1_are_refused(beta: list[float]) -> None:
    with pytest.raises(UserError, match=r"each in \(0, 1\]"):
        BetaSchedule(torch.tensor(beta))


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.linear(0, 1e-4, 0.02),
        lambda: schedules.constant_erasure(-1),
        lambda: schedules.geometric(0, 1e-6, 1e-3),
        lambda: schedules.geometric(10, 0.0, 1e-3),
        lambda: schedules.geometric(10, 0.999, 0.5),
        lambda: schedules.geometric(10, 1e-6, float("nan")),
        lambda: LearnedBetaSchedule(schedules.constant_erasure(5)),
    ],
)
def test_impossible_schedules_are_refused(make) -> None:
    with pytest.raises(UserError):
        make()
