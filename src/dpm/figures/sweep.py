"""A measured quantity against the setting that a sweep varied, with what limits it."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import MARKERS, WIDTH, Array, styled
from dpm.study.claims import Claim
from dpm.study.records import Measurement, Record, over_seeds
from dpm.study.results import selected
from dpm.study.variants import is_number, place

BESIDE = 0.012  # of the axis, between lines


@dataclass(frozen=True)
class Line:
    """One model over the sweep: mean and error over the seeds, with ceiling and oracle where they are known (else nan)."""

    x: Array
    value: Array
    error: Array
    ceiling: Array
    oracle: Array


@styled
def against(
    records: Sequence[Record],
    claim: Claim,
    protocol: Mapping[str, object],
    x: str,
    xlabel: str,
    by: str = "network",
    ylabel: str = "K",
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """The quantity of `claim`, measured by `protocol`, against the protocol's `x`, with a line per value of its `by`.

    `labels` says how such a value is called, where not as it is.
    Error bars are the standard errors over the seeds. The ceiling is dotted, the oracle of a line's schedules dashed in
    the colour of the line, the paper's number a horizontal line.
    """
    lines = dict(_lines(records, claim.quantity, protocol, x, by))
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    _ceiling(axes, list(lines.values()))
    for index, (name, line) in enumerate(lines.items()):
        label = (labels or {}).get(name, name)
        colour, marker = f"C{index}", MARKERS[index % len(MARKERS)]
        if np.isfinite(line.oracle).sum() > 1:
            axes.plot(line.x, line.oracle, "--", color=colour, linewidth=1, label=f"oracle, {label}")
        axes.errorbar(line.x, line.value, line.error, fmt=f"{marker}-", color=colour, label=label)
    axes.axhline(claim.value, color="0.3", linewidth=1, linestyle="-.", label=f"paper: {claim.amount}")
    ticks = sorted({float(value) for line in lines.values() for value in line.x})
    axes.set_xticks(ticks, [_tick(tick) for tick in ticks])
    axes.tick_params(axis="x", which="minor", length=0, labelbottom=False)
    axes.set(xlabel=xlabel, ylabel=f"{ylabel} ({claim.unit})")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _ceiling(axes: Axes, lines: Sequence[Line]) -> None:
    """The ceiling depends on the data and on the first step only: all lines share it."""
    points = {float(x): float(y) for line in lines for x, y in zip(line.x, line.ceiling, strict=True) if np.isfinite(y)}
    if points:
        axes.plot(sorted(points), [points[x] for x in sorted(points)], ":", color="0.15", label="ceiling")


def _lines(
    records: Sequence[Record], quantity: str, protocol: Mapping[str, object], x: str, by: str
) -> Iterator[tuple[str, Line]]:
    """The lines in the order of their names; one record may have a measurement for each."""
    found: dict[str, dict[float, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    names = {str(m.facts[by]) for record in records for m in record.measurements if by in m.facts and m.quantity == quantity}
    for name in names:
        for m in selected(records, quantity, {**protocol, by: name}):
            found[name][float(m.facts[x])].append(m)
    for label, points in sorted(found.items()):
        means = [over_seeds(points[value]) for value in sorted(points)]
        columns = ([getattr(mean, name) for mean in means] for name in ("value", "stderr", "ceiling", "oracle"))
        yield label, Line(np.array(sorted(points)), *(np.array(column, dtype=np.float64) for column in columns))


def _tick(value: float) -> str:
    exponent = math.log10(value)
    return f"$10^{{{exponent:.0f}}}$" if value < 0.1 and math.isclose(exponent, round(exponent)) else f"{value:g}"


@styled
def variants(
    settings: Sequence[Mapping[str, str]], values: Sequence[float], errors: Sequence[float], label: str, reference: int = -1
) -> Figure:
    """One point with its error for each set of settings; `reference` is the index of the one that others are changes of.

    Against a setting that is a number everywhere, with a line for each value of a second one if there is one, and the
    reference as a band; otherwise one row for each set, in their order.
    """
    changed = [k for k in range(len(settings)) if k != reference]
    keys = list(dict.fromkeys(key for k in changed for key in settings[k]))
    numbers = [key for key in keys if all(is_number(settings[k].get(key)) for k in changed)] if len(keys) <= 2 else []
    names = [_name(own, settings) for own in settings]
    lines = sum(name.count("\n") + 1 for name in names)
    figure = Figure(figsize=(WIDTH, 3.0 if numbers else 0.9 + 0.2 * max(lines, len(names) + 1)), layout="constrained")
    axes = figure.subplots()
    if numbers:
        x, others = numbers[0], [key for key in keys if key != numbers[0]]
        if reference >= 0:
            middle, error = values[reference], errors[reference]
            axes.axhspan(middle - error, middle + error, color="0.85", linewidth=0, label="as configured")
        points = [(float(settings[k][x]), values[k], errors[k]) for k in changed]
        _lines_through(axes, points, [", ".join(f"{key} = {settings[k].get(key)}" for key in others) for k in changed])
        axes.set(xlabel=x, ylabel=label.replace(" (", "\n("))
    else:
        rows = range(len(settings))
        axes.errorbar(values, rows, xerr=errors, fmt="o", capsize=3)
        axes.set_yticks(rows, names)
        axes.set(xlabel=label, ylim=(len(names) - 0.5, -0.5))
    return figure


def _name(own: Mapping[str, str], among: Sequence[Mapping[str, str]]) -> str:
    """The settings in which it differs from others, one on each line."""
    differing = [f"{key} = {value}" for key, value in own.items() if any(other.get(key) != value for other in among)]
    return "\n".join(differing) or "as configured"


def _lines_through(axes: Axes, points: Sequence[tuple[float, float, float]], names: Sequence[str]) -> None:
    """A line through the points (x, value, error) of each name, a little beside the others, with ticks at every x."""
    ticks = sorted({x for x, _, _ in points})
    log = ticks[0] > 0 and ticks[-1] > 20 * ticks[0]
    axes.set_xscale("log" if log else "linear")
    apart = BESIDE * (math.log(ticks[-1] / ticks[0]) if log else ticks[-1] - ticks[0])
    order = sorted(set(names), key=lambda name: place(name.rpartition(" = ")[2]))  # 8 before 16
    for index, name in enumerate(order):
        x, value, error = np.array(sorted(p for p, own in zip(points, names, strict=True) if own == name)).T
        shift = apart * (index - (len(order) - 1) / 2)
        beside, marker = x * math.exp(shift) if log else x + shift, MARKERS[index % len(MARKERS)]
        axes.errorbar(beside, value, error, fmt=f"{marker}-", color=f"C{index}", capsize=3, label=name or None)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.tick_params(axis="x", which="minor", length=0, labelbottom=False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
