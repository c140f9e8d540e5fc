"""Samples in few network evaluations: pictures and distances, a row and a line for each method."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled
from dpm.figures.images import tile

SHOWN = 6


@styled
def few_evaluations(arrays: Mapping[str, Arrays]) -> Figure:
    """By the method's name: `samples_<n>` (k, C, H, W) for each n of `evaluations`, `distance`, `distance_error`, `floor`."""
    counts = [int(n) for n in next(iter(arrays.values()))["evaluations"]]
    figure = Figure(figsize=(WIDTH, 0.62 * len(arrays) + 2.6), layout="constrained")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(0.62 * len(arrays) + 0.3, 2.3))
    panels = parts[0, 0].subplots(len(arrays), len(counts), squeeze=False)
    for row, (name, of_method) in zip(panels, arrays.items(), strict=True):
        for axes, n in zip(row, counts, strict=True):
            axes.imshow(tile(of_method[f"samples_{n}"][:SHOWN], SHOWN // 2) / 255, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name)
    for axes, n in zip(panels[0], counts, strict=True):
        axes.set_title(f"{n} evaluation{'s' if n > 1 else ''}")
    axes = parts[1, 0].subplots()
    for k, (name, of_method) in enumerate(arrays.items()):
        error, style = 2 * of_method["distance_error"], f"{'osD^'[k % 4]}-"
        axes.errorbar(counts, of_method["distance"], error, fmt=style, markersize=4, label=name)
    floors = [float(f) for of_method in arrays.values() for f in of_method["floor"]]
    if floors:
        axes.axhline(floors[0], color="0.15", linestyle="--", label="test images")
    axes.set(xscale="log", yscale="log", xlabel="network evaluations", ylabel="distance from training images")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
