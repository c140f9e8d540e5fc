"""What the papers' numbers must be if their other numbers are right: identities that need no training run.

An `Identity` sets a printed number against what follows from other printed numbers, through the unit ledger. Some of
them are refutations: the relation that holds is "is not" or "exceeds", and the conclusion says which reading falls.
`bits_per_dim_audit` is the showcase: the "<= 5.40 bits/dim" that 2020's Table 1 quotes for 2015, step by step.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from scipy.integrate import quad

from dpm.errors import UserError
from dpm.study.claims import Claim
from dpm.study.units import (
    BITS,
    DIM,
    GREY_LEVELS,
    NEGATIVE,
    PIXEL,
    Layout,
    Per,
    Quantity,
    Step,
    in_measure,
    number,
    on_scale,
    per,
    stated,
    unit,
    with_sign,
)

Claims = Mapping[str, Claim]
Array = np.ndarray[Any, np.dtype[np.float64]]

OLD, NEW = "sohl_dickstein_2015", "ho_2020"
CIFAR10 = Layout(pixels=32 * 32, channels=3)


@dataclass(frozen=True)
class Fact:
    """A number that neither paper prints, and where it comes from."""

    value: float
    source: str


CIFAR10_STD = Fact(0.2516, "standard deviation of the CIFAR-10 training set, all pixels and channels, on [0, 1]")
MNIST_STD = Fact(0.3081, "standard deviation of the MNIST training set, all pixels, on [0, 1]")
CIFAR10_POWER = Fact(0.25, "mean square of the CIFAR-10 pixels on [-1, 1], rounded")
SKLEARN_NOISE = Fact(0.05, "noise often given to scikit-learn's make_swiss_roll, in its units, where the radius is 14")


@dataclass(frozen=True)
class Relation:
    """How the printed number stands to the computed one; `test(gap, tolerance)` with gap = printed - computed.

    `word` says what it means that the relation is met: the numbers agree, or a reading of them is refuted.
    """

    symbol: str
    word: str
    test: Callable[[float, float], bool]


EQUALS = Relation("=", "holds", lambda gap, tolerance: abs(gap) <= tolerance)
AT_MOST = Relation("≤", "holds", lambda gap, tolerance: gap <= tolerance)
IS_NOT = Relation("≠", "refuted", lambda gap, tolerance: abs(gap) > tolerance)
EXCEEDS = Relation(">", "refuted", lambda gap, tolerance: gap > tolerance)


@dataclass(frozen=True)
class Identity:
    """`expected relation computed` up to `tolerance`: a printed number against what `formula` makes of other numbers.

    `conclusion` is what follows from a relation that holds; a comparison across units raises UserError.
    """

    name: str
    formula: str
    expected: Quantity
    computed: Quantity
    tolerance: float
    source: str
    relation: Relation = EQUALS
    conclusion: str = ""

    @property
    def gap(self) -> float:
        return self.expected.gap(self.computed)

    @property
    def holds(self) -> bool:
        return self.relation.test(self.gap, self.tolerance)

    @property
    def word(self) -> str:
        """`holds`; `refuted` where the row shows that a reading of the paper is wrong; `fails`."""
        return self.relation.word if self.holds else "fails"

    @property
    def text(self) -> str:
        """One line: "-4.1 = -4.0942 bits", and the conclusion or the failure."""
        line = f"{number(self.expected.value)} {self.relation.symbol} {self.computed}"
        outcome = self.conclusion if self.holds else f"does not hold within {number(self.tolerance)}"
        return f"{line}: {outcome}" if outcome else line


@dataclass(frozen=True)
class BitsPerDimAudit:
    """2015's K as `original`, as 2020 prints it (`printed`), and as it reads when converted (`converted`)."""

    original: Quantity
    printed: Quantity
    converted: Quantity

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.converted.steps

    @property
    def conclusion(self) -> str:
        return (
            f"2020 prints {self.printed} where 2015's {self.original} are {self.converted}: "
            f"{self.printed - self.converted} too many. (The data carried uniform noise, as v8 says, "
            "so the converted number is an upper bound on the code length of the 8-bit data.)"
        )


def pick(claims: Claims, folder: str, *names: str) -> tuple[Claim, ...]:
    """The claims folder/name, in the order asked for."""
    return tuple(claims[f"{folder}/{name}"] for name in names)


def identities(claims: Claims) -> tuple[Identity, ...]:
    """Every identity of the audit, computed from the claims."""
    try:
        return tuple(identity for audit in AUDITS for identity in audit(claims))
    except KeyError as error:
        raise UserError(f"the audit needs the claim {error}, which conf/claims does not hold") from error


def bits_per_dim_audit(claims: Claims) -> BitsPerDimAudit:
    original, printed = claims[f"{OLD}/table1/cifar10/K"].amount, claims[f"{NEW}/table1/diffusion_original/nll"].amount
    return BitsPerDimAudit(original, printed, as_bits_per_dim(original, CIFAR10_STD, CIFAR10))


def as_bits_per_dim(K: Quantity, std: Fact, layout: Layout) -> Quantity:
    """-K / channels + log2(std in grey levels); `std` is on [0, 1]."""
    per_dim = per(with_sign(in_measure(K, BITS), NEGATIVE), DIM, layout)
    grey = 255 * std.value
    return on_scale(per_dim, GREY_LEVELS, grey, layout, f"times {number(grey)}, 255 x {std.value}: {std.source}")


# --- 2015: the null models -------------------------------------------------------------------------------------------


def null_log_likelihood(target: Per, layout: Layout) -> Quantity:
    """E log N(x; 0, I) = -1/2 log(2 pi e) in each dimension, for data of variance 1."""
    nats = -0.5 * math.log(2 * math.pi * math.e)
    return per(in_measure(stated(nats, unit("log_likelihood", "nats/dim"), "E log N(x; 0, 1)"), BITS), target, layout)


def null_models(claims: Claims) -> Iterator[Identity]:
    rows = {
        "table1/swiss_roll": (Layout(1, 2), "two dimensions, bits per sample"),
        "table1/bark": (Layout(1, 1), "one grey channel"),
        "table1/dead_leaves": (Layout(1, 1), "one grey channel"),
        "table1/cifar10": (CIFAR10, "bits/pixel sums three colours"),
        "table1_icml/cifar10": (CIFAR10, "bits/pixel sums three colours"),
    }
    for row, (layout, conclusion) in rows.items():
        K, gain = pick(claims, f"{OLD}/{row}", "K", "K_minus_null")
        printed = K.amount - gain.amount
        computed = null_log_likelihood(printed.unit.per, layout)
        formula = "K - (K - L_null) = -d/2 log2(2 pi e)"
        yield Identity(f"L_null of {row}", formula, printed, computed, _half(K, gain), K.source, EQUALS, conclusion)


# --- 2015: the heartbeat ---------------------------------------------------------------------------------------------


def binary_entropy(rate: float) -> float:
    """h(r) = -r log2 r - (1 - r) log2(1 - r)."""
    return -rate * math.log2(rate) - (1 - rate) * math.log2(1 - rate)


def first_step_entropy(n: int, T: int, rate: float) -> float:
    """H_q(X_1 | X_0) in bits, n independent bins of which the share `rate` is on, beta_1 = 1/T (2015, Table App.1)."""
    stays_on, switches_on = 1 - 1 / T + rate / T, rate / T
    return n * (rate * binary_entropy(stays_on) + (1 - rate) * binary_entropy(switches_on))


def heartbeat_null(claims: Claims) -> Iterator[Identity]:
    K, gain = pick(claims, f"{OLD}/table1/binary_heartbeat", "K", "K_minus_null")
    n, right = pick(claims, f"{OLD}/text/binary_heartbeat", "length", "base_rate")
    wrong = claims[f"{OLD}/table_app1/binomial/base_rate"]
    refuted = f"the reading of {wrong.source}, rate {wrong.value}, is refuted"
    printed, formula = K.amount - gain.amount, "K - (K - L_null) = -n h(rate)"
    for rate, relation, conclusion in ((right, EQUALS, ""), (wrong, IS_NOT, refuted)):
        name, null = f"L_null at rate {rate.value}", _like(printed, -n.value * binary_entropy(rate.value))
        yield Identity(name, formula, printed, null, _half(K, gain), K.source, relation, conclusion)


def heartbeat_ceiling(claims: Claims) -> Iterator[Identity]:
    n, rate, T, period, truth = pick(
        claims, f"{OLD}/text/binary_heartbeat", "length", "base_rate", "T", "period", "log_likelihood"
    )
    H, ceiling = pick(claims, f"{OLD}/derived/binary_heartbeat", "H_1_given_0", "ceiling")
    entropy = first_step_entropy(int(n.value), int(T.value), rate.value)
    highest = -math.log2(period.value) - entropy
    yield _row("log likelihood of the data", "-log2(period)", truth, -math.log2(period.value))
    yield _row("H_q(X_1 | X_0)", "n [r h(1 - b + r b) + (1 - r) h(r b)], b = 1/T", H, entropy)
    yield _row("ceiling of K", "-(log2(period) + H_q(X_1 | X_0))", ceiling, highest)
    K = claims[f"{OLD}/table1/binary_heartbeat/K"]
    below, formula = _like(K.amount, highest), "K <= -(H(X_0) + H_q(X_1 | X_0))"
    yield Identity("K below its ceiling", formula, K.amount, below, _half(K), K.source, AT_MOST)


# --- 2015: Table 2 ---------------------------------------------------------------------------------------------------


def nats_called_bits(claims: Claims) -> Iterator[Identity]:
    """The ICML column of the MNIST rows, read as nats, gives the column of v8, errors included."""
    models = ("stacked_cae", "dbn", "deep_gsn", "diffusion", "adversarial_net")
    columns = (pick(claims, f"{OLD}/{table}/mnist", *models) for table in ("table2_icml", "table2"))
    for model, old, new in zip(models, *columns, strict=True):
        nats = stated(old.value, unit(old.quantity, "nats"), f"{old.source}, read as nats", old.stderr)
        bits = in_measure(nats, BITS)
        rounding = _half(new) + _in_bits(_half(old))
        yield Identity(f"Parzen, {model}", "nats / ln 2", new.amount, bits, rounding, old.source)
        printed, converted = _like(new.amount, new.stderr or 0.0), _like(bits, bits.stderr or 0.0)
        rounding = _half_digit(printed.value) + _in_bits(_half_digit(old.stderr or 0.0))
        yield Identity(f"Parzen, {model}, error", "nats / ln 2", printed, converted, rounding, old.source)


def bits_as_labelled(claims: Claims) -> Iterator[Identity]:
    old, new = (claims[f"{OLD}/{table}/mnist/diffusion"] for table in ("table2_icml", "table2"))
    refuted = "the label of the ICML column, bits, is refuted: they are nats"
    yield Identity(
        "Parzen, diffusion, as labelled", "bits", new.amount, old.amount, _half(new, old), old.source, IS_NOT, refuted
    )


# --- 2015: the reference code ----------------------------------------------------------------------------------------


def reference_betas(claims: Claims) -> Array:
    """floor + (1 - floor - margin) / linspace(T, 2, T), where floor is min_beta and, at t = 1, step1_beta on top."""
    T, min_beta, step1, margin = (
        claims[f"{OLD}/code/{name}"].value for name in ("T", "min_beta", "step1_beta", "max_beta_margin")
    )
    floor = np.full(int(T), min_beta)
    floor[0] += step1
    return np.asarray(floor + (1 - floor - margin) / np.linspace(T, 2, int(T)))


def gain_ceiling(betas: Array) -> Quantity:
    """K - L_null <= 1/2 log((1 - alpha_bar_T) / beta_1) in each dimension."""
    nats = 0.5 * math.log((1 - np.prod(1 - betas)) / betas[0])
    return in_measure(stated(nats, unit("gain_over_null", "nats/dim"), "1/2 log((1 - alpha_bar_T) / beta_1)"), BITS)


def reference_schedule(claims: Claims) -> Iterator[Identity]:
    betas, formula = reference_betas(claims), "floor + (1 - floor - margin) / linspace(T, 2, T)"
    values = {"beta_1": betas[0], "beta_2": betas[1], "beta_T": betas[-1], "alpha_bar_T": np.prod(1 - betas)}
    for (name, value), claim in zip(values.items(), pick(claims, f"{OLD}/code", *values), strict=True):
        yield _row(f"{name} of the reference code", formula, claim, float(value))


def reference_ceiling(claims: Claims) -> Iterator[Identity]:
    per_dim, formula = gain_ceiling(reference_betas(claims)), "d/2 log2((1 - alpha_bar_T) / beta_1)"
    per_pixel = per(per_dim, PIXEL, CIFAR10)
    for claim, ceiling in zip(pick(claims, f"{OLD}/code/ceiling", "dim", "cifar10"), (per_dim, per_pixel), strict=True):
        yield _row(f"ceiling of K - L_null in {claim.unit}", formula, claim, ceiling.value)
    for table, relation, conclusion in (
        ("table1_icml", EXCEEDS, "the schedule of the reference code as the origin of this number is refuted"),
        ("table1", AT_MOST, "the schedule of the reference code allows it"),
    ):
        gain, name = claims[f"{OLD}/{table}/cifar10/K_minus_null"], f"K - L_null of {table}/cifar10"
        yield Identity(name, formula, gain.amount, per_pixel, _half(gain), gain.source, relation, conclusion)


def reference_data(claims: Claims) -> Iterator[Identity]:
    """The entropy and the dequantisation that the reference code got wrong."""
    excess = claims[f"{OLD}/code/entropy_excess"]
    yield _row("entropy too high before October 2015", "1/2 nat", excess, _in_bits(0.5))
    for data, std in (("cifar10", CIFAR10_STD.value), ("mnist", MNIST_STD.value)):
        widths = pick(claims, f"{OLD}/code/dequantisation", data, f"{data}_meant", f"{data}_too_small")
        formulas = {"std / 255": std / 255, "1 / (255 std)": 1 / (255 * std), "1 / std^2": 1 / std**2}
        parts = ("width as written", "width as meant", "too narrow by the factor")
        for part, claim, (formula, value) in zip(parts, widths, formulas.items(), strict=True):
            yield _row(f"dequantisation of {data}, {part}", formula, claim, value)


# --- 2015: the Swiss roll --------------------------------------------------------------------------------------------


def roll_mean(f: Callable[[float], float]) -> float:
    """E f(phi), phi uniform on [1.5 pi, 4.5 pi], by quadrature."""
    low, high = 1.5 * math.pi, 4.5 * math.pi
    return float(quad(f, low, high, limit=200)[0]) / (high - low)


def roll_std() -> float:
    """Standard deviation per coordinate of (phi cos phi, phi sin phi), the constant that the roll is divided by."""
    means = (roll_mean(lambda phi: phi * math.cos(phi)), roll_mean(lambda phi: phi * math.sin(phi)))
    return math.sqrt((roll_mean(lambda phi: phi**2) - sum(mean**2 for mean in means)) / 2)


def thin_curve_ceiling(variance: float) -> Quantity:
    """-h(X_1) = E log p(arc) - 1/2 log(2 pi e v), for a noiseless roll blurred by the total noise variance v.

    p(arc) = 1 / (3 pi |dx/dphi|), |dx/dphi| = sqrt(1 + phi^2) / std, is the density along the curve; across it stands
    the entropy of N(0, v). Good while sqrt(v) is small against the curvature and the distance of the windings, 0.93.
    """
    std = roll_std()
    along = roll_mean(lambda phi: -math.log(3 * math.pi * math.hypot(1, phi) / std))
    nats = along - 0.5 * math.log(2 * math.pi * math.e * variance)
    return in_measure(stated(nats, unit("log_likelihood", "nats"), f"-h(X_1), noise variance {number(variance)}"), BITS)


def swiss_roll(claims: Claims) -> Iterator[Identity]:
    formula = "E log2 p(arc) - 1/2 log2(2 pi e v)"
    for end in ("1e-6", "1e-5", "1.4e-5", "1e-4", "1e-3", "2e-3", "0.025"):
        claim = claims[f"{OLD}/derived/swiss_roll/ceiling/{end}"]
        variance = float(str(claim.protocol["noise_variance"]))
        yield _row(f"ceiling of K at noise variance {end}", formula, claim, thin_curve_ceiling(variance).value)
    K, T = claims[f"{OLD}/table1/swiss_roll/K"], claims[f"{OLD}/text/swiss_roll/T"].value
    sklearn = (SKLEARN_NOISE.value / roll_std()) ** 2
    for name, variance, relation, conclusion in (
        ("beta_1 = 1e-5", 1e-5, AT_MOST, "a noiseless roll with this beta_1 allows it"),
        ("beta_1 = 1/T", 1 / T, EXCEEDS, "the fixed schedule 1/(T - t + 1) as its origin is refuted"),
        (
            "scikit-learn's noise",
            sklearn,
            EXCEEDS,
            f"data with noise {SKLEARN_NOISE.value} or more as its origin is refuted",
        ),
    ):
        ceiling = _like(K.amount, thin_curve_ceiling(variance).value)
        yield Identity(f"K at {name}", formula, K.amount, ceiling, _half(K), K.source, relation, conclusion)


# --- 2020 ------------------------------------------------------------------------------------------------------------


def linear_betas(claims: Claims) -> Array:
    first, last, T = (claims[f"{NEW}/text/{name}"].value for name in ("beta_1", "beta_T", "T"))
    return np.linspace(first, last, int(T))


def beta_tilde(betas: Array) -> Array:
    """(1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t, 2020 eq. 7; zero at t = 1."""
    alpha_bar = np.cumprod(1 - betas)
    return np.asarray(betas * (1 - np.append(1.0, alpha_bar[:-1])) / (1 - alpha_bar))


def prior_kl(alpha_bar_T: float, power: float) -> Quantity:
    """L_T = KL(N(sqrt(a) x_0, 1 - a) || N(0, 1)) = 1/2 (a E x_0^2 - a - log(1 - a)) in each dimension."""
    nats = 0.5 * (alpha_bar_T * power - alpha_bar_T - math.log1p(-alpha_bar_T))
    return in_measure(stated(nats, unit("rate", "nats/dim"), "KL(q(x_T | x_0) || p(x_T))"), BITS)


def gaussian_distortion(rmse: float, std: float) -> Quantity:
    """L_0 = 1/2 log(2 pi std^2) + rmse^2 / (2 std^2) per dimension, in grey levels: density for probability."""
    nats = 0.5 * math.log(2 * math.pi * std**2) + 0.5 * (rmse / std) ** 2
    return in_measure(stated(nats, unit("distortion", "nats/dim"), "-E log N(x_0; mu, std^2)"), BITS)


def bin_correction(rmse: float, std: float) -> float:
    """What a bin one grey level wide changes in `gaussian_distortion`, second order: bits/dim."""
    return _in_bits(abs(rmse**2 / std**4 - 1 / std**2) / 24)


def sums(claims: Claims) -> Iterator[Identity]:
    nll, printed_rate, fine_rate, printed_distortion, fine_distortion = pick(
        claims,
        NEW,
        "table1/simple/nll",
        "text/simple/rate",
        "table4/1000/rate",
        "text/simple/distortion",
        "derived/distortion",
    )
    for rate, distortion in ((printed_rate, printed_distortion), (fine_rate, fine_distortion)):
        total, tolerance = rate.amount + distortion.amount, _half(nll, rate, distortion)
        yield Identity(f"NLL of L_simple, {rate.source}", "rate + distortion", nll.amount, total, tolerance, rate.source)
    largest = claims[f"{NEW}/text/nll_gap"]
    for row in ("bound", "simple"):
        test, train = pick(claims, f"{NEW}/table1/{row}", "nll", "nll_train")
        gap, name = test.amount - train.amount, f"train/test gap, {row}"
        yield Identity(name, "test - train", gap, largest.amount, _half(largest), largest.source, AT_MOST)
    steps, speed, hours = pick(claims, f"{NEW}/text/cifar10", "steps", "steps_per_second", "training_time")
    yield Identity(
        "training time",
        "steps / speed",
        hours.amount,
        _like(hours.amount, steps.value / speed.value / 3600),
        _half(hours),
        hours.source,
    )


def printed_twice(claims: Claims) -> Iterator[Identity]:
    for first, second in PRINTED_TWICE:
        a, b = claims[first], claims[second]
        yield Identity(f"{first} again", second, a.amount, b.amount, _half(a), b.source)


def schedule(claims: Claims) -> Iterator[Identity]:
    betas = linear_betas(claims)
    alpha_bar_T, variance = float(np.prod(1 - betas)), float(beta_tilde(betas)[1])
    derived = {
        "alpha_bar_T": ("prod_t (1 - beta_t)", alpha_bar_T),
        "sqrt_alpha_bar_T": ("sqrt(alpha_bar_T)", math.sqrt(alpha_bar_T)),
        "beta_tilde_2": ("(1 - alpha_bar_1) / (1 - alpha_bar_2) beta_2", variance),
        "decoder_std": ("127.5 sqrt(beta-tilde_2)", 127.5 * math.sqrt(variance)),
        "decoder_std_beta_1": ("127.5 sqrt(beta_1)", 127.5 * math.sqrt(betas[0])),
    }
    for name, (formula, value) in derived.items():
        yield _row(name, formula, claims[f"{NEW}/derived/{name}"], value)
    L_T, formula = prior_kl(alpha_bar_T, CIFAR10_POWER.value), "1/2 (a E x_0^2 - a - log(1 - a)) / ln 2"
    for place, claim in zip(("derived", "as printed"), pick(claims, NEW, "derived/prior_kl", "text/prior_kl"), strict=True):
        yield Identity(f"L_T, {place}", formula, claim.amount, L_T, claim.tolerance.value, claim.source)


def decoder(claims: Claims) -> Iterator[Identity]:
    """Which variance the decoder has, from the RMSE of Table 4 and the distortion of the text."""
    rmse, printed = claims[f"{NEW}/table4/1000/rmse"].value, claims[f"{NEW}/text/simple/distortion"]
    formula, refuted = "1/2 log2(2 pi s^2) + rmse^2 / (2 s^2 ln 2)", "beta_1 as the variance of the decoder is refuted"
    for end, relation, conclusion in (("", EQUALS, "its variance is beta-tilde_2"), ("_beta_1", IS_NOT, refuted)):
        std, derived = pick(claims, f"{NEW}/derived", f"decoder_std{end}", f"distortion{end}")
        L_0, tolerance = gaussian_distortion(rmse, std.value), _half(printed) + bin_correction(rmse, std.value)
        yield _row(f"L_0 at std {std.value}", formula, derived, L_0.value)
        yield Identity(
            f"L_0 as printed, at std {std.value}",
            formula,
            printed.amount,
            L_0,
            tolerance,
            printed.source,
            relation,
            conclusion,
        )


def loss_weights(claims: Claims) -> Iterator[Identity]:
    """beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)), 2020 eq. 12, for both variances."""
    betas = linear_betas(claims)
    scale = betas**2 / (2 * (1 - betas) * (1 - np.cumprod(1 - betas)))
    for name, sigma2, times in (
        ("fixed_large", betas, (2, 10, 100, 500, 1000)),
        ("fixed_small", beta_tilde(betas), (2, 10, 100)),
    ):
        for t in times:
            claim = claims[f"{NEW}/eq12/{name}/{t}"]
            formula = "beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t))"
            yield _row(f"weight of eq. 12, {name}, t = {t}", formula, claim, float(scale[t - 1] / sigma2[t - 1]))


PRINTED_TWICE = (
    (f"{OLD}/table1/dead_leaves/K", f"{OLD}/table2/dead_leaves/diffusion"),
    (f"{NEW}/text/simple/rate", f"{NEW}/table4/1000/rate"),
    (f"{NEW}/text/simple/rmse", f"{NEW}/table4/1000/rmse"),
    *((f"{NEW}/table1/bound/{score}", f"{NEW}/table2/epsilon_bound_fixed/{score}") for score in ("fid", "is")),
    *((f"{NEW}/table1/simple/{score}", f"{NEW}/table2/epsilon_simple/{score}") for score in ("fid", "is")),
)
AUDITS: tuple[Callable[[Claims], Iterator[Identity]], ...] = (
    null_models,
    *(heartbeat_null, heartbeat_ceiling),
    swiss_roll,
    *(nats_called_bits, bits_as_labelled),
    *(reference_schedule, reference_ceiling, reference_data),
    *(sums, printed_twice, schedule, decoder, loss_weights),
)


def _in_bits(nats: float) -> float:
    return nats / math.log(2)


def _row(name: str, formula: str, claim: Claim, value: float) -> Identity:
    """A claim against its recomputed value, within the claim's own tolerance."""
    return Identity(name, formula, claim.amount, _like(claim.amount, value), claim.tolerance.value, claim.source)


def _like(quantity: Quantity, value: float) -> Quantity:
    return Quantity(value, quantity.unit)


def _half(*claims: Claim) -> float:
    """What rounding can do to a sum of printed numbers: half the last digit of each."""
    return sum(_half_digit(claim.value) for claim in claims)


def _half_digit(value: float) -> float:
    """Half the last printed digit: 0.005 for 2.35, 0.5 for the integer 174. A trailing zero is not seen (wider)."""
    exponent = Decimal(str(value)).as_tuple().exponent
    return 0.5 * 10.0 ** int(exponent)
