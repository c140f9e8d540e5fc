"""Figure 2 of Ho, Jain and Abbeel 2020: the chain as a directed graphical model, beside what its variables look like."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from dpm.figures import WIDTH, Array, Arrays, styled
from dpm.schedules import linear

RADIUS = 0.32
PLACES = {"T": 0.5, "...": 1.85, "t": 3.2, "t-1": 5.0, "....": 6.35, "0": 7.7}  # from left to right, in units of the figure


@styled
def figure_2(arrays: Arrays, T: int, beta_1: float, beta_T: float, t: int) -> Figure:
    """x_T -> ... -> x_t -> x_(t-1) -> ... -> x_0: p_theta as arrows, q dashed; below each node one draw of q given x_0.

    arrays: interpolation_sources (pairs, 2, C, H, W) in grey levels, the first of which is x_0. The schedule is the linear one.
    """
    images = path(arrays["interpolation_sources"][0, 0], linear(T, beta_1, beta_T).betas.numpy(), t)
    figure = Figure(figsize=(WIDTH, 0.311 * WIDTH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for name, x in PLACES.items():
        if name.startswith("..."):
            axes.text(x, 0, r"$\cdots$", ha="center", va="center", fontsize=14)
            continue
        axes.add_patch(Circle((x, 0), RADIUS, fill=False, linewidth=1))
        axes.text(x, 0, f"$x_{{{name}}}$", ha="center", va="center", fontsize=11)
        axes.imshow(shown(images[name]), extent=(x - 0.45, x + 0.45, -1.4, -0.5), interpolation="nearest", zorder=0)
    nodes = list(PLACES.values())
    for left, right in pairwise(nodes):
        _arrow(axes, (left + RADIUS, 0), (right - RADIUS, 0))
    one, other = PLACES["t"], PLACES["t-1"]
    axes.text((one + other) / 2, 0.12, r"$p_\theta(x_{t-1}|x_t)$", ha="center", va="bottom")
    _arrow(axes, (other, RADIUS), (one, RADIUS), dashed=True)
    axes.text((one + other) / 2, 0.86, "$q(x_t|x_{t-1})$", ha="center", va="center")
    axes.text((one + other) / 2, -0.95, f"t = {t}\nof {T}", ha="center", va="center", fontsize=8.5)
    axes.set(xlim=(0, 8.2), ylim=(-1.5, 1.05))
    return figure


def path(grey: Array, betas: Array, t: int, seed: int = 0) -> dict[str, Array]:
    """x_0, x_(t-1), x_t and x_T on [-1, 1] along one path of q, each drawn from the one before (2020, eqs. 2 and 4)."""
    draw, found, before = np.random.default_rng(seed), {"0": grey / 127.5 - 1}, "0"
    for name, first, last in (("t-1", 0, t - 1), ("t", t - 1, t), ("T", t, len(betas))):
        kept = np.prod(1 - betas[first:last])
        found[name] = np.sqrt(kept) * found[before] + np.sqrt(1 - kept) * draw.standard_normal(grey.shape)
        before = name
    return found


def shown(x: Array) -> Array:
    """(C, H, W) on [-1, 1] as an RGB image; what is outside is cut off."""
    image: Array = np.broadcast_to(np.clip((x.transpose(1, 2, 0) + 1) / 2, 0, 1), (*x.shape[1:], 3))
    return image


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], dashed: bool = False) -> None:
    """Dashed arrows are arcs above the line of the nodes."""
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color="black", shrinkA=0, shrinkB=0)
    if dashed:
        arrow.set(linestyle="--", connectionstyle="arc3,rad=0.35")
    axes.add_patch(arrow)
