"""What a bound would be with another budget: a power law through complete runs, with intervals from its profile likelihood.

    L(C) = L_inf + a (C / C_0)^-b,   L_inf, a >= 0, b > 0,

is the usual law of learning curves (Hestness et al. 2017). The code length of 8-bit data is never negative, which keeps b away
from 0. Measured values are taken as L(C_i) + sigma_i eps_i with independent eps_i ~ N(0, 1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats

from dpm.errors import UserError

Array = np.ndarray[Any, Any]
EXPONENTS = np.geomspace(0.01, 20, 100)  # from next to a logarithm to next to a step; the best one is found between them
NEVER = 1e12  # times the largest budget


@dataclass(frozen=True)
class PowerLaw:
    """L(C) = L_inf + a (C / C_0)^-b."""

    L_inf: float
    a: float
    b: float
    C_0: float

    def __call__(self, C: Array | float) -> Array | float:
        return self.L_inf + self.a * (C / self.C_0) ** -self.b

    def budget(self, L: float) -> float:
        """The C with L(C) = L; infinite if there is none."""
        return self.C_0 * (self.a / (L - self.L_inf)) ** (1 / self.b) if self.L_inf < L else math.inf


class Extrapolation:
    """The power law of least squares through runs of budget C with bound L +- sigma, and what else the runs allow.

    A law is allowed if its S = sum_i (L_i - L(C_i))^2 / sigma_i^2 is at most min S + t^2, t the quantile of Student's
    distribution with `dof` degrees of freedom at (1 + level) / 2: those of the estimate of sigma, or infinity if it is known.
    If n runs are farther from the best law than sigma explains (min S beyond the quantile `level` of chi^2 with n - 3 degrees),
    the distances themselves are the estimate of sigma: t^2 is that of n - 3 degrees, times `scale` = min S / (n - 3), else 1.
    An interval holds what the allowed laws say. What another law would say is not in it.
    """

    def __init__(self, C: Array, L: Array, sigma: Array, dof: float = math.inf, level: float = 0.95) -> None:
        if len(np.unique(C)) < 3:
            raise UserError(f"a power law has three parameters: runs of three budgets at least, got {len(np.unique(C))}")
        if not dof > 0:
            raise UserError("degrees of freedom must be positive")
        self.C, self.L, self.sigma = C, L, sigma
        self.law, self.S = _least_squares(C, L, sigma)
        self.free = len(C) - 3
        self.scale, dof = (1.0, dof) if _explained(self.S, self.free, level) else (self.S / self.free, self.free)
        self.allowed = self.S + self.scale * float(scipy.stats.t.ppf((1 + level) / 2, dof)) ** 2
        if self.law.a == 0 or self.misfit(C.min(), float(self.law(C.max()))) <= self.allowed:
            raise UserError("the bounds of these budgets differ by no more than their errors: nothing to extrapolate")

    def misfit(self, C: float, L: float) -> float:
        """The least S of the laws through the point (C, L); C may be infinite. This is -2 times the profile log likelihood."""

        def S(b: Array) -> Array:
            u, at_C = (self.C / self.C.max()) ** -b[..., None], (C / self.C.max()) ** -b[..., None]
            slope, residual = (u - at_C) / self.sigma, (self.L - L) / self.sigma
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                most = np.where(at_C > 0, L / at_C, math.inf)  # L_inf = L - a at_C is not negative
            a = np.clip((slope * residual).sum(-1, keepdims=True) / np.square(slope).sum(-1, keepdims=True), 0, most)
            distances: Array = np.square(residual - a * slope).sum(-1)
            return distances

        on_grid = S(EXPONENTS)
        return min(float(on_grid.min()), float(S(np.array(_minimiser(lambda b: float(S(np.array(b))), on_grid)))))

    def interval(self, C: float) -> tuple[float, float]:
        """Of L(C), from the least budget on; C may be infinite."""
        if self.C.min() > C:
            raise UserError(f"budget {C:g}: below that of the shortest run, {self.C.min():g}")
        centre, far = float(self.law(C)), float(self.L.max() + 2 * self.sigma.max() * math.sqrt(self.allowed))
        low = 0.0 if self._excess(C, 0.0) <= 0 else scipy.optimize.brentq(lambda L: self._excess(C, L), 0.0, centre)
        return low, scipy.optimize.brentq(lambda L: self._excess(C, L), centre, far)

    def budget_interval(self, L: float) -> tuple[float, float]:
        """Of the C with L(C) = L; its upper end, or both, may be infinite."""
        least, most = float(self.C.min()), NEVER * float(self.C.max())
        centre = min(self.law.budget(L), most)
        if centre < least:
            raise UserError(f"a bound of {L:g} takes less than the shortest run: nothing to extrapolate")
        if self._excess(centre, L) > 0:
            return math.inf, math.inf

        def edge(far: float) -> float:
            root: float = scipy.optimize.brentq(lambda x: self._excess(math.exp(x), L), math.log(centre), math.log(far))
            return math.exp(root)

        low = least if self._excess(least, L) <= 0 else edge(least)
        return low, math.inf if self._excess(most, L) <= 0 else edge(most)

    def _excess(self, C: float, L: float) -> float:
        return self.misfit(C, L) - self.allowed


def of_long_runs(C: Array, L: Array, sigma: Array, dof: float = math.inf, level: float = 0.95) -> Extrapolation:
    """Of the three largest budgets, and of as many smaller ones as the law explains with them; the others are left out.

    The law is one of large budgets: a network's first steps are another regime. What is left out is all runs up to some budget.
    With three budgets left the law is exact, so that its interval holds their errors and nothing of the law's.
    """
    budgets = np.unique(C)
    kept = budgets[-3:].min() <= C
    for least in budgets[-4::-1]:
        longer = least <= C
        _, S = _least_squares(C[longer], L[longer], sigma[longer])
        if not _explained(S, int(longer.sum()) - 3, level):
            break
        kept = longer
    return Extrapolation(C[kept], L[kept], sigma[kept], dof, level)


def _least_squares(C: Array, L: Array, sigma: Array) -> tuple[PowerLaw, float]:
    """The best law and its S; for each b it is linear in L_inf and a (variable projection)."""
    if not (np.isfinite([C, L, sigma]).all() and min(C.min(), L.min(), sigma.min()) > 0):
        raise UserError("budgets, bounds and their errors must be positive")
    C_0 = float(C.max())

    def at(b: float) -> tuple[Array, float]:
        design = np.stack([np.ones_like(C), (C / C_0) ** -b], 1)
        coefficients, distance = scipy.optimize.nnls(design / sigma[:, None], L / sigma)
        return coefficients, distance**2

    b = _minimiser(lambda b: at(b)[1], np.array([at(b)[1] for b in EXPONENTS]))
    (L_inf, a), S = at(b)
    return PowerLaw(float(L_inf), float(a), b, C_0), S


def _explained(S: float, free: int, level: float) -> bool:
    return free == 0 or bool(scipy.stats.chi2.ppf(level, free) >= S)


def _minimiser(S: Callable[[float], float], on_grid: Array) -> float:
    """The b of the least S near the best of EXPONENTS."""
    best = int(on_grid.argmin())
    bounds = EXPONENTS[max(best - 1, 0)], EXPONENTS[min(best + 1, len(EXPONENTS) - 1)]
    return float(scipy.optimize.minimize_scalar(S, bounds=bounds, method="bounded").x)


def spread(groups: list[Array]) -> tuple[float, int]:
    """The standard deviation within groups of runs that differ by the seed alone, pooled, and its degrees of freedom."""
    dof = sum(len(group) - 1 for group in groups)
    if dof == 0:
        raise UserError("no budget has runs of two seeds: their spread is not known")
    return math.sqrt(sum(float(np.square(group - group.mean()).sum()) for group in groups) / dof), dof
