"""Training as a generator: one yield per step; who logs, saves and stops is the caller."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dpm import seeds
from dpm.data import Data
from dpm.errors import UserError
from dpm.objectives import Objective


@dataclass(frozen=True)
class Progress:
    step: int
    loss: float  # nats per example
    gradient_norm: float


class Diverged(UserError):
    """A loss or gradient that is not finite; the weights are those before the step."""


class Learner:
    """Everything that a step changes: weights, their moving average, the optimizer, the learning rate, the step number.

    The average starts at the initial weights, ema <- decay ema + (1 - decay) weights from the first step (2020's code).
    """

    def __init__(
        self,
        reverse: nn.Module,
        optimizer: Callable[[Any], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        ema_decay: float,
    ) -> None:
        self.reverse, self.step = reverse, 0
        self.optimizer = optimizer(reverse.parameters())
        self.scheduler = scheduler(self.optimizer)
        self.ema = AveragedModel(reverse, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))  # type: ignore[no-untyped-call]
        self.ema.n_averaged.fill_(1)

    def state_dict(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in ("reverse", "optimizer", "scheduler", "ema")}
        return {"step": self.step, **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for name in ("reverse", "optimizer", "scheduler", "ema"):
            getattr(self, name).load_state_dict(state[name])


def fit(
    learner: Learner, data: Data, objective: Objective, steps: int, batch_size: int, seed: int, clip: float
) -> Iterator[Progress]:
    """Minimise the mean of the objective until `steps` steps are done, from wherever the learner stands.

    Batch, times, noise and dropout of a step are a function of (seed, step) alone, so a run that was stopped and resumed
    ends with the same weights. Gradients are clipped to the global norm `clip`.
    """
    parameters = list(learner.reverse.parameters())
    while learner.step < steps:
        seeds.seed_everything(seed, seeds.TRAINING, learner.step)
        loss = objective(learner.reverse, data.batch(batch_size, seed, learner.step)).mean()
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parameters, clip)
        if not (loss.isfinite() and norm.isfinite()):
            raise Diverged(
                f"step {learner.step + 1}: loss {loss.item():.4g}, gradient norm {norm.item():.4g}; weights not updated"
            )
        learner.optimizer.step()
        learner.scheduler.step()
        learner.ema.update_parameters(learner.reverse)
        learner.step += 1
        yield Progress(learner.step, loss.item(), norm.item())
