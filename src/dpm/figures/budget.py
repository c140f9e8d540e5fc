"""The bound of complete runs against their budget, and the power law through them."""

from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled
from dpm.study.claims import Claim


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
