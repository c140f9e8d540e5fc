"""The quasi-Newton trainer: it reaches a known optimum on frozen noise, resumes to the same bytes, and compares its starts."""

import io
from collections.abc import Callable
from functools import partial

import pytest
import test_bound
import torch
from test_quasirandom import QuasiRandomGaussian
from test_training import content
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR

from dpm import schedules
from dpm.bound import stationary_edges
from dpm.decoders import Stationary
from dpm.objectives.quasirandom_terms import QuasiRandomTerms
from dpm.optimizers import QuasiNewton
from dpm.oracles.gaussian import GaussianOracle
from dpm.predictions.papers import Epsilon
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.training import Closure, Diverged, Learner, MeanLoss, Plan, best_start, fit
from dpm.variances import SigmoidPerturbation

T, D = 5, test_bound.D
OBJECTIVE = QuasiRandomTerms(stationary_edges)
PLAN = Plan(steps=4, batch_size=1024, ema_decay=0.0, clip=1e9, log_every=1, validate_every=4, checkpoint_every=4)


class Sealed(QuasiRandomGaussian):
    """No training may look at anything but training batches."""

    def validation(self, n: int) -> Tensor:
        raise AssertionError("validation examples in a training")

    def held_out(self, n: int) -> Tensor:
        raise AssertionError("held-out examples in a training")


DATA = Sealed(D, 0.0, 0.5)


class Linear(nn.Module):
    """a_t x for the noise, z_t for the variance: all that Gaussian data needs."""

    def __init__(self, a: float = 0.0) -> None:
        super().__init__()
        self.a, self.z = (nn.Parameter(torch.full((T,), value, dtype=torch.float64)) for value in (a, 0.0))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([self.a[t - 1, None] * x, self.z[t - 1, None].expand_as(x)], 1)


SEARCH = partial(QuasiNewton, max_iter=10, history_size=20)
STILL = partial(torch.optim.SGD, lr=0.0)


def learner(a: float = 0.0, learned: bool = False, optimizer: Callable[..., Optimizer] = SEARCH) -> Learner:
    schedule = schedules.linear(T, 0.1, 0.4)
    q = GaussianDiffusion(schedules.LearnedBetaSchedule(schedule) if learned else schedule)
    reverse = GaussianReverse(q, Linear(a), Epsilon(), SigmoidPerturbation(), Stationary())
    return Learner(reverse, optimizer, partial(ConstantLR, factor=1.0, total_iters=0), PLAN.ema_decay)


def trained(one: Learner, steps: int, seed: int = 0) -> Learner:
    for _ in fit(one, DATA, OBJECTIVE, Plan(**{**vars(PLAN), "steps": steps}), seed):
        pass
    return one


def test_on_gaussian_data_training_ends_at_the_closed_form() -> None:
    """The oracle's mean and variance are in the family; the optimum is theirs, to the accuracy of the points."""
    one = trained(learner(), 4)
    oracle = GaussianOracle(one.reverse.process, DATA, Stationary())
    x, t = torch.randn(50, D, dtype=torch.float64), torch.arange(50) % (T - 1) + 2
    found, best = one.reverse(x, t - 1, t), oracle(x, t - 1, t)
    assert torch.allclose(found.mean, best.mean, atol=0.03)
    assert torch.allclose(found.stddev, best.stddev, rtol=0.02)
    x_0 = DATA.batch(4096, 1, 0)
    torch.manual_seed(0)
    reached = OBJECTIVE(one.reverse, x_0).mean().item()
    torch.manual_seed(0)
    assert reached == pytest.approx(OBJECTIVE(oracle, x_0).mean().item(), abs=1e-3)


def test_the_noise_of_a_step_is_frozen_and_another_step_has_another() -> None:
    one = learner()
    first = Closure(one, MeanLoss(one.reverse, OBJECTIVE), DATA, PLAN, 0)
    torch.manual_seed(99)
    assert first().item() == first().item()
    one.step = 1
    assert Closure(one, MeanLoss(one.reverse, OBJECTIVE), DATA, PLAN, 0)().item() != first().item()


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_with_the_same_bytes(stop: int) -> None:
    """Memory of the quasi-Newton method, weights and learned betas go through a file that holds tensors and numbers only."""
    saved, resumed = io.BytesIO(), learner(learned=True)
    torch.save(trained(learner(learned=True), stop).state_dict(), saved)
    torch.manual_seed(99)
    resumed.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    assert content(trained(resumed, 4)) == content(trained(learner(learned=True), 4))


def infinite_below_zero(x: Tensor) -> Tensor:
    """x - log x, which has its minimum at 1 and no value at x <= 0; as the trainer does, it raises where it is not finite."""
    loss = x - x.log()
    if not loss.isfinite():
        raise Diverged("not finite")
    x.grad = None
    loss.backward()
    return loss


def test_a_line_search_turns_back_where_the_loss_is_not_finite() -> None:
    """From 20 the first trial is near, the second, at the small curvature found there, leads below zero."""
    x = nn.Parameter(torch.tensor(20.0, dtype=torch.float64))
    seen: list[float] = []

    def closure() -> Tensor:
        seen.append(x.item())
        return infinite_below_zero(x)

    QuasiNewton([x], max_iter=20, history_size=5).step(closure)
    assert min(seen) < 0
    assert x.item() == pytest.approx(1, abs=1e-6)


def test_a_start_that_is_not_finite_is_an_error() -> None:
    x = nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))
    with pytest.raises(Diverged):
        QuasiNewton([x], max_iter=5, history_size=5).step(lambda: infinite_below_zero(x))
    assert x.item() == -1


def test_the_best_start_is_the_one_with_the_least_training_loss() -> None:
    """Without a search the starts stay as they are; the optimum a = sigma / (alpha^2 v + sigma^2) is between 0.4 and 1."""
    plan = Plan(**{**vars(PLAN), "starts": 4, "start_steps": 1})

    learners = [learner(a, optimizer=STILL) for a in (-1.0, 3.0, 0.7, 0.0)]
    best = best_start(iter(learners), DATA, OBJECTIVE, plan, 0)
    assert best is learners[2]
    assert [one.step for one in learners] == [1] * 4


def test_starts_are_compared_after_their_steps() -> None:
    """A start that is worse at first wins if it has been trained and the others have not."""
    trainable, still = learner(3.0), learner(0.4, optimizer=STILL)
    assert best_start([still, trainable], DATA, OBJECTIVE, Plan(**{**vars(PLAN), "start_steps": 2}), 0) is trainable
    assert trainable.step == 2
