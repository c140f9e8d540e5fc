"""Bits back: the length of the code is the bound, what is decoded is what was coded, and the stack is as it was."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import helpers
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm import decoders
from dpm.bound import bound, decoder_edges
from dpm.codes import bits_back
from dpm.codes.bits_back import Bins, Code, start
from dpm.codes.counting import Counting
from dpm.codes.stack import Stack
from dpm.data.heartbeat import BinaryHeartbeat
from dpm.errors import UserError
from dpm.evaluators.coded import counted, picture
from dpm.networks.temporal import Temporal
from dpm.oracles.binomial import BinomialOracle
from dpm.predictions.papers import X0
from dpm.processes.binomial import BinomialDiffusion, bernoulli
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.residual_binomial import ResidualBinomialReverse
from dpm.runs import coded
from dpm.samplers.steps import quadratic
from dpm.schedules import constant_erasure, linear
from dpm.study.records import sha256
from dpm.variances import LearnedPosterior

BEATS = BinaryHeartbeat(20, 5)


def heartbeat(T: int) -> Code:
    return Code(BinomialOracle(BinomialDiffusion(constant_erasure(T), 0.2), BEATS, decoders.Network()), range(T + 1))


def shapes(batches: Sequence[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in batches]


def again(stack: Stack, batches: Sequence[Tensor]) -> Stack:
    """What a reader of the file has."""
    words, under = stack.words()
    return Stack(start(shapes(batches)), words, under)


def same(found: Sequence[Tensor], batches: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, batches, strict=True))


def test_the_heartbeat_takes_as_many_bits_as_its_bound() -> None:
    """2.4498 bits for T = 50 (the entropy is log2 5 = 2.3219): of a thousand sequences, within four standard errors."""
    code, x_0 = heartbeat(50), BEATS.held_out(1000)
    stack = code.encode([x_0])
    L = torch.cat([bound(code.reverse, x, decoder_edges).total for x in BEATS.held_out(4000).split(2000)]) / np.log(2)
    assert abs(stack.bits - stack.ideal) / 1000 < 0.005  # what rounding to 24 bits costs
    deviation = 0.6  # of one sequence's length on one trajectory
    assert abs(stack.bits / 1000 - float(L.mean())) < 4 * (deviation**2 / 1000 + float(L.var()) / 4000) ** 0.5
    reader = again(stack, [x_0])
    assert same(code.decode(reader, [(1000, 20)]), [x_0])
    assert reader.as_at_start


class Denoiser(nn.Module):
    """x_0-hat = x_t, kept in the range of the data, with more than its error for a variance."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([x.clamp(-1, 1), torch.ones_like(x)], 1)


def levels() -> tuple[Code, list[Tensor]]:
    reverse = GaussianReverse(
        GaussianDiffusion(linear(200, 1e-4, 0.05)), Denoiser(), X0(), LearnedPosterior(), decoders.Discretized()
    )
    grey = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8)))
    grey[:, :, :4] = 0  # open ends
    return Code(reverse, quadratic(200, 12)[::-1]), list((grey.double() / 127.5 - 1).split(2))


def test_images_are_coded_on_a_grid_of_few_steps() -> None:
    code, batches = levels()
    stack, x_0 = code.encode(batches), torch.cat(batches)
    L = float(
        torch.stack([bound(code.reverse, x_0, decoder_edges, code.grid[1:]).total.sum() for _ in range(20)]).mean()
    ) / np.log(2)
    assert abs(stack.bits / stack.ideal - 1) < 0.01
    assert abs(stack.bits / L - 1) < 0.03  # one trajectory of 384 values
    reader = again(stack, batches)
    assert same(code.decode(reader, shapes(batches)), batches)
    assert reader.as_at_start


@pytest.mark.parametrize("counted", [0, 1, 3])
def test_batches_of_several_sizes_of_which_the_first_are_counted(counted: int) -> None:
    code, (a, b, c) = levels()
    batches = [a, b[:1], c[..., :4]]  # an odd number of examples, and a smaller one
    stack = code.encode(batches, counted)
    reader = again(stack, batches)
    assert same(code.decode(reader, shapes(batches), counted), batches)
    assert reader.as_at_start


def test_a_file_that_starts_with_counted_examples_borrows_nothing() -> None:
    """Without them it holds as many more bits as the first images take; a wrong number of them is another file."""
    code, batches = levels()
    batches = batches * 8
    counted, alone = code.lead(batches), code.encode(batches)
    file = code.encode(batches, counted)
    assert 0 < counted < len(batches)
    assert alone.taken > 128 * np.log2(bits_back.FINENESS * (2 * np.pi * np.e) ** 0.5)  # a layer of two images
    assert file.taken < 0.1 * alone.taken
    assert 32 * len(file.words()[0]) < 32 * len(alone.words()[0]) - 0.5 * alone.taken
    with pytest.raises(UserError, match="other probabilities"):
        code.decode(again(file, batches), shapes(batches), counted - 1)


def test_a_code_of_another_process_is_another_code() -> None:
    """Not the identity whatever is decoded with: a reverse process that differs a little gives something else."""
    code, other, x_0 = heartbeat(10), heartbeat(10), BEATS.held_out(5)
    other.reverse.process.rate = 0.21  # type: ignore[attr-defined]
    reader = again(code.encode([x_0]), [x_0])
    other.decode(reader, [(5, 20)])
    assert not reader.as_at_start


def test_the_end_bins_are_open_and_values_are_exact() -> None:
    bins = Bins(127.5, 0, 255, -1.0)
    k = torch.arange(256).double()
    assert torch.equal(bins.values(k), k / 127.5 - 1)  # as `DiscreteImages` computes them
    assert torch.equal(bins.symbols(bins.values(k)), k)
    with pytest.raises(UserError, match="outside of the bins"):
        bins.symbols(torch.tensor([1.1]))
    far = torch.distributions.Independent(torch.distributions.Normal(torch.full((1, 50), -9.0), 1.0), 1)
    stack = Stack(8)
    bins.push(stack, torch.full((1, 50), -1.0), far)
    assert stack.bits < 2  # all of the mass lies in the first bin


@pytest.mark.parametrize("grid", [[0, 5], [1, 10], [0, 3, 3, 10], [10, 0]])
def test_a_grid_goes_from_0_to_T(grid: list[int]) -> None:
    with pytest.raises(UserError, match="increases from 0 to T = 10"):
        Code(heartbeat(10).reverse, grid)


def rolls() -> Code:
    torch.manual_seed(0)
    network = Temporal(8, 8, 20, features=16, width=3, dilations=(1,))
    nn.init.normal_(network.leave.weight)
    reverse = ResidualBinomialReverse(BinomialDiffusion(constant_erasure(20), 0.2), network.eval(), decoders.Network())
    return Code(reverse, range(0, 21, 2))


def written(path: Path) -> bytes:
    code = rolls()
    x_0 = (torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0)) < 0.2).double()
    content, _ = coded.packed(code, x_0, 1, {"experiment": "here", "overrides": [], "weights": sha256(b"weights")})
    path.write_bytes(content)
    return content


def test_another_process_with_other_threads_writes_the_same_bytes_and_reads_them(tmp_path: Path) -> None:
    ours = written(tmp_path / "ours.dpm")
    script = (
        "import sys, torch; from pathlib import Path; sys.path.insert(0, 'tests'); torch.set_num_threads(2)\n"
        "import test_coding as t; folder = Path(sys.argv[1]); t.written(folder / 'theirs.dpm')\n"
        "x = t.coded.decoded(folder / 'ours.dpm', t.rolls().reverse, b'weights')\n"
        "print(int(x.sum()), torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=helpers.ROOT, capture_output=True, text=True)
    x_0 = coded.decoded(tmp_path / "ours.dpm", rolls().reverse, b"weights")
    assert done.stdout.split() == [str(int(x_0.sum())), "2"], done.stderr
    assert (tmp_path / "theirs.dpm").read_bytes() == ours


def test_a_damaged_or_foreign_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.dpm"
    content = written(path)
    head, payload = content.split(b"\n")[1], content.split(b"\n", 2)[2]
    header = json.loads(head)
    other = {**header, "versions": {**header["versions"], "torch": "1.0"}}
    wrong = {**header, "examples": "0" * 64}
    cases = {
        "an earlier version": coded.OLD + content.removeprefix(coded.MAGIC),
        "not a file that compress.py wrote": b"\x89PNG\r\n" + content,
        "damaged": content[:-3],
        "damaged:": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        "damaged: its": coded.MAGIC + b"{}\n" + payload,
        "torch 1.0": coded.MAGIC + json.dumps(other).encode() + b"\n" + payload,
        "decoded to other examples": coded.MAGIC + json.dumps(wrong).encode() + b"\n" + payload,
        "rounds differently": coded.MAGIC + json.dumps({**header, "counted": 0}).encode() + b"\n" + payload,
    }
    for said, bad in cases.items():
        path.write_bytes(bad)
        with pytest.raises(UserError, match=said) as error:
            coded.decoded(path, rolls().reverse, b"weights")
        assert "\n" not in str(error.value)
    path.write_bytes(content)
    with pytest.raises(UserError, match="other weights of here"):
        coded.decoded(path, rolls().reverse, b"others")


def test_an_array_of_ones_own_has_the_right_kind(tmp_path: Path) -> None:
    code, path = rolls(), tmp_path / "x.npy"
    np.save(path, np.ones((2, 8, 16), np.uint8))
    assert coded.read(path, code, (8, 16)).sum() == 256
    for bad in (np.ones((2, 8, 16)), np.ones((2, 8, 15), np.uint8), np.full((2, 8, 16), 2, np.uint8)):
        np.save(path, bad)
        with pytest.raises(UserError):
            coded.read(path, code, (8, 16))
    path.write_bytes(b"no array")
    with pytest.raises(UserError, match=r"numpy\.save"):
        coded.read(path, code, (8, 16))


def test_ordinary_coders() -> None:
    """Krichevsky and Trofimov: k learned counts cost about (k - 1) / 2 log2 n bits over the entropy."""
    values = np.random.default_rng(0).integers(0, 4, (50, 1, 8, 8)).astype(np.uint8)
    bits = 8 * counted(list(values), neighbours=False)
    assert 2 * values.size < bits < 2 * values.size + 1.5 * np.log2(values.size) + 64
    assert picture(list(values), "PNG") > 0 < picture(list(values), "WEBP")


def test_neighbours_tell_what_lies_in_lines() -> None:
    """A chain along the last axis that stays with probability 0.95 has 0.286 bits a step; without neighbours it has one."""
    flips = np.random.default_rng(0).random((20, 3, 100)) < 0.05
    chains = list((flips.cumsum(2) % 2).astype(np.uint8))
    each = [8 * counted(chains, neighbours) / 6000 for neighbours in (False, True)]
    assert 0.95 < each[0] < 1.02
    assert 0.26 < each[1] < 0.36  # the first of a line and the learning included
    stack, counting = Stack(8), Counting(1)
    counting.push(stack, chains)
    found = counting.pop(stack, [x.shape for x in chains])
    assert all(np.array_equal(a, b) for a, b in zip(found, chains, strict=True))
    assert stack.as_at_start


def test_probabilities_at_the_ends_are_clipped_on_both_sides() -> None:
    stack, p, bits = Stack(8), bernoulli(torch.tensor([[0.0, 1.0]])), bits_back.Bits()
    bits.push(stack, torch.tensor([[0.0, 1.0]]), p)
    assert torch.equal(bits.pop(stack, p), torch.tensor([[0.0, 1.0]]).double())
    assert stack.as_at_start
