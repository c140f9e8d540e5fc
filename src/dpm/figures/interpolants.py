"""Stochastic interpolants: equal marginals whatever the noise, and what one error of the drift does at each wave number."""

from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled


@styled
def noises(arrays: Arrays) -> Figure:
    """Left: histograms of samples for each noise and the density; right: divergences of planted errors against their wave.

    arrays: edges, histograms (K, bins), noise (K,), x, density; waves (W,), divergence (K, W) for the same noises.
    """
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, eps in enumerate(arrays["noise"]):
        label = f"ε = {eps:g}" if eps else "flow, ε = 0"
        left.stairs(arrays["histograms"][k], arrays["edges"], color=f"C{k}", label=label)
        right.loglog(arrays["waves"], arrays["divergence"][k], "osD^"[k % 4] + "-", color=f"C{k}", markersize=4, label=label)
    left.plot(arrays["x"], arrays["density"], color="0.15", linewidth=1)
    left.set(
        xlim=(-4, 3.5), ylim=(0, 1.45 * arrays["density"].max()), xlabel="x", ylabel="density at the end", title="line: exact"
    )
    right.set_xticks(arrays["waves"], [f"{k:.0f}" for k in arrays["waves"]])
    right.minorticks_off()
    right.set(xlabel="wave number k of the error", ylabel="KL(exact || model) (nats)")
    left.legend(loc="upper left", ncols=2)
    return figure
