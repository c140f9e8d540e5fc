"""Variants of an experiment: what validation measured while they were trained, and a map of two settings."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dpm.figures import WIDTH, Array, styled, told_apart
from dpm.study.variants import keys_of, place

NAMED = 8  # curves with a name; the others are grey


@styled
def curves(names: Sequence[str], found: Sequence[tuple[Array, Array]], order: Sequence[int], label: str) -> Figure:
    """A line (steps, values) for each variant; `order` has the best first, and these have names, in the order of `names`."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    named = [k for k in range(len(names)) if k in order[:NAMED]]
    for k in order[NAMED:]:
        axes.plot(*found[k], color="0.8", linewidth=0.8, label="the others" if k == order[-1] else None)
    for index, k in enumerate(named):
        axes.plot(*found[k], label=names[k], **told_apart(index))
    axes.set(xlabel="training step", ylabel=label.replace(" (", "\n("))
    if len(names) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def heat_map(
    settings: Sequence[Mapping[str, str]], values: Sequence[float], errors: Sequence[float], label: str, best: int
) -> Figure:
    """Values of the variants that set both of two keys, one key a row and the other a column; the best in a frame.

    Where a pair has no variant, nothing is drawn.
    """
    one, other = keys_of(settings)
    both = [k for k, own in enumerate(settings) if one in own and other in own]
    across, down = (sorted({settings[k][key] for k in both}, key=place) for key in (one, other))
    grid = np.full((len(down), len(across)), np.nan)
    at = {k: (down.index(settings[k][other]), across.index(settings[k][one])) for k in both}
    for k, cell in at.items():
        grid[cell] = values[k]
    figure = Figure(figsize=(min(WIDTH, 2.2 + 0.9 * len(across)), 1.2 + 0.45 * len(down)), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(grid, aspect="auto", cmap="viridis")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for k, (row, column) in at.items():
        text = f"{values[k]:.4g}\n± {errors[k]:.1g}"
        colour = "white" if values[k] < middle else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5)
    if best in at:
        row, column = at[best]
        axes.add_patch(_frame(column, row))
    axes.set_xticks(range(len(across)), across)
    axes.set_yticks(range(len(down)), down)
    axes.set(xlabel=one, ylabel=other)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=axes, label=label.replace(" (", "\n("))
    return figure


def _frame(column: int, row: int) -> Rectangle:
    return Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, fill=False, edgecolor="C2", linewidth=2)
