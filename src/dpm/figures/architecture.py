"""Figure D.1 of Sohl-Dickstein et al. 2015: the network of the images, each part by its name in `dpm.networks.multiscale`."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from dpm.figures import WIDTH, styled
from dpm.networks.multiscale import Bumps
from dpm.study.records import Record

HEIGHT = 0.8
BOXES = {  # middle (x, y), width, and two lines; names are those of the code
    "input": (0.7, 1.5, 1.1, "input", "$x_t$"),
    "convolutions": (2.6, 2.3, 1.9, "multi-scale\nconvolutions", "convolutions"),
    "dense": (2.6, 0.7, 1.9, "dense layers on\nthe whole image", "dense"),
    "pointwise": (4.7, 1.5, 1.5, "$1 \\times 1$\nconvolutions", "pointwise"),
    "bumps": (7.4, 1.5, 1.4, "sum over $j$ of\n$y_j \\, g_j(t)$", "Bumps"),
    "mean": (9.2, 2.3, 1.4, "mean image", "$z^\\mu$"),
    "variance": (9.2, 0.7, 1.4, "covariance\nimage", "$z^\\Sigma$"),
}
ARROWS = [
    *(("input", "convolutions"), ("input", "dense"), ("convolutions", "pointwise"), ("dense", "pointwise")),
    *(("pointwise", "bumps"), ("bumps", "mean"), ("bumps", "variance")),
]


@styled
def figure_d1(records: Sequence[Record], J: int = 10) -> Figure:
    """The network, with the J bumps g_j(t) of its read-out below; what a network has of it, its configuration says."""
    T = int(records[0].headline.protocol["T"])
    figure = Figure(figsize=(WIDTH, 0.47 * WIDTH))
    axes = figure.add_axes((0, 0.3, 1, 0.7))
    axes.set(xlim=(0, 10), ylim=(0, 3))
    axes.set_axis_off()
    for name in BOXES:
        _box(axes, name)
    for one, other in ARROWS:
        _arrow(axes, one, other)
    axes.text(6.07, 1.56, f"$2 \\times {J}$\nnumbers\na pixel", ha="center", va="bottom", fontsize=6.5)
    _bumps(figure.add_axes((0.3, 0.13, 0.66, 0.2)), J, T)
    return figure


def _box(axes: Axes, name: str) -> None:
    x, y, width, text, code = BOXES[name]
    corner = x - width / 2, y - HEIGHT / 2
    axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, boxstyle="round,pad=0.05", facecolor="0.95", linewidth=0.8))
    axes.text(x, y + 0.12, text, ha="center", va="center", fontsize=8)
    family = "DejaVu Sans" if "$" in code else "monospace"
    axes.text(x, y - 0.31, code, ha="center", va="center", fontsize=7.5, color="0.3", family=family)


def _arrow(axes: Axes, one: str, other: str) -> None:
    (x, y, width, *_), (to_x, to_y, to_width, *_) = BOXES[one], BOXES[other]
    ends = (x + width / 2 + 0.05, y), (to_x - to_width / 2 - 0.05, to_y)
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=9, color="black", linewidth=1, shrinkA=0, shrinkB=0))


def _bumps(axes: Axes, J: int, T: int) -> None:
    t = np.linspace(1, T, 400)
    axes.plot(t, Bumps(J, T).weights(torch.tensor(t)).numpy(), linewidth=1)
    axes.set(xlabel="$t$", ylabel="$g_j(t)$", xlim=(1, T), ylim=(0, None), yticks=[0, 0.5, 1])
