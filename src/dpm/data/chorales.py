"""Bach's chorales as piano rolls, 88 keys x quarter steps: read at run time from music21's corpus or the benchmark's JSON.

A step holds the notes that sound at its beginning: held and repeated notes are not told apart, two voices on one key are one
bit. No score is kept with the project (the encodings carry their own notices); what was read is cached in the data folder.
"""

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.data.files import default_folder
from dpm.data.images import facts_of
from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.stored import read_arrays
from dpm.study.records import packed, write_atomically

KEYS, LOWEST = 88, 21  # of a piano, and the MIDI number of the first
SILENT = 0  # in place of a MIDI number
Splits = Mapping[str, Sequence["Chorale"]]  # "train", "valid", "test"


@dataclass(frozen=True)
class Chorale:
    """voices: (steps, voices) MIDI numbers, the soprano first."""

    name: str
    voices: "np.ndarray[Any, Any]"

    def transposed(self, semitones: int) -> "Chorale":
        return replace(self, voices=np.where(self.voices == SILENT, SILENT, self.voices + semitones))

    @property
    def melody(self) -> tuple[int, ...]:
        """The first twenty intervals of the soprano, repeated notes left out: equal for settings of the same tune."""
        soprano = self.voices[self.voices[:, 0] != SILENT, 0].tolist()
        return tuple(b - a for a, b in pairwise(soprano) if a != b)[:20]


def roll(voices: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """(steps, voices) of MIDI numbers -> (88, steps) of 0 and 1."""
    keys = np.zeros((KEYS, len(voices)), dtype=np.uint8)
    steps, parts = np.nonzero(voices != SILENT)
    keys[voices[steps, parts] - LOWEST, steps] = 1
    return keys


class Corpus:
    """The chorales of music21's corpus that have exactly four parts, each transposed by its analysed key: the tonic to C.

    The transposition is the nearest of -6..+5 semitones; `files` reads only the first of them, for trials. Settings of one
    melody stay together: groups in a fixed random order are train up to the first share of the chorales, valid to the second.
    """

    name = "Bach chorales (music21)"

    def __init__(self, shares: tuple[float, float] = (0.6, 0.8), files: int | None = None) -> None:
        self.shares, self.files = shares, files

    @property
    def facts(self) -> dict[str, Scalar]:
        return {"transposed": "tonic to C", "grouped_by": "melody"}

    def __call__(self, folder: Path) -> Splits:
        of = "" if self.files is None else f"-first{self.files}"
        path = folder / "chorales" / f"music21-{version('music21')}{of}.npz"
        if not path.is_file():
            write_atomically(path, packed(parsed(self.files)))
        stored = read_arrays(path)
        parts = np.split(stored["voices"], stored["lengths"].cumsum()[:-1])
        moves = [(6 - int(tonic)) % 12 - 6 for tonic in stored["tonics"]]
        chorales = [Chorale(str(n), v).transposed(m) for n, v, m in zip(stored["names"], parts, moves, strict=True)]
        return by_melody(chorales, self.shares)


def parsed(files: int | None) -> dict[str, "np.ndarray[Any, Any]"]:
    """Names, voices one after another, their lengths, and the tonic of each as a pitch class. Minutes for all 408 files."""
    from music21 import corpus  # slow to import

    found: list[tuple[str, np.ndarray[Any, Any], int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(map(Path, corpus.getComposer("bach")))[:files]:
            score = corpus.parse(path)
            if len(score.parts) == 4:
                found.append((path.stem, voices_of(score), score.analyze("key").tonic.pitchClass))
    names, voices, tonics = zip(*found, strict=True)
    lengths = np.array([len(v) for v in voices])
    return {"names": np.array(names), "voices": np.concatenate(voices), "lengths": lengths, "tonics": np.array(tonics)}


def voices_of(score: Any) -> "np.ndarray[Any, Any]":
    """(steps, 4): the note that each part sounds at the beginning of each quarter, the highest of a chord."""
    notes = [
        (math.ceil(note.offset), math.ceil(note.offset + note.quarterLength), part, max(p.midi for p in note.pitches))
        for part, stream in enumerate(score.parts)
        for note in stream.flatten().notes
    ]
    voices = np.full((max(end for _, end, _, _ in notes), 4), SILENT, dtype=np.int16)
    for start, end, part, midi in notes:
        voices[start:end, part] = midi
    return voices


def by_melody(chorales: Iterable[Chorale], shares: tuple[float, float]) -> Splits:
    groups = defaultdict(list)
    for chorale in chorales:
        groups[chorale.melody].append(chorale)
    order = np.random.default_rng(0).permutation(len(groups))
    members, count = list(groups.values()), sum(map(len, groups.values()))
    splits: dict[str, list[Chorale]] = {"train": [], "valid": [], "test": []}
    for group in order:
        done = sum(map(len, splits.values())) / count
        splits["train" if done < shares[0] else "valid" if done < shares[1] else "test"] += members[group]
    return splits


class Benchmark:
    """The JSB chorales of Boulanger-Lewandowski et al. 2012, 229/76/77, from a JSON file of quarter steps in the data folder.

    {"train": [[[MIDI, ...] of each step] of each chorale], "valid": ..., "test": ...}; -1 is silence.
    """

    name = "JSB chorales"

    def __init__(self, path: str = "chorales/jsb-chorales-quarter.json") -> None:
        self.path = path

    def __call__(self, folder: Path) -> Splits:
        path = folder / self.path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return {s: [Chorale(f"{s} {i}", padded(c)) for i, c in enumerate(content[s])] for s in ("train", "valid", "test")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not the benchmark's chorales ({error}); put their JSON of quarter steps there") from error


def padded(steps: Sequence[Sequence[int]]) -> "np.ndarray[Any, Any]":
    """Notes of each step from the highest down, with silence where a step has fewer than another."""
    voices = np.full((len(steps), max(map(len, steps))), SILENT, dtype=np.int16)
    for row, step in zip(voices, steps, strict=True):
        notes = sorted((int(note) for note in step if note > 0), reverse=True)
        if notes and not LOWEST <= notes[-1] <= notes[0] < LOWEST + KEYS:
            raise ValueError(f"a note that no piano has: {notes}")
        row[: len(notes)] = notes
    return voices


class Chorales:
    """Windows of quarter steps: x_0 (n, 88, window) of 0 and 1, float32 for training, float64 to evaluate.

    A training batch takes windows at random, anywhere in the training chorales. Those of the other sets tile their chorales in
    order, remainders dropped; chorales that are shorter than a window have none.
    """

    def __init__(self, source: Callable[[Path], Splits], window: int) -> None:
        self.source, self.window, self.splits = source, window, source(default_folder())
        starts = [(i, s) for i, c in enumerate(self.splits["train"]) for s in range(len(c.voices) - window + 1)]
        if window < 1 or not starts:
            raise UserError(f"window = {window}: windows are from 1 to as many quarter steps as the longest chorale has")
        self.starts, self.rolls = torch.tensor(starts), [roll(c.voices) for c in self.splits["train"]]

    @property
    def facts(self) -> dict[str, Scalar]:
        return {**facts_of(self.source), "split": "test", "window": self.window}  # type: ignore[arg-type]

    def batch(self, size: int, seed: int, step: int) -> Tensor:
        return self.drawn(size, seeds.generator(seed, seeds.TRAINING, step))

    def drawn(self, size: int, generator: torch.Generator) -> Tensor:
        """Windows at random, anywhere in the training chorales."""
        chosen = torch.randint(len(self.starts), (size,), generator=generator)
        windows = [self.rolls[i][:, s : s + self.window] for i, s in self.starts[chosen].tolist()]
        return torch.from_numpy(np.stack(windows)).float()

    def training(self) -> Tensor:
        return torch.from_numpy(roll_windows(self.voices("train", self.window))).float()

    def validation(self, n: int) -> Tensor:
        return self.windows("valid", self.window, n)

    def held_out(self, n: int) -> Tensor:
        return self.windows("test", self.window, n)

    def windows(self, split: str, window: int, n: int | None = None) -> Tensor:
        """The first n windows of a split, or all of them."""
        rolls = roll_windows(self.voices(split, window))
        if n is not None and not 0 <= n <= len(rolls):
            raise UserError(f"{n} windows of {window} steps asked for, the {split} chorales have {len(rolls)}")
        return torch.from_numpy(rolls[:n]).double()

    def whole(self, split: str, n: int) -> list[Tensor]:
        """The first n chorales of a split, (1, 88, steps) each."""
        if not 0 <= n <= len(self.splits[split]):
            raise UserError(f"{n} chorales asked for, the {split} set has {len(self.splits[split])}")
        return [torch.from_numpy(roll(c.voices))[None].double() for c in self.splits[split][:n]]

    def voices(self, split: str, window: int) -> "np.ndarray[Any, Any]":
        """(n, window, voices): MIDI numbers of the windows that tile a split."""
        tiles = [c.voices[s : s + window] for c in self.splits[split] for s in range(0, len(c.voices) - window + 1, window)]
        return np.stack(tiles)


def roll_windows(voices: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    return np.stack([roll(v) for v in voices])


def midi_file(x: Tensor, path: Path) -> None:
    """A roll (88, steps) as a MIDI file: one chord a quarter."""
    from music21 import chord, note, stream

    score: Any = stream.Stream()
    for step in x.T:
        keys = (step.nonzero().flatten() + LOWEST).tolist()
        sound = chord.Chord(keys, quarterLength=1.0) if keys else note.Rest(quarterLength=1.0)
        score.append(sound)
    score.write("midi", path)
