"""The bound of complete runs against their budget: with the power law through them, and beside other networks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from dpm.facts import Scalar
from dpm.figures import WIDTH, Arrays, styled, told_apart
from dpm.study.claims import Claim
from dpm.study.records import Record
from dpm.study.results import selected


@styled
def against_budget(arrays: Arrays, claim: Claim) -> Figure:
    """L of each run with two standard errors, the law of least squares, its 95 % interval, and the paper's number.

    Hollow are the runs shorter than where the curve begins, to which it is not fitted.

    arrays: run_examples, run_bound, run_error; curve_examples, curve_law, curve_low, curve_high; paper_examples and exponent,
    of one value. Budgets are training images, repetitions counted; bounds are in the unit of the claim.
    """
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    examples, largest = arrays["curve_examples"], arrays["run_examples"].max()
    axes.fill_between(
        examples, arrays["curve_low"], arrays["curve_high"], color="C0", alpha=0.25, linewidth=0, label="95 % interval"
    )
    within = examples <= largest
    label = f"$L_\\infty + a\\,C^{{-b}}$, b = {arrays['exponent'][0]:.2f}"
    axes.plot(examples[within], arrays["curve_law"][within], color="C0", label=label)
    axes.plot(examples[~within], arrays["curve_law"][~within], "--", color="C0")
    C, L, error = (arrays[f"run_{name}"] for name in ("examples", "bound", "error"))
    short = examples[0] > C
    left_out = {"color": "0.5", "markerfacecolor": "none", "markersize": 7, "label": "shorter ones, left out of the fit"}
    for shown, style in ((~short, {"color": "C2", "label": "complete runs"}), (short, left_out)):
        if shown.any():
            axes.errorbar(C[shown], L[shown], 2 * error[shown], fmt="o", **style)
    axes.plot(arrays["paper_examples"], [claim.value], "*", color="0.15", markersize=10, label=f"paper: {claim.amount}")
    axes.set(xscale="log", xlabel="training images C, repetitions counted", ylabel=f"L ({claim.unit})")
    axes.legend()
    return figure


@styled
def time_to_quality(records: Sequence[Record], claim: Claim, labels: Mapping[str, str], facts: Mapping[str, Scalar]) -> Figure:
    """L of complete runs of several networks with two standard errors, against the minutes that cores trained.

    records: of processes of one thread each, a line for each network. labels: how the networks of their recipes are called, in
    the order of the legend; others are left out. facts: what the one bound of each record has. The paper's number is a
    horizontal line.
    """
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    lines = defaultdict(list)
    for record in records:
        for bound in selected([record], claim.quantity, facts):
            point = core_minutes(record.budget), bound.value, 2 * (bound.stderr or 0.0)
            lines[record.recipe["network"]].append(point)
    for index, (network, label) in enumerate(labels.items()):
        if lines[network]:
            minutes, values, errors = zip(*sorted(lines[network]), strict=True)
            axes.errorbar(minutes, values, errors, capsize=2, label=label, **told_apart(index))
    axes.axhline(claim.value, color="0.3", linewidth=1, linestyle="-.", label=f"paper: {claim.amount}")
    axes.set(xscale="log", xlabel="core-minutes of training", ylabel=f"L ({claim.unit})")
    axes.xaxis.set_major_locator(LogLocator(2))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend()
    return figure


def core_minutes(budget: Mapping[str, Scalar]) -> float:
    """Minutes times processes: "2 x cpu" is a device of two."""
    processes = str(budget["device"]).rpartition(" x ")[0] or "1"
    return int(processes) * float(budget["seconds"]) / 60
