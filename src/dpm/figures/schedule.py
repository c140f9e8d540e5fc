"""Noise schedules as they were learned."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled, told_apart

MARKED = 7  # a marker on one in so many steps


@styled
def learned_betas(seeds: Sequence[Arrays]) -> Figure:
    """beta_t, and the signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t), against t; one line per seed.

    arrays: betas (T,), the values of beta_1..beta_T.
    """
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for number, arrays in enumerate(seeds):
        betas = arrays["betas"]
        t = np.arange(1, len(betas) + 1)
        log_alpha_bar = np.cumsum(np.log1p(-betas))
        style = {**told_apart(number), "linewidth": 1, "alpha": 0.9, "markevery": (number, MARKED)}
        left.semilogy(t, betas, **style)
        right.semilogy(t, np.exp(log_alpha_bar) / -np.expm1(log_alpha_bar), label=f"seed {number}", **style)
    left.plot(1, seeds[0]["betas"][0], "o", color="0.15", label=r"$\beta_1$, fixed", zorder=3)
    left.legend()
    if len(seeds) > 1:
        right.legend()
    left.set(xlabel="t", ylabel=r"$\beta_t$")
    right.set(xlabel="t", ylabel=r"$\bar\alpha_t \, / \, (1 - \bar\alpha_t)$")
    return figure
