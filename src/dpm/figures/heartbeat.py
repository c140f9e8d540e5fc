"""Figure 2 of Sohl-Dickstein et al. 2015, the terms of a bound with thousands of them, and what T steps allow."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from dpm.figures import WIDTH, Array, Arrays, styled
from dpm.study.claims import Claim

GROUPS = 50  # of neighbouring terms that are shown as one point


@styled
def figure_2(arrays: Arrays, rows: int = 25) -> Figure:
    """Samples of p at t = 0, T/2 and T, one per row; each row is rotated so that its first pulse at t = 0 is in bin 0.

    arrays: sample_times (3,), samples (3, N, n) of zeros and ones.
    """
    times, samples = arrays["sample_times"].astype(int), arrays["samples"][:, :rows]
    shifts = samples[times.argmin()].argmax(1)
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    panels = figure.subplots(1, len(times), sharey=True)
    for axes, t, frame in zip(panels, times, samples, strict=True):
        aligned = np.stack([np.roll(row, -shift) for row, shift in zip(frame, shifts, strict=True)])
        axes.imshow(aligned, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set(title=_time(t, times.max()), xlabel="Bin", xticks=range(0, samples.shape[2], 5))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(False)
        axes.spines[["top", "right"]].set_visible(True)
    panels[0].set_ylabel("Sample, shifted by its phase")
    return figure


@styled
def per_step(arrays: Arrays) -> Figure:
    """The terms of the bound against t, and what the network loses to the oracle, summed up to t; both in bits.

    arrays: term_times (T - 1,), term_mean, term_stderr, oracle_term_mean (exact), gap_mean. A point is the mean over
    neighbouring terms, whose draws are independent.
    """
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    terms, total = figure.subplots(1, 2)
    times = arrays["term_times"]
    groups = np.array_split(np.arange(len(times)), min(GROUPS, len(times)))
    means = np.array([arrays["term_mean"][g].mean() for g in groups])
    errors = np.array([np.sqrt(np.square(arrays["term_stderr"][g]).sum()) / len(g) for g in groups])
    terms.errorbar([times[g].mean() for g in groups], means, errors, fmt="o", markersize=3, label="trained")
    terms.plot(times, arrays["oracle_term_mean"], color="C1", label="oracle, exact", zorder=3)
    terms.set(xlabel="t", ylabel="term of the bound (bits)", ylim=(0, None))
    terms.legend()
    total.plot(times, np.cumsum(arrays["gap_mean"]), color="C2")
    total.set(xlabel="t", ylabel="gap to the oracle,\nsummed (bits)", ylim=(0, None))
    return figure


@styled
def oracle_against_T(arrays: Arrays, claim: Claim) -> Figure:
    """The best K of T steps with independent bits, its ceiling and the paper's K; and the distance of the first two.

    arrays: oracle_T (N,), oracle_rates (R,), oracle_K and oracle_ceiling (R, N), in the unit of the claim.
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    best, loss = figure.subplots(1, 2, width_ratios=(3, 2))
    T = arrays["oracle_T"]
    for index, rate in enumerate(arrays["oracle_rates"]):
        K, ceiling, style = arrays["oracle_K"][index], arrays["oracle_ceiling"][index], f"{'os'[index % 2]}-C{index}"
        best.plot(T, K, style, label=f"oracle, rate {rate:g}")
        best.plot(T, ceiling, ":", color=f"C{index}", label=f"ceiling, rate {rate:g}")
        loss.loglog(T, ceiling - K, style, markerfacecolor="none" if index else None)
    best.axhline(claim.value, color="0.3", linewidth=1, linestyle="-.", label=f"paper: {claim.amount}")
    best.set_xscale("log")
    best.set(ylabel=f"K ({claim.unit})")
    best.legend(loc="lower right")
    loss.set(ylabel=f"ceiling − oracle ({claim.unit})")
    for axes in (best, loss):
        _steps(axes, T)
    return figure


def _steps(axes: Axes, T: Array) -> None:
    axes.set_xticks(T, [f"{value:g}" for value in T])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_xlabel("T")


def _time(t: int, T: int) -> str:
    name = {T // 2: " = T/2", T: " = T"}.get(t, "")
    return f"t = {t}{name}"
