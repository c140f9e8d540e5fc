"""From one recipe to another, one change a rung, in bits."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure

from dpm.facts import Scalar
from dpm.figures import DASHES, WIDTH, styled
from dpm.study.claims import Claim
from dpm.study.records import Record, over_seeds
from dpm.study.results import selected


@styled
def rungs(
    records: Sequence[Record], rungs: Mapping[str, Mapping[str, Scalar]], claims: Sequence[Claim] = (), unit: str = "bits/dim"
) -> Figure:
    """L of each rung with two standard errors, from top to bottom, and its distance from the one above.

    rungs, by label: the `experiment` and the facts that one of its bounds has; those without a record are left out. claims:
    the paper's own bounds on test images are drawn as vertical lines, best last.
    """
    steps = {}
    for label, wanted in rungs.items():
        facts = {key: fact for key, fact in wanted.items() if key != "experiment"}
        own = [record for record in records if record.experiment == wanted["experiment"]]
        if found := selected(own, "nll_bound", facts):
            steps[label] = over_seeds(found)
    values = [mean.value for mean in steps.values()]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.3 * len(steps)), layout="constrained")
    axes = figure.subplots()
    axes.step(values, range(len(values)), where="pre", color="0.6", linewidth=0.8)
    axes.errorbar(values, range(len(values)), xerr=[2 * (mean.stderr or 0.0) for mean in steps.values()], fmt="o", capsize=3)
    offset: dict[str, Any] = {
        "textcoords": "offset points",
        "va": "center",
        "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
    }
    for place, (before, after) in enumerate(pairwise(values), 1):
        gain = f"{after - before:+.3f}".replace("-", "−")
        axes.annotate(gain, (max(before, after), place), (6, 0), fontsize=7, **offset)
    theirs = sorted((c for c in claims if _of_test_images(c)), key=lambda claim: -claim.value)
    for dashes, claim in zip(DASHES[1:], theirs, strict=False):
        axes.axvline(
            claim.value, color="0.3", linewidth=1, linestyle=dashes, label=f"paper, {claim.id.split('/')[-2]}: {claim.amount}"
        )
    axes.set_yticks(range(len(steps)), list(steps))
    axes.set(xlabel=f"L ({unit})", ylim=(len(steps) - 0.5, -0.5))
    axes.margins(x=0.2)
    if theirs:
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def _of_test_images(claim: Claim) -> bool:
    return claim.quantity == "nll_bound" and not claim.reference and claim.protocol.get("split") == "test"
