"""Samplers of posteriors beside the exact one: samples, calibration; restored images."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled
from dpm.figures.images import tile

NAMES = {
    "posterior": "exact samples",
    "exact_score": "exact score",
    "particles": "particles (MCGDiff)",
    "multiplied_16": "2015, 16 sweeps",
    "multiplied_4": "2015, 4 sweeps",
    "multiplied": "2015, 1 sweep",
    "pigdm": "PiGDM",
    "tmpd": "TMPD",
    "dps": "DPS",
    "mmps": "MMPS",
}


@styled
def samples(arrays: Arrays) -> Figure:
    """arrays: `<method>_samples` (n, 2) of every method; the 25 modes as grey crosses."""
    figure, panels = _of_methods(arrays, "samples", columns=3, height=1.6, beside=0.2)
    for axes, points in panels:
        modes = np.arange(-2, 3) * 8
        axes.plot(*np.meshgrid(modes, modes), "x", color="0.75", markersize=3, zorder=0)
        axes.plot(*points.T, ".", color="C0", markersize=2, alpha=0.5)
        axes.set(xlim=(-22, 22), ylim=(-22, 22), aspect="equal")
    figure.supxlabel("$x_1$")
    figure.supylabel("$x_2$")
    return figure


@styled
def calibration(arrays: Arrays) -> Figure:
    """arrays: `<method>_ranks` (K,), the rank of x_0 among 19 samples of its posterior, 0..19; five ranks a bar."""
    figure, panels = _of_methods(arrays, "ranks", columns=4, height=1.5, beside=0.3)
    for axes, ranks in panels:
        expected = len(ranks) / 5
        axes.hist(ranks, bins=(np.arange(0, 21, 4) - 0.5).tolist(), color="C0", alpha=0.6)
        axes.axhline(expected, color="0.3", linewidth=1)
        axes.axhspan(*(expected + np.array([-2, 2]) * (expected * 0.8) ** 0.5), color="0.3", alpha=0.15, linewidth=0)
        axes.set(xticks=[0, 19])
    figure.supxlabel("rank of $x_0$ among 19 samples")
    figure.supylabel("observations")
    return figure


def _of_methods(
    arrays: Arrays, what: str, columns: int, height: float, beside: float
) -> tuple[Figure, list[tuple[Axes, Array]]]:
    """A panel with its title for each method that has the array `<method>_<what>`, and that array; sizes in inches."""
    shown = {name: arrays[f"{name}_{what}"] for name in NAMES if f"{name}_{what}" in arrays}
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(WIDTH, height * rows + beside), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes, name in zip(panels, shown, strict=False):
        axes.set_title(NAMES[name])
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    return figure, list(zip(panels, shown.values(), strict=False))


@styled
def restored(arrays: Arrays) -> Figure:
    """A row for each task: two images, A^T y, and of each method a sample and the deviation of its samples, times 3."""
    methods = [name for name in NAMES if f"inpainting_{name}" in arrays]
    tasks = [task for task in ("inpainting", "deblurring", "subsampling") if f"{task}_observed" in arrays]
    size = (WIDTH, 0.5 * len(tasks) * WIDTH / (2 + 2 * len(methods)) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(tasks), 2 + 2 * len(methods), squeeze=False)
    for row, task in zip(panels, tasks, strict=True):
        shown = [("original", arrays["original"]), ("observed", arrays[f"{task}_observed"])]
        for name in methods:
            shown.append((NAMES[name].replace(", ", ",\n"), arrays[f"{task}_{name}"]))
            shown.append(("its spread", np.minimum(3 * arrays[f"{task}_{name}_spread"], 255)))
        for axes, (title, images) in zip(row, shown, strict=True):
            axes.imshow(tile(images[:2], 2) / 255, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(title if task == tasks[0] else "", fontsize=7)
        row[0].set_ylabel(task, fontsize=7)
    return figure
