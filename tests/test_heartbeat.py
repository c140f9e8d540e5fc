"""The heartbeat: its words, the oracle against brute force over all states, the network, what is evaluated and drawn."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import test_gaussian
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from dpm import bound as bounds
from dpm.bound import entropy_edges, stationary_edges
from dpm.data.heartbeat import BinaryHeartbeat
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.evaluators.bound import NATS_PER_BIT, AllTerms
from dpm.evaluators.heartbeat import ExactAllTerms, ExactLimits, GapToOracle, KnownEntropy, OracleAgainstT, Samples
from dpm.figures import heartbeat as figures
from dpm.networks.sigmoid_mlp import SigmoidMLP
from dpm.objectives.one_term import OneTerm
from dpm.oracles.binomial import BinomialOracle, Enumeration
from dpm.processes.binomial import BinomialDiffusion, bernoulli
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.binomial import BinomialReverse
from dpm.schedules import constant_erasure, linear
from dpm.study.claims import load_claims
from dpm.training import Learner, Plan, fit

CLAIMS = load_claims(Path(__file__).parents[1] / "conf" / "claims")
PAPER = BinaryHeartbeat(20, 5)
EDGES = {"entropy": entropy_edges, "stationary": stationary_edges}


class Words:
    """Any list of sequences, equally likely."""

    def __init__(self, *words: str) -> None:
        self.rows = [[float(bit) for bit in word] for word in words]

    def words(self) -> Tensor:
        return torch.tensor(self.rows, dtype=torch.float64)


WORDS = {
    "a short heartbeat": BinaryHeartbeat(6, 3),
    "groups of different sizes": BinaryHeartbeat(5, 3),
    "no two bits alike": Words("1100", "0110", "1011"),
    "bits that never change": Words("1010", "1001"),
    "one word twice": Words("110", "110", "001"),
}
any_words = pytest.mark.parametrize("data", WORDS.values(), ids=WORDS.keys())


def process(T: int = 5, rate: float = 0.2) -> BinomialDiffusion:
    return BinomialDiffusion(constant_erasure(T), rate)


def oracle(data: BinaryHeartbeat = PAPER, T: int = 5, rate: float = 0.2) -> BinomialOracle:
    return BinomialOracle(process(T, rate), data, Stationary())


def at(t: int, like: Tensor) -> Tensor:
    return torch.full((len(like),), t)


# --- data ------------------------------------------------------------------------------------------------------------


def test_the_papers_words() -> None:
    words = PAPER.words()
    assert words.shape == (5, 20)
    assert words.dtype == torch.float64
    assert [row.nonzero().flatten().tolist() for row in words] == [list(range(phase, 20, 5)) for phase in range(5)]
    assert words.mean() == 0.2  # the base rate
    log_likelihood = PAPER.log_likelihood(torch.cat([words, 1 - words])) / NATS_PER_BIT
    torch.testing.assert_close(log_likelihood[:5], torch.full((5,), math.log2(1 / 5), dtype=torch.float64), rtol=1e-14, atol=0)
    assert bool(log_likelihood[5:].isneginf().all())


def test_samples_are_words_of_every_phase_alike() -> None:
    x = PAPER.held_out(10000)
    assert bool(PAPER.is_word(x).all())
    shares = x[:, :5].mean(0)
    assert (shares - 0.2).abs().max() < 4.5 * math.sqrt(0.2 * 0.8 / 10000)
    assert not PAPER.is_word(torch.zeros(1, 20))
    assert not torch.equal(PAPER.batch(100, 0, 1), PAPER.batch(100, 0, 2))
    assert torch.equal(PAPER.batch(100, 0, 1), PAPER.batch(100, 0, 1))


@pytest.mark.parametrize(("length", "period"), [(4, 5), (3, 0), (0, 0)])
def test_a_heartbeat_without_pulse_is_refused(length: int, period: int) -> None:
    with pytest.raises(UserError, match="period"):
        BinaryHeartbeat(length, period)


# --- the oracle, against brute force over all 2^n states ---------------------------------------------------------------


def states(bits: int) -> Tensor:
    return torch.tensor(list(product((0.0, 1.0), repeat=bits)), dtype=torch.float64)


def joint(q: BinomialDiffusion, words: Tensor, s: int, t: int) -> Tensor:
    """q(w, x_s, x_t) of every word and every pair of states."""
    x = states(words.shape[1])
    to_s = torch.stack([q.marginal(w.expand_as(x), at(s, x)).log_prob(x).exp() for w in words]) / len(words)
    to_t = torch.stack([q.kernel(x_s.expand_as(x), at(s, x), at(t, x)).log_prob(x).exp() for x_s in x])
    return to_s[:, :, None] * to_t


@any_words
def test_the_oracle_has_the_exact_marginals_of_every_bit(data: BinaryHeartbeat) -> None:
    p = oracle(data)
    x = states(data.words().shape[1])
    for s, t in ((1, 2), (3, 4), (1, 5), (2, 4)):
        q = joint(p.process, data.words(), s, t).sum(0)  # x_s, x_t
        torch.testing.assert_close(p(x, at(s, x), at(t, x)).mean, (q.T @ x) / q.sum(0)[:, None])


@any_words
def test_no_factorised_step_is_better_than_the_oracle(data: BinaryHeartbeat) -> None:
    """Pythagoras: E KL(q(x_s | x_t, x_0) || p) = E KL(q(x_s | x_t, x_0) || p*) + E KL(p* || p), whatever p."""
    best, words = oracle(data), data.words()
    q, x = best.process, states(words.shape[1])
    for s, t in ((1, 2), (3, 4), (2, 5)):
        mass = joint(q, words, s, t).sum(1)  # w, x_t
        rates = torch.rand_like(x)
        p, p_best = bernoulli(rates), best(x, at(s, x), at(t, x))
        posteriors = [q.posterior(w.expand_as(x), x, at(s, x), at(t, x)) for w in words]
        of_p, of_best = (sum(m @ kl_divergence(of_w, r) for m, of_w in zip(mass, posteriors, strict=True)) for r in (p, p_best))
        excess = mass.sum(0) @ kl_divergence(p_best, p)
        torch.testing.assert_close(of_p, of_best + excess)
        assert excess > 0


@any_words
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_classes_of_states_stand_for_all_of_them(data: BinaryHeartbeat, rate: float) -> None:
    best, words = oracle(data, rate=rate), data.words()
    q, exact, x = best.process, Enumeration(best.process, data), states(words.shape[1])
    for t in range(2, 6):
        mass = joint(q, words, t - 1, t)
        q_t, q_given = mass.sum((0, 1)), mass.sum(1) * len(words)
        entropy = -torch.special.xlogy(q_t, q_t).sum()
        assert exact.entropy(t) == pytest.approx(float(entropy), rel=1e-10)
        given = -torch.special.xlogy(q_given, q_given).sum(1).mean()
        assert exact.information(t) == pytest.approx(float(entropy - given), rel=1e-8, abs=1e-12)
        p = best(x, at(t - 1, x), at(t, x))
        posteriors = [q.posterior(w.expand_as(x), x, at(t - 1, x), at(t, x)) for w in words]
        expected = sum(m @ kl_divergence(of_w, p) for m, of_w in zip(mass.sum(1), posteriors, strict=True))
        assert exact.transition(t) == pytest.approx(float(expected), rel=1e-8, abs=1e-12)


@any_words
def test_only_independent_bits_keep_the_oracle_from_its_ceiling(data: BinaryHeartbeat) -> None:
    """The ceiling minus the oracle's K is the sum of the total correlations of q(x_{t-1} | x_t), which no product has."""
    best, words = oracle(data), data.words()
    exact, x = Enumeration(best.process, data), states(words.shape[1])
    correlation = 0.0
    for t in range(2, 6):
        mass = joint(best.process, words, t - 1, t).sum(0)
        given = mass / mass.sum(0)
        rates = best(x, at(t - 1, x), at(t, x)).mean
        alone = torch.special.entr(rates) + torch.special.entr(1 - rates)
        correlation += float(mass.sum(0) @ (alone.sum(1) - torch.special.entr(given).sum(0)))
    prior, reconstruction = stationary_edges(best, words)
    K = -float(prior.mean() + reconstruction.mean() + exact.transitions().sum())
    assert exact.ceiling(prior, reconstruction) - K == pytest.approx(correlation, abs=1e-10)
    assert correlation >= -1e-12


def test_the_ceiling_is_the_negative_entropy_of_x_1() -> None:
    """With 2015's edges, at either rate; the published form leaves out H(X_0 | X_1), far below its printed digits."""
    for rate, edges in product((0.2, 0.5), EDGES.values()):
        best = oracle(T=50, rate=rate)
        exact, (prior, reconstruction) = Enumeration(best.process, PAPER), edges(best, PAPER.words())
        ceiling = exact.ceiling(prior, reconstruction)
        assert ceiling == pytest.approx(-exact.entropy(1), rel=1e-12)
        published = -math.log(5) - float(best.process.marginal(PAPER.words(), at(1, PAPER.words())).entropy().mean())
        left_out = math.log(5) - exact.information(1)
        assert published == pytest.approx(ceiling - left_out, rel=1e-12)
        assert 0 < left_out < 1e-5


def test_data_of_another_rate_have_another_ceiling() -> None:
    """Exact for every x_0, stationary edges add E[log pi(x_0) - log pi(x_1)] to -H(X_1)."""
    data, q = BinaryHeartbeat(6, 3), process(rate=0.2)
    exact, words = Enumeration(q, data), data.words()
    pi, x_1 = q.prior(words), q.marginal(words, at(1, words)).mean
    surprise_of_x_1 = -(x_1 * math.log(0.2) + (1 - x_1) * math.log(0.8)).sum(1)
    expected = -exact.entropy(1) + float(pi.log_prob(words).mean() + surprise_of_x_1.mean())
    assert exact.ceiling(*stationary_edges(BinomialOracle(q, data, Stationary()), words)) == pytest.approx(expected, rel=1e-12)


def test_the_published_numbers_follow() -> None:
    """H_q(X_1 | X_0), the ceiling and L_null of the paper's heartbeat; 12.024 fits the rate 0.2 alone (Table 1)."""
    derived = "sohl_dickstein_2015/derived/binary_heartbeat"
    best, words = oracle(T=2000), PAPER.words()
    H = float(best.process.marginal(words, at(1, words)).entropy().mean()) / NATS_PER_BIT
    ceiling = -Enumeration(best.process, PAPER).entropy(1) / NATS_PER_BIT
    for name, value in (("H_1_given_0", H), ("ceiling", ceiling)):
        assert value == pytest.approx(CLAIMS[f"{derived}/{name}"].value, abs=CLAIMS[f"{derived}/{name}"].tolerance.value)
    null = {rate: float(process(rate=rate).prior(words).log_prob(words).mean()) / NATS_PER_BIT for rate in (0.2, 0.5)}
    assert null[0.2] == pytest.approx(-14.4386, abs=5e-5)
    assert null[0.5] == pytest.approx(-20)
    K, gain = (CLAIMS[f"sohl_dickstein_2015/table1/binary_heartbeat/{name}"].value for name in ("K", "K_minus_null"))
    assert K - gain == pytest.approx(null[0.2], abs=1e-3)
    assert ceiling >= K


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_the_sampled_oracle_agrees_with_the_exact_one(rate: float) -> None:
    best, x_0 = oracle(T=20, rate=rate), PAPER.held_out(4000)
    sampled = bounds.bound(best, x_0, stationary_edges)
    exact = ExactLimits(best, PAPER)
    errors = sampled.transitions.std(0) / len(x_0) ** 0.5
    deviations = (sampled.transitions.mean(0) - exact.transitions * NATS_PER_BIT).abs()
    assert bool((deviations < 4.5 * errors + 1e-12).all())  # the term of T does not depend on x_T: no error
    K = -sampled.total / NATS_PER_BIT
    assert abs(K.mean() - exact.exact(stationary_edges)["oracle"]) < 4.5 * K.std() / len(x_0) ** 0.5


# --- the network -------------------------------------------------------------------------------------------------------


def test_the_logit_of_x_0_and_the_rate_of_x_s_are_one_to_one() -> None:
    """2015's network outputs the rate of x_{t-1}, ours the logit of x_0. For each bit, the rates between the two posteriors
    are the logits, in order; and a rate outside is worse than the nearer posterior, whatever x_0 is.
    """
    q, logits = process(T=50), torch.linspace(-12, 12, 49, dtype=torch.float64)[:, None]
    for s, t in ((1, 2), (24, 25), (49, 50)):
        for x_t in (torch.zeros_like(logits), torch.ones_like(logits)):
            network = test_gaussian.Constant(logits)
            rates = BinomialReverse(q, network, Stationary())(x_t, at(s, x_t), at(t, x_t)).mean
            off, on = (q.posterior(torch.full_like(x_t, b), x_t, at(s, x_t), at(t, x_t)).mean for b in (0.0, 1.0))
            assert bool(((off < rates) & (rates < on)).all())
            assert bool((rates.diff(dim=0) > 0).all())
            torch.testing.assert_close(torch.logit((rates - off) / (on - off)), logits, rtol=1e-6, atol=1e-6)
            for x_0 in (off, on):
                outside, edge = bernoulli(on + 0.5 * (1 - on)), bernoulli(on)
                assert bool((kl_divergence(bernoulli(x_0), outside) > kl_divergence(bernoulli(x_0), edge)).all())


def network(T: int = 12, blocks: tuple[int, ...] = (1, 3)) -> SigmoidMLP:
    made = SigmoidMLP(bits=4, width=5, depth=3, T=T, blocks=blocks)
    for parameter in made.corrections:
        nn.init.normal_(parameter)
    return made.double()


def test_the_network_is_its_formula() -> None:
    """W_t (h, 1), W_t the sum of the corrections of the blocks that t lies in, each by 1 / sqrt(blocks); in any order of t."""
    made, x, t = network(), torch.rand(20, 4, dtype=torch.float64), torch.randint(1, 13, (20,))
    output = made(x, t)
    for i in range(20):
        h = x[i]
        for layer in made.body[::2]:
            h = 1 / (1 + (-(layer.weight @ h + layer.bias)).exp())
        W = sum(V[(int(t[i]) - 1) * len(V) // 12] / math.sqrt(len(V)) for V in made.corrections)
        torch.testing.assert_close(output[i], torch.cat([h, torch.ones(1, dtype=torch.float64)]) @ W)
    assert [len(V) for V in made.corrections] == [1, 3, 12]
    assert len(made.body) == 6


def test_every_step_has_a_read_out_of_its_own() -> None:
    """Whatever the coarser blocks hold, the finest corrections make any read-outs of T steps."""
    made, wanted = network(), torch.randn(12, 6, 4, dtype=torch.float64)
    with torch.no_grad():
        made.corrections[-1] += (wanted - made.weights()) * math.sqrt(12)
    torch.testing.assert_close(made.weights(), wanted)
    made(torch.rand(1, 4, dtype=torch.float64), torch.tensor([8])).sum().backward()
    touched = [V.grad.flatten(1).any(1).nonzero().flatten().tolist() for V in made.corrections]
    assert touched == [[0], [1], [7]]


def test_the_untrained_network_outputs_zero_in_the_precision_of_x() -> None:
    made, t = SigmoidMLP(bits=4, width=5, depth=1, T=12, blocks=[1]), torch.tensor([1, 12, 1])
    for dtype in (torch.float32, torch.float64):
        output = made(torch.rand(3, 4, dtype=dtype), t)
        assert output.dtype == dtype
        assert not output.any()
    assert next(made.parameters()).dtype == torch.float32


def test_examples_do_not_meet() -> None:
    made, x, t = network(), torch.rand(6, 4, dtype=torch.float64), torch.tensor([5, 1, 5, 5, 12, 1])
    torch.testing.assert_close(torch.cat([made(x[i : i + 1], t[i : i + 1]) for i in range(6)]), made(x, t))


@pytest.mark.parametrize("blocks", [(5,), (1, 24), (0,), (4, 6), (3, 1)])
def test_blocks_that_do_not_nest_are_refused(blocks: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="divides"):
        SigmoidMLP(bits=4, width=5, depth=3, T=12, blocks=blocks)


@pytest.mark.slow
def test_training_comes_close_to_the_oracle() -> None:
    """A shorter heartbeat and chain: within 0.03 bits of the best factorised reverse process, which it cannot exceed."""
    data, T = BinaryHeartbeat(8, 4), 40
    reverse = BinomialReverse(process(T, 0.25), SigmoidMLP(8, 30, 3, T, blocks=[1, 8]), Stationary())
    learner = Learner(
        reverse,
        lambda parameters: torch.optim.Adam(parameters, lr=2e-2, betas=(0.9, 0.99)),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000),
        ema_decay=0.99,
    )
    plan = Plan(1000, 39 * 16, 0.99, 1e9, log_every=1, validate_every=1, checkpoint_every=1)
    assert len(list(fit(learner, data, OneTerm(stationary_edges), plan, seed=0))) == 1000
    (gain,) = GapToOracle(500, "bits/sequence")(learner.ema.module, data, data.held_out(500), seed=0).measurements
    assert -0.03 < gain.value < 0


# --- what is evaluated -------------------------------------------------------------------------------------------------


def constant(T: int) -> BinomialReverse:
    """Says 0.2 for every bit: wrong, but not absurd."""

    class AlwaysTheMean(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            return torch.full_like(x_t, math.log(0.2 / 0.8))

    return BinomialReverse(process(T), AlwaysTheMean(), Stationary())


def test_K_its_limits_and_the_gap_fit_together() -> None:
    """K + gap = oracle up to the noise of K, for a reverse process that is far from the oracle."""
    reverse, x_0 = constant(20), PAPER.held_out(2000)
    evaluation = ExactAllTerms(EDGES, "bits/sequence", 1, 500, claims={"entropy": {"K": "a claim"}})(reverse, PAPER, x_0, 0)
    K, gain = evaluation.measurements[:2]
    assert (K.quantity, K.claim, gain.quantity) == ("log_likelihood_bound", "a claim", "gain_over_null")
    (gap,) = GapToOracle(2000, "bits/sequence")(reverse, PAPER, x_0, 0).measurements
    assert K.value - gap.value == pytest.approx(K.oracle, abs=4.5 * math.hypot(K.stderr, gap.stderr))
    assert gap.value < -10 * K.stderr
    assert gain.value - K.value == pytest.approx(14.4386, abs=1e-4)
    assert gain.oracle - K.oracle == pytest.approx(14.4386, abs=1e-4)
    assert K.ceiling > K.oracle
    reference = AllTerms(EDGES, "bits/sequence", 1, 500)(reverse, PAPER, x_0, 0)
    assert [m.value for m in evaluation.measurements] == [m.value for m in reference.measurements]
    arrays = evaluation.arrays
    assert -arrays["oracle_term_mean"].sum() - K.parts["prior"] - K.parts["reconstruction"] == pytest.approx(K.oracle)


def test_the_oracle_has_no_gap_to_itself() -> None:
    evaluation = GapToOracle(50, "bits/sequence")(oracle(T=20), PAPER, PAPER.held_out(100), seed=0)
    assert evaluation.measurements[0].value == pytest.approx(0, abs=1e-9)
    assert evaluation.measurements[0].n == 50
    assert evaluation.arrays["gap_mean"].shape == (19,)


def test_samples_of_the_oracle_are_words_as_often_as_x_1_is() -> None:
    """The fixed last step keeps the noise of the first one; Figure 2's frames are from one and the same chain."""
    evaluation = Samples(2000, 10)(oracle(T=100), PAPER, PAPER.held_out(10), seed=0)
    (share,), arrays = evaluation.measurements, evaluation.arrays
    assert share.quantity == "valid_share"
    assert share.oracle == pytest.approx((1 - 0.8 / 100) ** 4 * (1 - 0.2 / 100) ** 16, rel=1e-6)
    # independent bits lose a little more: bound it by the ceiling's distance, in the units of a total variation
    assert abs(share.value - share.oracle) < 4.5 * share.stderr + 0.03
    assert arrays["sample_times"].tolist() == [0, 50, 100]
    assert arrays["samples"].shape == (3, 10, 20)
    assert PAPER.is_word(torch.from_numpy(arrays["samples"][0]).double()).double().mean() > 0.5
    assert set(np.unique(arrays["samples"])) <= {0, 1}


def test_what_T_steps_allow_is_computed_for_every_rate() -> None:
    evaluation = OracleAgainstT([5, 20], [0.2, 0.5], {"entropy": entropy_edges}, "bits/sequence")(
        constant(3), PAPER, PAPER.held_out(4), seed=0
    )
    found = {(m.protocol["T"], m.protocol["base_rate"]): m for m in evaluation.measurements}
    for T, rate in product((5, 20), (0.2, 0.5)):
        limits = ExactLimits(oracle(T=T, rate=rate), PAPER).exact(stationary_edges)
        assert found[T, rate].value == pytest.approx(limits["oracle"])
        assert found[T, rate].ceiling == pytest.approx(limits["ceiling"])
    assert evaluation.arrays["oracle_K"][1, 0] == found[5, 0.5].value
    assert evaluation.arrays["oracle_ceiling"][0, 1] == found[20, 0.2].ceiling


def test_the_truth_is_log_2_of_a_fifth() -> None:
    (truth,) = KnownEntropy("bits/sequence")(constant(3), PAPER, PAPER.held_out(50), seed=0).measurements
    assert truth.value == pytest.approx(-math.log2(5), rel=1e-14)
    assert truth.stderr == 0


def test_words_need_bits() -> None:
    gaussian = oracle()
    gaussian.process = GaussianDiffusion(linear(3, 0.1, 0.2))
    with pytest.raises(UserError, match="binomial"):
        GapToOracle(5, "bits")(gaussian, PAPER, PAPER.held_out(5), seed=0)


# --- what is drawn -----------------------------------------------------------------------------------------------------


def test_figure_2_turns_every_row_until_its_first_pulse_is_in_bin_0() -> None:
    samples = np.stack([PAPER.words().numpy(), *np.random.default_rng(0).integers(0, 2, (2, 5, 20))]).astype(float)
    figure = figures.figure_2({"sample_times": np.array([0, 50, 100]), "samples": samples})
    images = [axes.images[0].get_array() for axes in figure.axes]
    assert [axes.get_title() for axes in figure.axes] == ["t = 0", "t = 50 = T/2", "t = 100 = T"]
    for phase in range(5):
        assert np.flatnonzero(images[0][phase]).tolist() == [0, 5, 10, 15]
        for image, frame in zip(images[1:], samples[1:], strict=True):
            assert np.array_equal(image[phase], np.concatenate([frame[phase, phase:], frame[phase, :phase]]))


def test_the_terms_are_drawn_in_groups_beside_the_exact_ones() -> None:
    T = 1001
    term, times = np.linspace(0.1, 0.2, T - 1), np.arange(2, T + 1)
    arrays = {"term_times": times, "term_mean": term, "term_stderr": 0.1 + 0 * term, "oracle_term_mean": term - 0.01}
    left, right = figures.per_step({**arrays, "gap_mean": np.full(T - 1, 0.01)}).axes
    points = left.containers[0].lines[0]
    assert len(points.get_xdata()) == 50
    assert points.get_ydata()[0] == pytest.approx(term[:20].mean())
    bar = left.containers[0].lines[2][0].get_segments()[0]
    assert bar[1, 1] - bar[0, 1] == pytest.approx(2 * 0.1 / math.sqrt(20))
    assert np.array_equal(left.lines[-1].get_ydata(), term - 0.01)
    assert right.lines[0].get_ydata()[-1] == pytest.approx(0.01 * (T - 1))


def test_the_oracle_is_drawn_against_T_beside_the_papers_number() -> None:
    claim = CLAIMS["sohl_dickstein_2015/table1/binary_heartbeat/K"]
    T, rates = np.array([50, 200]), np.array([0.2, 0.5])
    K = np.array([[-3.5, -2.7], [-4.0, -2.9]])
    left, right = figures.oracle_against_T(
        {"oracle_T": T, "oracle_rates": rates, "oracle_K": K, "oracle_ceiling": K + 0.1}, claim
    ).axes
    drawn = [line.get_ydata() for line in left.lines]
    for expected in (K[0], K[0] + 0.1, K[1], K[1] + 0.1, [claim.value] * 2):
        assert any(np.allclose(line, expected) for line in drawn)
    for line in right.lines:
        assert np.allclose(line.get_ydata(), 0.1)
