"""The bound by sampled terms: where it lies along t, and rate and distortion in reverse time (2020, Figure 5)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled
from dpm.study.claims import Claim


@styled
def terms(arrays: Arrays, unit: str = "bits/dim") -> Figure:
    """arrays: term_low, term_high, term_mean, term_stderr of each bin of times, the decoder's first if there is one (t = 1)."""
    low, high, mean, error = (arrays[f"term_{key}"] for key in ("low", "high", "mean", "stderr"))
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    middle = np.sqrt(low * high)
    axes.errorbar(middle, mean, error, xerr=(middle - low, high - middle), fmt="o", markersize=2.5, linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="t", ylabel=f"mean term ({unit})")
    return figure


@styled
def added_up(runs: Mapping[str, Arrays], unit: str = "bits/dim") -> Figure:
    """The terms from t = 1 on, added up to t, of several runs: where one is above another.

    runs: label -> arrays of `terms`.
    """
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    for (label, arrays), style in zip(runs.items(), ("-", "--", "-.", ":") * len(runs), strict=False):
        low, high, mean = (arrays[f"term_{key}"] for key in ("low", "high", "mean"))
        axes.plot(high, np.cumsum(mean * (high - low + 1)), style, label=label)
    axes.set(xscale="log", xlabel="t", ylabel=f"terms 1 to t ({unit})")
    axes.legend()
    return figure


@styled
def rate_distortion(arrays: Arrays, claims: Sequence[Claim] = ()) -> Figure:
    """Figure 5: distortion against reverse steps, rate against reverse steps, distortion against rate.

    arrays: those of `terms` (the bin t = 1 is not part of the rate), and rmse_step, rmse_mean, rmse_stderr (grey levels).
    claims: rate and rmse of the paper at some reverse steps, drawn as crosses.
    """
    steps, rate, spread = accumulated(arrays)
    rmse_step, rmse, error = (arrays[f"rmse_{key}"] for key in ("step", "mean", "stderr"))
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.errorbar(rmse_step, rmse, 2 * error, fmt="o-", markersize=2)
    middle.plot(steps, rate)
    middle.fill_between(steps, rate - 2 * spread, rate + 2 * spread, alpha=0.3, linewidth=0)
    paid = np.interp(rmse_step - 1, np.concatenate([[0], steps]), np.concatenate([[0], rate]))  # before the step that predicts
    right.plot(paid, rmse, "o", markersize=2.5, label="ours")  # no line: between the last two points most of the rate is paid
    if claims:
        points = {q: {c.protocol["reverse_step"]: c.value for c in claims if c.quantity == q} for q in ("rmse", "rate")}
        both = [(points["rate"][s], points["rmse"][s]) for s in points["rmse"]]
        for axes, found in ((left, points["rmse"].items()), (middle, points["rate"].items()), (right, both)):
            axes.plot(*zip(*found, strict=True), "x", color="C1", markersize=4, label="paper, Table 4")
        right.legend(loc="upper right")
    for axes in (left, middle):
        axes.set(xlabel="reverse steps T − t + 1", xlim=(0, None), ylim=(0, None))
    left.set(ylabel="distortion (RMSE, 0-255)")
    middle.set(ylabel="rate (bits/dim)")
    right.set(xlabel="rate (bits/dim)", ylabel="distortion (RMSE, 0-255)", xlim=(0, None), ylim=(0, None))
    return figure


def accumulated(arrays: Arrays) -> tuple[Array, Array, Array]:
    """(reverse steps taken, rate paid by then, its standard error) at the end of each bin of times, from T down to 2."""
    low, high, mean, error = (arrays[f"term_{key}"][1:] for key in ("low", "high", "mean", "stderr"))
    widths = high - low + 1
    steps = int(high[-1]) - low[::-1] + 1
    return steps, np.cumsum((mean * widths)[::-1]), np.sqrt(np.cumsum(((error * widths) ** 2)[::-1]))
