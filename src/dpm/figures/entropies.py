"""The entropy of the reverse step between its bounds (2015, eq. 24)."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled

READABLE = 0.05  # a position is drawn where its standard error is below this
UPPER: dict[str, Any] = {"color": "C1", "linestyle": "--"}
LOWER: dict[str, Any] = {"color": "C2", "linestyle": ":"}
TRUTH: dict[str, Any] = {"color": "0.15", "linewidth": 1.2}


@styled
def entropy_bounds(arrays: Arrays, scale: str = "linear") -> Figure:
    """H(X_{t-1} | X_t) with its bounds against t; its distance from the lower one; and the same, the upper one at 1.

    arrays: entropy_times (T - 1,), entropy_lower, entropy_truth, entropy_truth_stderr, entropy_upper, in bits. `scale` is
    that of the first panel's entropies.
    """
    t, lower, truth, stderr, upper = (arrays[f"entropy_{k}"] for k in ("times", "lower", "truth", "truth_stderr", "upper"))
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    panels = figure.subplot_mosaic([["level", "distance"], ["level", "position"]], sharex=True)
    _between(panels["level"], t, lower, truth, stderr, upper)
    panels["level"].set(xlabel="t", ylabel="entropy of the reverse step (bits)", yscale=scale)
    panels["level"].legend()
    width = upper - lower
    _between(panels["distance"], t, 0 * t, truth - lower, stderr, width)
    panels["distance"].set(ylabel="above the lower\nbound (bits)")
    shown = stderr < READABLE * width
    share, error = ((values / width)[shown] for values in (truth - lower, stderr))
    _between(panels["position"], t[shown], 0 * share, share, error, 0 * share + 1)
    panels["position"].set(xlabel="t", ylabel="position\nin the band")
    return figure


def _between(axes: Axes, t: Array, lower: Array, truth: Array, stderr: Array, upper: Array) -> None:
    axes.fill_between(t, lower, upper, color="C0", alpha=0.25, linewidth=0)
    axes.plot(t, upper, **UPPER, label="upper bound")
    axes.plot(t, truth, **TRUTH, label="truth")
    axes.fill_between(t, truth - 2 * stderr, truth + 2 * stderr, color=TRUTH["color"], alpha=0.3, linewidth=0)
    axes.plot(t, lower, **LOWER, label="lower bound")
