"""Exercises of the notebooks: a student's number beside the truth, and beside what known mistakes give.

An exercise is three cells. A folded one makes the `Exercise`: it computes the truth, and the number of each mistake by making
it. The student's ends with `judge`, which prints a line and never stops the notebook. A folded solution asserts `right`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from dpm.errors import UserError


@dataclass(frozen=True)
class Exercise:
    """`mistakes`: what to look at -> the number that comes out with that mistake, first the one that the student's cell holds.

    `allowed` is how far an answer may be from a number that it is taken for; no two of these may be nearer than twice that.
    """

    truth: float
    unit: str  # of the distance, "" for a pure number
    allowed: float
    mistakes: Mapping[str, float]

    def __post_init__(self) -> None:
        for (a, x), (b, y) in combinations([("the truth", self.truth), *self.mistakes.items()], 2):
            if not abs(x - y) > 2 * self.allowed:
                raise UserError(
                    f'"{a}" ({x:g}) and "{b}" ({y:g}) cannot be told apart by answers that may be off by {self.allowed:g}: '
                    "allow less, or choose a case in which they differ"
                )

    def judge(self, answer: object) -> None:
        print(self.verdict(answer))

    def right(self, answer: object) -> bool:
        return self.verdict(answer).startswith("right")

    def verdict(self, answer: object) -> str:
        """One line, also for an answer that is no number."""
        if answer is None or answer is ...:
            return "not answered yet"
        try:
            number = float(answer)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError):  # by torch, for a tensor of many
            return f"one number is asked for, not {type(answer).__name__}{list(getattr(answer, 'shape', ())) or ''}"
        if not math.isfinite(number):
            return f"one number is asked for, not {number}"
        if abs(number - self.truth) <= self.allowed:
            return f"right: {number:.4g} {self.unit}".strip()
        distance = abs(number - self.truth)
        size = f"{distance:.2g}" if distance < 100 else f"{distance:.0f}"
        line = f"{size} {self.unit}".strip() + f" {'above' if number > self.truth else 'below'} the truth"
        hints = [hint for hint, of_mistake in self.mistakes.items() if abs(number - of_mistake) <= self.allowed]
        return line + "".join(f", as with a known mistake: look at {hint}" for hint in hints)
