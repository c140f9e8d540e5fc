"""What a reverse process makes on its way (2020, Figures 6, 7, 9, 10, 12): images, and how far they are from the data."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Array, Arrays, styled
from dpm.figures.images import enlarged, tile

ROW_LABELS, COLUMN_LABELS, AXIS_LABEL = 0.4, 0.2, 0.2  # inches beside the images


@styled
def figure_6(arrays: Arrays, rows: int | None = None) -> Figure:
    """Progressive generation: x_0-hat, one sample a row, reverse time from left to right.

    arrays: progressive (n, columns, C, H, W), progressive_times (columns,). rows: the first so many samples, or all.
    """
    images = arrays["progressive"][:rows]
    figure, (axes,) = side_by_side(images[None], 0, COLUMN_LABELS + AXIS_LABEL)
    labelled(axes, images, columns=_whole(arrays["progressive_times"]))
    axes.set_xlabel("$t$", labelpad=0)
    return figure


@styled
def figure_7(arrays: Arrays, rows: int | None = None) -> Figure:
    """Groups of images that share x_t: draws of x_0 given x_t, and x_t itself at the bottom right; one chain a row.

    arrays: shared_times (k,), shared_x_t (chains, k, C, H, W), shared_x_0 (chains, k, completions, C, H, W). rows: the first
    so many chains, or all.
    """
    images = np.concatenate([arrays["shared_x_0"], arrays["shared_x_t"][:, :, None]], 2)[:rows]
    (chains, columns, count), side = images.shape[:3], math.isqrt(images.shape[2])
    if side**2 != count:  # as few as fill a square, the last one in its corner
        side += 1
        white = np.full((chains, columns, side**2 - count, *images.shape[3:]), 255.0)
        images = np.concatenate([images[:, :, :-1], white, images[:, :, -1:]], 2)
    figure = Figure(figsize=(WIDTH, WIDTH * chains / columns + COLUMN_LABELS), layout="constrained")
    groups = images.reshape(-1, side, side, *images.shape[3:])
    for place, group in zip(figure.subplots(chains, columns, squeeze=False).flat, groups, strict=True):
        labelled(place, group)
    for place, t in zip(figure.axes, _whole(arrays["shared_times"]), strict=False):
        place.set_title(f"share $x_{{{t}}}$")
    return figure


@styled
def figure_9(arrays: Arrays) -> Figure:
    """Interpolation, coarse to fine: sources, reconstructions, and lambda in between; steps of diffusion from top to bottom.

    arrays: interpolation (pairs, times, lambdas, C, H, W), lambdas from 0 to 1; interpolation_sources (pairs, 2, C, H, W),
    interpolation_times, interpolation_lambdas. Figure 8 is one of its rows.
    """
    images, sources = arrays["interpolation"], arrays["interpolation_sources"]
    one, other = (np.broadcast_to(sources[:, None, k, None], (*images.shape[:2], 1, *images.shape[3:])) for k in (0, 1))
    images = np.concatenate([one, images, other], 2)
    mixed = [f"{weight:g}" for weight in arrays["interpolation_lambdas"][1:-1]]
    figure, panels = side_by_side(images, ROW_LABELS + AXIS_LABEL, COLUMN_LABELS)
    for axes, pair in zip(panels, images, strict=True):
        labelled(axes, pair, ["source", "rec.", *mixed, "rec.", "source"], _whole(arrays["interpolation_times"]))
        axes.set_ylabel("diffusion steps")
    return figure


@styled
def beside_test_images(arrays: Arrays) -> Figure:
    """Samples above as many test images, each with its distance between Gaussians of patches from the training images.

    arrays: samples, test_images (n, C, H, W); patch_distance_train_mean and _stderr, whose last is that of all samples;
    patch_distance_floor: mean and standard deviation over sets of as many test images.
    """
    columns = min(12, len(arrays["samples"]))
    whole = len(arrays["samples"]) // columns * columns
    images = np.stack([arrays[kind][:whole] for kind in ("samples", "test_images")])
    images = images.reshape(2, -1, columns, *images.shape[2:])
    mean, stderr = (arrays[f"patch_distance_train_{key}"][-1] for key in ("mean", "stderr"))
    floor, spread = arrays["patch_distance_floor"]
    figure, (above, below) = side_by_side(images, 0, COLUMN_LABELS)
    labelled(above, images[0])
    above.set_xlabel(f"samples: patch distance {mean:.1f} ± {stderr:.1f} grey levels", labelpad=1)
    labelled(below, images[1])
    below.set_xlabel(f"test images: patch distance {floor:.1f} ± {spread:.1f} grey levels", labelpad=1)
    return figure


@styled
def figure_10(arrays: Arrays) -> Figure:
    """Quality of x_0-hat along the reverse process: inception score, and FID against the training images.

    arrays: inception_score and fid_train, each with _step, _mean, _stderr.
    """
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    for axes, (name, label) in zip(
        figure.subplots(1, 2), {"inception_score": "inception score", "fid_train": "FID"}.items(), strict=True
    ):
        _along(axes, arrays, name, label)
    return figure


@styled
def figure_10_without_inception(arrays: Arrays) -> Figure:
    """The same by a distance that needs no network: Gaussians of patches, against those of the training images.

    arrays: patch_distance_train_step, _mean, _stderr, and patch_distance_floor: mean and standard deviation over sets of as
    many test images.
    """
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    _along(axes, arrays, "patch_distance_train", "patch distance (grey levels)")
    mean, spread = arrays["patch_distance_floor"]
    axes.axhline(mean, linestyle="--", color="C2", label="as many test images")
    axes.axhspan(mean - spread, mean + spread, color="C2", alpha=0.2, linewidth=0)
    axes.legend()
    return figure


@styled
def nearest_neighbours(arrays: Arrays, rows: int | None = None) -> Figure:
    """Samples in the leftmost column, then the training images that are nearest in pixel space.

    arrays: neighbours (n, 1 + k, C, H, W), neighbour_rmse (n, k) in grey levels, of which the first is written. rows: the
    first so many samples, or all.
    """
    images = arrays["neighbours"][:rows]
    figure, (axes,) = side_by_side(images[None], ROW_LABELS + AXIS_LABEL, COLUMN_LABELS)
    nearest = [f"{value:.0f}" for value in arrays["neighbour_rmse"][:rows, 0]]
    labelled(axes, images, ["sample", *map(str, range(1, images.shape[1]))], nearest)
    axes.set_ylabel("RMS distance")
    return figure


def side_by_side(images: Array, left: float, bottom: float) -> tuple[Figure, Sequence[Axes]]:
    """A figure with one place for each panel (panels, rows, columns, C, H, W), and room for labels (inches) at two sides."""
    panels, rows, columns = images.shape[:3]
    pixels = columns * (images.shape[5] + 1) - 1
    width = enlarged(pixels, WIDTH - left)
    height = width * (rows * (images.shape[4] + 1) - 1) / pixels
    whole, total = left + width, panels * (height + bottom)
    figure = Figure(figsize=(whole, total))
    lows = [total - (k + 1) * height - k * bottom for k in range(panels)]
    return figure, [figure.add_axes((left / whole, low / total, width / whole, height / total)) for low in lows]


def labelled(axes: Axes, images: Array, columns: Sequence[str] = (), rows: Sequence[str] = ()) -> None:
    """(rows, columns, C, H, W) in grey levels, pixel for pixel, with a label for each row and column."""
    height, width = images.shape[3:]
    axes.imshow(tile(images.reshape(-1, *images.shape[2:]), images.shape[1]) / 255, interpolation="nearest")
    axes.set_xticks([k * (width + 1) + (width - 1) / 2 for k in range(len(columns))], columns)
    axes.set_yticks([k * (height + 1) + (height - 1) / 2 for k in range(len(rows))], rows)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _along(axes: Axes, arrays: Arrays, name: str, label: str) -> None:
    """A score against reverse steps, with bars of two standard errors where it has an error."""
    step, mean, stderr = (arrays[f"{name}_{key}"] for key in ("step", "mean", "stderr"))
    axes.errorbar(step, mean, 2 * stderr, fmt="o-", markersize=2.5, linewidth=1)
    axes.set(xlabel="reverse steps T − t + 1", ylabel=label, xlim=(0, None), ylim=(0, None))


def _whole(numbers: Array) -> list[str]:
    return [f"{number:.0f}" for number in numbers]
