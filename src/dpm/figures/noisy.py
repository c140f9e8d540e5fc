"""Training on noisy data: errors of x_0-hat, of points and of digits, and what the number of examples does."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled, told_apart
from dpm.figures.images import tile
from dpm.study.records import Measurement, Record, over_seeds
from dpm.study.results import selected

FRESH = 100_000  # where on the axis of numbers there is no end of examples


@styled
def amplified(arrays: Mapping[str, Arrays]) -> Figure:
    """Left, of every training by name: error (K,) of x_0-hat at each level (K,). Right: amplification (K,), 0 below."""
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _against_level(left, arrays)
    any_of = next(iter(arrays.values()))
    above = any_of["amplification"] > 0
    right.loglog(any_of["level"][above], any_of["amplification"][above], "o-", markersize=3)
    for axes in (left, right):
        axes.axvline(any_of["noise"][0], color="0.3", linewidth=1, linestyle=":")
        axes.set(xlabel=r"noise level $\sigma_t / \alpha_t$", title="dotted: noise of the data")
    for axes, ticks in ((left, [0.1, 0.2, 0.5, 1, 2, 5]), (right, [0.5, 1, 2, 5])):
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.tick_params(axis="x", which="minor", labelbottom=False)
    right.set(ylabel=r"error of $\hat x_0$ / error of $E[y \mid x_t]$")
    return figure


@styled
def sample_size(records: Sequence[Record]) -> Figure:
    """Left the KL divergence, right the error of x_0-hat above the noise, against the number of training examples.

    Means over seeds with their errors, of records of `LearnedLaw`; lines are their oracles, at t = 0 without points.
    """
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    above, end = (selected(records, "posterior_divergence", {"at": at}) for at in ("above_the_noise", "end"))
    errors, by_heart = (selected(records, "rmse", {"estimate": estimate}) for estimate in ("network", "by_heart"))
    kinds = (above, end, errors, by_heart)
    clean, noisy = ([[m for m in of if bool(m.protocol["training_noise"]) == n] for of in kinds] for n in (0, 1))
    _against_number(left, clean[0], 0, "clean")
    _against_number(left, noisy[0], 1, "noisy, corrected")
    _against_number(left, clean[1], 3, "clean, at $t = 0$", measured=False)
    _against_number(left, noisy[1], 4, "noisy, at $t = 0$", measured=False)
    _against_number(right, clean[2], 0, "clean")
    _against_number(right, noisy[2], 1, "noisy, corrected")
    _against_number(right, noisy[3], 2, "noisy, by heart")
    for axes, label in ((left, "KL divergence (nats)"), (right, r"RMS error of $\hat x_0$")):
        axes.set(xscale="log", yscale="log", xlabel="training examples", ylabel=label)
        axes.set_xticks([100, 1000, 10_000, FRESH], ["100", "1000", "10,000", "fresh"])
        axes.tick_params(axis="x", which="minor", length=0, labelbottom=False)
        axes.legend(loc="upper right")
    left.set_ylim(1e-4, 100)
    return figure


def _against_number(axes: Axes, measurements: Sequence[Measurement], index: int, label: str, measured: bool = True) -> None:
    by_number: dict[float, list[Measurement]] = defaultdict(list)
    for m in measurements:
        by_number[float(m.protocol["training_examples"]) or FRESH].append(m)
    means = {n: over_seeds(by_number[n]) for n in sorted(by_number)}
    style, known = told_apart(index), {n: mean.oracle for n, mean in means.items() if mean.oracle is not None}
    if measured:
        values, stderrs = [mean.value for mean in means.values()], [mean.stderr or math.nan for mean in means.values()]
        axes.errorbar(list(means), values, stderrs, **{**style, "linestyle": "none"}, label=label)
    line = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1}
    axes.plot(list(known), list(known.values()), **line, label="" if measured else label)


@styled
def denoised(arrays: Mapping[str, Arrays], noise: float) -> Figure:
    """Left, of every training by name: error (K,) of x_0-hat at each level (K,), dotted the noise of the data. Right: digits.

    A row for each of the levels shown: the `original` (1, H, W), `noisy` and each `denoised`, (levels, 1, H, W).
    """
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _against_level(left, arrays)
    left.axvline(noise, color="0.3", linewidth=1, linestyle=":")
    ticks, errors = [0.25, 0.5, 1, 2, 4], [0.15, 0.2, 0.3, 0.4]
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_yticks(errors, [f"{error:g}" for error in errors])
    left.tick_params(which="minor", length=0, labelbottom=False, labelleft=False)
    left.set(xlabel=r"noise level $\sigma_t / \alpha_t$")
    any_of = next(iter(arrays.values()))
    rows = [
        [any_of["original"], any_of["noisy"][row], *(of["denoised"][row] for of in arrays.values())]
        for row in range(len(any_of["noisy"]))
    ]
    shown = tile(np.stack([image for row in rows for image in row]), len(rows[0]))
    right.imshow(shown / 255, interpolation="nearest")
    side = rows[0][0].shape[-1] + 1
    right.set_xticks([side * (k + 0.5) for k in range(len(rows[0]))], ["digit", "noisy", *arrays], rotation=30, ha="right")
    right.set_yticks([])
    right.tick_params(length=0)
    right.grid(visible=False)
    right.spines[:].set_visible(False)
    return figure


def _against_level(axes: Axes, arrays: Mapping[str, Arrays]) -> None:
    """Of every training by name: error (K,) of x_0-hat at each level (K,)."""
    for index, (label, of) in enumerate(arrays.items()):
        axes.loglog(of["level"], of["error"], label=label, **told_apart(index))
    axes.set(ylabel=r"RMS error of $\hat x_0$")
    axes.legend()
