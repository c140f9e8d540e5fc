"""The unit ledger: units parse and print, cross-unit arithmetic is an error, conversions are the change of variables."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from dpm.errors import UserError
from dpm.study.units import (
    BITS,
    DIM,
    EXAMPLE,
    GREY_LEVELS,
    LOG_LIKELIHOOD,
    NATS,
    NEGATIVE,
    PIXEL,
    QUANTITIES,
    UNIT_VARIANCE,
    UNITS,
    Layout,
    Quantity,
    converted,
    in_measure,
    number,
    on_scale,
    per,
    stated,
    unit,
    with_sign,
)

CIFAR10 = Layout(pixels=1024, channels=3)
K = unit("log_likelihood_bound", "bits/pixel")
NLL = unit("nll_bound", "bits/dim")
RATE = unit("rate", "bits/dim")


def quantity_for(text: str) -> str:
    """Some quantity that can be in this unit."""
    return "log_likelihood_bound" if UNITS[text][0].nats else "setting"


@pytest.mark.parametrize("text", UNITS)
def test_units_print_as_they_are_written(text: str) -> None:
    assert str(unit(quantity_for(text), text)) == text


def test_the_name_of_the_quantity_gives_sign_and_scale() -> None:
    assert (K.sign, K.scale) == (LOG_LIKELIHOOD, UNIT_VARIANCE)
    assert (NLL.sign, NLL.scale) == (NEGATIVE, GREY_LEVELS)
    assert NLL.description == "bits/dim, negative log likelihood, grey levels 0..255"


def test_the_better_direction_of_a_likelihood_agrees_with_its_sign() -> None:
    for name, meaning in QUANTITIES.items():
        assert meaning.better.factor in (0, meaning.sign.factor) or meaning.sign.factor == 0, name


def test_bits_of_a_sequence_and_of_an_example_are_the_same_unit() -> None:
    a, b = (unit("log_likelihood_bound", text) for text in ("bits", "bits/sequence"))
    assert a == b
    assert hash(a) == hash(b)
    assert Quantity(-2.4, a).gap(Quantity(-2.5, b)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("quantity", "text", "complaint"),
    [
        ("log_likelyhood", "bits", "unknown quantity"),
        ("nll_bound", "bits/dimension", "unknown unit"),
        ("fid", "bits", "fid cannot be in 'bits'"),
        ("nll_bound", "grey levels", "nll_bound cannot be in"),
    ],
)
def test_a_wrong_name_is_one_clear_line(quantity: str, text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        unit(quantity, text)
    assert "\n" not in str(caught.value)


OTHERS = {
    "measure": unit("nll_bound", "nats/dim"),
    "per": unit("nll_bound", "bits/pixel"),
    "sign": replace(NLL, sign=LOG_LIKELIHOOD),
    "scale": replace(NLL, scale=UNIT_VARIANCE),
    "plain": unit("fid", "1"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_comparing_across_any_axis_is_an_error(other: object) -> None:
    a, b = Quantity(3.75, NLL), Quantity(3.75, other)  # type: ignore[arg-type]
    for compare in (lambda: a < b, lambda: a <= b, lambda: a > b, lambda: a >= b, lambda: a.gap(b)):
        with pytest.raises(UserError, match="cannot compare"):
            compare()
    assert a != b


@pytest.mark.parametrize("axis", ["measure", "per", "sign", "scale", "plain"])
def test_subtracting_and_adding_across_any_axis_is_an_error(axis: str) -> None:
    a, b = Quantity(3.75, NLL), Quantity(1.0, OTHERS[axis])
    for operate in (lambda: a - b, lambda: b - a, lambda: a + b, lambda: b + a):
        with pytest.raises(UserError, match=r"cannot (subtract|add)"):
            operate()


def test_log_likelihoods_are_points_and_differences_are_vectors() -> None:
    nll, again, rate = Quantity(3.75, NLL, 0.3), Quantity(3.72, NLL, 0.4), Quantity(1.78, RATE)
    difference = nll - again
    assert difference.unit == RATE
    assert (difference.value, difference.stderr) == (pytest.approx(0.03), pytest.approx(0.5))
    assert (nll - rate).unit == NLL == (rate + nll).unit == (nll + rate).unit
    assert (nll + rate).value == pytest.approx(5.53)
    assert (rate + rate).unit == RATE == (rate - rate).unit
    with pytest.raises(UserError, match="cannot add two log likelihoods"):
        nll + again
    with pytest.raises(UserError, match="cannot subtract"):
        rate - nll


def test_plain_numbers_add_and_compare() -> None:
    a, b = (Quantity(x, unit("fid", "1")) for x in (3.17, 5.24))
    assert a < b
    assert b - a == Quantity(pytest.approx(2.07), unit("fid", "1"))
    assert str(a) == "3.17"


values = st.floats(-1e4, 1e4)
layouts = st.builds(Layout, pixels=st.integers(1, 4096), channels=st.integers(1, 4))


@given(values, st.floats(0, 1e3), layouts, st.floats(1e-3, 1e3), st.sampled_from([EXAMPLE, PIXEL, DIM]))
def test_every_conversion_has_its_inverse(value, stderr, layout, stretch, where) -> None:
    start = Quantity(value, replace(K, per=where), stderr)
    there = on_scale(with_sign(in_measure(per(start, EXAMPLE, layout), NATS), NEGATIVE), GREY_LEVELS, stretch, layout)
    assert there.unit == unit("nll_bound", "nats/example")
    back = on_scale(in_measure(with_sign(per(there, where, layout), LOG_LIKELIHOOD), BITS), UNIT_VARIANCE, 1 / stretch, layout)
    assert back.unit == start.unit
    assert back.value == pytest.approx(value, rel=1e-9, abs=1e-6)
    assert back.stderr == pytest.approx(stderr, rel=1e-9)


@given(layouts, st.floats(1e-2, 1e3), values)
def test_conversions_commute(layout: Layout, stretch: float, value: float) -> None:
    """Rescaling a whole image and dividing is dividing and rescaling one dimension."""
    start = Quantity(value, replace(K, per=EXAMPLE))
    one = per(on_scale(start, GREY_LEVELS, stretch, layout), DIM, layout)
    other = on_scale(per(start, DIM, layout), GREY_LEVELS, stretch, layout)
    assert one.unit == other.unit
    assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-9)


def test_a_bound_in_grey_levels_is_a_log_likelihood_on_the_unit_interval_with_no_need_of_data() -> None:
    """Uniform on [0, 1]: 8 bits a dimension in grey levels, 0 bits an image of 28 x 28; half of the interval: one bit each."""
    parzen, image = unit("parzen_log_likelihood", "bits"), Layout(784, 1)
    for nll, bits in ((8.0, 0.0), (7.0, 784.0)):
        found = converted(Quantity(nll, unit("nll_bound", "bits/dim"), 0.5), parzen, image)
        assert found.value == pytest.approx(784 * math.log2(255) - 784 * nll)
        assert found.value == pytest.approx(bits, abs=5)  # 256 levels are 255 apart
        assert found.stderr == pytest.approx(0.5 * 784)
        back = converted(found, unit("nll_bound", "bits/dim"), image)
        assert back.value == pytest.approx(nll)
    with pytest.raises(UserError, match="the stretch from one scale to another must be positive and finite"):
        converted(Quantity(1.0, K), unit("nll_bound", "bits/dim"), image)


@given(st.floats(-3, 3), st.floats(0.1, 100), st.sampled_from([LOG_LIKELIHOOD, NEGATIVE]))
def test_the_scale_is_the_change_of_variables(x: float, std: float, sign) -> None:
    """If x ~ N(0, 1) then y = std x ~ N(0, std^2), for either sign."""
    start = Quantity(sign.factor * norm.logpdf(x), replace(K, measure=NATS, per=DIM, sign=sign))
    assert on_scale(start, GREY_LEVELS, std, CIFAR10).value == pytest.approx(sign.factor * norm.logpdf(std * x, scale=std))


def test_conversions_by_hand() -> None:
    image = stated(-3072.0, unit("log_likelihood_bound", "nats/example"), "by hand", stderr=3.072)
    assert per(image, DIM, CIFAR10).value == pytest.approx(-1)
    assert per(image, PIXEL, CIFAR10).value == pytest.approx(-3)
    assert per(image, PIXEL, CIFAR10).stderr == pytest.approx(0.003)
    assert in_measure(image, BITS).value == pytest.approx(-3072 / math.log(2))
    assert with_sign(image, NEGATIVE).value == 3072
    assert with_sign(image, NEGATIVE).stderr == 3.072


def test_a_quantity_tells_how_it_was_derived() -> None:
    K_image = stated(-3072.0, unit("log_likelihood_bound", "nats/example"), "the evaluator")
    nll = on_scale(with_sign(per(K_image, DIM, CIFAR10), NEGATIVE), GREY_LEVELS, 64.0, CIFAR10, "64 grey levels")
    assert [step.value for step in nll.steps] == pytest.approx([-3072, -1, 1, 1 + math.log(64)])
    assert [str(step.unit) for step in nll.steps] == ["nats/example", "nats/dim", "nats/dim", "nats/dim"]
    assert nll.steps[0].text == "the evaluator"
    assert "64 grey levels" in str(nll.steps[-1])
    assert nll.steps[-1].unit == nll.unit


def test_a_conversion_that_changes_nothing_adds_no_step() -> None:
    start = stated(5.4, K, "Table 1")
    assert per(in_measure(start, BITS), PIXEL, CIFAR10).steps == start.steps


@pytest.mark.parametrize(
    "convert",
    [
        lambda fid: in_measure(fid, BITS),
        lambda fid: with_sign(fid, NEGATIVE),
        lambda fid: per(fid, DIM, CIFAR10),
        lambda fid: on_scale(fid, GREY_LEVELS, 2.0, CIFAR10),
    ],
)
def test_what_is_no_information_has_no_conversion(convert) -> None:
    with pytest.raises(UserError):
        convert(Quantity(3.17, unit("fid", "1")))


def test_a_difference_has_no_scale() -> None:
    with pytest.raises(UserError, match="has no scale"):
        on_scale(Quantity(1.78, RATE), GREY_LEVELS, 64.0, CIFAR10)


@pytest.mark.parametrize("stretch", [0.0, -1.0, math.nan, math.inf])
def test_a_stretch_must_be_positive_and_finite(stretch: float) -> None:
    with pytest.raises(UserError, match="positive and finite"):
        on_scale(Quantity(5.4, K), GREY_LEVELS, stretch, CIFAR10)


@pytest.mark.parametrize(
    ("value", "text"), [(2.35, "2.35"), (35746307, "35,746,307"), (7.2787e-6, "7.2787e-06"), (-0.6, "-0.6"), (0, "0")]
)
def test_numbers_print_short(value: float, text: str) -> None:
    assert number(value) == text
