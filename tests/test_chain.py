"""Figure 2 of 2020 and D.1 of 2015: the pictures under the nodes are one path of q, the parts of the network are the code's."""

import numpy as np
import pytest
from fake_results import record
from matplotlib.patches import Circle, FancyBboxPatch

from dpm.figures import architecture, chain, render
from dpm.networks import multiscale
from dpm.schedules import linear

BETAS = linear(1000, 1e-4, 0.02).betas.numpy()


def test_the_pictures_are_one_path_of_the_chain() -> None:
    """Each variable has its marginal's moments given x_0, and neighbours are as correlated as one step makes them."""
    grey = np.full((3, 200, 200), 191.25)  # x_0 = 0.5
    found, alpha_bar = chain.path(grey, BETAS, 250), np.cumprod(1 - BETAS)
    np.testing.assert_array_equal(found["0"], np.full(grey.shape, 0.5))
    for name, t in (("t-1", 249), ("t", 250), ("T", 1000)):
        assert found[name].mean() == pytest.approx(0.5 * np.sqrt(alpha_bar[t - 1]), abs=0.01)
        assert found[name].var() == pytest.approx(1 - alpha_bar[t - 1], rel=0.02)
    noise = found["t"] - np.sqrt(1 - BETAS[249]) * found["t-1"]
    assert noise.std() == pytest.approx(np.sqrt(BETAS[249]), rel=0.02)


def test_figure_2_has_a_node_and_a_picture_for_each_variable() -> None:
    sources = np.random.default_rng(0).integers(0, 256, (1, 2, 3, 8, 8)).astype(float)
    figure = chain.figure_2({"interpolation_sources": sources}, 1000, 1e-4, 0.02, 250)
    (axes,) = figure.axes
    assert len([patch for patch in axes.patches if isinstance(patch, Circle)]) == len(axes.images) == 4
    np.testing.assert_allclose(axes.images[-1].get_array(), sources[0, 0].transpose(1, 2, 0) / 255)
    dashed = [patch for patch in axes.patches if patch.get_linestyle() == "--"]
    assert len(dashed) == 1
    assert render(figure) == render(chain.figure_2({"interpolation_sources": sources}, 1000, 1e-4, 0.02, 250))


def test_the_parts_of_the_network_are_named_as_in_the_code() -> None:
    figure = architecture.figure_d1([record("p/e", 0, 2.0, "MultiScale", 1, 1e-4)], J=4)
    boxes, bumps = figure.axes
    assert len([patch for patch in boxes.patches if isinstance(patch, FancyBboxPatch)]) == len(architecture.BOXES)
    code = [text for *_, text in architecture.BOXES.values() if "$" not in text]
    assert code == ["convolutions", "dense", "pointwise", "Bumps"]
    assert all(hasattr(multiscale, name) for name in code)
    np.testing.assert_allclose(np.sum([line.get_ydata() for line in bumps.lines], 0), 1)
    assert len(bumps.lines) == 4
