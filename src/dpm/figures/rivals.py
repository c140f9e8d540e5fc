"""Models of the same images beside each other, one against its budget, and where along the noise another one loses."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled, told_apart
from dpm.schedules import geometric
from dpm.study.claims import Claim
from dpm.study.records import Measurement, Record


@styled
def models(records: Sequence[Record], claim: Claim, reference: str, labels: Mapping[str, str]) -> Figure:
    """The headline of each record with its standard error, best first, and the ceiling of all (dotted).

    `labels` says how networks are called; components are added where a recipe states them. The paper's gain, `claim`, is
    drawn from the best record of the network `reference`.
    """
    rows = sorted((record.headline for record in records), key=lambda m: m.value)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.errorbar([m.value for m in rows], range(len(rows)), xerr=[m.stderr or 0.0 for m in rows], fmt="o", capsize=3)
    axes.set_yticks(range(len(rows)), [_label(m, labels) for m in rows])
    if ceilings := [m.ceiling for m in rows if m.ceiling is not None]:
        axes.axvline(min(ceilings), linestyle=":", color="0.15", label="ceiling")
    if found := [m.value for m in rows if m.facts["network"] == reference]:
        shown = f"{labels.get(reference, reference)} + the paper's {claim.amount}"
        axes.axvline(max(found) + claim.value, color="0.3", linewidth=1, linestyle="-.", label=shown)
    axes.set(xlabel=f"log likelihood, or a bound on it ({claim.unit})", ylim=(-0.5, len(rows) - 0.5))
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@styled
def against_steps(records: Sequence[Record], network: str, labels: Mapping[str, str]) -> Figure:
    """The headline of each complete run of `network` against its steps, with the standard error, and the other models as lines.

    `labels` says how networks are called; components are added where a recipe states them.
    """
    rows = sorted((record.headline for record in records), key=lambda m: -m.value)
    runs = sorted((m for m in rows if m.facts["network"] == network), key=lambda m: float(m.facts["steps"]))
    steps, values = [float(m.facts["steps"]) for m in runs], [m.value for m in runs]
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    for index, m in enumerate((m for m in rows if m not in runs), 1):
        axes.axhline(m.value, label=_label(m, labels), **{**told_apart(index), "marker": ""})
    errors = [m.stderr or 0.0 for m in runs]
    axes.errorbar(steps, values, errors, fmt="o-", color="C0", capsize=3, label=_label(runs[0], labels))
    axes.set(xscale="log", xlabel="training steps of a complete run")
    axes.set_ylabel(f"log likelihood, or\na bound on it ({runs[0].unit})")
    axes.set_xticks(steps, [f"{count:,.0f}" for count in steps])
    axes.tick_params(axis="x", which="minor", length=0, labelbottom=False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _label(m: Measurement, labels: Mapping[str, str]) -> str:
    name = labels.get(str(m.facts["network"]), str(m.facts["network"]))
    return f"{name}, {m.facts['components']} components" if "components" in m.facts else name


@styled
def lost(arrays: Mapping[str, Arrays], schedule: Mapping[str, float], mark: float, unit: str = "bits/pixel") -> Figure:
    """Left: the mean term of two networks against the noise; right: the first minus the second, summed from great noise down.

    arrays: those of `dpm.figures.sampled_terms.terms`, by label, with the same bins; schedule: the arguments of `geometric`.
    Noise is sigma_t / alpha_t; the legend says how much of the difference lies below `mark`.
    """
    (one, first), (other, second) = arrays.items()
    low, high = first["term_low"], first["term_high"]
    times = torch.tensor(np.stack([low - 1, np.sqrt(low * high)]).round()).long()
    alpha, sigma = geometric(**schedule)(times)  # type: ignore[arg-type]
    start, middle = (sigma / alpha).numpy()
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    terms, total = figure.subplots(1, 2)
    seen = np.all([found["term_mean"] > 2 * found["term_stderr"] for found in (first, second)], 0)  # bins with some draws
    for label, found, marker in ((one, first, "o"), (other, second, "s")):
        style = {"fmt": f"{marker}-", "markersize": 2.5, "linewidth": 0.8, "label": label}
        terms.errorbar(middle[seen], found["term_mean"][seen], found["term_stderr"][seen], **style)
    gap = np.cumsum(((first["term_mean"] - second["term_mean"]) * (high - low + 1))[::-1])[::-1]
    total.plot(start, gap, color="C2")
    share = 1 - np.interp(math.log(mark), np.log(start), gap) / gap[0]
    total.axvline(mark, color="0.4", linewidth=0.8, linestyle=":", label=f"{share:.0%} of it below {mark:.2g}")
    terms.set(xscale="log", yscale="log", xlabel=r"$\sigma_t / \alpha_t$", ylabel=f"mean term ({unit})")
    total.set(xscale="log", xlabel=r"$\sigma_t / \alpha_t$", ylabel=f"difference, summed\nfrom the right ({unit})")
    for axes in (terms, total):
        axes.legend()
    return figure
