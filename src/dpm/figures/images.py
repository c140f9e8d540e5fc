"""Pictures of pictures: a grid of images, pixel for pixel, without interpolation."""

import math
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled

LABELS = 1.4  # inches for the names of rows


@styled
def grid(arrays: Arrays, columns: int = 12) -> Figure:
    """arrays: samples (n, C, H, W), grey levels 0..255; drawn row by row with a pixel of white between images."""
    tiled = tile(arrays["samples"], columns)
    width = enlarged(tiled.shape[1], WIDTH)
    figure = Figure(figsize=(width, width * tiled.shape[0] / tiled.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(tiled / 255, interpolation="nearest")
    axes.set_axis_off()
    return figure


@styled
def row_by_row(models: Mapping[str, Arrays], columns: int = 12) -> Figure:
    """The first samples of each model, a row each. models, by label: samples (n, C, H, W), grey levels 0..255."""
    rows = [arrays["samples"][:columns] for arrays in models.values()]
    tiled = tile(np.concatenate(rows), len(rows[0]))
    width = enlarged(tiled.shape[1], WIDTH - LABELS)
    whole = width + LABELS
    figure = Figure(figsize=(whole, width * tiled.shape[0] / tiled.shape[1]))
    axes = figure.add_axes((LABELS / whole, 0, width / whole, 1))
    axes.imshow(tiled / 255, interpolation="nearest")
    pitch = (tiled.shape[0] + 1) / len(rows)
    axes.set_yticks([(k + 0.5) * pitch - 1 for k in range(len(rows))], list(models))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


def enlarged(pixels: int, inches: float) -> float:
    """The most inches, within those given, in which each of so many pixels becomes a whole number of the file's.

    Then all of them are equally large, and the file is a tenth smaller.
    """
    dpi = matplotlib.rcParams["savefig.dpi"]
    factor = math.floor(inches * dpi / pixels)
    return factor * pixels / dpi if factor else inches


def tile(images: Array, columns: int) -> Array:
    """(n, C, H, W) -> (rows (H + 1) - 1, columns (W + 1) - 1, 3), white where there is no image; one channel becomes grey."""
    rows, (height, width) = math.ceil(len(images) / columns), images.shape[2:]
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255.0)
    for k, image in enumerate(images):
        top, left = (k // columns) * (height + 1), (k % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = np.broadcast_to(image.transpose(1, 2, 0), (height, width, 3))
    return canvas
