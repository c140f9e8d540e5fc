"""Table 2 of 2020 in pictures: how its six cells train, and what they draw."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled
from dpm.figures.images import enlarged, tile

OBJECTIVES = 3  # in a row of the table
LABELS = 1.4  # inches for the names of the rows
LINES = ("-", "--")  # of its two predictions


@styled
def training(cells: Mapping[str, Arrays]) -> Figure:
    """Loss, gradient norm and validated bound against the training step, a line per cell; all on logarithmic scales.

    cells, by label and in the order of the table: loss_step, loss, gradient_norm (before clipping), curve_step, curve_K (the
    bound, bits/dim). Colours tell objective and variance, dashes the prediction.
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    loss, norm, bound = figure.subplots(1, 3)
    for index, (label, arrays) in enumerate(cells.items()):
        style = {"color": f"C{index % OBJECTIVES}", "linestyle": LINES[index // OBJECTIVES], "linewidth": 1.0}
        loss.plot(arrays["loss_step"], arrays["loss"], label=label, **style)
        norm.plot(arrays["loss_step"], arrays["gradient_norm"], **style)
        bound.plot(arrays["curve_step"], arrays["curve_K"], marker="o", markersize=3, **style)
    labels = ("loss (bits/dim; mean square)", "gradient norm", "L, validation (bits/dim)")
    for axes, name in zip((loss, norm, bound), labels, strict=True):
        axes.set(xlabel="training step", ylabel=name, yscale="log")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def samples(cells: Mapping[str, Arrays], columns: int = 12) -> Figure:
    """The first samples of each cell, a row each. cells, by label: samples (n, C, H, W), grey levels 0..255."""
    rows = [arrays["samples"][:columns] for arrays in cells.values()]
    tiled = tile(np.concatenate(rows), len(rows[0]))
    width = enlarged(tiled.shape[1], WIDTH - LABELS)
    whole = width + LABELS
    figure = Figure(figsize=(whole, width * tiled.shape[0] / tiled.shape[1]))
    axes = figure.add_axes((LABELS / whole, 0, width / whole, 1))
    axes.imshow(tiled / 255, interpolation="nearest")
    _rows(axes, list(cells), tiled)
    return figure


def _rows(axes: Axes, labels: list[str], tiled: Array) -> None:
    """A label at the middle of each row, and nothing else around the images."""
    pitch = (tiled.shape[0] + 1) / len(labels)
    axes.set_yticks([(k + 0.5) * pitch - 1 for k in range(len(labels))], labels)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
