"""Diffusion probabilistic models: Sohl-Dickstein et al. 2015 and Ho et al. 2020, with bounds that can be checked."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpm.runs.sampled import Trained


def load(experiment: str, *overrides: str) -> "Trained":
    """A trained process to draw from: `dpm.load("ho_2020/mnist", "sampler=ddim").sample(16)`, or `.save("digits.png")`."""
    from dpm.runs.sampled import load  # here, because the mathematics below this package needs no Hydra

    return load(experiment, *overrides)
