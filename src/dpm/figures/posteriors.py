"""Figures 3, 4 and 5 of Sohl-Dickstein et al. 2015: images without their noise, dead leaves, a hole in a texture filled in."""

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled
from dpm.figures.images import enlarged, tile

GAP, TITLE = 0.1, 0.25  # inches between panels, and above them
PANELS_3 = {"holdout": "(a) holdout", "noisy": "(b) with noise", "denoised": "(c) denoised", "samples": "(d) samples"}
PANELS_5 = {"original": "(a) original", "corrupted": "(b) central square unknown", "inpainted": "(c) inpainted"}


@styled
def figure_3(arrays: Arrays, side: int = 7) -> Figure:
    """Four panels of side x side images: holdout, the same with noise, samples of the posterior given those, free samples.

    arrays: holdout, noisy, denoised, samples, each (n, C, H, W) in grey levels 0..255.
    """
    panels = {title: tile(arrays[name][: side**2], side) for name, title in PANELS_3.items()}
    rows, columns = next(iter(panels.values())).shape[:2]
    width = enlarged(columns, (WIDTH - GAP) / 2)
    height, whole = width * rows / columns, 2 * width + GAP
    total = 2 * (height + TITLE)
    figure = Figure(figsize=(whole, total))
    for k, (title, tiled) in enumerate(panels.items()):
        left, low = k % 2 * (width + GAP), (1 - k // 2) * (height + TITLE)
        axes = figure.add_axes((left / whole, low / total, width / whole, height / total))
        show(axes, tiled, title)
        axes.set_axis_off()
    return figure


@styled
def figure_4(arrays: Mapping[str, Arrays], side: int = 160) -> Figure:
    """A training image, and the sample of each model, three in a row: the corner of side x side pixels.

    arrays: by the model's name, `sample`, (C, H, W), in grey levels; those of one at least also hold `training`.
    """
    training = next(of_model["training"] for of_model in arrays.values() if "training" in of_model)
    shown = {"training image": training, **{name: of_model["sample"] for name, of_model in arrays.items()}}
    figure = Figure(figsize=(WIDTH, 0.37 * WIDTH * math.ceil(len(shown) / 3)), layout="constrained")
    panels = figure.subplots(math.ceil(len(shown) / 3), 3, sharex=True, sharey=True, squeeze=False).flat
    for letter, axes, (name, image) in zip("abcdefghi", panels, shown.items(), strict=False):
        show(axes, tile(image[None, :, :side, :side], 1), f"({letter}) {name}")
    return figure


@styled
def figure_5(arrays: Arrays) -> Figure:
    """The image, the image with noise for its central square (the start of the chain), and with a sample in its place.

    arrays: original, corrupted, inpainted, each (C, H, W) in grey levels 0..255; axes in pixels.
    """
    figure = Figure(figsize=(WIDTH, 1.07 * WIDTH), layout="constrained")
    panels = figure.subplot_mosaic("aabb;.cc.")
    for axes, (name, title) in zip(panels.values(), PANELS_5.items(), strict=True):
        show(axes, tile(arrays[name][None], 1), title)
        axes.spines[["top", "right"]].set_visible(True)
    return figure


def show(axes: Axes, image: Array, title: str) -> None:
    axes.imshow(image / 255, interpolation="nearest")
    axes.set_title(title)
    axes.grid(False)
