"""Flows between two ends: where they go, and their distances and energies beside a published table and its floor."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from dpm.errors import UserError
from dpm.figures import WIDTH, Arrays, styled
from dpm.study.claims import Claim
from dpm.study.records import Measurement, Record

NAMES = {"wasserstein_distance": "$W_2$ to the target", "normalised_path_energy": "normalised path energy"}


@styled
def journeys(runs: Mapping[str, Arrays]) -> Figure:
    """One panel a run: source, pushed (n, 2) and the lines between them; target in grey."""
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    for axes, (label, arrays) in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs.items(), strict=True):
        axes.scatter(*arrays["target"].T, s=5, color="0.75", label="target")
        lines = np.stack([arrays["source"], arrays["pushed"]], 1)[:150]
        axes.add_collection(LineCollection(list(lines), colors="0.55", linewidths=0.4))
        for k, name in enumerate(("source", "pushed")):
            axes.scatter(*arrays[name][:150].T, s=5, color=f"C{k}", label=name)
        axes.set(title=label, aspect="equal", xlabel="$x^1$", ylabel="$x^2$")
        axes.legend(loc="lower left", markerscale=2)
    return figure


@styled
def table(records: Sequence[Record], claims: Sequence[Claim]) -> Figure:
    """Two panels, W_2 and path energy: a row for each claim that is measured, published +- two deviations, and every seed."""
    answers: dict[str, list[Measurement]] = {}
    for record in records:
        for m in record.measurements:
            if m.claim:
                answers.setdefault(m.claim, []).append(m)
    floors = {r.experiment: m.value for r in records for m in r.measurements if m.quantity == "wasserstein_floor"}
    if not answers:
        raise UserError("records that answer no claim have no place beside the table")
    places = list(dict.fromkeys(claim.id.rsplit("/", 1)[0] for claim in claims if claim.id in answers))
    figure = Figure(figsize=(WIDTH, 1.2 + 0.28 * len(places)), layout="constrained")
    for axes, (quantity, title) in zip(figure.subplots(1, 2, sharey=True), NAMES.items(), strict=True):
        for claim in (claim for claim in claims if claim.quantity == quantity and claim.id in answers):
            place, _ = claim.id.rsplit("/", 1)
            row, error = places.index(place), 2 * (claim.stderr or 0.0)
            low = max(claim.value - error, claim.value / 20)  # on a logarithmic axis
            axes.plot([low, claim.value + error], [row, row], color="0.6", linewidth=5, solid_capstyle="butt")
            axes.plot(claim.value, row, "|", color="0.1", markersize=11)
            axes.plot([m.value for m in answers[claim.id]], [row] * len(answers[claim.id]), "o", color="C0", markersize=3)
            floor = floors.get("tong_2023/" + "_".join(place.split("/")[2:]))
            if quantity == "wasserstein_distance" and floor:
                axes.plot(floor, row, "x", color="C1", markersize=5)
        axes.set_yticks(range(len(places)), [_label(place) for place in places])
        axes.set(xscale="log", xlabel=title, ylim=(len(places) - 0.4, -0.6))
    return figure


def _label(place: str) -> str:
    """tong_2023/table2/ot_cfm/eight_gaussians -> OT-CFM: eight Gaussians."""
    method, points = place.split("/")[2:]
    return f"{method.replace('_', '-').upper()}: {points.replace('_', ' ').replace('gaussians', 'Gaussians')}"
