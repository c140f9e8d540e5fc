"""Table 2 of 2020 in pictures: how its six cells train."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled

OBJECTIVES = 3  # in a row of the table
LINES = ("-", "--")  # of its two predictions


@styled
def training(cells: Mapping[str, Arrays]) -> Figure:
    """Loss, gradient norm and validated bound against the training step, a line per cell; all on logarithmic scales.

    cells, by label and in the order of the table: loss_step, loss, gradient_norm (before clipping), curve_step, curve_K (the
    bound, bits/dim). Colours tell objective and variance, dashes the prediction.
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    loss, norm, bound = figure.subplots(1, 3)
    for index, (label, arrays) in enumerate(cells.items()):
        style = {"color": f"C{index % OBJECTIVES}", "linestyle": LINES[index // OBJECTIVES], "linewidth": 1.0}
        loss.plot(arrays["loss_step"], arrays["loss"], label=label, **style)
        norm.plot(arrays["loss_step"], arrays["gradient_norm"], **style)
        bound.plot(arrays["curve_step"], arrays["curve_K"], marker="o", markersize=3, **style)
    labels = ("loss (bits/dim; mean square)", "gradient norm", "L, validation (bits/dim)")
    for axes, name in zip((loss, norm, bound), labels, strict=True):
        axes.set(xlabel="training step", ylabel=name, yscale="log")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
