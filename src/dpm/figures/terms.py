"""Where the bound loses: its terms, step by step, against those of the best possible reverse process."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled

# open squares: where the two agree, both are seen
ORACLE: dict[str, Any] = {"fmt": "s--", "markersize": 5, "markerfacecolor": "none", "markeredgewidth": 0.8}


@styled
def per_step(arrays: Arrays) -> Figure:
    """E KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for t = 2..T in bits, and the gap to the oracle summed up to t.

    arrays: term_times (T - 1,), term_mean, term_stderr, oracle_term_mean, oracle_term_stderr, each (T - 1,).
    """
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    terms, total = figure.subplots(1, 2)
    _terms(terms, arrays)
    _cumulative_gap(total, arrays)
    return figure


def _terms(axes: Axes, arrays: Arrays) -> None:
    for prefix, label, style in (("", "trained", {"fmt": "o-", "markersize": 3}), ("oracle_", "oracle", ORACLE)):
        mean, stderr = arrays[f"{prefix}term_mean"], arrays[f"{prefix}term_stderr"]
        axes.errorbar(arrays["term_times"], mean, stderr, label=label, linewidth=1, **style)
    axes.set(xlabel="t", ylabel="term of the bound (bits)", ylim=(0, None))
    axes.legend()


def _cumulative_gap(axes: Axes, arrays: Arrays) -> None:
    gap = np.cumsum(arrays["term_mean"] - arrays["oracle_term_mean"])
    axes.plot(arrays["term_times"], gap, color="C2")
    axes.axhline(0, color="0.4", linewidth=0.7)
    axes.set(xlabel="t", ylabel="gap to the oracle, summed (bits)")
