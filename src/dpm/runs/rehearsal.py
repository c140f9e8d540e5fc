"""What would fail only after a while, tried on two examples before anything is written: parts that do not fit each other,
numbers that are not finite, schedules that divide by zero, and counts that no memory holds."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from dpm import seeds
from dpm.errors import UserError
from dpm.facts import named
from dpm.processes import at
from dpm.runs import configs
from dpm.runs.folder import Run

COPIES = 3  # of a batch while it is made, in float64
SITE = "site-packages"


def rehearse(run: Run, data: Any) -> None:
    """What needs no network: counts fit into memory, evaluators can be built, optimizer and scheduler take a step."""
    kept = run.config["validation_examples"]
    require_memory(data, "training.batch_size", run.plan.batch_size)
    require_memory(data, "validation_examples", kept)
    data.validation(kept)
    run.evaluators("validation")
    rehearse_optimizer(run)


def rehearse_loss(run: Run, reverse: Any, data: Any, objective: Any) -> None:
    """The loss of two examples, and one reverse step from t = T, the end of time."""
    seeds.seed_everything(run.seed, seeds.NOISE)
    without = " (T = 1 leaves no transition)" if reverse.process.schedule.end == 1 else ""
    with explained(f"examples of {_named(data)}, the reverse process and the objective do not fit together{without}"):
        batch = tree_map(lambda x: x.to(run.config["device"]), data.batch(2, run.seed, 0))
        refuse_loss_of_nothing(objective(reverse, batch).mean(), reverse)
        refuse_infinite_step(reverse, tree_leaves(batch)[0])


def rehearse_optimizer(run: Run) -> None:
    """Optimizer and scheduler take a step on a single number."""
    number, given = nn.Parameter(torch.ones(1)), {key: _arguments(run.config[key]) for key in ("optimizer", "scheduler")}
    with explained(f"optimizer({given['optimizer']})"):
        optimizer = run.optimizer()([number])

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = number.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]
    with explained(f"scheduler({given['scheduler']})"):
        scheduler = configs.build(run.config, "scheduler")(optimizer)
        optimizer.step(closure)  # type: ignore[arg-type]
        scheduler.step()


def _arguments(node: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in node.items() if key not in configs.HYDRA_KEYS)


def refuse_loss_of_nothing(loss: Tensor, reverse: Any) -> None:
    if not any(parameter.numel() for parameter in leaves(loss)):
        T = reverse.process.schedule.end
        raise UserError(f"nothing that is trained has a part in the loss: with T = {T} no step is left that it looks at")


def leaves(loss: Tensor) -> Iterator[Tensor]:
    """The parameters that a gradient of the loss would reach."""
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(getattr(node, "variable", None), Tensor):
            yield node.variable  # type: ignore[attr-defined]
        todo += [following for following, _ in node.next_functions]


@torch.no_grad()
def refuse_infinite_step(reverse: Any, x_0: Tensor) -> None:
    """Where beta_T = 1 nothing of x_0 is left in x_T, and a prediction of the noise says nothing about x_0."""
    T = reverse.process.schedule.end
    before = T - 1 if isinstance(T, int) else T / 2
    if before == 0:
        return
    t = at(x_0, T)
    p = reverse(reverse.process.marginal(x_0, t).sample(), at(x_0, before), t)
    if not bool((p.mean.isfinite() & p.variance.isfinite()).all()):
        alpha_T = float(reverse.process.schedule(t)[0][0])
        who = f"{named(reverse.prediction)} says" if hasattr(reverse, "prediction") else "the network says"
        why = ": beta_T = 1 leaves nothing of x_0 in x_T; take beta_T below 1, or predict x_0" if alpha_T == 0 else ""
        raise UserError(f"the bound is infinite before training, by what {who} at t = T = {T}{why}")


def require_memory(data: Any, key: str, n: int) -> None:
    """Refuse a number of examples that alone do not fit into this machine's memory."""
    with explained(f"{_named(data)} gives no training example"):
        size = 8 * data.batch(1, 0, 0)[0].numel()
    there = psutil.virtual_memory().total
    if COPIES * size * n > there:
        raise UserError(f"{key} = {n:,}: these need {COPIES * size * n / 2**30:,.0f} GiB, and there are {there / 2**30:,.0f}")


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Whatever is raised comes out as one line, with the place where it was raised outside of the libraries."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if SITE not in frame.filename]
        said = (str(error).splitlines() or [""])[0]
        place = Path(frames[-1].filename)
        where = f" ({place.name}:{frames[-1].lineno})" if place != Path(__file__) else ""
        raise UserError(f"{what}: {type(error).__name__}: {said}{where}") from error


def _named(data: Any) -> str:
    return str(data.facts["data"])
