"""What every test shares: no display, one thread (several tests run at once), the same random numbers on every run."""

import os

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for the processes that tests start

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# derandomize: a failure repeats; no deadline: time limits are pytest-timeout's, a busy machine is not a bug
hypothesis.settings.register_profile("dpm", derandomize=True, deadline=None)
hypothesis.settings.load_profile("dpm")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
