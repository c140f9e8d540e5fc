"""Several processes train one model, on one machine or many: `torchrun --nproc-per-node N experiments/train.py ...`.

Each takes its share of the batch, with noise of its own; gradients are averaged, so that all keep the same weights. Process 0
alone logs, validates and saves. Without torchrun there is one process, and nothing here does anything.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dpm.errors import UserError

Module = TypeVar("Module", bound=nn.Module)
PATIENCE = timedelta(hours=6)  # of the other processes while process 0 validates


@contextmanager
def joined(device: str) -> Iterator[None]:
    """A group of the processes that torchrun started; "cuda" is then the GPU whose number torchrun gave to this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    kind = torch.device(device).type
    if kind == "cuda":
        number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= there:
            raise UserError(f"torchrun started more processes than there are GPUs here: give --nproc-per-node {there}")
        torch.cuda.set_device(number)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        gc.collect()  # replicas are cycles that hold the group, whose threads may not outlive it
        dist.destroy_process_group()


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(batch: Tensor) -> Tensor:
    """Every n-th example of a batch, from the rank-th: equal shares for n processes, or UserError."""
    if len(batch) % processes():
        raise UserError(f"training.batch_size = {len(batch)}: {processes()} processes cannot share it equally")
    return batch[rank() :: processes()]


def replicated(loss: Module) -> Module | DistributedDataParallel:
    """loss(x) -> mean over this process's share, whose backward averages gradients: those of the mean over the batch.

    Process 0's weights become everybody's first. A parameter that no share has used in a step has no gradient there.
    """
    if processes() == 1:
        return loss
    return DistributedDataParallel(loss, find_unused_parameters=True)


def mean(value: Tensor) -> Tensor:
    """The mean over processes; without gradient."""
    value = value.detach().clone()
    if processes() > 1:
        dist.all_reduce(value)
        value /= processes()
    return value


def wait() -> None:
    """Until all processes have come here."""
    if processes() > 1:
        dist.barrier()


def anyone(answer: bool, device: torch.device) -> bool:
    """Whether any process says yes; all of them hear the same."""
    if processes() == 1:
        return answer
    said = torch.tensor(int(answer), device=device)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said)
