"""What is drawn from trained weights: every drawing and kind of data, every form of file, and what is refused in one line."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROLL, ROOT, configured, one_line
from PIL import Image
from torch import Tensor

import dpm
from dpm.continuous import Rectified, VarianceExploding, VariancePreserving
from dpm.data.heartbeat import BinaryHeartbeat
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.decoders import Network
from dpm.drawings import Walk
from dpm.drawings.inpainting import Inpainting, guided, outside
from dpm.drawings.interpolation import Interpolation
from dpm.drawings.trajectory import Trajectory
from dpm.errors import UserError
from dpm.figures import drawn, render
from dpm.oracles.binomial import BinomialOracle
from dpm.predictions.papers import X0
from dpm.processes.binomial import BinomialDiffusion
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.guided.tmpd import TMPD
from dpm.reverse.replaced import Replaced
from dpm.runs.sampled import WRITERS, Trained, thinned
from dpm.runs.train import train
from dpm.samplers import ancestral, ddim, last
from dpm.samplers.flow import by_solver
from dpm.samplers.mixtures import mixed
from dpm.samplers.ode import adaptive
from dpm.schedules import constant_erasure, linear
from dpm.variances import FixedSmall

BEATS = BinaryHeartbeat(20, 5)
BITS = BinomialOracle(BinomialDiffusion(constant_erasure(200), 0.2), BEATS, Network())
LINE = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])


class Exact(GaussianReverse):
    """The exact reverse process of points around a line, as a module with parameters."""

    def __init__(self) -> None:
        schedule = linear(100, 1e-4, 0.2)
        super().__init__(GaussianDiffusion(schedule), MixtureDenoiser(LINE, schedule), X0(), FixedSmall(), Network())
        self.somewhere = torch.nn.Parameter(torch.zeros(()))


def by(sampler: Callable[..., Any], **settings: Any) -> Walk:
    return lambda reverse, x_T: sampler(reverse, x_T, **settings)


# --- drawings ----------------------------------------------------------------------------------------------------------------


def test_a_trajectory_starts_at_noise_and_ends_at_the_sample() -> None:
    torch.manual_seed(0)
    panels = Trajectory(2000)(Exact(), LINE, by(ddim.evenly, steps=100))
    assert [panel.title for panel in panels] == [f"step {k}" for k in range(101)]
    assert np.corrcoef(panels[0].x.T)[0, 1] == pytest.approx(0, abs=0.1)
    assert np.corrcoef(panels[-1].x.T)[0, 1] == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("sampler", "settings"), [(ancestral.evenly, {"steps": 50}), (ddim.evenly, {"steps": 50})])
def test_a_short_diffusion_keeps_what_it_takes_back(sampler: Callable[..., Any], settings: dict[str, Any]) -> None:
    """lambda = 0 and 1 are reconstructions, as near as the noise of the time says, and halfway lies in between."""
    torch.manual_seed(0)
    panels = Interpolation(pairs=500, time=0.1, between=1)(Exact(), LINE, by(sampler, **settings))
    assert [panel.title for panel in panels] == ["source", "0", "0.5", "1", "source"]
    one, zero, half, full, other = (panel.x for panel in panels)
    assert float((zero - one).square().mean()) < 0.1 * float((other - one).square().mean())
    assert float((full - other).square().mean()) < 0.1 * float((other - one).square().mean())
    assert float((half - (one + other) / 2).square().mean()) < 0.1 * float((other - one).square().mean())


def test_bits_change_sides_one_after_another() -> None:
    torch.manual_seed(0)
    zeros, ones = torch.zeros(200, 50), torch.ones(200, 50)
    process = BinomialDiffusion(constant_erasure(10**6), 0.5)  # after one step nearly every bit is kept
    x = mixed(process, zeros, ones, 1, [0.0, 0.25, 0.5, 1.0])
    assert x.mean((0, 2)).tolist() == pytest.approx([0, 0.25, 0.5, 1], abs=0.02)
    assert bool((x.diff(dim=1) >= 0).all())


def test_the_known_half_of_a_heartbeat_tells_the_other() -> None:
    """RePaint for bits: the completion of an exact chain is the one word that agrees with what is known."""
    torch.manual_seed(0)
    x = BEATS.held_out(100)
    known = outside((20,))
    process = Replaced(BITS, known, x)
    found = last(ancestral.evenly(process, BITS.process.prior(x).sample(), steps=200, sweeps=3))
    assert torch.equal(found[:, known], x[:, known])
    assert float((found == x).all(1).double().mean()) > 0.95


@pytest.mark.parametrize(
    ("method", "walk"),
    [
        (Replaced, by(ancestral.evenly, steps=100, sweeps=16)),
        (lambda *given: guided(*given, by=lambda p, y: TMPD(p, y, 2), noise=0.02), by(ddim.evenly, steps=100)),
    ],
)
def test_a_completion_has_the_conditional_law(method: Any, walk: Walk) -> None:
    """x_2 given x_1 = a on N(0, S): mean 0.9 a; DDIM keeps the mean, chains the variance 0.19 as well."""
    torch.manual_seed(0)
    example, known, *draws = Inpainting(n=2000, draws=2, method=method)(Exact(), LINE, walk)
    x, completed = example.x, draws[0].x
    assert torch.equal(known.x[:, 0], x[:, 0])
    assert not known.x[:, 1].any()
    assert float((completed[:, 0] - x[:, 0]).square().mean()) < 0.005
    slope = float((completed[:, 1] * x[:, 0]).mean() / x[:, 0].square().mean())
    assert slope == pytest.approx(0.9, abs=0.05)
    assert not torch.equal(draws[0].x, draws[1].x)


def test_the_middle_of_an_example_is_missing() -> None:
    assert outside((3, 8, 8)).sum() == 3 * (64 - 16)
    assert outside((1, 16))[0].tolist() == [True] * 4 + [False] * 8 + [True] * 4
    assert outside((4,)).tolist() == [True, True, False, False]


def test_a_mask_of_ones_own(tmp_path: Path) -> None:
    np.save(tmp_path / "known.npy", np.array([False, True]))
    drawing = Inpainting(5, 1, Replaced, str(tmp_path / "known.npy"))
    assert not drawing(Exact(), LINE, by(ancestral.evenly, steps=5))[1].x[:, 0].any()
    for wrong in (np.array([0, 1]), np.array([True, True]), np.ones((1, 2), bool)):
        np.save(tmp_path / "known.npy", wrong)
        with pytest.raises(UserError, match="a boolean array"):
            drawing(Exact(), LINE, by(ancestral.evenly, steps=5))
    with pytest.raises(UserError, match="not an array"):
        Inpainting(5, 1, Replaced, "nowhere.npy")(Exact(), LINE, by(ancestral.evenly, steps=5))


@pytest.mark.parametrize("schedule", [VariancePreserving(), Rectified(), VarianceExploding(80.0), linear(10, 1e-4, 0.2)])
def test_a_schedule_that_ends_earlier_is_the_same_before(schedule: Any) -> None:
    half = schedule.until(schedule.end // 2 if isinstance(schedule.end, int) else schedule.end / 2)
    assert half.end == schedule.end / 2
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64) * half.end
    for one, other in zip(half(t), schedule(t), strict=True):
        assert torch.equal(one, other)


def test_a_solver_that_stops_on_the_way_gets_to_the_same_end() -> None:
    torch.manual_seed(0)
    model, x_T = Exact(), torch.randn(50, 2, dtype=torch.float64)

    def solve(field: Any, y: Tensor, start: float, end: float) -> Tensor:
        return adaptive(field, y, start, end, 1e-6)

    at_once, stopping = (list(by_solver(model, x_T, solve, 1, stops)) for stops in (1, 6))
    assert (len(at_once), len(stopping)) == (2, 7)
    torch.testing.assert_close(at_once[-1], stopping[-1], rtol=1e-3, atol=1e-3)


# --- files -------------------------------------------------------------------------------------------------------------------

KINDS = {  # examples of four panels, and whether they are bits
    "points": ((9, 2), False),
    "a line": ((50, 1), False),
    "images": ((5, 3, 8, 8), False),
    "grey images": ((1, 1, 8, 8), False),
    "signals": ((3, 1, 32), False),
    "bits": ((6, 20), True),
    "rolls": ((2, 88, 16), True),
}


def panels(name: str, number: int) -> list[tuple[str, np.ndarray]]:
    shape, bits = KINDS[name]
    rng = np.random.default_rng(0)
    of = (
        (lambda: rng.integers(0, 2, shape, np.uint8))
        if bits
        else (lambda: rng.integers(0, 256, shape, np.uint8))
        if len(shape) == 4
        else (lambda: rng.standard_normal(shape).astype(np.float32))
    )
    return [(f"step {k}", of()) for k in range(number)]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("number", [1, 4])
def test_every_kind_is_a_sheet_and_a_film(name: str, number: int) -> None:
    shown, bits = panels(name, number), KINDS[name][1]
    with Image.open(io.BytesIO(render(drawn.sheet(shown, bits)))) as sheet:
        assert len(sheet.convert("RGB").getcolors(10**6)) > 1
    with Image.open(io.BytesIO(render(drawn.film(shown, bits)))) as film:
        assert film.n_frames == number
        assert film.info["loop"] == 0


def test_a_film_of_points_has_few_colours_and_is_small() -> None:
    points = [(f"step {k}", np.random.default_rng(k).standard_normal((300, 2))) for k in range(10)]
    content = render(drawn.film(points, False))
    assert len(content) < 10 * 4096
    with Image.open(io.BytesIO(content)) as film:
        assert len(film.convert("RGB").getcolors()) <= 16


def test_panels_are_thinned_from_both_ends() -> None:
    shown = panels("points", 101)
    assert [title for title, _ in thinned(shown, 5)] == ["step 0", "step 25", "step 50", "step 75", "step 100"]
    assert thinned(shown, 1)[0][0] == "step 100"
    assert len(thinned(shown, 1000)) == 101


def test_what_has_no_picture_says_so() -> None:
    with pytest.raises(UserError, match=r"no picture; take file=\.\.\.\.npz"):
        drawn.sheet([("", np.zeros((2, 3, 4, 5, 6)))], False)
    with pytest.raises(UserError, match="piano rolls"):
        WRITERS[".mid"][0](panels("bits", 1), True)
    roll = np.zeros((1, 88, 3), np.uint8)
    roll[0, 40, 1] = 1
    assert WRITERS[".mid"][0]([("", roll)], True).startswith(b"MThd")


# --- from weights ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    train(configured(folder, "evaluators=bound"))
    return folder


def loaded(root: Path, *overrides: str, experiment: str = ROLL) -> Trained:
    own = ["tier=smoke", "evaluators=bound", f"outputs={root}/outputs", f"results={root}/results", f"published={root}/results"]
    return dpm.load(experiment, *own, *overrides)


def test_a_run_of_ones_own_is_drawn_from_and_the_same_twice(root: Path) -> None:
    model = loaded(root, "draw=trajectory", "draw.n=7")
    path = model.save()
    assert path.is_relative_to(root / "outputs" / "samples" / ROLL)
    assert "draw=trajectory" in str(path)
    before = path.read_bytes()
    assert loaded(root, "draw=trajectory", "draw.n=7").save() == path
    assert path.read_bytes() == before
    assert model.sample(3).shape == (3, 2)
    assert torch.equal(model.sample(3), model.sample(3))


def test_arrays_are_all_panels(root: Path) -> None:
    path = loaded(root, "draw=trajectory", "draw.n=7").save(root / "way.npz")
    with np.load(path) as arrays:
        assert arrays["panels"].shape == (41, 7, 2)
        assert arrays["titles"][[0, -1]].tolist() == ["step 0", "step 40"]
    with np.load(loaded(root, "draw=trajectory", "draw.n=7", "most=2").save(root / "ends.npz")) as ends:
        assert ends["titles"].tolist() == ["step 0", "step 40"]


@pytest.mark.parametrize("drawing", sorted(path.stem for path in (ROOT / "conf" / "draw").glob("*.yaml")))
def test_every_drawing_of_the_group_draws(root: Path, drawing: str) -> None:
    """Guidance wants an x_0-hat, which the mean that 2015 learns for the roll does not give."""
    model = loaded(root, f"draw={drawing}", *(["draw.pairs=4"] if drawing == "interpolation" else ["draw.n=8"]))
    if drawing == "guided":
        with pytest.raises(UserError, match="ScaledForwardPerturbation predicts no x_0"):
            model.save(root / "guided.gif")
        return
    content = model.save(root / f"{drawing}.gif").read_bytes()
    assert content.startswith(b"GIF89a")


REFUSED = {
    "file=roll.bmp": "file=roll.bmp: what is drawn is written as .png, .gif, .npz, .mid",
    "most=0": "most=0: one panel at least",
    "draw.n=0": "draw: samples: one at least",
    "sampler.steps=0.5": "give a whole number",
    "draw=portrait": "Could not find 'draw/portrait'",
    "sampler=transport": "one flow between two ends, and GaussianReverse is none",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_be_drawn_is_one_line(root: Path, override: str) -> None:
    with pytest.raises(UserError) as error:
        loaded(root, override).save()
    assert REFUSED[override] in str(error.value)
    assert "\n" not in str(error.value)


def test_without_weights_the_command_that_trains_them() -> None:
    """From the command line, in one line."""
    line = [sys.executable, "experiments/sample.py", "experiment=sohl_dickstein_2015/binary_heartbeat", "rate=0.3", "draw.n=3"]
    done = subprocess.run([*line, "device=cpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert one_line(done.stderr)
    command = "python experiments/train.py experiment=sohl_dickstein_2015/binary_heartbeat rate=0.3"
    assert f"train it first, `{command}`" in done.stderr


def test_an_experiment_that_is_none_is_one_line() -> None:
    with pytest.raises(UserError, match="experiments: "):
        dpm.load("ho_2020/cifar11")
