"""Interpolation between examples: diffuse two of them, mix, and go back (2020, section 4.3 and Figure 8)."""

from typing import Any

from dpm.data import Data
from dpm.drawings import Panel, Walk, examples
from dpm.errors import UserError
from dpm.reverse.first_steps import FirstSteps
from dpm.samplers import last
from dpm.samplers.mixtures import mixed


class Interpolation:
    """Pairs of held-out examples, mixed at the share `time` of the end of time with `between` + 2 weights from 0 to 1.

    A panel each for one of the sources, the weights, and the other source; weights 0 and 1 are reconstructions.
    """

    def __init__(self, pairs: int, time: float, between: int) -> None:
        if pairs < 1 or not 0 < time <= 1 or between < 0:
            raise UserError(f"interpolation: pairs from 1, 0 < time <= 1, between from 0, got {pairs=}, {time=}, {between=}")
        self.pairs, self.time, self.weights = pairs, time, [k / (between + 1) for k in range(between + 2)]

    def __call__(self, reverse: Any, data: Data, walk: Walk) -> list[Panel]:
        end = reverse.process.schedule.end
        t = max(1, round(self.time * end)) if isinstance(end, int) else self.time * end
        one, other = examples(reverse, data, 2 * self.pairs).split(self.pairs)  # type: ignore[no-untyped-call]
        x_t = mixed(reverse.process, one, other, t, self.weights)
        x_0 = last(walk(FirstSteps(reverse, t), x_t.flatten(0, 1))).view_as(x_t)
        way = [Panel(f"{weight:.3g}", x) for weight, x in zip(self.weights, x_0.unbind(1), strict=True)]
        return [Panel("source", one), *way, Panel("source", other)]
