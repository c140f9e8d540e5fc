"""The bound by sampled terms: where it lies along t, and the rate that accumulates in reverse time (2020, Figure 5, middle)."""

import numpy as np
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled


@styled
def rate(arrays: Arrays) -> Figure:
    """arrays: term_low, term_high, term_mean, term_stderr of each bin of times (bits/dim; the bin t = 1 is the distortion)."""
    low, high, mean, error = (arrays[f"term_{key}"][1:] for key in ("low", "high", "mean", "stderr"))
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    terms, total = figure.subplots(1, 2)
    middle = np.sqrt(low * high)
    terms.errorbar(middle, mean, error, xerr=(middle - low, high - middle), fmt="o", markersize=2.5, linewidth=0.8)
    terms.set(xscale="log", yscale="log", xlabel="t", ylabel="mean term (bits/dim)")
    T, widths = int(high[-1]), high - low + 1
    ends = T - low[::-1] + 1  # reverse steps taken when the terms down to `low` are paid
    cumulative = np.cumsum((mean * widths)[::-1])
    spread = np.sqrt(np.cumsum(((error * widths) ** 2)[::-1]))
    total.plot(ends, cumulative, color="C0")
    total.fill_between(ends, cumulative - 2 * spread, cumulative + 2 * spread, color="C0", alpha=0.3, linewidth=0)
    total.set(xlabel="reverse steps T − t + 1", ylabel="rate (bits/dim)", xlim=(0, T), ylim=(0, None))
    return figure
