"""Distances and costs of flows between two ends, the point sets of the tables, and the figures that show them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import seeds
from dpm.data.ends import GaussianEnds, TwoEnds
from dpm.data.plane import EvenRing, Moons, Ring, SCurve, standard_moons
from dpm.data.synthetic import GaussianData
from dpm.errors import UserError
from dpm.evaluators.transport import EndsAndEnergy
from dpm.figures import rounds, transport
from dpm.paths import RunnerBridge, brownian_bridge, rectified
from dpm.reverse.transport import Transport
from dpm.study.claims import load_claims
from dpm.study.records import Measurement, Record
from dpm.transport import pushed, wasserstein

CLAIMS = load_claims(Path(__file__).parents[1] / "conf" / "claims")


class Shift(nn.Module):
    """v(x, t) = m: every point by m."""

    def __init__(self, m: float) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x, self.m)


def draws(n: int, d: int, key: int) -> Tensor:
    return torch.randn(n, d, generator=seeds.generator(key), dtype=torch.float64)


def test_the_distance_in_one_dimension_pairs_by_rank() -> None:
    x, y = draws(200, 1, 0), 2 * draws(200, 1, 1) + 1
    assert wasserstein(x, y).value == pytest.approx(float((x.sort(0)[0] - y.sort(0)[0]).square().mean().sqrt()))
    assert wasserstein(x, y).value == pytest.approx(wasserstein(y, x).value)
    assert wasserstein(x, x.flip(0)) == (0.0, 0.0)


def test_the_distance_of_shifted_points_is_the_shift_and_its_error_that_of_samples() -> None:
    x = draws(100, 2, 2)
    assert wasserstein(x, x + 3).value == pytest.approx(np.sqrt(18))
    values = [wasserstein(draws(100, 1, 10 + k), 3 + 2 * draws(100, 1, 60 + k)) for k in range(40)]
    spread, stated = np.std([w.value for w in values]), np.mean([w.stderr for w in values])
    assert stated == pytest.approx(spread, rel=0.45)  # four standard errors of a deviation of 40


def test_energy_is_that_of_the_way_and_not_of_its_end() -> None:
    x = draws(5, 2, 3)
    journey = pushed(lambda x, t: torch.where(t[:, None] < 0.5, 2.0, -2.0) * torch.ones_like(x), x, 10)
    torch.testing.assert_close(journey.end, x)
    torch.testing.assert_close(journey.energy, torch.full((5,), 8.0, dtype=torch.float64))
    back = pushed(Shift(1.0), x, 4, 1.0, 0.0)
    torch.testing.assert_close(back.end, x - 1)
    torch.testing.assert_close(back.energy, torch.full((5,), 2.0, dtype=torch.float64))


def test_the_optimal_flow_has_no_normalised_energy_and_ends_at_the_floor() -> None:
    data, claims = GaussianEnds(2, [0.0, 4.0], [1.0, 1.0]), {"normalised_path_energy": "tong_2023/table2/i_cfm/moons/npe"}
    evaluator = EndsAndEnergy(10, 7, claims)
    found = evaluator(Transport(rectified(), Shift(4.0)), data, data.held_out(400), 0)
    W, npe, energy, floor, ends = found.measurements
    assert energy.value == pytest.approx(32)
    assert abs(ends.value**2 - 32) < 4 * 2 * ends.value * ends.stderr
    assert npe.value == pytest.approx(abs(32 - ends.value**2) / ends.value**2)
    assert npe.claim == claims["normalised_path_energy"]
    assert W.value == pytest.approx(floor.value, rel=0.4)  # two samples of one distribution
    assert found.arrays["pushed"].shape == (7, 2)
    twice = evaluator(Transport(rectified(), Shift(8.0)), data, data.held_out(400), 0).measurements
    assert twice[1].value == pytest.approx(3, rel=0.1)  # four times the energy of the same distance
    with pytest.raises(UserError):
        EndsAndEnergy(0)


def moments(data: object, n: int = 100_000) -> tuple[Tensor, Tensor]:
    x = data.sample(n, seeds.generator(7))
    return x.mean(0), x.var(0)


def test_point_sets_have_the_scale_of_the_tables() -> None:
    x = standard_moons(0.1, 7.0).sample(200_000, seeds.generator(0))
    assert float(x.mean()) == pytest.approx(0, abs=0.05)
    assert float(x.square().mean() ** 0.5) == pytest.approx(7, rel=3e-3)
    mean, variance = moments(Moons(0.05, 2.0, [0.5, 0.0]))
    torch.testing.assert_close(mean, torch.tensor([0.0, 0.5], dtype=torch.float64), atol=0.03, rtol=0)
    square = float(variance.sum() + (mean - torch.tensor([-1.0, 0.0])).square().sum()) / 4  # of m + noise, about 0
    assert square == pytest.approx(2 * ((3.25 - 2 / np.pi) / 4 + 0.05**2), rel=0.01)
    mean, _ = moments(SCurve(0.05, 1.5))
    torch.testing.assert_close(mean, torch.zeros(2, dtype=torch.float64), atol=0.03, rtol=0)
    for ring in (Ring(12.0, 1.5), EvenRing(5.0, 1.0)):
        _, variance = moments(ring)
        std = 1.5 if type(ring) is Ring else 1.0
        torch.testing.assert_close(
            variance, torch.full((2,), ring.radius**2 / 2 + std**2, dtype=torch.float64), rtol=0.02, atol=0
        )


def test_an_even_ring_has_as_many_points_of_each() -> None:
    counts = EvenRing(5.0, 1.0).components(800, seeds.generator(0)).bincount()
    assert counts.tolist() == [100] * 8
    assert Ring(5.0, 1.0).components(800, seeds.generator(0)).bincount().tolist() != [100] * 8


def test_what_two_names_hide_is_a_factor_of_four() -> None:
    """moons -> 8gaussians of the tables has W_2^2 = 29.8, independent pairs 246.6."""
    data = TwoEnds(standard_moons(0.1, 7.0), Ring(12.0, 1.5))
    ends = data.held_out(1000)
    assert wasserstein(*ends.unbind(1)).value ** 2 == pytest.approx(29.8, rel=0.1)
    assert float((ends[:, 1] - ends[:, 0]).square().sum(1).mean()) == pytest.approx(246.6, rel=0.05)
    assert TwoEnds(GaussianData(2), Moons(0.05, 2.0, [0.5, 0.0])).name == "GaussianData to moons x 2"


def record(*measurements: Measurement) -> Record:
    return Record("tong_2023/i_cfm_moons", 0, "laptop", {}, {"steps": 1}, {}, measurements)


def test_the_table_shows_printed_and_measured_numbers_and_the_floor() -> None:
    claims = [claim for id, claim in CLAIMS.items() if id.startswith("tong_2023/table2/")]
    row = Measurement("wasserstein_distance", 0.2, 0.01, 10, "1", {}, "tong_2023/table2/i_cfm/moons/w2")
    floor = Measurement("wasserstein_floor", 0.03, 0.0, 10, "1", {})
    left, right = transport.table([record(row, floor)], claims).axes
    assert [list(line.get_xdata()) for line in left.lines][1:] == [[0.178], [0.2], [0.03]]
    assert [label.get_text() for label in left.get_yticklabels()] == ["I-CFM: moons"]
    assert not right.lines
    with pytest.raises(UserError):
        transport.table([record(floor)], claims)


def test_a_journey_joins_where_points_start_and_end() -> None:
    arrays = {name: draws(20, 2, k).numpy() for k, name in enumerate(("source", "target", "pushed"))}
    (axes,) = transport.journeys({"one": arrays}).axes
    segments = axes.collections[1].get_segments()
    np.testing.assert_allclose(segments[3], [arrays["source"][3], arrays["pushed"][3]])


def test_figures_of_rounds_show_what_records_hold() -> None:
    arrays = {"covariance": np.array([0.5, 0.7]), "exact_covariance": np.array([0.5, 2 / 3])}
    exact = {"sigma": np.array([1.0]), "limit": np.array([0.6])}
    sequences = {"markovian": np.array([[0.5, 0.59]]), "proportional": np.array([[0.7, 0.5]])}
    left, right = rounds.sequences({"IPF": {**arrays, **exact, **sequences}}).axes
    np.testing.assert_allclose(left.lines[1].get_ydata(), arrays["covariance"])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [0.1, 0.01])
    few = [Measurement("deviation", 0.8, 0.0, 1, "1", {"round": 1, "steps_of_solver": k}) for k in (1, 2)]
    (axes,) = rounds.few_steps([record(*few)]).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.8, 0.8])
    about = {"coupling": "MiniBatchOT", "times": "all", "estimator": "full"}
    rows = [Measurement("gaussian_divergence", v, 0.0, 1, "nats", {**about, "d": 5, "formula": f}) for f, v in FORMULAS]
    for value, path in ((0.017, brownian_bridge(1.0)), (0.005, RunnerBridge(1.0))):  # told apart by what a record says of them
        rows.append(Measurement("gaussian_divergence", value, 0.0, 1, "nats", {**about, **path.facts, "dimensions": 5}))
    claims = [claim for id, claim in CLAIMS.items() if id.startswith("tong_2023/table7/exact/")]
    (axes,) = rounds.audit([record(*rows)], claims).axes
    assert [list(line.get_ydata()) for line in axes.lines[:4]] == [[0.016], [0.017], [0.004], [0.005]]
    assert list(axes.lines[4].get_ydata()) == [0.004, 0.006, 0.028, 0.258, 0.977]


FORMULAS = (("paper", 0.016), ("runner", 0.004))
