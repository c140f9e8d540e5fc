"""The unit ledger: what a number of bits is a number of, and every legal way to turn it into another.

A log likelihood is only a number once four things are said, and a `Unit` says them all:

    measure   nats or bits
    per       example (a sequence, a whole image), pixel (all its channels together), dimension
    sign      log likelihood (K of 2015: more is better) or negative log likelihood (2020: less is better)
    scale     the coordinates whose density it is: unit variance, [0, 1], 8-bit grey levels; none for a difference

Claims and records keep this as two short strings. The unit ("bits/pixel", "bits", "nats/example") gives measure and
per; the name of the quantity ("log_likelihood_bound", "nll_bound") gives sign and scale, by the table `QUANTITIES`.
Everything else (FID, grey levels, hours) is a plain unit: a measure without nats, per nothing, without sign and scale.

Log likelihoods behave like points and their differences like vectors: point - point = difference, point + difference =
point, point + point is an error, because a change of coordinates moves points and leaves differences alone.
Discrete data has no coordinates to stretch; its log likelihood counts as one on the scale of its model.
"""

import math
from dataclasses import dataclass, field, replace
from itertools import product

from dpm.errors import UserError


@dataclass(frozen=True)
class Measure:
    """What is counted; `nats` is the size of one unit of information, None for what is no information."""

    name: str
    nats: float | None = None


@dataclass(frozen=True)
class Per:
    """What the information is about. "bits" and "bits/sequence" are spelled differently and mean the same."""

    what: str
    spelling: str = field(compare=False)


@dataclass(frozen=True)
class Sign:
    """+1 for a log likelihood, -1 for a code length, 0 for what is neither."""

    name: str
    factor: int


@dataclass(frozen=True)
class Scale:
    """The coordinates in which a density is a density."""

    name: str


@dataclass(frozen=True)
class Direction:
    """Which way is better: +1 higher, -1 lower, 0 neither."""

    name: str
    factor: int


NATS, BITS = Measure("nats", 1.0), Measure("bits", math.log(2))
EXAMPLE, PIXEL, DIM, NOTHING = Per("example", ""), Per("pixel", "/pixel"), Per("dimension", "/dim"), Per("nothing", "")
SEQUENCE, PER_EXAMPLE = Per("example", "/sequence"), Per("example", "/example")
STEP, SAMPLE = Per("pixel", "/step"), Per("pixel", "/sample")  # a position of a signal, with all of its channels
LOG_LIKELIHOOD, NEGATIVE, UNSIGNED = Sign("log likelihood", 1), Sign("negative log likelihood", -1), Sign("", 0)
UNIT_VARIANCE, UNIT_INTERVAL, GREY_LEVELS = Scale("unit variance"), Scale("[0, 1]"), Scale("grey levels 0..255")
NO_SCALE = Scale("")
GREY_LEVELS_IN = {GREY_LEVELS: 1.0, UNIT_INTERVAL: 255.0}  # one unit of a scale
HIGHER, LOWER, NEITHER = Direction("higher", 1), Direction("lower", -1), Direction("neither", 0)


@dataclass(frozen=True)
class Unit:
    """A measure per something, with sign and scale; `Unit(Measure("1"))` is a plain number."""

    measure: Measure
    per: Per = NOTHING
    sign: Sign = UNSIGNED
    scale: Scale = NO_SCALE

    def __str__(self) -> str:
        return self.measure.name + self.per.spelling

    @property
    def description(self) -> str:
        """All four axes in words: "bits/dim, negative log likelihood, grey levels 0..255"."""
        return ", ".join(filter(None, [str(self), self.sign.name, self.scale.name]))


@dataclass(frozen=True)
class Meaning:
    """What the name of a quantity says beyond its unit string: sign, scale, and which way is better."""

    text: str
    sign: Sign = UNSIGNED
    scale: Scale = NO_SCALE
    better: Direction = NEITHER


QUANTITIES = {
    "log_likelihood": Meaning("log p(x_0) or its ceiling", LOG_LIKELIHOOD, UNIT_VARIANCE, HIGHER),
    "log_likelihood_bound": Meaning("K <= log p(x_0), 2015 eq. 14", LOG_LIKELIHOOD, UNIT_VARIANCE, HIGHER),
    "gain_over_null": Meaning("K - L_null, 2015 Table 1", LOG_LIKELIHOOD, NO_SCALE, HIGHER),
    "ceiling": Meaning("-h(X_1), what no model with this first step exceeds", LOG_LIKELIHOOD, UNIT_VARIANCE, HIGHER),
    "oracle_bound": Meaning("K of the best reverse process of the family", LOG_LIKELIHOOD, UNIT_VARIANCE, HIGHER),
    "gain_over_oracle": Meaning("K minus the oracle's, on the same draws", LOG_LIKELIHOOD, NO_SCALE, HIGHER),
    "gain_over_mcgsm": Meaning(
        "K, or a log likelihood, minus that of an MCGSM, 2015 Table 2", LOG_LIKELIHOOD, NO_SCALE, HIGHER
    ),
    "parzen_log_likelihood": Meaning("Parzen-window estimate of log p(x_0)", LOG_LIKELIHOOD, UNIT_INTERVAL, HIGHER),
    "entropy": Meaning("H, the expected code length", NEGATIVE, UNIT_VARIANCE),
    "entropy_gap": Meaning("distance of a bound from the entropy that it bounds, summed over t", NEGATIVE, NO_SCALE),
    "bounded_share": Meaning("share of times, or cases, in which a bound holds, errors allowed for"),
    "nll": Meaning("-log p(x_0) of 8-bit data", NEGATIVE, GREY_LEVELS, LOWER),
    "nll_bound": Meaning("L >= -log p(x_0) of 8-bit data, 2020 eq. 5", NEGATIVE, GREY_LEVELS, LOWER),
    "nll_extrapolated": Meaning("L that a law through shorter trainings promises: not measured", NEGATIVE, GREY_LEVELS, LOWER),
    "nll_excess": Meaning("L on fewer steps, or of another process, minus L: same images and noise", NEGATIVE, NO_SCALE, LOWER),
    "nll_gap": Meaning("test minus train", NEGATIVE, NO_SCALE, LOWER),
    "code_length": Meaning("length of a lossless code, as written", NEGATIVE, GREY_LEVELS, LOWER),
    "length_ratio": Meaning("length of a lossless code over the bound on the same chain", better=LOWER),
    "block_length": Meaning("what a block of relative entropy coding takes, or should", NEGATIVE, NO_SCALE),
    "decoded_share": Meaning("share of examples that are decoded bit for bit", better=HIGHER),
    "restored": Meaning("whether the bits that a code took first are back after decoding", better=HIGHER),
    "rate": Meaning("L_1 + ... + L_T, KL terms, 2020 section 4.3", NEGATIVE, NO_SCALE),
    "prior_kl": Meaning("L_T = KL(q(x_T | x_0) || p(x_T)), 2020 eq. 5", NEGATIVE, NO_SCALE),
    "distortion": Meaning("L_0, 2020 section 4.3", NEGATIVE, GREY_LEVELS),
    "rmse": Meaning("root of the mean squared error of x_0-hat"),
    "estimate_slope": Meaning("slope of a coordinate of x_0-hat in the only one of x_t / alpha_t that is seen"),
    "sliced_distance": Meaning("root of the mean squared Wasserstein-2 distance of projections on random lines", better=LOWER),
    "sampling_evaluations": Meaning("looks at the network that one batch of samples takes", better=LOWER),
    "patch_distance": Meaning("root of the Frechet distance per dimension between Gaussians of patches", better=LOWER),
    "neighbour_distance": Meaning("root mean squared distance from the nearest training image"),
    "seen_share": Meaning("share of samples nearer to a training image than to as many test images; 1/2 by chance"),
    "inception_score": Meaning("inception score", better=HIGHER),
    "fid": Meaning("Frechet inception distance", better=LOWER),
    "accuracy": Meaning("share of images whose class is found", better=HIGHER),
    "classifier_frechet_distance": Meaning("Frechet distance of a classifier's features, no FID", better=LOWER),
    "classifier_score": Meaning("exp E KL(p(y | x) || p(y)) of a classifier, no inception score", better=HIGHER),
    "valid_share": Meaning("share of samples that the data set contains", better=HIGHER),
    "parameters": Meaning("number of trained parameters"),
    "throughput": Meaning("work per second", better=HIGHER),
    "duration": Meaning("time taken", better=LOWER),
    "nll_spread": Meaning("standard deviation of L over training seeds", NEGATIVE, NO_SCALE),
    "budget_share": Meaning("share that the largest budget is of the one a bound takes, by a power law; 0: never"),
    "evaluations": Meaning("network evaluations that an estimate with a given error takes", better=LOWER),
    "evaluation_ratio": Meaning("evaluations of another estimator for each of ours, at equal width of the interval"),
    "log_weight_deviation": Meaning("deviation of log p(x_0..T) / q(x_1..T | x_0) over trajectories of one example"),
    "reconstruction_error": Meaning("where a flow that is followed there and back ends, root mean square, in units of x_1"),
    "density_error": Meaning("L1 distance of a solution of the Fokker-Planck equation from the exact density", better=LOWER),
    "convergence_order": Meaning("power of the number of cells or steps with which an error falls", better=HIGHER),
    "mass_error": Meaning("largest change of the integral of a density on its way", better=LOWER),
    "score_residual": Meaning("root mean square of what a score leaves of its Fokker-Planck equation", better=LOWER),
    "entropy_error": Meaning("entropy from denoising errors minus the exact one", NEGATIVE, NO_SCALE),
    "entropy_rate_error": Meaning("rate of entropy from Fisher information minus the exact one", NEGATIVE, NO_SCALE),
    "path_divergence": Meaning(
        "KL of the paths of data and model: excess of denoising error over SNR", NEGATIVE, NO_SCALE, LOWER
    ),
    "map_error": Meaning("root mean square distance of two maps from noise to data", better=LOWER),
    "map_slope": Meaning("slope of a map from noise to data, at the far end"),
    "transport_residual": Meaning("root mean square of what density and drift leave of the transport equation", better=LOWER),
    "distribution_distance": Meaning("largest difference of two distribution functions", better=LOWER),
    "drift_error": Meaning("E int |drift - exact|^2 dt", better=LOWER),
    "marginal_divergence": Meaning("KL of the exact law at the end from the model's", NEGATIVE, NO_SCALE, LOWER),
    "bound_ratio": Meaning("such a divergence over its bound by the error of the drift", better=LOWER),
    "regression_loss": Meaning("mean loss of a regression, per coordinate", better=LOWER),
    "posterior_divergence": Meaning("KL of a sampler's output and the exact law", NEGATIVE, NO_SCALE, LOWER),
    "mode_error": Meaning("total variation of the shares of modes from their exact posterior weights", better=LOWER),
    "posterior_distance": Meaning("W1 from exact posterior samples, mean over 50 directions", better=LOWER),
    "max_sliced_distance": Meaning("W2 from exact samples, largest of 100 random directions", better=LOWER),
    "sample_deviation": Meaning("standard deviation of the first coordinate of samples"),
    "order_share": Meaning("share of comparisons that come out in the source's order", better=HIGHER),
    "diverged_share": Meaning("share of samples that are no finite point near the data", better=LOWER),
    "coverage": Meaning("share of truths within the central credible interval of their posterior's samples"),
    "evaluations_per_sample": Meaning("network evaluations for each sample", better=LOWER),
    "spread_ratio": Meaning("deviation of an image's samples over the error of their mean; 1 for posterior samples"),
    "psnr": Meaning("10 log10 of 255^2 over the mean squared error in grey levels", better=HIGHER),
    "wasserstein_distance": Meaning("W_2 between two samples: root of the least mean square of a pairing", better=LOWER),
    "wasserstein_floor": Meaning("W_2 between two samples of the target: what a perfect model shows"),
    "path_energy": Meaning("E int |v|^2 dt of a flow", better=LOWER),
    "normalised_path_energy": Meaning("|path energy - W_2^2| / W_2^2, W_2 that of the two ends", better=LOWER),
    "transport_cost": Meaning("E |x_1 - x_0|^2 of pairs", better=LOWER),
    "straightness": Meaning("S = E int |z_1 - z_0 - v|^2 dt of a flow: 0 where its paths are straight", better=LOWER),
    "crossing": Meaning("V = E int |x_1 - x_0 - v(x_t, t)|^2 dt of pairs: what a field cannot know of them", better=LOWER),
    "cost_identity": Meaning("S + V - what a round takes off the cost, a share of it: 0 for the exact field"),
    "velocity_error": Meaning("root of E int |v - exact|^2 dt / E int |exact|^2 dt", better=LOWER),
    "deviation": Meaning("standard deviation of samples"),
    "covariance": Meaning("Cov(x_0, x_1) of the ends of a process, of one coordinate"),
    "covariance_error": Meaning("largest difference of such covariances from the exact ones", better=LOWER),
    "gaussian_divergence": Meaning("KL(Gaussian fitted to samples || the exact one)", NEGATIVE, NO_SCALE, LOWER),
    "setting": Meaning("a number of the recipe, set and not measured"),
}

_INFORMATION = {
    measure.name + per.spelling: (measure, per)
    for measure, per in product((NATS, BITS), (EXAMPLE, SEQUENCE, PER_EXAMPLE, PIXEL, STEP, SAMPLE, DIM))
}
_PLAIN = {
    name: (Measure(name), NOTHING)
    for name in (
        *("1", "grey levels", "parameters", "steps", "steps/s", "examples", "epochs", "layers", "units", "pixels"),
        *("seconds", "hours", "evaluations", "dB"),
    )
}
UNITS = _INFORMATION | _PLAIN


def unit(quantity: str, text: str) -> Unit:
    """The unit of a claim or measurement: `text` gives measure and per, the name of the quantity sign and scale."""
    if quantity not in QUANTITIES:
        raise UserError(f"unknown quantity {quantity!r}; known: {', '.join(QUANTITIES)}")
    if text not in UNITS:
        raise UserError(f"unknown unit {text!r}; known: {', '.join(UNITS)}")
    meaning, (measure, per) = QUANTITIES[quantity], UNITS[text]
    if (meaning.sign == UNSIGNED) != (measure.nats is None):
        raise UserError(f"{quantity} cannot be in {text!r}")
    return Unit(measure, per, meaning.sign, meaning.scale)


@dataclass(frozen=True)
class Step:
    """One line of a derivation: what was done and why, and the number that it gave."""

    text: str
    value: float
    unit: Unit
    stderr: float | None = None

    def __str__(self) -> str:
        return f"{self.text}: {with_error(self.value, self.stderr)} {self.unit.description}"


@dataclass(frozen=True)
class Quantity:
    """value +- stderr in `unit`, with the steps that led to it (they take no part in ==).

    Order, sum and difference across units raise UserError. Errors are combined as independent ones.
    """

    value: float
    unit: Unit
    stderr: float | None = None
    steps: tuple[Step, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{with_error(self.value, self.stderr)} {self.unit}".removesuffix(" 1")

    def __lt__(self, other: "Quantity") -> bool:
        _require_same(self.unit, other.unit, "compare")
        return self.value < other.value

    def __le__(self, other: "Quantity") -> bool:
        _require_same(self.unit, other.unit, "compare")
        return self.value <= other.value

    def gap(self, other: "Quantity") -> float:
        """How far self lies above other, both in the very same unit: the number that a comparison prints."""
        _require_same(self.unit, other.unit, "compare")
        return self.value - other.value

    def __sub__(self, other: "Quantity") -> "Quantity":
        """point - point = difference - difference = difference; point - difference = point."""
        _require_same(_free(self.unit), _free(other.unit), "subtract")
        if other.unit.scale not in (NO_SCALE, self.unit.scale):
            raise UserError(f"cannot subtract {other.unit.description} from {self.unit.description}")
        scale = self.unit.scale if other.unit.scale == NO_SCALE else NO_SCALE
        return _combined(self, other, self.value - other.value, scale, "minus")

    def __add__(self, other: "Quantity") -> "Quantity":
        """difference + difference = difference; point + difference = point."""
        _require_same(_free(self.unit), _free(other.unit), "add")
        if NO_SCALE not in (self.unit.scale, other.unit.scale):
            raise UserError(f"cannot add two log likelihoods, {self.unit.description} and {other.unit.description}")
        scale = self.unit.scale if other.unit.scale == NO_SCALE else other.unit.scale
        return _combined(self, other, self.value + other.value, scale, "plus")


@dataclass(frozen=True)
class Layout:
    """How an example divides: `pixels` positions of `channels` dimensions each."""

    pixels: int
    channels: int

    def dimensions(self, per: Per) -> int:
        """How many dimensions one example, pixel or dimension has."""
        return {EXAMPLE: self.pixels * self.channels, PIXEL: self.channels, DIM: 1}[per]


def stated(value: float, unit: Unit, where: str, stderr: float | None = None) -> Quantity:
    """A number as its source prints it: the first line of a derivation."""
    return Quantity(value, unit, stderr, (Step(where, value, unit, stderr),))


def in_measure(quantity: Quantity, measure: Measure) -> Quantity:
    """Nats to bits or back: value * (nats in the old unit) / (nats in the new one)."""
    factor = _nats(quantity.unit.measure, quantity) / _nats(measure, quantity)
    return _scaled(quantity, factor, replace(quantity.unit, measure=measure), f"in {measure.name}, times {number(factor)}")


def with_sign(quantity: Quantity, sign: Sign) -> Quantity:
    """log p to -log p or back."""
    _nats(quantity.unit.measure, quantity)
    factor = quantity.unit.sign.factor * sign.factor
    if factor == 0:
        raise UserError(f"{quantity.unit.description} has no sign to turn into {sign.name or 'none'}")
    return _scaled(quantity, factor, replace(quantity.unit, sign=sign), f"as {sign.name}, times {factor}")


def per(quantity: Quantity, target: Per, layout: Layout) -> Quantity:
    """Per example, pixel or dimension: value * (dimensions of the target) / (dimensions of the source)."""
    _nats(quantity.unit.measure, quantity)
    source, goal = layout.dimensions(quantity.unit.per), layout.dimensions(target)
    text = f"per {target.what}, times {goal}/{source}"
    return _scaled(quantity, goal / source, replace(quantity.unit, per=target), text)


def on_scale(quantity: Quantity, scale: Scale, stretch: float, layout: Layout, why: str = "") -> Quantity:
    """Change of variables y = stretch * x + shift: log p(y) = log p(x) - log |stretch| in each dimension.

    `stretch` is how many units of the new scale one unit of the old one is (from unit variance to grey levels: the
    standard deviation in grey levels). `why` is its source, for the derivation.
    """
    if quantity.unit.scale == NO_SCALE:
        raise UserError(f"{quantity.unit.description} has no scale: a difference is the same in all coordinates")
    if not 0 < stretch < math.inf:
        raise UserError(f"the stretch from one scale to another must be positive and finite, not {stretch}")
    log_stretch = math.log(stretch) / _nats(quantity.unit.measure, quantity)
    shift = -quantity.unit.sign.factor * layout.dimensions(quantity.unit.per) * log_stretch
    term = f"{'+' if shift >= 0 else '-'} {number(abs(shift))}"
    text = f"from {quantity.unit.scale.name} to {scale.name}{why and f' ({why})'}, {term}"
    new = replace(quantity, value=quantity.value + shift, unit=replace(quantity.unit, scale=scale))
    return _noted(new, quantity.steps, text)


def converted(quantity: Quantity, target: Unit, layout: Layout) -> Quantity:
    """The same number in another unit; of scales, those that differ by a factor known without the data."""
    same_scale = per(with_sign(in_measure(quantity, target.measure), target.sign), target.per, layout)
    stretch = GREY_LEVELS_IN.get(quantity.unit.scale, math.nan) / GREY_LEVELS_IN.get(target.scale, math.nan)
    return same_scale if same_scale.unit == target else on_scale(same_scale, target.scale, stretch, layout)


def number(value: float) -> str:
    """Five significant digits, whole numbers in full."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.5g}"


def with_error(value: float, stderr: float | None) -> str:
    return number(value) if stderr is None else f"{number(value)} ± {stderr:.2g}"


def _nats(measure: Measure, quantity: Quantity) -> float:
    if measure.nats is None:
        raise UserError(f"{quantity} is no information and has no such conversion (asked for {measure.name})")
    return measure.nats


def _require_same(a: Unit, b: Unit, verb: str) -> None:
    if a != b:
        raise UserError(f"cannot {verb} {a.description} and {b.description}; convert one of them first (dpm.study.units)")


def _free(unit: Unit) -> Unit:
    """The unit of a difference of two such log likelihoods."""
    return replace(unit, scale=NO_SCALE)


def _scaled(quantity: Quantity, factor: float, new: Unit, text: str) -> Quantity:
    if new == quantity.unit:
        return quantity
    stderr = None if quantity.stderr is None else abs(factor) * quantity.stderr
    return _noted(Quantity(quantity.value * factor, new, stderr), quantity.steps, text)


def _noted(quantity: Quantity, before: tuple[Step, ...], text: str) -> Quantity:
    return replace(quantity, steps=(*before, Step(text, quantity.value, quantity.unit, quantity.stderr)))


def _combined(a: Quantity, b: Quantity, value: float, scale: Scale, word: str) -> Quantity:
    errors = [error for error in (a.stderr, b.stderr) if error is not None]
    stderr = math.hypot(*errors) if errors else None
    new = Quantity(value, replace(a.unit, scale=scale), stderr)
    return _noted(new, (*a.steps, *b.steps), f"{number(a.value)} {word} {number(b.value)}")
