"""A signal: windows, samples and their spectrum."""

import numpy as np
from matplotlib.figure import Figure

from dpm.figures import WIDTH, Arrays, styled


@styled
def recording(arrays: Arrays, rate: float = 11025.0) -> Figure:
    """arrays: shown (8, L), four windows of the test set and four samples; spectrum_<training, test, samples> (L / 2 + 1,)."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = arrays["shown"]
    time = np.arange(shown.shape[1]) / rate * 1000
    for place, window in enumerate(shown):
        left.plot(time, window - 5 * place, color="C0" if place < 4 else "C1", linewidth=0.8)
    left.set(xlabel="time (ms)", yticks=[], title="test windows (above), samples (below)")
    for number, name in enumerate(("training", "test", "samples")):
        spectrum = arrays[f"spectrum_{name}"]
        frequency = np.arange(len(spectrum)) / (2 * (len(spectrum) - 1)) * rate / 1000
        right.plot(frequency, 10 * np.log10(spectrum), ["-", "--", "-."][number], color=("C2", "C0", "C1")[number], label=name)
    right.set(xlabel="frequency (kHz)", ylabel="power (dB, white noise: 0)", title="spectrum")
    right.legend()
    return figure
