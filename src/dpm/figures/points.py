"""Samples of points: a histogram on a line, else the first two coordinates."""

from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled


@styled
def samples(arrays: Arrays) -> Figure:
    """arrays: samples (n, d)."""
    points = arrays["samples"]
    figure = Figure(figsize=(0.6 * WIDTH, 0.5 * WIDTH), layout="constrained")
    axes = figure.subplots()
    if points.shape[1] == 1:
        axes.hist(points[:, 0], bins=60, density=True, color="C1")
        axes.set(xlabel="$x_0$", ylabel="density")
    else:
        axes.scatter(points[:, 0], points[:, 1], s=2, color="C1", linewidths=0, rasterized=True)
        axes.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
    return figure
