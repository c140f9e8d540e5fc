"""The bound on validation examples as training goes on."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled, told_apart


@styled
def validated(seeds: Sequence[Arrays], unit: str = "bits", bound: str = "K") -> Figure:
    """The bound (K of 2015, L of 2020) of the averaged weights against the training step, one line per seed."""
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    steps, label = (
        (1000, "training step (thousands)") if max(a["curve_step"].max() for a in seeds) >= 1000 else (1, "training step")
    )
    for index, arrays in enumerate(seeds):
        axes.plot(arrays["curve_step"] / steps, arrays["curve_K"], label=f"seed {index}", **told_apart(index))
    axes.set(xlabel=label, ylabel=f"{bound}, validation ({unit})")
    if len(seeds) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
