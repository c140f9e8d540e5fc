"""Piano rolls: what is read, who is trained on, exact models, and the reverse process that starts from independent bits."""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpm.baselines.rolls import IndependentNotes, LogisticNotes
from dpm.bound import decoder_edges
from dpm.data.chorales import Benchmark, Chorale, Chorales, Corpus, by_melody, midi_file, roll, voices_of
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators.per_example import bounds
from dpm.evaluators.rolls import Exact, chords_of, factor, pieces
from dpm.processes.binomial import BinomialDiffusion
from dpm.reverse.conditioned import BitFactor, Conditioned
from dpm.reverse.residual_binomial import ResidualBinomialReverse
from dpm.samplers.ancestral import sample
from dpm.schedules import constant_erasure
from dpm.times import Uniform
from dpm.trajectories import log_weights

CADENCE = np.array([[72, 67, 64, 48], [71, 67, 62, 55], [72, 67, 64, 48], [72, 0, 64, 48]], dtype=np.int16)


class Zero(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)


def independent(T: int = 10, rate: float = 0.1) -> ResidualBinomialReverse:
    return ResidualBinomialReverse(BinomialDiffusion(constant_erasure(T), rate), Zero(), Network())


def random_rolls(*shape: int, rate: float = 0.1) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < rate).double()


def benchmark(folder: Path, **splits: list[list[list[int]]]) -> Chorales:
    lines = {"train": [[[60, 64]] * 9, [[60]] * 5], "valid": [[[62]] * 8], "test": [[[72, 48, -1], [71], []] * 3], **splits}
    (folder / "rolls.json").write_text(json.dumps(lines))
    return Chorales(lambda _: Benchmark("rolls.json")(folder), 4)


def test_a_roll_has_a_bit_for_each_note() -> None:
    bits = roll(CADENCE)
    assert bits.shape == (88, 4)
    assert [np.flatnonzero(step).tolist() for step in bits.T] == [sorted(n - 21 for n in step if n) for step in CADENCE]
    up = Chorale("a", CADENCE).transposed(2)
    assert np.array_equal(roll(up.voices), np.roll(bits, 2, 0))  # silence stays silent
    assert up.melody == Chorale("a", CADENCE).melody == (-1, 1)
    assert roll(np.array([[60, 60, 48, 36]])).sum() == 3  # in unison


def test_settings_of_one_melody_stay_together() -> None:
    generator = np.random.default_rng(0)
    tunes = [generator.integers(60, 80, (12, 1)) for _ in range(40)]
    chorales = [Chorale(f"{i} {j}", np.tile(tune + j, (1, 4))) for i, tune in enumerate(tunes) for j in range(1 + i % 3)]
    splits = by_melody(chorales, (0.6, 0.8))
    melodies = [{c.melody for c in split} for split in splits.values()]
    assert sum(map(len, splits.values())) == len(chorales)
    assert len(set.union(*melodies)) == sum(map(len, melodies)) == 40
    assert [len(split) / len(chorales) for split in splits.values()] == pytest.approx([0.6, 0.2, 0.2], abs=0.06)


def test_a_score_is_read_at_the_beginning_of_each_quarter() -> None:
    from music21 import chord, note, stream

    def part(*notes: tuple[str, float]) -> stream.Part:
        return stream.Part([note.Note(name, quarterLength=length) for name, length in notes])

    soprano, alto = part(("C5", 0.5), ("D5", 1.5), ("E5", 1.0)), part(("G4", 3.0))
    tenor = stream.Part([chord.Chord(["C4", "E4"], quarterLength=1.0), note.Rest(quarterLength=2.0)])
    voices = voices_of(stream.Score([soprano, alto, tenor, part(("C3", 1.0), ("B2", 2.0))]))
    assert voices.tolist() == [[72, 67, 64, 48], [74, 67, 0, 47], [76, 67, 0, 47]]


def test_the_corpus_is_read_once_and_kept(tmp_path: Path) -> None:
    splits = Corpus(files=4)(tmp_path)
    (kept,) = tmp_path.glob("chorales/*.npz")
    before = kept.stat().st_mtime_ns
    again = Corpus(files=4)(tmp_path)
    chorales = [c for s in ("train", "valid", "test") for c in splits[s]]
    assert [c.name for c in chorales] == [c.name for s in ("train", "valid", "test") for c in again[s]]
    assert kept.stat().st_mtime_ns == before
    assert all(c.voices.shape[1] == 4 for c in chorales)
    rates = [roll(c.voices).mean() for c in chorales]
    assert 0.035 < min(rates) <= max(rates) < 4 / 88


def test_the_benchmark_is_read_by_the_same_loader(tmp_path: Path) -> None:
    data = benchmark(tmp_path)
    assert len(data.starts) == 6 + 2  # windows of 4 in 9 and 5 steps
    assert data.held_out(2).sum((1, 2)).tolist() == [5, 4]  # 2 + 1 + 0 + 2, 1 + 0 + 2 + 1: the ninth step is left out
    assert data.validation(2).shape == (2, 88, 4)
    batch = data.batch(20, 0, 3)
    assert torch.equal(batch, data.batch(20, 0, 3))
    assert set(batch.sum((1, 2)).tolist()) == {4.0, 8.0}
    with pytest.raises(UserError, match="3 windows of 4 steps asked for, the test chorales have 2"):
        data.held_out(3)
    for bad in ({"train": [[[200]]]}, {"train": 3}):
        with pytest.raises(UserError, match="not the benchmark's chorales"):
            benchmark(tmp_path, **bad)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not the benchmark's chorales"):
        Benchmark("none.json")(tmp_path)


def test_without_its_network_the_process_is_that_of_independent_bits() -> None:
    """Every trajectory then has the weight prod r^x (1 - r)^(1 - x), at any T: the bound has no slack."""
    x = random_rolls(20, 6, 5)
    exact = -(x * math.log(0.1) + (1 - x) * math.log(0.9)).sum((1, 2))
    torch.manual_seed(0)
    for T in (1, 2, 10):
        assert torch.allclose(-log_weights(independent(T), x, range(T, -1, -1), 1)[:, 0], exact)
    error = bounds(independent(), x, decoder_edges, Uniform(), 5, 7, 0) - exact
    assert abs(float(error.mean())) < 4 * float(error.std()) / 20**0.5


def test_a_certain_network_does_not_cost_infinitely_much() -> None:
    class Certain(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.full_like(x, 1e4)

    reverse = ResidualBinomialReverse(BinomialDiffusion(constant_erasure(10), 0.1), Certain(), Network())
    L = bounds(reverse, torch.zeros(4, 3, 5), decoder_edges, Uniform(), 10, 4, 0)
    assert bool(L.isfinite().all())


@pytest.mark.parametrize("lower", [True, False])
def test_a_logistic_model_of_notes_is_a_distribution(lower: bool) -> None:
    """Its probabilities over all rolls of two keys and three steps add up to one: nothing sees itself or what follows."""
    torch.manual_seed(0)
    model = LogisticNotes(2, 2, lower, 1)
    for p in model.parameters():
        nn.init.normal_(p)
    every = torch.tensor(list(product((0.0, 1.0), repeat=6))).view(-1, 2, 3)
    assert float((-model.nll(every)).exp().sum().detach()) == pytest.approx(1, abs=1e-5)


def test_exact_models_learn_what_there_is() -> None:
    """Two notes that sound together for two steps, or not at all: 4 h nats independently, 2 h given the past, h jointly."""
    bit = torch.randint(2, (2000, 1, 1), generator=torch.Generator().manual_seed(0)).float()
    x, h = bit.expand(-1, 2, 2), math.log(2)

    def found(model: Exact) -> float:
        model.fit(x, lambda size, generator: x[torch.randint(len(x), (size,), generator=generator)], 0)
        return float(model.nll(x).detach().mean()) / h

    assert found(IndependentNotes()) == pytest.approx(4, abs=0.01)
    assert found(LogisticNotes(2, 1, False, 1000, penalty=0.0)) == pytest.approx(2, abs=0.4)
    assert found(LogisticNotes(2, 1, True, 1000, penalty=0.0)) == pytest.approx(1, abs=0.4)


def test_pieces_are_the_same_steps_in_order() -> None:
    x = torch.arange(24.0).view(1, 2, 12).repeat(3, 1, 1)
    assert torch.equal(pieces(x, 4)[3:6].movedim(0, 1).flatten(1), x[1])


def test_a_known_soprano_stays_and_nothing_is_above_it() -> None:
    voices = np.stack([CADENCE, CADENCE])
    voices[1, 2, 0] = 0  # a silent soprano leaves its step free
    d = factor(voices)
    assert d[0, 72 - 21, 0] == 1
    assert d[0, 73 - 21 :, 0].sum() == 0
    assert set(d[0, : 72 - 21, 0].tolist()) == {0.5} == set(d[1, :, 2].tolist())
    conditioned = Conditioned(independent(10, 0.05), BitFactor(d))
    torch.manual_seed(0)
    x = sample(conditioned, conditioned.prior(d).sample(), 10)
    known = torch.from_numpy(roll(CADENCE[:, :1]))
    assert torch.equal(x[0] * (d[0] != 0.5), known.double())


def test_chords_forget_octaves() -> None:
    bits = torch.from_numpy(roll(CADENCE))
    assert chords_of(bits)[0] == chords_of(torch.from_numpy(roll(CADENCE - 12 * (CADENCE > 0))))[0]
    assert chords_of(bits)[0] != chords_of(bits)[1]


def test_a_roll_as_a_midi_file(tmp_path: Path) -> None:
    from music21 import converter

    midi_file(torch.from_numpy(roll(CADENCE)), tmp_path / "a.mid")
    notes = converter.parse(tmp_path / "a.mid").flatten().notes
    pitches = {p.midi for n in notes for p in n.pitches}
    assert pitches == set(CADENCE[CADENCE > 0].tolist())
