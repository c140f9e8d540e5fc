"""Variants of an experiment: what they have in common, the order in which they stand, and how they differ, seeds paired."""

from collections.abc import Mapping, Sequence

import numpy as np

from dpm.study.records import standard_error

Settings = Mapping[str, str]


def common(settings: Sequence[Settings]) -> dict[str, str]:
    """What all of several variants were told alike; of one alone nothing is told apart from the rest."""
    if len(settings) < 2:
        return {}
    return {key: value for key, value in settings[0].items() if all(own.get(key) == value for own in settings)}


def keys_of(settings: Sequence[Settings]) -> list[str]:
    """Every key that some of them have, in the order in which they come."""
    return list(dict.fromkeys(key for own in settings for key in own))


def is_number(text: str | None) -> bool:
    try:
        return text is not None and bool(np.isfinite(float(text)))
    except ValueError:
        return False


def place(text: str | None) -> tuple[int, float, str]:
    """Where a value stands among others of its key: what is not set first, then numbers by their size, then names."""
    if text is None:
        return 0, 0.0, ""
    return (1, float(text), "") if is_number(text) else (2, 0.0, text)


def paired(found: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float | None] | None:
    """Mean over the seeds that both have of the difference, and its error where these are two at least; None without any.

    Two runs of one seed see the same batches and the same validation examples: what these do to both is not in the error.
    """
    differences = np.array([found[seed] - other[seed] for seed in found if seed in other])
    if not len(differences):
        return None
    return float(differences.mean()), standard_error(differences) if len(differences) > 1 else None
