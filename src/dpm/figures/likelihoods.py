"""Estimates of one likelihood side by side: which model each belongs to, and the truth where it is known."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from dpm.errors import UserError
from dpm.figures import WIDTH, styled
from dpm.study.records import Measurement, Record

NAMES = {
    "limit": "infinitely many steps",
    "information": "information-theoretic",
    "flow": "probability flow",
    "dequantised_flow": "flow, dequantised",
}
COLOURS = {"chain": "C0", "sde": "C1", "flow": "C2"}


def label(m: Measurement) -> str:
    """Of a row: its estimator, and K of the trajectories."""
    estimator = str(m.protocol["estimator"])
    name = NAMES.get(estimator, estimator)
    return f"{name}, K = {m.protocol['K']}" if "K" in m.protocol else name


@styled
def estimates(records: Sequence[Record]) -> Figure:
    """One row an estimator, one point a record with two standard errors; a line for the mean truth on the same examples."""
    quantity = next((m.quantity for m in records[0].measurements if "estimator" in m.protocol), None) if records else None
    if quantity is None:
        raise UserError("estimates of a likelihood are drawn from records that have some: evaluators=likelihoods")
    rows = [m for m in records[0].measurements if m.quantity == quantity and "estimator" in m.protocol]
    labels = [label(m) for m in rows]
    figure = Figure(figsize=(WIDTH, 0.8 + 0.34 * len(rows)), layout="constrained")
    axes, seen = figure.subplots(), set[str]()
    for number, record in enumerate(records):
        shift = 0.12 * (number - (len(records) - 1) / 2)
        for m in record.measurements:
            if m.quantity == quantity and "estimator" in m.protocol:
                model = str(m.protocol["model"])
                new: dict[str, Any] = (
                    {"label": f"of the {model.upper() if model == 'sde' else model}"} if model not in seen else {}
                )
                seen.add(model)
                y = len(labels) - labels.index(label(m)) + shift
                error = None if m.stderr is None else 2 * m.stderr
                axes.errorbar(m.value, y, xerr=error, fmt="o", markersize=4, color=COLOURS[model], **new)
    truths = [m for record in records for m in record.measurements if m.quantity == "log_likelihood"]
    if truths:
        axes.axvline(sum(m.value for m in truths) / len(truths), color="0.15", linestyle="--", label="truth")
    axes.set_yticks(range(len(labels), 0, -1), labels)
    better = "log likelihood: higher is better" if quantity == "log_likelihood_bound" else "-log likelihood: lower is better"
    axes.set(xlabel=f"{better} ({rows[0].unit})", ylim=(0.4, len(labels) + 0.6))
    figure.legend(loc="outside upper center", ncols=4)
    return figure
