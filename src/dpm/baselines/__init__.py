"""Baselines: models other than diffusion that the papers compare with, fitted to the same data."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dpm import seeds
from dpm.schedulers import warm_up_cosine


def maximised(
    model: nn.Module, log_density: Callable[[torch.Generator], Tensor], steps: int, rate: float, seed: int
) -> Iterator[float]:
    """Maximise the mean log density of batches by Adam with a linear start and a cosine's decay; yields each step's loss.

    `log_density` draws a batch by the generator that it is given, a function of (seed, step).
    """
    optimizer = torch.optim.Adam(
        model.parameters(), rate, betas=(0.9, 0.99)
    )  # at 0.999 the first gradients slow down all others
    scheduler = warm_up_cosine(optimizer, min(100, steps), steps)
    for step in range(steps):
        loss = -log_density(seeds.generator(seed, seeds.TRAINING, step)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        yield loss.item()
