"""Rounds of reflow and of the fitting of bridges, beside their exact sequences; and a table that needs no training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dpm.errors import UserError
from dpm.figures import WIDTH, Arrays, styled
from dpm.study.claims import Claim
from dpm.study.records import Record


@styled
def sequences(runs: Mapping[str, Arrays]) -> Figure:
    """Left: covariance of the ends after each round, learned and exact, of each run. Right: the exact distance from the limit.

    arrays: covariance and exact_covariance (rounds,); of the first run sigma (S,), limit (S,), and markovian and proportional
    (S, R), the exact sequences for each sigma.
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    first = next(iter(runs.values()))
    for k, (label, arrays) in enumerate(runs.items()):
        rounds = np.arange(1, len(arrays["covariance"]) + 1)
        left.plot(rounds, arrays["exact_covariance"], "-", color=f"C{k}", linewidth=1, label=f"{label}, exact")
        left.plot(
            rounds, arrays["covariance"], "os"[k % 2], color=f"C{k}", markersize=5, fillstyle="none", label=f"{label}, learned"
        )
    left.set(xlabel="round", ylabel="Cov($x_0$, $x_1$)", title="$\\sigma$ = 1, unit variances")
    left.legend()
    for s, sigma in enumerate(first["sigma"]):
        for k, name in enumerate(("markovian", "proportional")):
            errors = np.abs(first[name][s] - first["limit"][s])
            rounds, label = np.flatnonzero(errors > 1e-9), f"{'IMF' if k == 0 else 'IPF'}, $\\sigma$ = {sigma:g}"
            right.semilogy(rounds + 1, errors[rounds], ["-", "--"][s % 2], color=f"C{k}")
            end = rounds[-1] + 1, errors[rounds[-1]] / 2
            right.text(*end, label, va="top", ha="center", color=f"C{k}", fontsize="small")
    right.set(xlabel="round", ylabel="distance from the bridge's", title="exact", xlim=(0, 24), ylim=(1e-11, 1))
    return figure


@styled
def few_steps(records: Sequence[Record]) -> Figure:
    """Standard deviation after few of Euler's steps, for each round, every seed; the target's is where all should be."""
    found = [m for r in records for m in r.measurements if m.quantity == "deviation" and "round" in m.protocol]
    if not found:
        raise UserError("deviations of rounds are those of experiments in rounds")
    figure = Figure(figsize=(0.6 * WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    for number in sorted({int(m.protocol["round"]) for m in found}):
        own = [m for m in found if m.protocol["round"] == number]
        steps = sorted({int(m.protocol["steps_of_solver"]) for m in own})
        means = [np.mean([m.value for m in own if m.protocol["steps_of_solver"] == k]) for k in steps]
        axes.plot(steps, means, "os^"[(number - 1) % 3] + "-", color=f"C{number - 1}", label=f"round {number}")
    axes.set(xscale="log", xlabel="Euler's steps", ylabel="standard deviation of samples")
    axes.set_xticks(steps, [str(k) for k in steps])
    axes.tick_params(axis="x", which="minor", length=0, labelbottom=False)
    axes.legend()
    return figure


@styled
def audit(records: Sequence[Record], claims: Sequence[Claim]) -> Figure:
    """Mean divergence against the dimension: published; of each record, trained by one of two formulas; and, of the records
    that have it, with perfect networks by either."""
    measured = [m for r in records for m in r.measurements if m.protocol.get("times") == "all"]
    rows = [m for m in measured if "formula" in m.protocol and m.protocol["coupling"] == "MiniBatchOT"]
    of_networks = [m for m in measured if "formula" not in m.protocol and m.protocol["estimator"] == "full"]
    figure = Figure(figsize=(0.7 * WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    for k, (formula, label) in enumerate((("paper", "eq. 8 of the paper"), ("runner", "released formula"))):
        own = sorted((int(m.protocol["d"]), m.value) for m in rows if m.protocol["formula"] == formula)
        axes.loglog(*zip(*own, strict=True), "so"[k] + "--", color=f"C{k}", fillstyle="none", label=f"{label}, perfect")
        trained = [m for m in of_networks if ("flow_target" in m.protocol) == k]  # the released one is a fact
        places = [m.protocol["dimensions"] for m in trained], [m.value for m in trained]
        axes.plot(*places, "so"[k], color=f"C{k}", zorder=3, label=f"{label}, trained")
    published = sorted((int(claim.protocol["dimensions"]), claim.value) for claim in claims)  # type: ignore[arg-type]
    axes.loglog(*zip(*published, strict=True), "D", color="0.1", markersize=6, label="published")
    axes.set(xlabel="dimensions d", ylabel="mean KL over 21 times (nats)")
    axes.set_xticks(*zip(*((d, str(d)) for d, _ in published), strict=True))
    axes.set_yticks(*zip(*((y, f"{y:g}") for y in (0.003, 0.01, 0.03, 0.1, 0.3, 1)), strict=True))
    axes.tick_params(which="minor", length=0, labelbottom=False, labelleft=False)
    axes.legend(loc="upper left")
    return figure
