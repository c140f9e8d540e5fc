"""Several processes: gradients of the whole batch, equal weights, other noise; one command line, stopped and resumed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import DATA, OBJECTIVE, PLAN, content, learner
from torch import Tensor, multiprocessing, nn

from dpm.errors import UserError
from dpm.runs import checkpoints, parallel
from dpm.training import Learner, Progress, fit

N = 2
ROOT = Path(__file__).parents[1]
ROLL = "sohl_dickstein_2015/swiss_roll"


def together(tmp_path: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """work(*arguments) in N processes of one group, and what each returns."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_one, (tmp_path, work, arguments, port), N)
    return [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(N)]


def _one(rank: int, tmp_path: Path, work: Callable[..., Any], arguments: tuple[Any, ...], port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(N), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with parallel.joined("cpu"):
        torch.save(work(*arguments), tmp_path / f"{rank}.pt")


def no_noise(reverse: nn.Module, x_0: Tensor) -> Tensor:
    """An objective of x_0 and the weights alone, which leaves most of the weights out."""
    return (x_0.sum(1) * reverse.network.body[0].bias.sum() - 1).square()


def quiet_learner() -> Learner:
    one = learner(optimizer=partial(torch.optim.SGD, lr=1e-2))
    one.reverse.eval()
    return one


def trained(objective: Callable[[nn.Module, Tensor], Tensor], make: Callable[[], Learner]) -> tuple[list[Progress], Any]:
    one = make()
    return list(fit(one, DATA, objective, PLAN, seed=0)), content(one)


def test_processes_take_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    (here, _), found = trained(no_noise, quiet_learner), together(tmp_path, trained, no_noise, quiet_learner)
    for progress, weights in found:
        assert [p.loss for p in progress] == pytest.approx([p.loss for p in here], rel=1e-6)
        assert [p.gradient_norm for p in progress] == pytest.approx([p.gradient_norm for p in here], rel=1e-6)
        assert weights == found[0][1]


def draws() -> tuple[list[Tensor], Any]:
    """What the objective draws in each step, and the state at the end."""
    seen: list[Tensor] = []

    def watch(reverse: nn.Module, x_0: Tensor) -> Tensor:
        seen.append(torch.rand(len(x_0)))
        return OBJECTIVE(reverse, x_0)

    return seen, trained(watch, learner)[1]


def test_each_process_has_its_own_noise_and_all_have_the_same_weights(tmp_path: Path) -> None:
    (first, weights), (second, others) = together(tmp_path, draws)
    assert weights == others
    numbers = torch.cat([*first, *second])
    assert len(numbers.unique()) == len(numbers) == PLAN.steps * PLAN.batch_size


def infinite_at_the_last(reverse: nn.Module, x_0: Tensor) -> Tensor:
    return OBJECTIVE(reverse, x_0) * (torch.inf if parallel.rank() == N - 1 else 1)


def complaint(batch_size: int) -> str:
    one = learner()
    with pytest.raises(UserError) as error:
        next(fit(one, DATA, infinite_at_the_last, replace(PLAN, batch_size=batch_size), seed=0))
    return f"{error.type.__name__} after {one.step} steps: {error.value}"


def answers() -> tuple[str, str, list[bool]]:
    cpu = torch.device("cpu")
    return complaint(8), complaint(7), [parallel.anyone(parallel.rank() == rank, cpu) for rank in range(N + 1)]


def test_all_stop_where_one_must_and_hear_what_one_says(tmp_path: Path) -> None:
    for not_finite, unequal, heard in together(tmp_path, answers):
        assert not_finite.startswith("Diverged after 0 steps: step 1: loss inf")
        assert unequal == "UserError after 0 steps: training.batch_size = 7: 2 processes cannot share it equally"
        assert heard == [True] * N + [False]


# The command line


def torchrun(root: Path, steps: int, n: int = N) -> subprocess.Popen[str]:
    tiny = [f"training.steps={steps}", "training.batch_size=8", "training.validate_every=20", "training.log_every=5"]
    few = ["validation_examples=20", "examples=20", "evaluators=bound", "tier=smoke", "tracker=none", "threads=1"]
    line = [f"experiment={ROLL}", *tiny, *few, f"outputs={root}/outputs", f"results={root}/results"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "experiments/train.py"]
    return subprocess.Popen([*launch, *line], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    return out


@pytest.mark.slow
def test_a_run_of_several_processes_is_stopped_and_resumed(tmp_path: Path) -> None:
    """It ends with the bytes of a run that nobody stopped; one process writes; another number of them is refused."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    out = finished(torchrun(whole, 400))
    (folder,) = (whole / "outputs").glob("**/seed0")
    assert out.count("step 400:") == 1
    done = json.loads((folder / "done.json").read_text())
    assert (done["budget"]["device"], done["budget"]["examples"]) == ("2 x cpu", 3200)

    process, again = torchrun(stopped, 400), stopped / folder.relative_to(whole)
    while not (again / "metrics.jsonl").is_file() or len((again / "metrics.jsonl").read_text().splitlines()) < 3:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert "the same command resumes from there" in out
    assert not (again / "done.json").exists()
    alone, _ = torchrun(stopped, 400, n=1).communicate(timeout=240)
    assert "begun by 2 processes, which draw other noise than 1; start as many again" in alone
    finished(torchrun(stopped, 400))
    for name in ("reverse", "ema", "optimizer"):
        one, other = (checkpoints.load_newest(path)[0] for path in (folder, again))
        assert one is not None
        assert other is not None
        assert torch.equal(*(flat(state[name]) for state in (one, other)))


def flat(state: Any) -> Tensor:
    if isinstance(state, dict):
        return torch.cat([flat(value) for value in state.values()])
    if isinstance(state, list | tuple):
        return torch.cat([torch.empty(0), *map(flat, state)])
    return torch.as_tensor(state).double().flatten() if not isinstance(state, str | None) else torch.empty(0)
