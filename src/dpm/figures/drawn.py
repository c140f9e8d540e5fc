"""Examples as a sheet of panels or as a film: points and signals, and what is a picture: images, bits, piano rolls."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpm.errors import UserError
from dpm.figures import WIDTH, Array, styled
from dpm.figures.generation import COLUMN_LABELS, labelled, side_by_side
from dpm.figures.images import grid, tile
from dpm.figures.rolls import KEYS

Titled = tuple[str, Array]  # a panel: what it is, and its examples (n, ...)
Place = Callable[[Axes, Array], None]  # draws the examples of a panel

ACROSS = 5  # plots side by side
FILM, DPI = 320, 80  # pixels of a film's shorter side, about
HELD = (3, 12)  # frames for which the first and the last panel of a film stand still
ON, OFF = 0, 230  # grey levels of bits


@styled
def sheet(shown: Sequence[Titled], bits: bool) -> Figure:
    """Panels beside each other: of pictures a column each, with one example in each row; plots in rows of five."""
    as_pictures = PICTURES.get(kind(shown, bits))
    return _plots(shown, bits) if as_pictures is None else _pictures([(title, as_pictures(x)) for title, x in shown])


@styled
def film(shown: Sequence[Titled], bits: bool) -> FuncAnimation:
    """Panel after panel, in one place."""
    as_pictures = PICTURES.get(kind(shown, bits))
    if as_pictures is None:
        figure, place = Figure(figsize=(1.05 * FILM / DPI, FILM / DPI)), PLOTS[kind(shown, bits)](shown)
        axes = figure.add_axes((0.14, 0.13, 0.83, 0.8))
    else:
        shown = [(title, tile(as_pictures(x), math.ceil(math.sqrt(len(x)))) / 255) for title, x in shown]
        height, width = shown[0][1].shape[:2]
        scale, head = max(1, round(FILM / min(height, width))), 20
        figure = Figure(figsize=(width * scale / DPI, (height * scale + head) / DPI))
        axes, place = figure.add_axes((0, 0, 1, height * scale / (height * scale + head))), _picture

    def show(number: int) -> list[Any]:
        axes.clear()
        title, x = shown[number]
        place(axes, x)
        axes.set_title(title, fontsize=9, pad=3)
        return [axes]

    last = len(shown) - 1
    frames = [0] * HELD[0] + list(range(last + 1)) + [last] * HELD[1] if last else [0]
    return FuncAnimation(figure, show, frames=frames, cache_frame_data=False)


def kind(shown: Sequence[Titled], bits: bool) -> tuple[bool, int]:
    """Whether the examples are bits, and in how many dimensions they lie, with that of the examples."""
    shape = shown[0][1].shape
    if (bits, len(shape)) not in {**PICTURES, **PLOTS}:
        raise UserError(f"examples of shape {shape[1:]} have no picture; take file=....npz")
    return bits, len(shape)


# --- what is a picture: (n, ...) -> images (n, C, H, W), grey levels ---------------------------------------------------------


def bits_in_rows(x: Array) -> Array:
    return np.where(x[:, None, None, :] > 0, ON, OFF).astype(np.uint8)


def keys_upwards(x: Array) -> Array:
    """Piano rolls (n, 88, L), the keys that chorales use."""
    return np.where(x[:, None, KEYS, :][:, :, ::-1] > 0, ON, OFF).astype(np.uint8)


PICTURES: Mapping[tuple[bool, int], Callable[[Array], Array]] = {
    (False, 4): lambda x: x,
    (True, 4): lambda x: 255 * x,
    (True, 3): keys_upwards,
    (True, 2): bits_in_rows,
}


def _pictures(shown: Sequence[Titled]) -> Figure:
    if len(shown) == 1:
        images = shown[0][1]
        return grid({"samples": images}, columns=min(12, math.ceil(math.sqrt(len(images) * images.shape[2] / images.shape[3]))))
    images = np.stack([x for _, x in shown], 1)
    figure, (axes,) = side_by_side(images[None], 0, COLUMN_LABELS)
    labelled(axes, images, columns=[title for title, _ in shown])
    return figure


def _picture(axes: Axes, canvas: Array) -> None:
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_axis_off()


# --- what is a plot: panels -> a function that draws one of them, all on the same scale --------------------------------------


def points(shown: Sequence[Titled]) -> Place:
    """The first two coordinates, or a histogram of the only one."""
    limit = 1.1 * max(float(np.quantile(np.abs(x[:, :2]), 0.998)) for _, x in (shown[0], shown[-1]))

    def place(axes: Axes, x: Array) -> None:
        if x.shape[1] == 1:
            axes.hist(x[:, 0], bins=np.linspace(-limit, limit, 61).tolist(), density=True, color="C2")
            axes.set(xlabel="$x$", ylabel="density", xlim=(-limit, limit))
        else:
            axes.scatter(x[:, 0], x[:, 1], s=4, color="C2", linewidths=0)
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(4, integer=True))

    return place


def signals(shown: Sequence[Titled]) -> Place:
    """(n, 1, L), one below the other."""
    apart = 6 * float(shown[-1][1].std())

    def place(axes: Axes, x: Array) -> None:
        axes.plot((x[:, 0] - apart * np.arange(len(x))[:, None]).T, color="C2", linewidth=0.8)
        axes.set(ylim=(-apart * (len(x) - 0.3), 0.7 * apart), yticks=[], xlabel="sample")

    return place


PLOTS: Mapping[tuple[bool, int], Callable[[Sequence[Titled]], Place]] = {(False, 2): points, (False, 3): signals}


def _plots(shown: Sequence[Titled], bits: bool) -> Figure:
    place, columns = PLOTS[kind(shown, bits)](shown), min(len(shown), ACROSS)
    rows, side = math.ceil(len(shown) / columns), WIDTH / max(columns, 2)
    figure = Figure(figsize=(max(side * columns, 3), side * rows + 0.2 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes, (title, x) in zip(places, shown, strict=False):
        place(axes, x)
        axes.set_title(title)
    for axes in places[len(shown) :]:
        axes.set_axis_off()
    for axes in places:
        axes.label_outer()
    return figure
