"""What a trained process draws, from a command line or from Python, into a file whose ending says in which form."""

import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from torch import Tensor
from tqdm import tqdm

from dpm import seeds
from dpm.data import Data, chorales
from dpm.data.images import DiscreteImages
from dpm.decoders import Network
from dpm.drawings import Drawing, Panel
from dpm.drawings.samples import Samples
from dpm.errors import UserError
from dpm.evaluators.samples import levels
from dpm.processes.binomial import BinomialDiffusion
from dpm.reverse.gaussian import clipped
from dpm.runs import app, configs
from dpm.runs.evaluate import prepared
from dpm.runs.folder import Run, variant
from dpm.samplers.flow import across
from dpm.stored import refuse_unwritable
from dpm.study.records import write_atomically

Shown = Sequence[tuple[str, "np.ndarray[Any, Any]"]]  # panels: what each is, and its examples; images in grey levels


@dataclass(frozen=True)
class Options:
    """What conf/sample.yaml says besides what a run is; `sampler` and `draw` say what is built."""

    sampler: dict[str, Any]
    draw: dict[str, Any]
    file: str | None
    most: int | None
    clip: bool

    @classmethod
    def taken_from(cls, config: DictConfig) -> "Options":
        """Checked; the configuration is left without them."""
        plain = configs.resolved(config)
        configs.require(plain, cls)
        with open_dict(config):
            for key in cls.__dataclass_fields__:
                config.pop(key)
        return cls(**{key: plain[key] for key in cls.__dataclass_fields__})


class Trained:
    """A trained process `reverse`, its `data`, and what is drawn of them. Overrides are those of the command line."""

    def __init__(self, config: DictConfig, overrides: Sequence[str]) -> None:
        self.options, own = Options.taken_from(config), Options.__dataclass_fields__
        self.drawing: Drawing = configs.build({"draw": self.options.draw}, "draw")
        self.sampler: Callable[..., Iterator[Tensor]] = configs.build({"sampler": self.options.sampler}, "sampler")
        self.run = Run(config, [o for o in overrides if o.lstrip("+~").split("=")[0].split(".")[0] not in own])
        named = [o for o in overrides if not o.startswith(("file=", "most="))]
        self.folder = Path(self.run.config["outputs"], "samples", self.run.name, variant(named, self.run.config))
        self.reverse, self.loaded, _ = prepared(self.run)

    @cached_property
    def data(self) -> Data:
        data: Data = self.run.data()
        return data

    def sample(self, n: int) -> Tensor:
        """n samples in the scale of the model."""
        (panel,) = self.draw(Samples(n))
        return panel.x

    def draw(self, drawing: Drawing | None = None) -> list[Panel]:
        """What `draw` says, or another drawing; the same for the same seed."""
        seeds.seed_everything(self.run.seed, seeds.SAMPLING)
        with torch.no_grad():
            return (drawing or self.drawing)(self.process, self.data, self.walk)

    def save(self, file: str | Path | None = None) -> Path:
        """Draw, and write it in the form that the ending says; a .png below outputs/samples by default."""
        path = Path(file or self.options.file or self.folder / f"seed{self.run.seed}.png")
        if path.suffix not in WRITERS:
            raise UserError(f"file={path}: what is drawn is written as {', '.join(WRITERS)}")
        write, most = WRITERS[path.suffix]
        refuse_unwritable(path)
        shown = thinned(
            [(title, self.array(x)) for title, x in self.draw()], most if self.options.most is None else self.options.most
        )
        write_atomically(path, write(shown, self.of_bits))
        return path

    @property
    def process(self) -> Any:
        """What is drawn from: of images of 8 bits x_0-hat is clipped, if `clip`, and is what the last step shows."""
        if not isinstance(self.data, DiscreteImages):
            return self.reverse
        continuous = self.reverse.replacing(decoder=Network())
        return clipped(continuous) if self.options.clip else continuous

    @property
    def of_bits(self) -> bool:
        return isinstance(self.reverse.process, BinomialDiffusion)

    def array(self, x: Tensor) -> "np.ndarray[Any, Any]":
        """Grey levels of images, bits, or numbers in the scale of the model."""
        if hasattr(self.data, "grey"):
            return levels(self.data.grey(x.double()))
        return x.cpu().numpy().astype(np.uint8 if self.of_bits else np.float32)

    def walk(self, reverse: Any, x_T: Tensor) -> Iterator[Tensor]:
        """The states of the sampler, below a bar on a terminal."""
        if not hasattr(reverse.process, "prior") and getattr(self.sampler, "func", None) is not across:
            raise UserError(f"{type(reverse).__name__} leads from one end to another: take sampler=transport")
        end, steps = getattr(getattr(reverse.process, "schedule", None), "end", None), self.options.sampler.get("steps")
        total = min(steps, end) if steps and isinstance(end, int) else steps
        states = self.sampler(reverse, x_T)
        return iter(tqdm(states, total=total, disable=not sys.stderr.isatty(), unit="step", mininterval=0.5))


def load(experiment: str, *overrides: str) -> Trained:
    """The trained process of an experiment: `dpm.load("ho_2020/mnist", "sampler=ddim", "draw.n=16").save("digits.png")`."""
    line = [f"experiment={experiment}", *map(app.quoted, overrides)]
    try:
        with initialize_config_dir(str(app.CONF), version_base="1.3"):
            config = compose("sample", line)
    except HydraException as error:
        raise UserError(" ".join(str(app.explained(error)).split())) from error
    return Trained(config, line)


def thinned(shown: Shown, most: int) -> Shown:
    """`most` panels at most, evenly spaced, the first and the last among them."""
    if most < 1:
        raise UserError(f"most={most}: one panel at least")
    if len(shown) <= most:
        return shown
    return [shown[k] for k in np.linspace(len(shown) - 1, 0, most).round().astype(int)[::-1]]


# --- the forms in which panels are written -----------------------------------------------------------------------------------


def png(shown: Shown, bits: bool) -> bytes:
    from dpm.figures import drawn, render

    return render(drawn.sheet(shown, bits))


def gif(shown: Shown, bits: bool) -> bytes:
    from dpm.figures import drawn, render

    return render(drawn.film(shown, bits))


def npz(shown: Shown, bits: bool) -> bytes:
    """`panels` (panels, n, ...) and their `titles`."""
    content = io.BytesIO()
    np.savez_compressed(content, panels=np.stack([x for _, x in shown]), titles=np.array([title for title, _ in shown]))
    return content.getvalue()


def mid(shown: Shown, bits: bool) -> bytes:
    """The examples of the last panel, one after another."""
    rolls = shown[-1][1]
    if not bits or rolls.ndim != 3 or rolls.shape[1] != chorales.KEYS:
        raise UserError(f"a .mid file holds piano rolls, ({chorales.KEYS}, steps) each, and not {rolls.shape[1:]}")
    with tempfile.TemporaryDirectory() as folder:
        chorales.midi_file(torch.from_numpy(np.concatenate(list(rolls), 1)), path := Path(folder) / "rolls.mid")
        return path.read_bytes()


Writer = Callable[[Shown, bool], bytes]
WRITERS: Mapping[str, tuple[Writer, int]] = {  # by the ending of a file, with how many panels it holds
    ".png": (png, 11),
    ".gif": (gif, 60),
    ".npz": (npz, sys.maxsize),
    ".mid": (mid, 1),
}
