"""Figures of fields between distributions show what the arrays hold."""

import numpy as np

from dpm.figures import render
from dpm.figures.consistency import maps, solvers
from dpm.figures.few_evaluations import few_evaluations
from dpm.figures.interpolants import noises


def test_maps_and_errors_of_grids_are_drawn_as_they_are() -> None:
    x, steps = np.linspace(-3, 3, 7), np.array([9.0, 18.0])
    arrays = {"x": x, "exact": x, "fixed_point": 0.9 * x, "network": 0.8 * x}
    arrays |= {"steps": steps, "grid_error": np.arange(1, 7).reshape(3, 2)}
    left, right = maps(arrays).axes
    np.testing.assert_allclose([line.get_ydata() for line in left.lines], [x, 0.9 * x, 0.8 * x])
    np.testing.assert_allclose([line.get_ydata() for line in right.lines], arrays["grid_error"])
    assert [line.get_label() for line in right.lines] == ["distillation, Euler", "distillation, Heun", "training"]
    names = ("exact_euler", "exact_heun", "network_euler", "network_heun")
    errors = {name: np.array([1.0, 0.1]) * (k + 1) for k, name in enumerate(names)}
    (axes,) = solvers({"steps": steps, **errors}).axes
    np.testing.assert_allclose([line.get_ydata() for line in axes.lines], list(errors.values()))


def test_noises_have_one_colour_in_both_panels() -> None:
    arrays = {"edges": np.array([-1.0, 0.0, 1.0]), "histograms": np.ones((2, 2)), "noise": np.array([0.0, 0.5])}
    arrays |= {"x": np.array([-1.0, 1.0]), "density": np.ones(2), "waves": np.array([1.0, 5.0])}
    arrays["divergence"] = np.array([[1.0, 2.0], [0.5, 0.1]])
    left, right = noises(arrays).axes
    assert left.patches[0].get_edgecolor() != left.patches[1].get_edgecolor()
    labels = [[shown.get_label() for shown in panel] for panel in (left.patches, right.lines)]
    assert labels == [["flow, ε = 0", "ε = 0.5"]] * 2
    np.testing.assert_allclose([line.get_ydata() for line in right.lines], arrays["divergence"])


def test_few_evaluations_show_pictures_and_distances_of_each_method() -> None:
    rng = np.random.default_rng(0)

    def of_method(scale: float) -> dict[str, np.ndarray]:
        images = {f"samples_{n}": rng.integers(0, 256, (6, 1, 4, 4)).astype(float) for n in (1, 20)}
        score = {"distance": scale * np.ones(2), "distance_error": np.ones(2) / 9, "floor": np.array([0.5])}
        return {**images, **score, "evaluations": np.array([1.0, 20.0])}

    figure = few_evaluations({"flow": of_method(3.0), "DDIM": of_method(2.0)})
    *panels, axes = [axes for part in figure.subfigs for axes in part.axes]
    assert len(panels) == 4
    assert panels[0].get_title() == "1 evaluation"
    assert [panels[k].get_ylabel() for k in (0, 2)] == ["flow", "DDIM"]
    np.testing.assert_allclose([container[0].get_ydata() for container in axes.containers], [[3, 3], [2, 2]])
    assert axes.lines[-1].get_ydata()[0] == 0.5
    assert render(figure)
