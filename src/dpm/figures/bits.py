"""Rate and distortion of a file that is cut (2020, Figure 5), and what can be seen of it."""

from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled
from dpm.figures.images import tile

RIVALS = {"png": "PNG", "webp": "WebP", "order_0": "counting", "neighbours": "counting with neighbours"}


@styled
def progressive(arrays: Arrays) -> Figure:
    """Left: RMSE of x_0-hat against the rate; lossless coders of the same images lie on the axis. Right: x_0-hat at the stops.

    arrays: rate_divergence, rate_written (bits/dim), rmse (grey levels), one value a step; rival_<name> (1,); stops, times;
    seen (images, stops, C, H, W).
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    left.plot(arrays["rate_divergence"], arrays["rmse"], "--", label="divergences: the bound")
    left.plot(arrays["rate_written"], arrays["rmse"], "-", label="written")
    chosen = arrays["stops"].astype(int)
    left.plot(arrays["rate_written"][chosen], arrays["rmse"][chosen], "o", color="C1")
    for (name, label), marker in zip(RIVALS.items(), "sD^v", strict=True):
        if f"rival_{name}" in arrays:
            left.plot(arrays[f"rival_{name}"], [0], marker, color="0.3", clip_on=False, label=label)
    left.set(xlabel="bits/dim", ylabel="RMSE (grey levels)", xlim=(0, None), ylim=(0, None))
    left.legend()
    seen = arrays["seen"]
    right.imshow(tile(seen.reshape(-1, *seen.shape[2:]), seen.shape[1]) / 255, interpolation="nearest")
    side = seen.shape[-1]
    places = [k * (side + 1) + (side - 1) / 2 for k in range(len(chosen))]
    right.set_xticks(places, [f"{arrays['rate_written'][k]:.2f}" for k in chosen])
    right.set(xlabel="bits/dim written", yticks=[])
    right.tick_params(length=0)
    right.grid(False)
    right.spines[:].set_visible(False)
    return figure
