"""The entropy of the reverse step: closed forms for Gaussian data, brute force over all states of a few bits, its errors."""

import math
from collections.abc import Callable
from typing import Any

import mutants
import numpy as np
import pytest
import test_binomial
import test_heartbeat
import torch
from mutants import Mutant
from test_heartbeat import Words
from torch import Tensor

from dpm import schedules
from dpm.data.heartbeat import BinaryHeartbeat
from dpm.data.synthetic import GaussianData, SwissRoll
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.evaluators import Evaluation, entropies
from dpm.evaluators.entropies import EntropyBounds, EnumeratedChain, SampledChain, bounds
from dpm.figures import render
from dpm.figures.entropies import entropy_bounds
from dpm.oracles.binomial import BinomialOracle, Enumeration
from dpm.oracles.gaussian import GaussianOracle
from dpm.processes.binomial import BinomialDiffusion
from dpm.processes.gaussian import GaussianDiffusion
from dpm.schedules import BetaSchedule

D, BIT = 2, math.log(2)
BETAS = schedules.linear(6, 0.05, 0.6)


class ClosedForm(SampledChain):
    """The exact entropy of x_t ~ N(0, (alpha_bar_t v + 1 - alpha_bar_t) I) in the place of an estimate."""

    def surprisal(self, t: int) -> Tensor:
        return D / 2 * torch.log(2 * math.pi * math.e * variance(self.data.variance, t))


def variance(v: float, t: int) -> Tensor:
    """Of each coordinate of x_t, multiplied out."""
    for beta in BETAS.betas[:t]:
        v = (1 - beta) * v + beta
    return torch.as_tensor(v)


def of_step(v: float) -> float:
    """Entropy of N(., v I) in bits."""
    return D / 2 * math.log2(2 * math.pi * math.e * v)


def posterior_variance(v: float, t: int) -> Tensor:
    """Var[x_{t-1} | x_t] = V_{t-1} beta_t / V_t, by Bayes."""
    return variance(v, t - 1) * BETAS.betas[t - 1] / variance(v, t)


def gaussian(v: float, schedule: BetaSchedule = BETAS) -> GaussianOracle:
    return GaussianOracle(GaussianDiffusion(schedule), GaussianData(D, 0.0, v), Stationary())


def evaluate(reverse: Any, data: Any, chain: Callable[..., Any], n: int = 5, seed: int = 0, unit: str = "bits") -> Evaluation:
    return EntropyBounds(chain, unit)(reverse, data, data.held_out(n), seed)


def of_gaussian(v: float, chain: Callable[..., Any] = ClosedForm, n: int = 5) -> Evaluation:
    return evaluate(gaussian(v), GaussianData(D, 0.0, v), chain, n)


def measured(evaluation: Evaluation, quantity: str) -> dict[str, float]:
    return {str(m.protocol["side"]): m.value for m in evaluation.measurements if m.quantity == quantity}


# --- Gaussian data -----------------------------------------------------------------------------------------------------


def check_closed_form(v: float = 0.5) -> None:
    """The truth by Bayes, without the chain rule; the bounds have beta_t and beta-tilde_t."""
    arrays = of_gaussian(v).arrays
    assert arrays["entropy_times"].tolist() == list(range(2, 7))
    for k, t in enumerate(range(2, 7)):
        beta, alpha_bar = BETAS.betas[t - 1], torch.cumprod(1 - BETAS.betas, 0)
        beta_tilde = beta * (1 - alpha_bar[t - 2]) / (1 - alpha_bar[t - 1])
        for key, expected in (("lower", beta_tilde), ("truth", posterior_variance(v, t)), ("upper", beta)):
            assert arrays[f"entropy_{key}"][k] == pytest.approx(of_step(expected), abs=1e-12), (key, t)
    assert (arrays["entropy_truth_stderr"] == 0).all()


@pytest.mark.parametrize("v", [1e-9, 0.5, 1.0, 2.0])
def test_gaussian_data_in_closed_form(v: float) -> None:
    check_closed_form(v)


def check_where_the_bounds_hold() -> None:
    """The lower one always; the upper one up to unit variance, and never above it."""
    assert measured(of_gaussian(0.5), "bounded_share") == {"lower": 1, "upper": 1}
    assert measured(of_gaussian(1.0), "bounded_share") == {"lower": 1, "upper": 1}
    assert measured(of_gaussian(2.0), "bounded_share") == {"lower": 1, "upper": 0}


def test_where_the_bounds_hold() -> None:
    check_where_the_bounds_hold()


def test_unit_variance_attains_the_upper_bound_and_a_single_point_the_lower_one() -> None:
    upper, lower = of_gaussian(1.0).arrays, of_gaussian(0.0).arrays
    np.testing.assert_allclose(upper["entropy_truth"], upper["entropy_upper"], rtol=0, atol=1e-14)
    np.testing.assert_allclose(lower["entropy_truth"], lower["entropy_lower"], rtol=0, atol=1e-14)
    assert (upper["entropy_truth"] - upper["entropy_lower"] > 0.01).all()
    assert measured(of_gaussian(0.0), "entropy_gap")["lower"] == pytest.approx(0, abs=1e-13)


def test_the_total_variance_decides_and_the_mean_does_not() -> None:
    """N(9, diag(1.8, 0.1)): a coordinate alone breaks its bound, and E x_0^2 is 81 too large; together they keep it."""

    class Uneven(GaussianData):
        def sample(self, n: int, generator: torch.Generator) -> Tensor:
            return 9 + torch.randn(n, D, generator=generator, dtype=torch.float64) * self.variances.sqrt()

        def log_density(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
            v = alpha**2 * self.variances + sigma**2
            return -0.5 * ((x - 9 * alpha).square() / v + torch.log(2 * math.pi * v)).sum(1)

        variances = torch.tensor([1.8, 0.1], dtype=torch.float64)

    evaluation = evaluate(gaussian(1.0), Uneven(), SampledChain, n=20_000)
    assert measured(evaluation, "bounded_share") == {"lower": 1, "upper": 1}
    arrays, V = evaluation.arrays, torch.stack([1 + (Uneven.variances - 1) * a for a in torch.cumprod(1 - BETAS.betas, 0)])
    rise = 0.5 * V.log2().sum(1).diff().numpy()
    assert (np.abs(arrays["entropy_upper"] - arrays["entropy_truth"] - rise) < 4 * arrays["entropy_truth_stderr"]).all()
    assert bool((V[:, 0].diff() < 0).all())


# --- the estimate ------------------------------------------------------------------------------------------------------


def check_interval(repetitions: int = 400, n: int = 100) -> None:
    """95 % intervals at each t, examples and noise drawn afresh: 91.5 to 98.5 %; no bias beyond its error."""
    data, evaluator = GaussianData(D, 0.3, 0.5), EntropyBounds(SampledChain, "bits")
    reverse = gaussian(0.5, BetaSchedule(BETAS.betas[:3]))
    runs = [evaluator(reverse, data, data.batch(n, seed, 0), seed).arrays for seed in range(repetitions)]
    truth, stderr = (np.array([run[f"entropy_{key}"] for run in runs]) for key in ("truth", "truth_stderr"))
    exact = np.array([of_step(posterior_variance(0.5, t)) for t in (2, 3)])
    coverage = (np.abs(truth - exact) < 1.96 * stderr).mean(0)
    assert (np.abs(coverage - 0.95) < 0.035).all(), coverage
    assert (np.abs(truth.mean(0) - exact) < 4 * truth.std(0) / math.sqrt(repetitions)).all()


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    check_interval()


def test_every_time_has_the_same_noise_and_another_seed_another_one() -> None:
    class Seen(GaussianData):
        def log_density(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
            noise.append((x - alpha * self.held_out(len(x))) / sigma)
            return super().log_density(x, alpha, sigma)

    noise: list[Tensor] = []
    for seed in (0, 1):
        evaluate(gaussian(1.0), Seen(D), SampledChain, n=50, seed=seed)
    for eps in noise[1:6]:
        torch.testing.assert_close(eps, noise[0])
    assert len(noise) == 12
    assert (noise[6] - noise[0]).abs().max() > 1


def check_common_noise_pays() -> None:
    """Fine steps: the difference of two entropies is known far better than either of them."""
    data, schedule = SwissRoll(1e-3), schedules.geometric(40, 1e-3, 1e-3)
    reverse = gaussian(1.0, schedule)
    arrays, x_0 = evaluate(reverse, data, SampledChain, n=300).arrays, data.held_out(300)
    alone = SampledChain(reverse, data, x_0, 0).surprisal(20).std() / BIT / math.sqrt(300)
    assert arrays["entropy_truth_stderr"].max() < 0.3 * alone


def test_common_noise_pays() -> None:
    check_common_noise_pays()


def test_the_roll_lies_between_its_bounds_and_half_way_where_it_is_a_thin_curve() -> None:
    """Noise that is wider than the curve and narrower than its turns spreads in one of two dimensions."""
    data, schedule = SwissRoll(1e-8), schedules.geometric(12, 1e-5, 0.99)
    evaluation = evaluate(gaussian(1.0, schedule), data, SampledChain, n=1000)
    lower, truth, upper = (evaluation.arrays[f"entropy_{key}"] for key in ("lower", "truth", "upper"))
    assert (truth - lower) / (upper - lower) == pytest.approx(0.5, abs=0.02)
    assert measured(evaluation, "bounded_share") == {"lower": 1, "upper": 1}


# --- binary data -------------------------------------------------------------------------------------------------------


WORDS = {
    "a heartbeat": BinaryHeartbeat(3, 3),
    "two of two": Words("10", "11"),
    "one alone": Words("11"),
    "a bit": Words("1", "0", "0"),
}
every_case = pytest.mark.parametrize(("words", "schedule", "rate"), [(w, s, r) for w in WORDS for s, r in test_binomial.CASES])


def of_words(words: Any, process: BinomialDiffusion) -> Evaluation:
    """Enumeration uses no examples."""
    reverse = BinomialOracle(process, words, Stationary())
    return EntropyBounds(EnumeratedChain, "bits")(reverse, words, words.words(), 0)


def brute_force(q: BinomialDiffusion, words: Tensor, t: int) -> dict[str, float]:
    """H(X_{t-1} | X_t, X_0), H(X_{t-1} | X_t), H(X_t | X_{t-1}) in bits by their definitions, from q(w, x_{t-1}, x_t)."""
    joint = test_heartbeat.joint(q, words, t - 1, t)
    both = joint.sum(0)  # x_{t-1}, x_t

    def conditional(p: Tensor, summed: int) -> float:
        return -float(torch.xlogy(p, p / p.sum(summed, keepdim=True)).nan_to_num().sum()) / BIT

    return {"lower": conditional(joint, 1), "truth": conditional(both, 0), "upper": conditional(both, 1)}


def check_by_brute_force(words: str = "a heartbeat", schedule: str = "constant erasure", rate: float = 0.2) -> None:
    q, data = test_binomial.process(schedule, rate), WORDS[words]
    arrays = of_words(data, q).arrays
    for k, t in enumerate(range(2, len(q.schedule) + 1)):
        for key, expected in brute_force(q, data.words(), t).items():
            assert arrays[f"entropy_{key}"][k] == pytest.approx(expected, abs=1e-12), (key, t)


@every_case
def test_all_three_are_what_their_definitions_say(words: str, schedule: str, rate: float) -> None:
    check_by_brute_force(words, schedule, rate)


@every_case
def test_both_bounds_hold_for_data_that_pi_finds_no_more_surprising_than_itself(words: str, schedule: str, rate: float) -> None:
    """E[-log pi(x_0)] <= H_pi is enough for the upper bound; the lower one asks for nothing."""
    q, x_0 = test_binomial.process(schedule, rate), WORDS[words].words()
    shares, pi = measured(of_words(WORDS[words], q), "bounded_share"), q.prior(x_0)
    assert shares["lower"] == 1
    if -pi.log_prob(x_0).mean() <= pi.entropy().mean() + 1e-12:
        assert shares["upper"] == 1


def test_ones_where_pi_has_few_break_the_upper_bound() -> None:
    """From 11 to two bits of rate 0.2 the entropy passes its maximum, at rate 0.5, and falls."""
    shares = measured(of_words(WORDS["one alone"], BinomialDiffusion(schedules.constant_erasure(50), 0.2)), "bounded_share")
    assert shares["lower"] == 1
    assert 0.2 < shares["upper"] < 0.8


def check_distances_add_up() -> None:
    """To what x_1 knows of x_0 and x_T does not, and to the rise of the entropy."""
    data, q = BinaryHeartbeat(6, 3), test_binomial.process("ends far from noise", 0.2)
    exact, gaps = Enumeration(q, data), measured(of_words(data, q), "entropy_gap")
    T = len(q.schedule)
    assert gaps["lower"] == pytest.approx((exact.information(1) - exact.information(T)) / BIT, abs=1e-12)
    assert gaps["upper"] == pytest.approx((exact.entropy(T) - exact.entropy(1)) / BIT, abs=1e-12)


def test_distances_add_up() -> None:
    check_distances_add_up()


def test_the_distance_from_the_lower_bound_is_the_least_term_of_the_bound() -> None:
    """A single bit's oracle is the exact reverse process; several bits that depend on each other cost it more."""
    for name, exact in (("a bit", True), ("a heartbeat", False)):
        q = test_binomial.process("ends far from noise", 0.2)
        arrays, terms = of_words(WORDS[name], q).arrays, Enumeration(q, WORDS[name]).transitions().numpy() / BIT
        least = arrays["entropy_truth"] - arrays["entropy_lower"]
        assert (terms > least - 1e-12).all()
        assert (np.abs(terms - least) < 1e-12).all() == exact


# --- what is recorded and refused ----------------------------------------------------------------------------------------


def test_sampled_distances_have_the_error_of_their_sum() -> None:
    data = GaussianData(D, 0.0, 0.5)
    chain = SampledChain(gaussian(0.5), data, data.held_out(400), 0)
    total = (chain.surprisal(6) - chain.surprisal(1)) / BIT
    evaluation = of_gaussian(0.5, SampledChain, n=400)
    lower, upper = (m for m in evaluation.measurements if m.quantity == "entropy_gap")
    assert (upper.value, upper.stderr) == pytest.approx((total.mean().item(), total.std().item() / 20))
    assert lower.stderr == pytest.approx(upper.stderr)
    width = evaluation.arrays["entropy_upper"] - evaluation.arrays["entropy_lower"]
    assert lower.value + upper.value == pytest.approx(width.sum())
    assert (upper.n, upper.unit, upper.protocol["expectation"]) == (400, "bits", "sampled")


def test_units() -> None:
    per_dim, nats = (evaluate(gaussian(0.5), GaussianData(D, 0.0, 0.5), ClosedForm, unit=u) for u in ("bits/dim", "nats"))
    for key in ("lower", "truth", "upper"):
        in_bits = of_gaussian(0.5).arrays[f"entropy_{key}"]
        np.testing.assert_allclose(D * per_dim.arrays[f"entropy_{key}"], in_bits)
        np.testing.assert_allclose(nats.arrays[f"entropy_{key}"] / BIT, in_bits)


def test_what_has_no_such_entropy_is_refused() -> None:
    one_step, words = gaussian(1.0, schedules.linear(1, 0.3, 0.3)), BinaryHeartbeat(3, 3)
    with pytest.raises(UserError, match="T = 1"):
        evaluate(one_step, GaussianData(D), SampledChain)
    with pytest.raises(UserError, match="binomial process"):
        evaluate(gaussian(1.0), words, EnumeratedChain)
    with pytest.raises(UserError, match="Gaussian process"):
        evaluate(test_heartbeat.oracle(words), words, SampledChain)


# --- the figure ----------------------------------------------------------------------------------------------------------


def test_the_figure_shows_truth_and_bounds_and_no_position_that_is_noise() -> None:
    lower, width = np.array([-3.0, -1, 2]), np.array([2.0, 1, 0.01])
    arrays = {"entropy_times": np.array([2, 3, 4]), "entropy_lower": lower, "entropy_upper": lower + width}
    arrays |= {"entropy_truth": lower + np.array([0.5, 0.5, 0.02]), "entropy_truth_stderr": np.full(3, 0.02)}
    level, distance, position = (a.lines for a in entropy_bounds(arrays).axes)
    keys = ("upper", "truth", "lower")
    for line, key in zip(level, keys, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), arrays[f"entropy_{key}"])
    for lines, expected in ((distance, [width, [0.5, 0.5, 0.02], [0, 0, 0]]), (position, [[1, 1], [0.25, 0.5], [0, 0]])):
        for line, values in zip(lines, expected, strict=True):
            np.testing.assert_allclose(line.get_ydata(), values)
    np.testing.assert_array_equal(position[1].get_xdata(), [2, 3])


def test_the_figure_of_exact_entropies_renders_on_a_logarithmic_axis() -> None:
    arrays = of_words(BinaryHeartbeat(6, 3), test_binomial.process("constant erasure", 1 / 3)).arrays
    figure = entropy_bounds(arrays, scale="log")
    assert figure.axes[0].get_yscale() == "log"
    assert len(figure.axes[2].lines[1].get_xdata()) == len(arrays["entropy_times"])
    assert render(figure).startswith(b"\x89PNG")


# --- mutants -------------------------------------------------------------------------------------------------------------

RISES, SURPRISAL, STEP = entropies.rises, SampledChain.surprisal, SampledChain.step


def times_swapped_in_the_bounds(chain: Any, t: int) -> tuple[float, float]:
    lower, upper = bounds(chain, t)
    return 2 * upper - lower, upper


def times_swapped_in_the_truth(chain: Any, T: int) -> Tensor:
    return -RISES(chain, T)


def without_the_last_conditional(chain: Any, t: int) -> tuple[float, float]:
    """The lower bound without - H(X_t | X_0)."""
    return bounds(chain, t)[0] + chain.noise(t), chain.step(t)


def step_after(self: SampledChain, t: int) -> float:
    """H(X_{t+1} | X_t)."""
    return STEP(self, min(t + 1, len(self.process.schedule)))


def fresh_noise(self: SampledChain, t: int) -> Tensor:
    self.seed += 1
    return SURPRISAL(self, t)


def unpaired(chain: Any, T: int) -> Tensor:
    """Differences between examples that have nothing to do with each other: the same mean, another error."""
    surprisal = torch.stack([chain.surprisal(t) for t in range(1, T + 1)])
    return surprisal[1:] - surprisal[:-1].roll(1, 1)


MUTANTS = [
    Mutant("t and t - 1 swapped in the lower bound", entropies, "bounds", times_swapped_in_the_bounds, check_closed_form),
    Mutant("t and t - 1 swapped, bits", entropies, "bounds", times_swapped_in_the_bounds, check_by_brute_force),
    Mutant("t and t - 1 swapped in the truth", entropies, "rises", times_swapped_in_the_truth, check_closed_form),
    Mutant(
        "the upper bound fails below unit variance", entropies, "rises", times_swapped_in_the_truth, check_where_the_bounds_hold
    ),
    Mutant("nats for bits", entropies, "nats_per_unit", lambda unit, x_0: 1.0, check_closed_form),
    Mutant("nats for bits, added up", entropies, "nats_per_unit", lambda unit, x_0: 1.0, check_distances_add_up),
    Mutant("no H(X_t | X_0)", entropies, "bounds", without_the_last_conditional, check_closed_form),
    Mutant("no H(X_t | X_0), bits", entropies, "bounds", without_the_last_conditional, check_by_brute_force),
    Mutant("the next step", SampledChain, "step", step_after, check_closed_form),
    Mutant("fresh noise at every t", SampledChain, "surprisal", fresh_noise, check_common_noise_pays),
    Mutant("examples not paired", entropies, "rises", unpaired, check_interval),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_theorem_holds_and_the_mutant_breaks_it(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.check(mutant, monkeypatch)
