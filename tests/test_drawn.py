"""Samples of any sampler: they have the law of the data, and cost as many looks at the network as they should."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, configured

from dpm.continuous import VariancePreserving
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators.drawn import Drawn, settings
from dpm.figures.points import samples
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.runs import configs
from dpm.runs.evaluate import evaluate
from dpm.runs.train import train
from dpm.samplers import ancestral, ddim, ode
from dpm.samplers.flow import by_grid, by_solver, in_time
from dpm.schedules import linear
from dpm.variances import FixedSmall

DATA = GaussianMixture([0.3, 0.7], [[-1.0, 0.0], [0.5, 0.2]], [[0.04, 0.09], [0.01, 0.04]])
CHAIN = linear(1000, 1e-4, 0.02)
FLOWS = {
    "euler": (partial(by_grid, walk=ode.euler, steps=60, first=1), 60),
    "heun": (partial(by_grid, walk=ode.heun, steps=20, first=1), 39),
    "stochastic_heun": (partial(by_grid, walk=partial(ode.stochastic_heun, churn=0.1), steps=60, first=1), 119),
    "flow": (partial(in_time, walk=ode.heun, steps=50), 99),
    "adaptive": (partial(by_solver, solve=partial(ode.adaptive, tolerance=1e-3), first=1), None),
    "ancestral": (partial(ancestral.evenly, steps=250), 250),
    "ddim": (partial(ddim.evenly, steps=100), 100),
}


def exact(schedule: torch.nn.Module) -> GaussianReverse:
    return GaussianReverse(GaussianDiffusion(schedule), MixtureDenoiser(DATA, schedule), X0(), FixedSmall(), Network())


@pytest.mark.parametrize("name", FLOWS)
def test_samples_of_the_exact_denoiser_are_as_near_as_data(name: str) -> None:
    sampler, looks = FLOWS[name]
    ours, floor, cost = Drawn(sampler, sets=5, directions=50)(exact(CHAIN), DATA, DATA.held_out(5000), 0).measurements
    assert ours.value == pytest.approx(floor.value, abs=5 * (ours.stderr + floor.stderr))
    assert floor.value < 0.1
    assert looks is None or cost.value == looks


def test_half_the_scale_is_seen() -> None:
    def shrunk(model: GaussianReverse, x_T: torch.Tensor) -> Iterator[torch.Tensor]:
        return (0.5 * x for x in by_grid(model, x_T, ode.euler, 60, 1))

    ours, floor, _ = Drawn(shrunk, sets=5, directions=50)(exact(CHAIN), DATA, DATA.held_out(5000), 0).measurements
    assert ours.value > 3 * floor.value


def test_the_path_starts_at_the_noise_of_the_end_and_stops_at_the_first_level() -> None:
    """Where alpha_T is not 0 it counts: x_T is drawn, and y = x_T / alpha_T is followed."""
    short, levels = exact(VariancePreserving(0.1, 4.0)), []

    def watched(field, y, times):
        levels.extend(times)
        yield from ode.euler(field, y, times)

    x_T = torch.randn(4000, 2, dtype=torch.float64)
    alpha, sigma = short.process.schedule(torch.tensor([1.0], dtype=torch.float64))
    assert len(list(by_grid(short, x_T, watched, 30, 0.01))) == 30
    first = short.process.schedule(torch.tensor([0.01], dtype=torch.float64))
    assert levels[0] == pytest.approx(float(sigma / alpha))
    assert levels[-1] == pytest.approx(float(first[1] / first[0]))
    assert len(levels) == 30


def test_what_a_sampler_says_of_itself() -> None:
    assert settings(FLOWS["stochastic_heun"][0]) == {
        "sampler": "flow.by_grid", "walk": "ode.stochastic_heun", "churn": 0.1, "sampling_steps": 60, "first": 1,
    }  # fmt: skip
    assert settings(FLOWS["ddim"][0]) == {"sampler": "ddim.evenly", "sampling_steps": 100}


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="two sets"):
        Drawn(FLOWS["ddim"][0], sets=1, directions=5)
    with pytest.raises(UserError, match="two examples"):
        Drawn(FLOWS["ddim"][0], sets=5, directions=5)(exact(CHAIN), DATA, DATA.held_out(6), 0)
    with pytest.raises(UserError, match="two steps"):
        by_grid(exact(CHAIN), DATA.held_out(3), ode.euler, 1, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    train(configured(root, experiment="song_2021/mixture"))
    return root


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "sampler").glob("*.yaml")))
def test_every_sampler_of_the_group_draws(name: str, trained: Path) -> None:
    """Those of a chain need its steps, that of a transport its ends; the others walk in real time."""
    refused = {"ancestral": "no steps of its own", "ddim": "no steps of its own", "transport": "one flow between two ends"}
    first = ["sampler.first=0.001"] if name in ("euler", "heun", "stochastic_heun", "adaptive") else []
    run = configured(trained, "evaluators=drawn", f"sampler={name}", *first, experiment="song_2021/mixture", verb="evaluate")
    if name in refused:
        with pytest.raises(UserError, match=refused[name]):
            evaluate(run)
        return
    evaluate(run)
    with np.load(run.record.with_suffix(".npz")) as arrays:
        assert arrays["samples"].shape == (20, 1)
    assert f"sampler={name}" in str(run.record)
    assert configs.build(run.config, "evaluators")["drawn"].sets == 5


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_points_have_a_figure(dimensions: int) -> None:
    (axes,) = samples({"samples": np.random.default_rng(0).normal(size=(50, dimensions))}).axes
    assert axes.get_xlabel()
    assert len(axes.patches) == (60 if dimensions == 1 else 0)
    assert len(axes.collections) == (0 if dimensions == 1 else 1)
