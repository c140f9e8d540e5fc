"""Training as a generator: one yield per step; who logs, saves and stops is the caller."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._pytree import tree_map

from dpm import seeds
from dpm.data import Batch, Data
from dpm.errors import UserError
from dpm.objectives import Objective
from dpm.runs import parallel


@dataclass(frozen=True)
class Plan:
    """How long to train, and how often to look. Steps are whole numbers from 1; raises UserError for what cannot be meant."""

    steps: int
    batch_size: int
    ema_decay: float  # in [0, 1)
    clip: float | None  # of the global gradient norm, None for none
    log_every: int
    validate_every: int
    checkpoint_every: int
    ema_warm_up: bool = True  # whether the decay grows to ema_decay, so that a short run does not keep its initial weights
    starts: int = 1  # of which the one that trains best is kept
    start_steps: int = 1  # of each of them before they are compared, if there are several

    def __post_init__(self) -> None:
        for name in (
            *("steps", "batch_size", "log_every", "validate_every", "checkpoint_every"),
            *("starts", "start_steps"),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"training.{name} = {value}: give a whole number from 1")
        if not 0 <= self.ema_decay < 1 or (self.clip is not None and not self.clip > 0):
            raise UserError(f"training: 0 <= ema_decay < 1 and clip > 0 must hold, got {self.ema_decay} and {self.clip}")
        if not isinstance(self.ema_warm_up, bool):
            raise UserError(f"training.ema_warm_up = {self.ema_warm_up}: give true or false")

    @property
    def initial_share(self) -> float:
        """The weight of the initialisation in the averaged weights at the end: the product of all decays."""
        return math.prod(decay(n, self.ema_decay, self.ema_warm_up) for n in range(1, self.steps + 1))


def decay(n: int, limit: float, warm_up: bool) -> float:
    """d_n in update n = 1, 2, ... of the averaged weights, ema_n = d_n ema_{n-1} + (1 - d_n) w_n.

    d_n = limit, as in 2020's code; with a warm-up d_n = min(limit, (1 + n) / (10 + n)), that of TensorFlow's
    tf.train.ExponentialMovingAverage with num_updates = n. Then the average lags a tenth of the steps taken, and the share
    of w_0 in it is 10! (1 + n)! / (10 + n)!, below 1 % from n = 4 on, until n = (10 limit - 1) / (1 - limit) (8990 for 0.999).
    """
    return min(limit, (1 + n) / (10 + n)) if warm_up else limit


@dataclass(frozen=True)
class Progress:
    step: int
    loss: float  # nats per example
    gradient_norm: float


class Diverged(UserError):
    """A loss or gradient that is not finite; the weights are those before the step."""


class Learner:
    """Everything that a step changes: weights, their moving average, the optimizer, the learning rate, the step number.

    The average starts at the initial weights and is updated after every step, see `decay`.
    """

    def __init__(
        self,
        reverse: nn.Module,
        optimizer: Callable[[Any], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        ema_decay: float,
        ema_warm_up: bool = True,
    ) -> None:
        self.reverse, self.step = reverse, 0
        self.optimizer = optimizer(reverse.parameters())
        self.scheduler = scheduler(self.optimizer)

        def update(averaged: Any, weights: Any, n: Any) -> None:
            of_n = decay(int(self.ema.n_averaged), ema_decay, ema_warm_up)  # n itself lies on the device
            get_ema_multi_avg_fn(of_n)(averaged, weights, n)  # type: ignore[no-untyped-call]

        self.ema = AveragedModel(reverse, multi_avg_fn=update)
        self.ema.n_averaged.fill_(1)  # the initial weights count, and the next update is number 1

    def state_dict(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in ("reverse", "optimizer", "scheduler", "ema")}
        return {"step": self.step, **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for name in ("reverse", "optimizer", "scheduler", "ema"):
            getattr(self, name).load_state_dict(state[name])


class MeanLoss(nn.Module):
    """The objective's mean over a batch."""

    def __init__(self, reverse: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.reverse, self.objective = reverse, objective

    def forward(self, batch: Batch) -> Tensor:
        return self.objective(self.reverse, batch).mean()


class Closure:
    """The loss at the batch and the noise of one step, with its gradient: the same at the same weights, however often asked.

    Batch, times, noise and dropout are a function of (seed, step) alone (batch and noise of two independent streams); of
    several processes each has its share of the batch, and noise by its rank. Gradients are clipped to a global norm.
    """

    def __init__(self, learner: Learner, loss_of: nn.Module, data: Data, plan: Plan, seed: int) -> None:
        self.learner, self.loss_of, self.seed, self.clip = learner, loss_of, seed, plan.clip or math.inf
        self.parameters = list(learner.reverse.parameters())
        device = self.parameters[0].device

        def moved(x: Tensor) -> Tensor:
            x = parallel.share(x)
            return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)

        self.batch = tree_map(moved, data.batch(plan.batch_size, seed, learner.step))
        self.losses: list[float] = []  # as often as asked; the first is that of the weights before the step
        self.norm = math.nan

    def __call__(self) -> Tensor:
        step = self.learner.step
        own = self.loss()
        self.learner.optimizer.zero_grad(set_to_none=True)
        own.backward()  # type: ignore[no-untyped-call]
        loss = parallel.mean(own)
        value, self.norm = numbers(loss, nn.utils.clip_grad_norm_(self.parameters, self.clip))
        if not (math.isfinite(value) and math.isfinite(self.norm)):
            raise Diverged(f"step {step + 1}: loss {value:.4g}, gradient norm {self.norm:.4g}; weights not updated")
        self.losses.append(value)
        return loss

    def loss(self) -> Tensor:
        seeds.seed_everything(self.seed, seeds.NOISE, self.learner.step, parallel.rank())
        loss: Tensor = self.loss_of(self.batch)
        return loss


def numbers(*scalars: Tensor) -> list[float]:
    """Their values, at the price of waiting for the device once."""
    dtype = torch.float64 if any(scalar.dtype is torch.float64 for scalar in scalars) else torch.float32
    values: list[float] = torch.stack([scalar.detach().to(dtype) for scalar in scalars]).tolist()
    return values


def fit(learner: Learner, data: Data, objective: Objective, plan: Plan, seed: int) -> Iterator[Progress]:
    """Minimise the mean of the objective until the planned steps are done, from wherever the learner stands.

    A step is a function of (seed, step), so a run that was stopped and resumed ends with the same weights. It is whatever the
    optimizer makes of the closure: Adam looks at it once, a quasi-Newton method minimises it by many looks.
    """
    loss_of = parallel.replicated(MeanLoss(learner.reverse, objective))
    while learner.step < plan.steps:
        closure = Closure(learner, loss_of, data, plan, seed)
        learner.optimizer.step(closure)  # type: ignore[arg-type]
        learner.scheduler.step()
        learner.ema.update_parameters(learner.reverse)
        learner.step += 1
        yield Progress(learner.step, closure.losses[0], closure.norm)


def best_start(learners: Iterable[Learner], data: Data, objective: Objective, plan: Plan, seed: int) -> Learner:
    """Of learners that took `start_steps` steps each, the one with the least loss on the training batch that comes next.

    All are compared on the same batch and noise, which none of them has seen.
    """
    best, least = None, float("inf")
    for learner in learners:
        for _ in fit(learner, data, objective, replace(plan, steps=plan.start_steps), seed):
            pass
        with torch.no_grad():
            own = Closure(learner, MeanLoss(learner.reverse, objective), data, plan, seed).loss()
        loss = parallel.mean(own).item()
        if best is None or loss < least:
            best, least = learner, loss
    assert best is not None
    return best
