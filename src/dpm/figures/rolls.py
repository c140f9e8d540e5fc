"""Piano rolls, and what is known of them per time step by different models."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled
from dpm.study.records import Measurement, Record

KEYS = slice(12, 64)  # of 88: C2 .. D6, where the chorales lie
NAMES = {"test": "test chorales", "harmonised": "soprano given (dark), three voices drawn", "samples": "samples"}
MODELS = {
    **{"independent": "notes independent", "previous": "given the step before"},
    **{"previous_and_lower": "… and lower notes", "four_and_lower": "four steps and lower notes"},
}


@styled
def rolls(arrays: Arrays, shown: int = 4) -> Figure:
    """Windows of the test set, the same sopranos with other voices, and samples. arrays: rolls_<name> (n, 88, L)."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(len(NAMES), shown, sharex=True, sharey=True)
    for row, (name, label) in zip(panels, NAMES.items(), strict=True):
        for axes, roll in zip(row, arrays[f"rolls_{name}"], strict=False):
            keys = roll[KEYS].copy()
            top = len(keys) - 1 - keys[::-1].argmax(0)
            if name != "samples":
                keys[:] *= 0.45
                sounding = np.flatnonzero(keys.any(0))
                keys[top[sounding], sounding] = 1.0
            axes.imshow(keys, cmap="gray_r", vmin=0, vmax=1, origin="lower", aspect="auto", interpolation="nearest")
            axes.set_yticks([3, 15, 27, 39, 51], ["C2", "C3", "C4", "C5", "C6"])
            axes.grid(False)
        row[0].set_title(label, loc="left")
    for axes in panels[-1]:
        axes.set_xlabel("quarter")
    return figure


@styled
def against_exact(records: Sequence[Record]) -> Figure:
    """Nats per step against the length of a window: the bound and exact models on the same steps, two standard errors."""
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    measurements = [m for m in records[0].measurements if "scored" in m.protocol]
    longest = max(int(m.protocol["window"]) for m in measurements)

    def same_steps(m: Measurement) -> bool:
        return m.protocol["scored"] == "longest" or m.protocol["window"] == longest

    drawn: list[tuple[str | None, str]] = [*MODELS.items(), (None, "diffusion, bound")]
    for number, (name, label) in enumerate(drawn):
        quantity = "nll_bound" if name is None else "nll"
        own = [m for m in measurements if m.quantity == quantity and m.protocol.get("model") == name and same_steps(m)]
        own = [m for m in own if m.protocol.get("edges", "decoder") == "decoder"]
        points = sorted((int(m.protocol["window"]), m.value) for m in own)
        left.plot(*zip(*points, strict=True), "os^Dv"[number] + "-", label=label, color=f"C{number}")
    left.set(xscale="log", xlabel="window (steps)", ylabel="nats per step", title="the same steps, in shorter windows")
    left.set_xticks([16, 32, 64], ["16", "32", "64"])
    left.minorticks_off()
    left.legend(fontsize="x-small", loc="center right")
    for number, name in enumerate(MODELS):
        own = [m for m in measurements if m.quantity == "nll_excess" and m.protocol["against"] == name]
        own = [m for m in own if m.protocol["scored"] == "all"]
        x = np.arange(len(own)) + 0.12 * (number - 1.5)
        right.errorbar(x, [m.value for m in own], [2 * (m.stderr or 0) for m in own], fmt="os^D"[number], color=f"C{number}")
    right.axhline(0, color="0.4", linewidth=1)
    right.set_xticks(range(len(own)), [str(m.protocol["window"]) for m in own])
    right.set(xlabel="window (steps)", ylabel="bound − exact model (nats)", title="paired, all windows")
    return figure
