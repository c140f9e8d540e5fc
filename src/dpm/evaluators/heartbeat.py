"""The bound where the exact posterior is known word by word: oracle and ceiling without sampling, and what is sampled."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from dpm import seeds
from dpm.bound import Edges
from dpm.data.heartbeat import BinaryHeartbeat
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.bound import NATS_PER_BIT, AllTerms, Limits
from dpm.facts import Scalar
from dpm.oracles.binomial import BinomialOracle, Enumeration, words_of
from dpm.processes.binomial import BinomialDiffusion
from dpm.reverse import Reverse
from dpm.samplers.ancestral import ancestral
from dpm.schedules import constant_erasure
from dpm.study.records import Measurement, standard_error


def oracle_of(reverse: Reverse, data: BinaryHeartbeat) -> BinomialOracle:
    """The oracle for the very process that `reverse` owns."""
    if not isinstance(reverse.process, BinomialDiffusion):
        raise UserError(f"words need a binomial process, not {type(reverse.process).__name__}")
    return BinomialOracle(reverse.process, data, Stationary())


class ExactLimits(Limits):
    """The oracle's K and the ceiling of any K as expectations over all states, in bits: they carry no error."""

    ceiling = None  # it depends on the edges

    def __init__(self, oracle: BinomialOracle, data: BinaryHeartbeat) -> None:
        self.oracle, self.enumeration = oracle, Enumeration(oracle.process, data)
        self.transitions = self.enumeration.transitions().cpu() / NATS_PER_BIT
        self.arrays = {"oracle_term_mean": self.transitions.numpy()}

    def of(self, edges: Edges, prior: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """The two ends are those of any examples; the expectation goes over the words, each as often as the others."""
        return self.exact(edges)

    def exact(self, edges: Edges) -> dict[str, Tensor]:
        prior, reconstruction = edges(self.oracle, self.enumeration.words)
        K = -float(prior.mean() + reconstruction.mean()) / NATS_PER_BIT - float(self.transitions.sum())
        values = {"ceiling": self.enumeration.ceiling(prior, reconstruction) / NATS_PER_BIT, "oracle": K}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


class ExactAllTerms(AllTerms):
    """`AllTerms` beside an oracle and a ceiling that carry no error."""

    def limits(self, reverse: Reverse, data: BinaryHeartbeat, x_0: Tensor, seed: int) -> Limits:
        return ExactLimits(oracle_of(reverse, data), data)


class GapToOracle:
    """`gain_over_oracle` without the noise of K: minus the sum over t of E KL(p*(x_{t-1} | x_t) || p(x_{t-1} | x_t)).

    The oracle p* has the right marginals, and log p is a sum over bits, so for every factorised p
    E KL(q(x_s | x_t, x_0) || p) = E KL(q(x_s | x_t, x_0) || p*) + E KL(p* || p): a theorem of Pythagoras.
    """

    def __init__(self, n: int, unit: str) -> None:
        self.n, self.unit = n, unit

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: BinaryHeartbeat, x_0: Tensor, seed: int) -> Evaluation:
        oracle, x_0 = oracle_of(reverse, data), x_0[: self.n]
        gap = torch.stack([self.term(reverse, oracle, x_0, t, seed) for t in range(2, len(reverse.process.schedule) + 1)], 1)
        gain = -gap.sum(1).cpu().numpy()
        protocol: dict[str, Scalar] = {"terms": "all", "draws": 1, "estimator": "KL from the oracle"}
        value = Measurement("gain_over_oracle", float(gain.mean()), standard_error(gain), len(gain), self.unit, protocol)
        return Evaluation((value,), {"gap_mean": gap.mean(0).cpu().numpy()})

    @staticmethod
    def term(reverse: Reverse, oracle: Reverse, x_0: Tensor, t: int, seed: int) -> Tensor:
        """KL(p* || p) in bits at one draw of x_t for each example, shape (n,)."""
        seeds.seed_everything(seed, seeds.EVALUATION, t)
        times = torch.full((len(x_0),), t, device=x_0.device)
        x_t = reverse.process.marginal(x_0, times).sample()
        return kl_divergence(oracle(x_t, times - 1, times), reverse(x_t, times - 1, times)) / NATS_PER_BIT


class OracleAgainstT:
    """The oracle's K and its ceiling for every T and base rate given, with beta_t = 1 / (T - t + 1), exactly: no network."""

    def __init__(self, T: Sequence[int], rates: Sequence[float], edges: Mapping[str, Edges], unit: str) -> None:
        self.T, self.rates, self.edges, self.unit = T, rates, edges, unit

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: BinaryHeartbeat, x_0: Tensor, seed: int) -> Evaluation:
        values = [self.measurement(data, T, rate, name) for name in self.edges for rate in self.rates for T in self.T]
        K, ceiling = (np.array([getattr(m, key) for m in values], dtype=np.float64) for key in ("value", "ceiling"))
        shape = (len(self.edges), len(self.rates), len(self.T))
        arrays = {"oracle_T": np.array(self.T), "oracle_rates": np.array(self.rates)}
        arrays |= {"oracle_K": K.reshape(shape)[0], "oracle_ceiling": ceiling.reshape(shape)[0]}
        return Evaluation(tuple(values), arrays)

    def measurement(self, data: BinaryHeartbeat, T: int, rate: float, edges: str) -> Measurement:
        process = BinomialDiffusion(constant_erasure(T), rate)
        exact = ExactLimits(BinomialOracle(process, data, Stationary()), data).exact(self.edges[edges])
        limits = {name: value.item() for name, value in exact.items()}
        protocol: dict[str, Scalar] = {"edges": edges, "terms": "exact", "T": T, "base_rate": rate}
        n, exactly = len(data.words()), 0.0
        return Measurement("oracle_bound", limits["oracle"], exactly, n, self.unit, protocol, ceiling=limits["ceiling"])


class Samples:
    """The share of `n` samples that are words, and what Figure 2 shows: `rows` samples (3, rows, length) at t = 0, T/2, T.

    The fixed last step keeps every bit of x_1, noise included, so a perfect model's share is that of q(x_1): `oracle`.
    """

    def __init__(self, n: int, rows: int) -> None:
        self.n, self.rows = n, rows

    @torch.no_grad()
    def __call__(self, reverse: Reverse, data: BinaryHeartbeat, x_0: Tensor, seed: int) -> Evaluation:
        seeds.seed_everything(seed, seeds.SAMPLING)
        T = len(reverse.process.schedule)
        x_T = reverse.process.prior(x_0.new_zeros(self.n, data.length)).sample()
        shown, x_0 = {T: x_T[: self.rows]}, x_T
        for t, x_t in zip(range(T - 1, -1, -1), ancestral(reverse, x_T, range(T, -1, -1)), strict=True):
            x_0 = x_t
            if t in (0, T // 2):
                shown[t] = x_t[: self.rows]
        valid = data.is_word(x_0).double().cpu().numpy()
        protocol: dict[str, Scalar] = {"sampler": "ancestral", "sampling_steps": T}
        share, best = float(valid.mean()), share_of_words(reverse, data)
        value = Measurement("valid_share", share, standard_error(valid), len(valid), "1", protocol, oracle=best)
        times = sorted(shown)
        frames = torch.stack([shown[t] for t in times]).to(torch.uint8)
        return Evaluation((value,), {"sample_times": np.array(times), "samples": frames.cpu().numpy()})


def share_of_words(reverse: Reverse, data: BinaryHeartbeat) -> float:
    """P(X_1 is a word), exactly."""
    words = words_of(data, reverse.process)
    q = reverse.process.marginal(
        words.repeat_interleave(len(words), 0), torch.ones(len(words) ** 2, dtype=torch.long, device=words.device)
    )
    return float(q.log_prob(words.repeat(len(words), 1)).exp().sum()) / len(words)


class KnownEntropy:
    """E log p(x_0) = -log2 period, what a perfect model reaches without any bound; the same for every x_0."""

    def __init__(self, unit: str, claim: str | None = None) -> None:
        self.unit, self.claim = unit, claim

    def __call__(self, reverse: Reverse, data: BinaryHeartbeat, x_0: Tensor, seed: int) -> Evaluation:
        value, exactly = float(data.log_likelihood(data.words()).mean()) / NATS_PER_BIT, 0.0
        about = (value, exactly, len(x_0), self.unit, {"terms": "exact"}, self.claim)
        return Evaluation((Measurement("log_likelihood", *about),))
