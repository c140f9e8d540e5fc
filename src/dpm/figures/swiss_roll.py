"""Figure 1 of Sohl-Dickstein et al. 2015: what the forward process does to the Swiss roll and the learned reverse undoes."""

from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled

FORWARD, REVERSE, DRIFT = "C0", "C2", "0.15"


@styled
def figure_1(arrays: Arrays) -> Figure:
    """The paper's 3 x 3 panels: samples of q, samples of p, drift f_mu(x_t, t) - x_t; columns t = 0, T/2, T.

    arrays: times (F,), forward and reverse (F, N, 2) with one frame per time; grid (G, 2), drift_times (3,), drift (3, G, 2).
    No step is learned at t = 0: the first column of the drift shows the first learned one, and says so. Columns are even in
    steps, and not in noise: where the betas are known, (T,), a title says the variance of the noise.
    """
    times, T = arrays["times"], int(arrays["times"].max())
    columns = [int(np.abs(times - t).argmin()) for t in (0, T / 2, T)]
    figure = Figure(figsize=(0.64 * WIDTH, 0.67 * WIDTH), layout="constrained")
    axes = figure.subplots(3, 3, sharex=True, sharey=True)
    limit = _limit(arrays)
    for column, frame in enumerate(columns):
        axes[0, column].set_title(_time(times[frame], T) + _noise(arrays, int(times[frame])))
        _scatter(axes[0, column], arrays["forward"][frame], FORWARD, limit)
        _scatter(axes[1, column], arrays["reverse"][frame], REVERSE, limit)
        _quiver(axes[2, column], arrays["grid"], arrays["drift"][column], int(arrays["drift_times"][column]), limit)
    for row, label in enumerate(("forward\n$q(x_t)$", "reverse\n$p(x_t)$", "drift\n$f_\\mu(x_t, t) - x_t$")):
        axes[row, 0].set_ylabel(label)
    return figure


@styled
def every_time(arrays: Arrays, columns: int = 9, points: int = 400) -> Figure:
    """The two upper rows of Figure 1 at more times: samples of q, and of p, from t = 0 to T."""
    times, T = arrays["times"], int(arrays["times"].max())
    chosen = [int(np.abs(times - t).argmin()) for t in np.linspace(0, T, columns)]
    figure = Figure(figsize=(WIDTH, 0.29 * WIDTH), layout="constrained")
    axes = figure.subplots(2, columns, sharex=True, sharey=True)
    for column, frame in enumerate(chosen):
        axes[0, column].set_title(f"t = {int(times[frame])}{_noise(arrays, int(times[frame]))}", fontsize=7)
        for row, name, colour in ((0, "forward", FORWARD), (1, "reverse", REVERSE)):
            _scatter(axes[row, column], arrays[name][frame, :points], colour, _limit(arrays), size=1)
            axes[row, column].tick_params(labelbottom=False, labelleft=False, length=0)
    axes[0, 0].set_ylabel("$q(x_t)$")
    axes[1, 0].set_ylabel("$p(x_t)$")
    return figure


@styled
def animation(arrays: Arrays, points: int = 1000) -> FuncAnimation:
    """The forward process from t = 0 to T beside the reverse one from T to 0; the first and the last frame are held."""
    times, T = arrays["times"], int(arrays["times"].max())
    order = np.argsort(times)
    figure = Figure(figsize=(WIDTH, 0.56 * WIDTH))  # fixed margins: a layout would be solved for every frame
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.08, top=0.9, wspace=0.05)
    panels = figure.subplots(1, 2, sharey=True)
    moving = [
        _scatter(axes, arrays[name][order[0], :points], colour, _limit(arrays), size=4)
        for axes, name, colour in zip(panels, ("forward", "reverse"), (FORWARD, REVERSE), strict=True)
    ]

    def show(frame: int) -> list[Any]:
        for axes, dots, name, index in zip(
            panels, moving, ("forward", "reverse"), (order[frame], order[-1 - frame]), strict=True
        ):
            dots.set_offsets(arrays[name][index, :points])
            axes.set_title(f"{name}, t = {int(times[index])} of {T}")
        return moving

    last = len(times) - 1
    return FuncAnimation(figure, show, frames=[0] * 3 + list(range(last + 1)) + [last] * 8, cache_frame_data=False)


def _scatter(axes: Axes, points: Array, colour: str, limit: float, size: float = 1.5) -> Any:
    _square(axes, limit)
    return axes.scatter(points[:, 0], points[:, 1], s=size, color=colour, alpha=0.6, linewidths=0, rasterized=True)


def _quiver(axes: Axes, grid: Array, drift: Array, t: int, limit: float) -> None:
    """Arrows relative to the longest one of the panel, whose true length the panel states."""
    _square(axes, limit)
    longest = float(np.linalg.norm(drift, axis=1).max())
    spacing = 2 * limit / np.sqrt(len(grid))
    scale = longest / (1.6 * spacing) if longest > 0 else 1.0
    axes.quiver(*grid.T, *drift.T, color=DRIFT, angles="xy", scale_units="xy", scale=scale, width=0.006)
    axes.set_xlabel(f"t = {t}\nlongest: {longest:.2g}")


def _square(axes: Axes, limit: float) -> None:
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=(-2, 0, 2), yticks=(-2, 0, 2), aspect="equal")
    axes.grid(False)
    axes.spines[["top", "right"]].set_visible(True)


def _limit(arrays: Arrays) -> float:
    """-2..2 as in the paper, wider only as far as the roll itself (t = 0) reaches."""
    return max(2.0, 1.03 * float(np.abs(arrays["forward"][arrays["times"].argmin()]).max()))


def _noise(arrays: Arrays, t: int) -> str:
    """A line that says 1 - alpha_bar_t, the variance of the noise in x_t."""
    if "betas" not in arrays:
        return ""
    return f"\nnoise {abs(np.expm1(np.log1p(-arrays['betas'][:t]).sum())):.1g}"


def _time(t: Any, T: int) -> str:
    name = {0: "", T // 2: " = T/2", T: " = T"}.get(int(t), "")
    return f"t = {int(t)}{name}"
