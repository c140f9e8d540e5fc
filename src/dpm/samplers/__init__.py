"""Samplers: generators that walk a reverse process from noise to data."""

from collections import deque
from collections.abc import Iterable
from typing import TypeVar

State = TypeVar("State")


def last(states: Iterable[State]) -> State:
    """Where a walk ends; no other state of it is kept."""
    return deque(states, maxlen=1).pop()
