"""The bound against the budget of training, and what a power law through complete runs says of larger budgets."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from dpm.data import Data
from dpm.errors import UserError
from dpm.evaluators import Arrays, Evaluation
from dpm.facts import Scalar
from dpm.reverse import Reverse
from dpm.study.claims import Claim, load_claims
from dpm.study.extrapolation import Extrapolation, of_long_runs, spread
from dpm.study.records import Measurement, Record
from dpm.study.results import Entry, Results, common_tier, selected

PICK = {"terms": "sampled", "decoder": "Discretized"}
ENDS = ("estimate", "lower", "upper")


class AgainstBudget:
    """What the law through the records of an experiment, and of shares of its steps, says of larger budgets.

    Trains and evaluates nothing: reads the records in the folder `whole` and in those that match `shares`, below `results`.
    L at ten times the largest budget, at the paper's (`paper_steps` of `paper_batch`) and in the limit; and the share that the
    largest budget is of the one which the paper's number, `claim` in the folder `claims`, takes: each time the law of least
    squares and the ends of its 95 % interval. The error of a run is the standard deviation over seeds of one budget, pooled
    over the budgets that have several; a stated `spread` (bits/dim) is added to the record's own error. The law is fitted to
    the three largest budgets and to as many smaller ones as it explains with them. Arrays: all runs; law and interval.
    """

    def __init__(
        self,
        results: str,
        whole: str,
        shares: str,
        claims: str,
        claim: str,
        paper_steps: int,
        paper_batch: int,
        spread: float | None = None,
    ) -> None:
        self.results, self.whole, self.shares = Path(results), whole, shares
        self.claims, self.claim, self.spread = Path(claims), claim, spread
        self.paper = float(paper_steps * paper_batch)

    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        """Of the process, its T alone is stated; the examples are those of the records."""
        records = [run.record for run in self.runs()]
        claim = load_claims(self.claims)[self.claim]
        measured = selected(records, claim.quantity, PICK)
        C, L = np.array([float(r.budget["examples"]) for r in records]), np.array([m.value for m in measured])
        sigma, about = errors(C, measured, self.spread)
        fit = of_long_runs(C, L, sigma, float(about.get("spread_dof", math.inf)))
        about |= {"n_runs": len(fit.C), "n_budgets": len(np.unique(fit.C)), "n_shorter_runs_left_out": len(C) - len(fit.C)}
        about |= {"split": "test", "T": len(reverse.process.schedule)}
        recipe = shared_by([m.recipe or {} for m in measured])
        rows = tuple(measurements(fit, claim, self.paper, min(m.n for m in measured), about, recipe))
        return Evaluation(rows, arrays_of(fit, {"examples": C, "bound": L, "error": sigma}, self.paper), cost(records))

    def runs(self) -> list[Entry]:
        """The whole runs, and those of a share of their steps, all at one tier."""
        results = Results(self.results)
        runs = [run for folder in (self.whole, *results.folders(self.shares)) for run in results.of(folder)]
        if not runs:
            raise UserError(f"{self.results}: no records of {self.whole} or {self.shares}; train and evaluate them first")
        common_tier(runs)
        return runs


def errors(C: np.ndarray, measured: Sequence[Measurement], stated: float | None) -> tuple[np.ndarray, dict[str, Scalar]]:
    """The error of each run, and where it is from."""
    if stated is not None:
        own = np.array([m.stderr or 0.0 for m in measured])
        return np.hypot(own, stated), {"spread_from": "stated"}
    L = np.array([m.value for m in measured])
    found, dof = spread([L[budget == C] for budget in np.unique(C)])
    return np.full(len(L), found), {"spread_from": "seeds", "spread_dof": dof}


def measurements(
    fit: Extrapolation, claim: Claim, paper: float, n: int, about: dict[str, Scalar], recipe: Mapping[str, Scalar]
) -> Iterator[Measurement]:
    """L at three budgets, to a thousandth of a bit; the share of the budget, to two digits; the error of a run."""
    shared = {**about, "law": "power", "misfit": round(fit.S, 2), "misfit_dof": fit.free}
    largest = float(fit.C.max())
    for at, C in (("ten_times", 10 * largest), ("paper_budget", paper), ("limit", math.inf)):
        said = {**shared, "at": at, "level": 0.95} | ({"examples": round(C)} if math.isfinite(C) else {})
        for end, L in zip(ENDS, (float(fit.law(C)), *fit.interval(C)), strict=True):
            yield Measurement("nll_extrapolated", round(L, 3), None, n, claim.unit, {**said, "end": end}, recipe=recipe)
    low, high = fit.budget_interval(claim.value)
    for end, C in zip(ENDS, (fit.law.budget(claim.value), high, low), strict=True):
        said = {**shared, "of": claim.value, "level": 0.95, "end": end}
        yield Measurement("budget_share", float(f"{largest / C:.2g}"), None, n, "1", said, recipe=recipe)
    yield Measurement("nll_spread", round(float(fit.sigma.max()), 4), None, n, claim.unit, shared, recipe=recipe)


def arrays_of(fit: Extrapolation, runs: dict[str, np.ndarray], paper: float) -> Arrays:
    """All runs, and law and interval from the shortest run that the law is fitted to, to beyond the paper's budget."""
    C = np.geomspace(fit.C.min(), 3 * paper, 50)
    low, high = np.array([fit.interval(c) for c in C]).T
    curve = {"examples": C, "law": fit.law(C), "low": low, "high": high}
    return {
        **{f"curve_{name}": array for name, array in curve.items()},
        **{f"run_{name}": array for name, array in runs.items()},
        **{"paper_examples": np.array([paper]), "exponent": np.array([fit.law.b])},
    }


def cost(records: Sequence[Record]) -> dict[str, Scalar]:
    """Of all the runs together."""
    total = {key: round(sum(float(r.budget[key]) for r in records), 1) for key in ("steps", "examples", "seconds")}
    return {**total, "device": ", ".join(sorted({str(r.budget["device"]) for r in records}))}


def shared_by(recipes: Sequence[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    """What all runs have in common: everything but their number of steps."""
    return {key: value for key, value in recipes[0].items() if all(other.get(key) == value for other in recipes)}
