"""Signals that ask to stop, answered at once and obeyed where all is whole; and what is said meanwhile."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from tqdm import tqdm

from dpm.runs.app import STOPPING, silence


@dataclass
class Asked:
    """Whether a signal asked to stop, and whether it may be obeyed at once, because all is saved.

    until: what is waited for; left: what holds after a stop.
    """

    until: str
    left: str
    signal: int | None = None
    at_once: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        if self.at_once:
            self.stop("during a validation")
        tqdm.write(f"{signal.Signals(number).name}: stopping when {self.until}", file=sys.stderr)

    def stop(self, where: str) -> NoReturn:
        tqdm.write(f"stopped {where}; {self.left}", file=sys.stderr)
        sys.exit(128 + (self.signal or signal.SIGTERM))


@contextmanager
def deferred_signals(until: str, left: str) -> Iterator[Asked]:
    """Note what asks to stop instead of dying of it: between two steps a state is whole, within one it is not."""
    asked = Asked(until, left)
    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, *STOPPING)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """A line on standard output, above the progress bar; a reader who has gone away is no reason to stop."""
    try:
        tqdm.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
