"""What a bound with an error bar costs: all terms, one uniform random time per image, and sampled terms, on one network."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dpm import seeds
from dpm.bound import draw, term
from dpm.data import Data
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import nats_per_unit
from dpm.evaluators.sampled import SampledNLL, Z, sampled, visit
from dpm.facts import Scalar
from dpm.reverse import Reverse, facts_of
from dpm.study.records import Measurement

UNIFORM = 4000  # evaluations that measure what a uniform random time costs, a few for each t
STREAM = 10**6  # numbers of our own among the evaluation's random streams


@torch.no_grad()
def every_term(reverse: Reverse, x_0: Tensor, seed: int, repetition: int) -> Tensor:
    """L_t at one draw of x_t for each image and t = 1..T, (n, T), nats."""

    def columns() -> Iterator[Tensor]:
        for t in range(1, len(reverse.process.schedule) + 1):
            seeds.seed_everything(seed, seeds.EVALUATION, STREAM, t, repetition)
            times = torch.full((len(x_0),), t, device=x_0.device)
            yield term(reverse, x_0, draw(reverse.process, x_0, times), times - 1, times).double()

    return torch.stack(list(columns()), 1)


def needed(deviation: float, half_width: float, per_visit: int = 1) -> float:
    """Evaluations for a 95 % interval of +-half_width, where visits contribute independently with this deviation."""
    return per_visit * (Z * deviation / half_width) ** 2


class Estimators:
    """Estimators of the bound L on all examples: the network evaluations that a 95 % interval of +-`half_width` takes.

    `all_terms` looks at every term; `uniform` draws one random t >= 1 for an image; `uniform_apart` one t >= 2, and spends a
    second evaluation on the decoder's term of that image; `sampled` is `bound`, with and without its control variate. The
    ratios say how many more the others take for the interval that `sampled` reached. On the first `all_terms_on` images every
    term is evaluated as well, twice, so that sampled terms can be compared with what they estimate.
    """

    def __init__(self, bound: SampledNLL, half_width: float, all_terms_on: int) -> None:
        if not half_width > 0 or all_terms_on < 2 or bound.control is None:
            raise UserError(f"a control variate, half_width > 0, two images with all terms: {half_width=}, {all_terms_on=}")
        self.bound, self.half_width, self.all_terms_on = bound, half_width, all_terms_on

    def __call__(self, reverse: Reverse, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        bound, unit = self.bound, self.bound.unit
        model, n, T, scale = bound.wrap(reverse), len(x_0), len(reverse.process.schedule), nats_per_unit(unit, x_0)
        assert bound.control is not None
        control, batch = bound.control(data=data, device=x_0.device), bound.batch_size
        masses = control.masses(reverse.process, 1).cpu()
        rows: list[Measurement] = []

        def row(quantity: str, value: float, stderr: float | None, images: int, of: str, **about: Scalar) -> None:
            rows.append(Measurement(quantity, value, stderr, images, of, {**facts_of(model), **about}, error="estimate"))

        row("evaluations", n * T, None, n, "evaluations", estimator="all_terms")
        deviations = self.uniform(model, x_0, scale, seed)
        for name, (deviation, per_visit) in deviations.items():
            cost = needed(deviation, self.half_width, per_visit)
            row("evaluations", cost, None, n, "evaluations", estimator=name, half_width=self.half_width)
        for name, chosen in (("sampled_without_control", None), ("sampled", control)):
            width = self.half_width * scale
            result = sampled(model, x_0, 1, masses, chosen, bound.pilot, width, bound.passes, batch, seed)
            value, stderr = (number / scale for number in result.part(1, T))
            reached = round(Z * stderr, 4)
            row("nll_bound", value, stderr, n, unit, estimator=name)
            row("evaluations", result.evaluations, None, n, "evaluations", estimator=name, half_width=reached)
        for name, (deviation, per_visit) in deviations.items():
            ratio = needed(deviation, Z * stderr, per_visit) / result.evaluations
            row("evaluation_ratio", ratio, None, n, "1", estimator=name, half_width=reached)
        few = x_0[: self.all_terms_on]
        one, two = (every_term(model, few, seed, repetition).sum(1) / scale for repetition in range(2))
        noise = float((one - two).std()) / (2 * math.sqrt(len(few)))  # of the mean of both, the images given
        row("nll_bound", float(one.mean() + two.mean()) / 2, noise, len(few), unit, estimator="all_terms_first_images")
        again = sampled(model, few, 1, masses, control, len(few), 1e-9, 100, batch, seed)
        value, stderr = (k / scale for k in again.part(1, T))
        row("nll_bound", value, stderr, len(few), unit, estimator="sampled_first_images")
        return Evaluation(tuple(rows))

    def uniform(self, model: Reverse, x_0: Tensor, scale: float, seed: int) -> dict[str, tuple[float, int]]:
        """The deviation of an image's estimate from a uniform random time, and the evaluations that it takes.

        The second way only where two of the visits saw the decoder at least.
        """
        T = len(model.process.schedule)
        key = seed, seeds.EVALUATION, STREAM
        seen = visit(model, x_0, torch.ones(T), 1, None, min(UNIFORM, len(x_0)), self.bound.batch_size, *key)
        later, decoded = seen.t > 1, seen.term[seen.t == 1] / T
        transitions = seen.term[later] * (T - 1) / T
        together = {"uniform": (float(seen.term.std()) / scale, 1)}
        if len(decoded) < 2:
            return together
        return together | {"uniform_apart": (math.hypot(float(transitions.std()), float(decoded.std())) / scale, 2)}
