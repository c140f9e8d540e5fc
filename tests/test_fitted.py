"""Parts that are fitted to validation images: stage by stage, not on the images that they are judged on; what they gain."""

import math

import pytest
import torch
from test_memory import smooth
from torch import Tensor, nn

from dpm import schedules
from dpm.bound import draw, term
from dpm.decoders import Discretized
from dpm.errors import UserError
from dpm.evaluators.fitted import InStages, Stage
from dpm.evaluators.sampled import SampledNLL
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.correlated import Correlated, correlated
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.memory import Memory, with_memory
from dpm.variances import FixedLarge

T, LAST = 20, 4
Q = GaussianDiffusion(schedules.linear(T, 1e-4, 0.3))
SETTINGS = {"unit": "bits/dim", "batch_size": 64}


class Images:
    """100 validation images, and none for anything else."""

    def validation(self, n: int) -> Tensor:
        return smooth(100, 0)[:n]


class Pale(nn.Module):
    """x_0-hat = 0.9 x_t: its errors are as smooth as the images."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return 0.9 * x_t


def reverse() -> GaussianReverse:
    return GaussianReverse(Q, Pale(), X0(), FixedLarge(), Discretized())


def stages() -> list[Stage]:
    bound = SampledNLL(**SETTINGS, control=None, pilot=100, half_width=1e-9, passes=2)
    return [
        Stage("memory", lambda p, x, seed: with_memory(p, x, seed, 2, 2, 64), bound),
        Stage("correlated", lambda p, x, seed: correlated(p, x, seed, LAST, 64), bound),
    ]


def in_stages(n: int = 80, last: int = LAST) -> InStages:
    return InStages(n, lambda p: p, stages(), last, **SETTINGS)


def test_every_stage_is_fitted_on_top_of_the_one_before_and_says_to_what() -> None:
    seen = []

    def record(name: str, fit):
        def recorded(p, x, seed):
            seen.append((name, type(p).__name__, x))
            return fit(p, x, seed)

        return recorded

    parts = [Stage(s.name, record(s.name, s.fit), s.evaluator) for s in stages()]
    evaluation = InStages(80, lambda p: p, parts, LAST, **SETTINGS)(reverse(), Images(), smooth(300, 1), 0)
    assert [(name, kind) for name, kind, _ in seen] == [("memory", "GaussianReverse"), ("correlated", "GaussianReverse")]
    assert all(torch.equal(x, smooth(100, 0)[:80]) for _, _, x in seen)
    bounds = [m for m in evaluation.measurements if m.quantity == "nll_bound"]
    assert [(m.protocol["decoder"], m.protocol.get("covariance")) for m in bounds] == [
        ("Memory", "pixels"),
        ("Memory", "cosines"),
    ]
    assert {(m.protocol["fitted_on"], m.protocol["n_fitted"]) for m in evaluation.measurements} == {("validation", 80)}
    assert {key.split("_")[0] for key in evaluation.arrays} == {"memory", "correlated"}


def test_a_stage_may_take_training_examples_and_a_number_says_what_each_part_was_fitted_to() -> None:
    class Both(Images):
        facts, batch, held_out = {}, None, None

        def training(self) -> Tensor:
            return smooth(50, 2)

    seen = []

    def fit(p, x, seed):
        seen.append(x)
        return with_memory(p, x, seed, 2, 2, 64)

    first, second = stages()
    parts = [Stage(first.name, fit, first.evaluator, training=30), second]
    evaluation = InStages(80, lambda p: p, parts, LAST, **SETTINGS)(reverse(), Both(), smooth(300, 1), 0)
    assert torch.equal(*seen, smooth(50, 2)[:30])
    one, other = (m.protocol for m in evaluation.measurements if m.quantity == "nll_bound")
    assert (one["trained_on"], one["n_trained"]) == (other["trained_on"], other["n_trained"]) == ("training", 30)
    assert (other["fitted_on"], other["n_fitted"]) == ("validation", 80)
    assert "fitted_on" not in one
    with pytest.raises(UserError, match="training"):
        InStages(80, lambda p: p, parts, LAST, **SETTINGS)(reverse(), Images(), smooth(300, 1), 0)


def test_the_excess_is_the_difference_of_the_bounds() -> None:
    """Against every term of both processes on the same images; its parts add up."""
    data, x_0, p = Images(), smooth(1000, 1), reverse()
    *_, whole, decoder, others = in_stages()(p, data, x_0, 0).measurements
    first, second = (stage.fit for stage in stages())
    after = second(first(p, data.validation(80), 0), data.validation(80), 0)
    assert isinstance(after, Correlated)
    assert isinstance(after.reverse.decoder, Memory)
    exact = []
    torch.manual_seed(1)
    for t in range(1, T + 1):
        times = torch.full((len(x_0),), t)
        x_t = draw(Q, x_0, times)
        nats = term(after, x_0, x_t, times - 1, times) - term(p, x_0, x_t, times - 1, times)
        difference = nats / (x_0[0].numel() * math.log(2))
        exact.append((difference.mean().item(), difference.var().item() / len(x_0)))
        if t > LAST:
            assert not difference.any()
    for m, part in ((whole, exact), (decoder, exact[:1]), (others, exact[1:])):
        value, variance = (sum(column) for column in zip(*part, strict=True))
        assert m.quantity == "nll_excess"
        assert m.value == pytest.approx(value, abs=4 * math.hypot(m.stderr, variance**0.5))
    assert whole.value == pytest.approx(decoder.value + others.value)
    assert [m.protocol["part"] for m in (whole, decoder, others)] == ["all", "reconstruction", "transitions"]
    assert max(decoder.value, others.value) < 0  # both gain


@pytest.mark.parametrize("wrong", [{"n": 0}, {"last": 0}])
def test_settings_that_cannot_be_meant_are_refused(wrong) -> None:
    with pytest.raises(UserError, match="at least one") as error:
        in_stages(**wrong)
    assert "\n" not in str(error.value)
