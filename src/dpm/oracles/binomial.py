"""The best factorised reverse process for binary data with few possible sequences ("words"), and its bound, exactly."""

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from dpm.decoders import Decoder
from dpm.processes import Process
from dpm.processes.binomial import BinomialDiffusion
from dpm.reverse.binomial import BinomialReverse


class Enumerable(Protocol):
    def words(self) -> Tensor:
        """All values of x_0, equally likely: (W, n) of zeros and ones."""


def words_of(data: Enumerable, process: Process) -> Tensor:
    """All values of x_0, on the device of the process."""
    return data.words().to(next(process.schedule.buffers()).device)


class WordPosterior(nn.Module):
    """logit P(x_0,i = 1 | x_t) for every bit i, by Bayes over the words: what a perfect network would output."""

    def __init__(self, process: BinomialDiffusion, words: Tensor) -> None:
        super().__init__()
        self.process = process
        self.register_buffer("words", words)

    words: Tensor

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        words = self.words.to(x_t)
        log_q = torch.stack([self.process.marginal(word.expand_as(x_t), t).log_prob(x_t) for word in words], 1)
        on, off = (torch.logsumexp(log_q[..., None] + bit.log(), 1) for bit in (words, 1 - words))
        return on - off


class BinomialOracle(BinomialReverse):
    """p(x_s,i = 1 | x_t) = sum_w P(w | x_t) q(x_s,i = 1 | x_t,i, w_i): the exact marginals of q(x_s | x_t), bit by bit.

    No product of Bernoullis has a smaller E KL(q(x_s | x_t, x_0) || p). The sum runs over the two values of w_i only, so
    this is `BinomialReverse` with the exact logit of x_0 for its network: that form loses nothing.
    """

    def __init__(self, process: BinomialDiffusion, data: Enumerable, decoder: Decoder) -> None:
        super().__init__(process, WordPosterior(process, data.words()), decoder)


class Enumeration:
    """The oracle's expectations over all 2^n states x_t: exact, in nats.

    Bits whose columns in the list of words are equal are exchangeable, so only the number of ones in each group of such
    bits matters: for the heartbeat 5^5 = 3125 classes of states instead of 2^20.
    """

    def __init__(self, process: BinomialDiffusion, data: Enumerable) -> None:
        self.process, self.words = process, words_of(data, process)
        self.columns, sizes = self.words.unique(dim=1, return_counts=True)  # type: ignore[no-untyped-call]
        self.ones = torch.cartesian_prod(*(torch.arange(m + 1) for m in sizes)).reshape(-1, len(sizes)).to(self.words)
        self.zeros = sizes - self.ones
        self.log_states = (log_factorial(sizes) - log_factorial(self.ones) - log_factorial(self.zeros)).sum(1)

    def log_q(self, t: int) -> Tensor:
        """log q(x_t | w) of one state of each class, shape (classes, W)."""
        on = self.process.marginal(self.columns, torch.full((len(self.columns),), t, device=self.words.device)).mean
        log_q: Tensor = self.ones @ on.log().T + self.zeros @ torch.log1p(-on).T
        return log_q

    def log_marginal(self, log_q: Tensor) -> Tensor:
        """log q(x_t) of one state of each class."""
        return torch.logsumexp(log_q, 1) - math.log(len(self.words))

    def entropy(self, t: int) -> float:
        """H(X_t)."""
        log_marginal = self.log_marginal(self.log_q(t))
        return -float((self.log_states + log_marginal).exp() @ log_marginal)

    def information(self, t: int) -> float:
        """I(X_0; X_t) = H(X_t) - H_q(X_t | X_0), t >= 1."""
        return self.entropy(t) - float(
            self.process.marginal(self.words, torch.full((len(self.words),), t, device=self.words.device)).entropy().mean()
        )

    def transition(self, t: int) -> float:
        """E KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) of the oracle, t >= 2.

        Given x_t, each bit contributes h(p) - sum_b P(x_0 = b | x_t) h(q_b): q_b = q(x_{t-1} = 1 | x_t, x_0 = b), p their
        mixture, h the binary entropy (a Jensen-Shannon divergence).
        """
        log_q = self.log_q(t)
        x_0 = torch.softmax(log_q, 1) @ self.columns
        total = torch.zeros_like(x_0)
        for x_t, number in ((0.0, self.zeros), (1.0, self.ones)):
            off, on = self.posteriors(x_t, t)
            total += number * (bit_entropy(off + x_0 * (on - off)) - (1 - x_0) * bit_entropy(off) - x_0 * bit_entropy(on))
        return float((self.log_states + self.log_marginal(log_q)).exp() @ total.sum(1))

    def posteriors(self, x_t: float, t: int) -> Tensor:
        """q(x_{t-1} = 1 | x_t, x_0) of one bit, for x_0 = 0 and 1."""
        x_0, time = self.words.new_tensor([[0.0], [1.0]]), torch.tensor([t, t], device=self.words.device)
        rates: Tensor = self.process.posterior(x_0, torch.full_like(x_0, x_t), time - 1, time).mean
        return rates.flatten()

    def transitions(self) -> Tensor:
        """The terms of t = 2..T, shape (T - 1,)."""
        return self.words.new_tensor([self.transition(t) for t in range(2, len(self.process.schedule) + 1)])

    def ceiling(self, prior: Tensor, reconstruction: Tensor) -> float:
        """What K cannot exceed, whatever the reverse process, given the edges of the bound at the words.

        The terms add up to I(X_0; X_1) - I(X_0; X_T) at least: E KL(q(x_s | x_t, x_0) || p(x_s | x_t)) >= I(X_0; X_s | X_t),
        with equality for p = q(x_s | x_t), and the chain rule telescopes. With the edges of 2015, data on which -log pi has
        its own entropy for mean, and alpha_bar_T = 0, the ceiling is -H(X_1), as for the Gaussian kernel. The published
        form -(H(X_0) + H_q(X_1 | X_0)) is lower by H(X_0 | X_1), far below the printed digits.
        """
        T = len(self.process.schedule)
        return -float(prior.mean() + reconstruction.mean()) - self.information(1) + self.information(T)


def bit_entropy(p: Tensor) -> Tensor:
    """h(p) of one bit, in nats."""
    entropy: Tensor = torch.special.entr(p) + torch.special.entr(1 - p)
    return entropy


def log_factorial(n: Tensor) -> Tensor:
    return torch.lgamma(n.double() + 1)
