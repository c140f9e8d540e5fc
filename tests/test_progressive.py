"""Relative entropy coding: the receiver gets the sender's samples, their law is q, and an index is as short as promised."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from test_coding import levels

from dpm.codes import progressive
from dpm.codes.progressive import CHUNK, Gaussians, Progressive, Reader, Writer, candidates, chosen, divergence
from dpm.errors import UserError
from dpm.evaluators.progressive import ProgressivelyCoded
from dpm.oracles.binomial import BinomialOracle

D = 6


def toy(bits: float) -> tuple[Gaussians, Gaussians, np.ndarray]:
    """q and p = N(0, I) in D dimensions with this divergence; the direction in which the means differ."""
    spread = np.full(D, 0.8)
    rest = 2 * np.log(2) * bits - (spread**2 - 1 - 2 * np.log(spread)).sum()
    way = np.ones(D) / D**0.5
    return Gaussians(rest**0.5 * way, spread), Gaussians(np.zeros(D), np.ones(D)), way


def test_the_divergence_is_torchs() -> None:
    q, p, _ = toy(3.0)
    normal = [torch.distributions.Normal(torch.tensor(g.mean), torch.tensor(g.std)) for g in (q, p)]
    expected = float(torch.distributions.kl_divergence(*normal).sum()) / np.log(2)
    assert divergence(q, p) == pytest.approx(expected) == pytest.approx(3.0)


def samples(bits: float, count: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What n receivers get along the direction, in deviations of q from its mean; indices; log2 w."""
    q, p, way = toy(bits)
    drawn, indices, reached = [], [], []
    for k in range(n):
        index, log_w = chosen(q, p, count, 0, k)
        chunk, row = divmod(index, CHUNK)
        z = candidates(D, chunk, 0, k)[row].astype(float)
        drawn.append((z - q.mean) @ way / 0.8)
        indices.append(index)
        reached.append(log_w)
    return np.array(drawn), np.array(indices), np.array(reached)


def test_what_is_decoded_has_the_law_q() -> None:
    """Kolmogorov and Smirnov; and the mean of log2 q / p is the divergence."""
    drawn, _, reached = samples(3.0, 2**12, 800)
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert abs(reached.mean() - 3.0) < 4 * reached.std() / 800**0.5


def test_with_too_few_candidates_it_has_not() -> None:
    drawn, _, reached = samples(6.0, 2**4, 400)
    assert stats.kstest(drawn, "norm").pvalue < 1e-6
    assert reached.mean() < 6.0 - 10 * reached.std() / 400**0.5


@pytest.mark.parametrize("bits", [1.0, 3.0, 5.0])
def test_an_index_takes_the_divergence_and_not_more_than_is_promised(bits: float) -> None:
    """KL <= length <= KL + log2(KL + 1) + 4 (Li and El Gamal 2018), by a coder that learns the lengths as it goes."""
    _, indices, _ = samples(bits, int(2 ** (bits + 8)), 500)
    writer = Writer()
    for index in indices:
        writer.index(int(index))
    words = writer.coder.get_compressed()
    length = 32 * len(words) / len(indices)
    assert bits < length < bits + np.log2(bits + 1) + 4
    reader = Reader(words)
    assert [reader.index() for _ in indices] == indices.tolist()


def sender() -> tuple[Progressive, torch.Tensor]:
    code, batches = levels()
    return Progressive(code.reverse, list(code.grid)[::-1], block=4.0), torch.cat(batches)[:3]


def test_the_receiver_has_what_the_sender_has_at_every_stop() -> None:
    code, x_0 = sender()
    sent = list(code.send(x_0))
    assert torch.equal(sent[-1].x, x_0)
    for state in sent[:: len(sent) // 3]:
        assert torch.equal(code.receive(state.words, x_0.shape, state.t), state.x)
    assert all(a.t > b.t and len(a.words) <= len(b.words) for a, b in pairwise(sent))
    assert sent[-1].divergence < 32 * len(sent[-1].words) < sent[-1].promised + 64
    other = Progressive(code.reverse, code.grid, block=4.0, seed=1)  # another seed: other candidates
    assert not torch.equal(other.receive(sent[3].words, x_0.shape, sent[3].t), sent[3].x)


def test_blocks_are_all_dimensions_once_and_hold_what_is_asked_for() -> None:
    code, _ = sender()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    step = code.reverse(x, torch.full((3,), 50), torch.full((3,), 100))
    p = progressive.gaussians(step)
    blocks = code.blocks(p, x, 50, 100, 0)
    assert np.array_equal(np.sort(np.concatenate(blocks)), np.arange(192))
    variance = float(code.reverse.process.step(torch.tensor([50]), torch.tensor([100])).posterior_variance)
    held = [np.log2(p.std[block] / variance**0.5).sum() for block in blocks]
    assert len(blocks) > 1
    assert max(held) - min(held) < 2 * np.log2(p.std / variance**0.5).max()


def test_the_evaluator_counts_what_was_written_and_another_process_reads_it() -> None:
    code, x_0 = sender()
    evaluator = ProgressivelyCoded(2, lambda T: code.grid, 4.0, [0.5, 1.0], {"count": lambda x: sum(e.size for e in x)})
    found = evaluator(code.reverse, None, x_0, 0)
    values = {(m.quantity, m.protocol.get("of"), m.protocol.get("t")): m.value for m in found.measurements}
    assert values["decoded_share", None, None] == 1
    assert values["rmse", None, 0] == 0
    assert values["code_length", "count", None] == pytest.approx(8)
    sent = list(Progressive(code.reverse, code.grid, 4.0).send(x_0[:2]))
    assert values["rate", "written", 0] == 32 * len(sent[-1].words) / 128
    assert values["block_length", "written", None] == 32 * len(sent[-2].words) / sent[-2].blocks


def test_bits_have_none() -> None:
    from test_coding import heartbeat

    reverse = heartbeat(5).reverse
    assert isinstance(reverse, BinomialOracle)
    with pytest.raises(UserError, match="BinomialDiffusion"):
        Progressive(reverse, [5, 0])
