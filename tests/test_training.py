"""Training: divergence stops before the update, the moving average is TensorFlow's, and a run is a function of its seed."""

import copy
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LambdaLR

from dpm import schedules
from dpm.bound import stationary_edges
from dpm.data.synthetic import GaussianData
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.networks.mlp import FourierMLP
from dpm.objectives.one_term import OneTerm
from dpm.predictions.papers import Epsilon
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.training import Diverged, Learner, Plan, fit
from dpm.variances import SigmoidPerturbation

DATA, OBJECTIVE = GaussianData(2, variance=0.5), OneTerm(stationary_edges)
PLAN = Plan(steps=6, batch_size=8, ema_decay=0.9, clip=None, log_every=1, validate_every=6, checkpoint_every=6)


def learner(**changes: Any) -> Learner:
    """A small network with dropout, over learned betas."""
    torch.manual_seed(3)
    process = GaussianDiffusion(schedules.LearnedBetaSchedule(schedules.linear(5, 0.1, 0.4)))
    network = FourierMLP(2, 4, T=5, width=8, depth=1, octaves=1)
    network.body.append(nn.Dropout(0.5))
    reverse = GaussianReverse(process, network, Epsilon(), SigmoidPerturbation(), Stationary())
    settings = {"optimizer": partial(torch.optim.Adam, lr=1e-2), "scheduler": partial(CosineAnnealingLR, T_max=6)}
    return Learner(reverse, **{**settings, "ema_decay": PLAN.ema_decay, **changes})


def run(one: Learner, seed: int = 0, plan: Plan = PLAN) -> Learner:
    for _ in fit(one, DATA, OBJECTIVE, plan, seed):
        pass
    return one


def content(one: Learner) -> dict[str, object]:
    """Every leaf of the state by its path, tensors as their bytes: equal means equal to the last bit."""

    def leaves(path: str, value: Any) -> Iterator[tuple[str, object]]:
        if isinstance(value, dict | list | tuple):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from leaves(f"{path}/{key}", item)
        else:
            yield path, value.numpy().tobytes() if isinstance(value, Tensor) else value

    return dict(leaves("", one.state_dict()))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().double() for parameter in module.parameters()])


def loss(reverse: nn.Module) -> float:
    """The objective on held-out points, the same points and noise at every call, without dropout."""
    torch.manual_seed(5)
    x_0 = DATA.held_out(2000)[torch.randperm(2000)]
    with torch.no_grad():
        return float(OBJECTIVE(copy.deepcopy(reverse).eval(), x_0).mean())


def not_a_number_at(step: int) -> Callable[[nn.Module, Tensor], Tensor]:
    calls = iter(range(1, 100))
    return lambda reverse, x_0: OBJECTIVE(reverse, x_0) * (torch.nan if next(calls) == step else 1)


def infinite_gradient(reverse: nn.Module, x_0: Tensor) -> Tensor:
    """sqrt(0): the loss is 0, its slope is not finite."""
    return (0 * weights_with_gradient(reverse)).sqrt().expand(len(x_0))


def weights_with_gradient(reverse: nn.Module) -> Tensor:
    return sum(parameter.double().sum() for parameter in reverse.parameters())


def test_a_loss_that_is_not_finite_stops_before_the_update() -> None:
    one = learner()
    with pytest.raises(Diverged, match="step 3: loss nan"):
        list(fit(one, DATA, not_a_number_at(3), PLAN, seed=0))
    assert one.step == 2
    assert content(one) == content(run(learner(), plan=replace(PLAN, steps=2)))


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    one = learner()
    before = weights(one.reverse)
    with pytest.raises(Diverged, match="step 1: loss 0, gradient norm nan"):
        next(fit(one, DATA, infinite_gradient, PLAN, seed=0))
    assert torch.equal(weights(one.reverse), before)


def test_the_moving_average_has_its_closed_form() -> None:
    """ema_n = d^n w_0 + (1 - d) sum_k d^{n-k} w_k: it starts at the initial weights and has no warm-up (2020, release)."""
    one, d = learner(ema_warm_up=False), PLAN.ema_decay
    w = [weights(one.reverse)]
    for _ in fit(one, DATA, OBJECTIVE, PLAN, seed=0):
        w.append(weights(one.reverse))
    n = len(w) - 1
    closed = d**n * w[0] + (1 - d) * sum(d ** (n - k) * w[k] for k in range(1, n + 1))
    assert torch.allclose(weights(one.ema.module), closed, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights(one.ema.module), w[-1], rtol=1e-3)


def averages(path: Iterable[float], decay: float, warm_up: bool) -> list[float]:
    """The average after each update, of one weight that moves along `path` from its initial value on."""
    initial, *others = path
    weight = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(weight.weight, initial)
    scheduler = partial(ConstantLR, factor=1.0, total_iters=0)
    one, result = Learner(weight, torch.optim.SGD, scheduler, decay, warm_up), []
    for value in others:
        nn.init.constant_(weight.weight, value)
        one.ema.update_parameters(weight)
        result.append(weights(one.ema.module).item())
    return result


def warm_up_share(n: int) -> float:
    """prod_{k=1}^n (1 + k) / (10 + k)."""
    return math.factorial(10) * math.factorial(1 + n) / math.factorial(10 + n)


def test_with_a_warm_up_the_initial_weights_have_their_closed_form_share() -> None:
    """From 1 the weight jumps to 0: left of it is prod d_n, its factors 0.9 from n = (10 * 0.9 - 1) / (1 - 0.9) = 80 on."""
    found = averages([1.0] + [0.0] * 100, decay=0.9, warm_up=True)
    expected = [warm_up_share(min(n, 80)) * 0.9 ** max(n - 80, 0) for n in range(1, 101)]
    assert found == pytest.approx(expected, rel=1e-9, abs=0)
    shares = [replace(PLAN, steps=n, ema_decay=0.9, ema_warm_up=True).initial_share for n in range(1, 101)]
    assert shares == pytest.approx(expected, rel=1e-9, abs=0)
    assert [n for n in range(1, 101) if shares[n - 1] > 0.01] == [1, 2, 3]
    assert averages([1.0] + [0.0] * 100, decay=0.9, warm_up=False)[-1] == pytest.approx(0.9**100, rel=1e-9)
    assert replace(PLAN, steps=100, ema_decay=0.9, ema_warm_up=False).initial_share == pytest.approx(0.9**100, rel=1e-9)


def test_with_a_warm_up_the_average_of_a_ramp_lags_a_tenth_of_it() -> None:
    """w_n = n: ema_n = 0.9 n - 0.1 (1 - share of w_0)."""
    found = averages(map(float, range(301)), decay=0.999, warm_up=True)
    assert found == pytest.approx([0.9 * n - 0.1 * (1 - warm_up_share(n)) for n in range(1, 301)], rel=1e-9)


def test_the_average_of_a_short_run_is_trained_as_the_weights_are() -> None:
    """At a decay of 0.999, 150 steps gain something. With a warm-up the average has it, without one it lags."""
    plan = replace(PLAN, steps=150, batch_size=64)
    before = loss(learner().reverse)
    gains = {}
    for warm_up in (True, False):
        one = run(learner(ema_decay=0.999, ema_warm_up=warm_up), plan=plan)
        gains[warm_up] = (before - loss(one.ema.module)) / (before - loss(one.reverse))
    assert gains[True] > 0.9
    assert gains[False] < 0.5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = content(run(learner(), seed=1))
    torch.manual_seed(99)  # the state of the global generator is no input
    assert content(run(learner(), seed=1)) == first
    assert content(run(learner(), seed=2)) != first


@pytest.mark.parametrize("warm_up", [True, False])
@pytest.mark.parametrize("stops", [(1,), (4,), (1, 4)], ids=str)
def test_a_resumed_run_ends_with_the_same_bytes(stops: tuple[int, ...], warm_up: bool) -> None:
    """Weights, average and its decay, Adam's moments, learning rate, times, noise and dropout go on as if nothing happened."""
    one = learner(ema_warm_up=warm_up)
    for stop in stops:
        saved = io.BytesIO()
        torch.save(run(one, plan=replace(PLAN, steps=stop)).state_dict(), saved)
        torch.manual_seed(99)
        one = learner(ema_warm_up=warm_up)
        one.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    assert content(run(one)) == content(run(learner(ema_warm_up=warm_up)))


def test_every_parameter_moves_but_beta_1() -> None:
    one = learner()
    before = copy.deepcopy(one.reverse)
    run(one)
    for (name, old), new in zip(before.named_parameters(), one.reverse.parameters(), strict=True):
        assert not torch.equal(old, new), name
    betas, old_betas = one.reverse.process.schedule.betas, before.process.schedule.betas
    assert betas[0].item() == old_betas[0].item() == 0.1
    assert bool((betas[1:] != old_betas[1:]).all())


def test_a_step_of_gradient_descent_is_no_longer_than_the_clip() -> None:
    one = learner(optimizer=partial(torch.optim.SGD, lr=1.0), scheduler=partial(LambdaLR, lr_lambda=lambda step: 1.0))
    before = weights(one.reverse)
    progress = next(fit(one, DATA, OBJECTIVE, replace(PLAN, clip=0.01), seed=0))
    assert progress.gradient_norm > 0.01  # reported as it was before clipping
    assert (weights(one.reverse) - before).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_training_lowers_the_bound() -> None:
    one = learner()
    before = loss(one.reverse)
    run(one, plan=replace(PLAN, steps=150, batch_size=64))
    assert loss(one.reverse) < before - 0.02


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name in ("steps", "batch_size", "log_every", "validate_every") for value in (0, -1, 1.5, "many")),
        *({"ema_decay": value} for value in (-0.1, 1, float("nan"))),
        *({"ema_warm_up": value} for value in (1, "no", None)),
        *({"clip": value} for value in (0, -1, float("nan"))),
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_meant_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        replace(PLAN, **change)


def test_a_batch_and_its_noise_are_independent() -> None:
    """On N(0, I) a noise that came from the batch's own stream would be the batch itself."""
    seen: list[Tensor] = []

    def watch(reverse: nn.Module, x_0: Tensor) -> Tensor:
        seen.append(torch.stack([x_0, torch.randn(x_0.shape, dtype=x_0.dtype)]).flatten(1))
        return OBJECTIVE(reverse, x_0)

    plan = replace(PLAN, steps=4, batch_size=500)
    for _ in fit(learner(), GaussianData(2), watch, plan, seed=0):
        pass
    correlations = torch.stack([torch.corrcoef(pair)[0, 1] for pair in seen])
    assert (correlations.abs() < 5 / 1000**0.5).all()
