"""The bound on fewer steps than the network was trained for, and which steps are best."""

import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled

STRIDES = {"even": ("even", "o"), "quadratic": ("quadratic", "s"), "chosen": ("dynamic programming", "^")}


@styled
def bound(arrays: Arrays) -> Figure:
    """Left: the bound against the number of steps K. Right: its excess over all T steps, on the same images.

    arrays: K, nll_bound_mean, nll_excess_mean, nll_excess_stderr (bits/dim) with the prefixes even_, quadratic_, chosen_;
    all_K and all_nll_bound_mean, of one value. Bars are two standard errors of the excess, which compares the curves.
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for strides, (label, marker) in STRIDES.items():
        K, error = arrays[f"{strides}_K"], 2 * arrays[f"{strides}_nll_excess_stderr"]
        left.errorbar(K, arrays[f"{strides}_nll_bound_mean"], error, fmt=f"{marker}-", label=label)
        right.errorbar(K, arrays[f"{strides}_nll_excess_mean"], error, fmt=f"{marker}-")
    left.axhline(
        arrays["all_nll_bound_mean"][0], color="0.3", linewidth=1, linestyle="--", label=f"all {arrays['all_K'][0]:.0f}"
    )
    right.set_yscale("log", nonpositive="clip")
    left.set(ylabel="L (bits/dim)")
    right.set(ylabel="L − L on all steps (bits/dim)")
    for axes in (left, right):
        numbered(axes, arrays["even_K"], "steps K")
    left.legend()
    return figure


@styled
def times(arrays: Arrays) -> Figure:
    """The times of the best grids, a row for each number of steps; the last step, to 0, is not shown.

    arrays: chosen_times_<K>, decreasing from T to 0.
    """
    chosen = {int(match[1]): arrays[key] for key in arrays if (match := re.fullmatch(r"chosen_times_(\d+)", key))}
    figure = Figure(figsize=(WIDTH, 0.6 + 0.28 * len(chosen)), layout="constrained")
    axes = figure.subplots()
    for row, K in enumerate(sorted(chosen)):
        axes.plot(chosen[K][:-1], np.full(len(chosen[K]) - 1, row), "|", color="C2", markersize=9)
    axes.set_yticks(range(len(chosen)), [str(K) for K in sorted(chosen)])
    axes.set(xscale="log", xlabel="t", ylabel="steps K", ylim=(len(chosen) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    return figure


def numbered(axes: Axes, K: Array, label: str) -> None:
    """A logarithmic axis whose ticks are the values themselves."""
    axes.set_xscale("log")
    axes.set_xticks(K, [f"{value:.0f}" for value in K])
    axes.tick_params(axis="x", which="minor", length=0, labelbottom=False)
    axes.set_xlabel(label)
