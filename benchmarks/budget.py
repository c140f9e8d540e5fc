"""The bound against the budget of training, and what a power law through complete runs says of larger budgets.

    python benchmarks/budget.py [--experiment ho_2020/cifar10_bound] [--spread BITS] [--results FOLDER]

Trains and evaluates nothing: reads the records of the experiment and of <experiment>_shares, fits the law, prints and writes,
below results/<experiment>_budget, what it says at ten times the largest budget, at the paper's and in the limit, and the share
that the largest budget is of the one which the paper's number takes; each time the law of least squares and the ends of its
95 % interval. The error of a run is the standard deviation over seeds of one budget, pooled over the budgets that have several;
with --spread it is this number beside the record's own error. The law is fitted to the three largest budgets and to as many
smaller ones as it explains with them; the figure shows the others too.
"""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.report.rows import common_tier
from dpm.runs import app, configs
from dpm.study.claims import Claim, load_claims
from dpm.study.extrapolation import Extrapolation, of_long_runs, spread
from dpm.study.records import Measurement, Record, provenance, save_arrays
from dpm.study.results import Results, Run, selected

CONF = Path(__file__).resolve().parents[1] / "conf"
CLAIM, PICK = "ho_2020/table1/bound/nll", {"terms": "sampled", "decoder": "Discretized"}
ENDS = ("estimate", "lower", "upper")


def runs_of(results: Results, experiment: str) -> list[Run]:
    """The whole runs, and those of a share of their steps."""
    runs = [run for folder in (experiment, *results.folders(f"{experiment}_shares/*")) for run in results.of(folder)]
    if not runs:
        raise UserError(f"{results.root}: no records of {experiment} or {experiment}_shares; train and evaluate them first")
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
    fit: Extrapolation, claim: Claim, paper: float, n: int, about: dict[str, Scalar], T: Scalar
) -> Iterator[Measurement]:
    """L at three budgets, to a thousandth of a bit; the share of the budget, to two digits; the error of a run."""
    shared = {"split": "test", "T": T, **about, "law": "power", "misfit": round(fit.S, 2), "misfit_dof": fit.free}
    largest = float(fit.C.max())
    for at, C in (("ten_times", 10 * largest), ("paper_budget", paper), ("limit", math.inf)):
        about = {**shared, "at": at, "level": 0.95} | ({"examples": round(C)} if math.isfinite(C) else {})
        for end, L in zip(ENDS, (float(fit.law(C)), *fit.interval(C)), strict=True):
            yield Measurement("nll_extrapolated", round(L, 3), None, n, claim.unit, {**about, "end": end})
    low, high = fit.budget_interval(claim.value)
    for end, C in zip(ENDS, (fit.law.budget(claim.value), high, low), strict=True):
        about = {**shared, "of": claim.value, "level": 0.95, "end": end}
        yield Measurement("budget_share", float(f"{largest / C:.2g}"), None, n, "1", about)
    yield Measurement("nll_spread", round(float(fit.sigma.max()), 4), None, n, claim.unit, shared)


def arrays_of(fit: Extrapolation, runs: dict[str, np.ndarray], paper: float) -> dict[str, np.ndarray]:
    """All runs, and law and interval from the shortest run that the law is fitted to, to beyond the paper's budget."""
    C = np.geomspace(fit.C.min(), 3 * paper, 50)
    low, high = np.array([fit.interval(c) for c in C]).T
    curve = {"examples": C, "law": fit.law(C), "low": low, "high": high}
    return {
        **{f"curve_{name}": array for name, array in curve.items()},
        **{f"run_{name}": array for name, array in runs.items()},
        **{"paper_examples": np.array([paper]), "exponent": np.array([fit.law.b])},
    }


def shared_by(recipes: Sequence[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    """What all runs have in common: everything but their number of steps."""
    return {key: value for key, value in recipes[0].items() if all(other.get(key) == value for other in recipes)}


def cost(records: Sequence[Record]) -> dict[str, Scalar]:
    """Of all the runs together."""
    total = {key: round(sum(float(r.budget[key]) for r in records), 1) for key in ("steps", "examples", "seconds")}
    return {**total, "device": ", ".join(sorted({str(r.budget["device"]) for r in records}))}


def configured(experiment: str) -> tuple[dict[str, Any], float]:
    """The configuration of the experiment, and how many images its paper tier trains on, repetitions counted."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = configs.resolved(compose("evaluate", [f"experiment={experiment}", "tier=paper"]))
    return config, float(config["training"]["steps"] * config["training"]["batch_size"])


def main() -> None:
    parser = app.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="ho_2020/cifar10_bound")
    parser.add_argument("--spread", type=float, help="bits/dim; where no budget has two seeds")
    parser.add_argument("--results", type=Path, default=Path("results"))
    settings = parser.parse_args()
    runs = runs_of(Results(settings.results), settings.experiment)
    records, claim = [run.record for run in runs], load_claims(CONF / "claims")[CLAIM]
    measured = selected(records, claim.quantity, PICK)
    C, L = np.array([float(r.budget["examples"]) for r in records]), np.array([m.value for m in measured])
    sigma, about = errors(C, measured, settings.spread)
    fit = of_long_runs(C, L, sigma, float(about.get("spread_dof", math.inf)))
    config, paper = configured(settings.experiment)
    about |= {"n_runs": len(fit.C), "n_budgets": len(np.unique(fit.C)), "n_shorter_runs_left_out": len(C) - len(fit.C)}
    rows = tuple(measurements(fit, claim, paper, min(m.n for m in measured), about, config["T"]))
    for m in rows:
        print(f"{m.quantity} {m.value:g} {m.unit}: {', '.join(str(m.protocol.get(k, '')) for k in ('at', 'of', 'end'))}")
    print(f"b = {fit.law.b:.3f}, misfit {fit.S:.2f} ({fit.free} degrees of freedom), variances times {fit.scale:.2f}, {about}")
    read = "".join(run.record.provenance["weights_sha256"] + repr(m) for run, m in zip(runs, measured, strict=True)).encode()
    origin = provenance(configs.essential(config), read, read)
    path = settings.results / f"{settings.experiment}_budget" / "seed0.json"
    save_arrays(path.with_suffix(".npz"), arrays_of(fit, {"examples": C, "bound": L, "error": sigma}, paper))
    recipe = shared_by([m.recipe or {} for m in measured])
    Record(f"{settings.experiment}_budget", 0, records[0].tier, recipe, cost(records), origin, rows).save(path)
    print(path)


if __name__ == "__main__":
    app.run(main)
