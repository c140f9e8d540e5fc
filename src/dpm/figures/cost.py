"""How fast networks train and are evaluated, and what of the machine's peak that is."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, styled
from dpm.study.records import Measurement, Record
from dpm.study.results import selected

NETWORKS = {
    "unet": "the paper's U-Net",
    "diffusers": "the same U-Net,\ndiffusers",
    "denoising_diffusion_pytorch": "another U-Net,\ndenoising-diffusion-pytorch",
    "laptop_unet": "the laptop's U-Net",
}
MODES = {
    "training": ("training", "o", -0.2),
    "shared_training": ("training, a process for each core", "s", 0.0),
    "evaluation": ("evaluation", "^", 0.2),
}
PEAKS = {"convolution": ("peak, convolutions", "-"), "matrix_product": ("peak, matrix products", "--")}


@styled
def throughput(records: Sequence[Record]) -> Figure:
    """Left: images per second. Right: floating point operations per second, beside the peaks in bfloat16.

    records: one of benchmarks/cost.py. Bars are two standard errors.
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for mode, (label, marker, offset) in MODES.items():
        for axes, quantity in ((left, "image_rate"), (right, "flop_rate")):
            found = [selected(records, quantity, {"network": network, "mode": mode}) for network in NETWORKS]
            values = [(row + offset, m) for row, of_network in enumerate(found) for m in of_network]
            errors = [2 * (m.stderr or 0.0) for _, m in values]
            axes.errorbar([m.value for _, m in values], [y for y, _ in values], xerr=errors, fmt=marker, label=label)
    for peak, (label, line) in PEAKS.items():
        right.axvline(one(records, "peak", peak=peak).value, color="0.3", linewidth=1, linestyle=line, label=label)
    left.set(xscale="log", xlabel="images / s")
    right.set(xlabel="GFLOP/s", xlim=(0, None))
    left.set_yticks(range(len(NETWORKS)), list(NETWORKS.values()))
    left.set_ylim(len(NETWORKS) - 0.5, -0.5)
    legend(figure, right)
    return figure


def legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)


def one(records: Sequence[Record], quantity: str, **protocol: str) -> Measurement:
    """The one measurement that fits."""
    (found,) = selected(records, quantity, protocol)
    return found
