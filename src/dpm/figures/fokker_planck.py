"""A density by the Fokker-Planck equation, how the error of its solution falls, and entropy as an area of denoising error."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled

SCHEMES = {"crank_nicolson": ("Crank-Nicolson", "o", 2), "chang_cooper": ("Chang-Cooper", "s", 1)}  # order in N


@styled
def thermodynamics(arrays: Arrays) -> Figure:
    """Solved and exact density at several times; L1 error against the number of cells; denoising error against log SNR.

    arrays: x (N,), times (K,), density and exact_density (K, N); cells and <scheme>_error, one value for each grid; log_snr,
    gaussian_mmse, mmse and excess, the last of the network's error over the least, of one length. The areas are what the
    entropy lies below that of a Gaussian of equal variance, and the KL of data and model.
    """
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    panels = figure.subplot_mosaic("aa;bc")
    _densities(panels["a"], arrays)
    _errors(panels["b"], arrays)
    _denoising(panels["c"], arrays)
    return figure


def _densities(axes: Axes, arrays: Arrays) -> None:
    x, seen = arrays["x"], np.abs(arrays["x"]) < 3
    for k, t in enumerate(arrays["times"]):
        few = np.flatnonzero(seen)[k :: max(1, seen.sum() // 30)]
        axes.plot(x[seen], arrays["exact_density"][k][seen], color=f"C{k}", linewidth=1, label=f"t = {t:.2g}")
        axes.plot(x[few], arrays["density"][k][few], "osD^v"[k % 5], color=f"C{k}", markersize=3)
    axes.set(xlabel="x", ylabel="density q(x)", title="lines: exact; markers: solved")
    axes.legend()


def _errors(axes: Axes, arrays: Arrays) -> None:
    cells = arrays["cells"]
    for scheme, (label, marker, order) in SCHEMES.items():
        error = arrays[f"{scheme}_error"]
        axes.loglog(cells, error, f"{marker}-", label=label)
        axes.loglog(cells, error[0] * (cells[0] / cells) ** order, ":", color="0.4", linewidth=1)
    axes.set_xticks(cells, [f"{number:.0f}" for number in cells])
    axes.tick_params(axis="x", which="minor", length=0, labelbottom=False)
    axes.set(xlabel="cells N", ylabel="L1 error at the last t", title="dotted: orders 1 and 2")
    axes.legend()


def _denoising(axes: Axes, arrays: Arrays) -> None:
    log_snr, half = arrays["log_snr"], np.exp(arrays["log_snr"]) / 2
    gain = half * (arrays["gaussian_mmse"] - arrays["mmse"])
    axes.fill_between(log_snr, gain, color="C0", alpha=0.35, linewidth=0)
    axes.plot(log_snr, gain, color="C0", label="Gaussian's − least")
    axes.plot(log_snr, half * arrays["excess"], "--", color="C2", label="network's − least")
    axes.set(xlabel="log SNR", ylabel="SNR × error of $x_0$ / 2 (nats)", title="areas: negentropy and divergence")
    axes.legend(loc="upper left")
