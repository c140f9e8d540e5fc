"""Consistency models in one dimension: the maps, and the errors of grids of times; solvers of the flow beside them."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled

METHODS = ("distillation, Euler", "distillation, Heun", "training")  # rows of grid_error


@styled
def maps(arrays: Arrays) -> Figure:
    """Left: from noise x_T to data by the exact flow, the method's fixed point, and its network; right: errors of the grid.

    arrays: x, exact, fixed_point, network (n,); steps (k,), grid_error (3, k).
    """
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label, style in (("exact", "flow", "-"), ("fixed_point", "fixed point", "--"), ("network", "network", ":")):
        left.plot(arrays["x"], arrays[name], style, label=label)
    left.set(xlabel="$x_T$", ylabel="$f(x_T, T)$")
    left.legend()
    lines(right, arrays["steps"], dict(zip(METHODS, arrays["grid_error"], strict=True)))
    right.set(xlabel="times N of the grid", ylabel="root mean square error")
    return figure


@styled
def solvers(arrays: Arrays) -> Figure:
    """Errors of Euler's and Heun's method against their steps; arrays: steps, and <field>_<method> of the same length."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots()
    names = [(field, method) for field in ("exact", "network") for method in ("euler", "heun")]
    lines(axes, arrays["steps"], {f"{method.title()}, {field} score": arrays[f"{field}_{method}"] for field, method in names})
    axes.set(xlabel="steps", ylabel="root mean square error")
    return figure


def lines(axes: Axes, steps: Array, errors: dict[str, Array]) -> None:
    """Against the number of steps, on logarithmic axes."""
    for k, (label, error) in enumerate(errors.items()):
        axes.loglog(steps, error, f"{'osD^'[k]}{('-', '--')[k // 2 if len(errors) > 3 else 0]}", markersize=4, label=label)
    axes.set_xticks(steps, [f"{number:.0f}" for number in steps])
    axes.minorticks_off()
    axes.legend()
