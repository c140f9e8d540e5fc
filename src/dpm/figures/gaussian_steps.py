"""What steps with independent pixels cost in the Gaussian model of the images."""

import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled
from dpm.figures.steps import numbered

SCALED: dict[str, Any] = {"color": "C4", "marker": "D", "linestyle": ":", "label": "all diagonal, $\\beta_1 \\propto 1/T$"}
STYLES = ("o-", "s-", "^-")
SMALLEST = 1e-6  # bits/dim: a term that loses less is not shown


@styled
def pixel_diagonal(arrays: Arrays) -> Figure:
    """Left: L against T, above the entropy that it bounds. Right: what each term of one chain loses.

    arrays, all in bits/dim: gaussian_T, gaussian_entropy; gaussian_kept_lost_after_<m>, where steps t <= m have the full
    covariance and the first beta does not depend on T; gaussian_scaled_lost_after_0, where it falls as 1 / T; gaussian_terms.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    T, entropy, terms = arrays["gaussian_T"], arrays["gaussian_entropy"][0], arrays["gaussian_terms"]
    left.plot(
        T, entropy + arrays["gaussian_scaled_lost_after_0"], "D:", color="C4", label=r"all diagonal, $\beta_1 \propto 1/T$"
    )
    known = sorted(int(match[1]) for key in arrays if (match := re.fullmatch(r"gaussian_kept_lost_after_(\d+)", key)))
    for m, style in zip(known, STYLES, strict=False):
        left.plot(T, entropy + arrays[f"gaussian_kept_lost_after_{m}"], style, label=_label(m))
    left.axhline(entropy, color="0.3", linewidth=1, linestyle="--", label="entropy")
    numbered(left, T, "steps T")
    left.set(ylabel="L (bits/dim)")
    figure.legend(loc="outside upper center", ncols=3)
    shown = terms > SMALLEST
    right.plot(np.arange(1, len(terms) + 1)[shown], terms[shown], "o-", markersize=2, linewidth=0.8)
    right.set(xscale="log", yscale="log", xlabel=f"t (of T = {len(terms)})", ylabel="lost by the step at t (bits/dim)")
    return figure


def _label(m: int) -> str:
    return {0: "all diagonal", 1: "decoder not diagonal"}.get(m, f"steps t ≤ {m} not diagonal")
