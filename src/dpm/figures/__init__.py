"""Figures: functions from arrays or records to a matplotlib Figure, one file per kind; bytes of PNG and GIF from them.

A function draws what a file in `results/` holds and computes nothing that belongs into one.
"""

import functools
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from dpm.errors import UserError
from dpm.stored import read_arrays

STYLE = Path(__file__).parents[1] / "dpm.mplstyle"
SERIF = {  # of pictures for LaTeX, whose own font this is; what it lacks comes from the next one
    "font.family": ["cmr10", "DejaVu Serif"],
    "mathtext.fontset": "cm",
    "axes.formatter.use_mathtext": True,
    "svg.hashsalt": "dpm",
}
FEW_COLOURS = 8192  # of a picture of lines and text, with all mixtures at their edges; photographs have more
WIDTH = 6.3  # inches: the text width of the report, so that letters come out at the size that the style says

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
P = ParamSpec("P")
R = TypeVar("R")
_serif: ContextVar[bool] = ContextVar("serif", default=False)


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the style of the project, whatever the caller's settings are."""

    @functools.wraps(draw)
    def styled_draw(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(["default", STYLE, SERIF if _serif.get() else {}]):
            return draw(*args, **kwargs)

    return styled_draw


def told_apart(index: int) -> dict[str, Any]:
    """Colour, dashes and marker of one of several lines: in grey and for every kind of colour vision another one."""
    dashes, marker = DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)]
    return {"color": f"C{index}", "linestyle": dashes, "marker": marker, "markersize": 3.5}


@contextmanager
def serif() -> Iterator[None]:
    """Figures that are drawn meanwhile have the letters of LaTeX."""
    token = _serif.set(True)
    try:
        yield
    finally:
        _serif.reset(token)


@styled
def render(drawn: Figure | FuncAnimation, format: str = "png") -> bytes:
    """PNG, PDF or SVG of a figure, GIF of an animation: the same bytes for the same drawing, without date or version."""
    if isinstance(drawn, FuncAnimation):
        return _gif(drawn)
    return _png(drawn) if format == "png" else _vectors(drawn, format)


def _vectors(figure: Figure, format: str) -> bytes:
    written, undated = io.BytesIO(), {"pdf": "CreationDate", "svg": "Date"}[format]
    figure.savefig(written, format=format, metadata={undated: None, "Creator": None})
    return written.getvalue()


def _png(figure: Figure) -> bytes:
    """Without the alpha channel, in one channel where there is no colour, and of 256 colours where there are not many more.

    Lines, points and text have a few colours and their mixtures with the background: a third of the bytes, and nothing to see.
    """
    dpi, small = matplotlib.rcParams["savefig.dpi"], io.BytesIO()
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    kept = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    grey = kept.convert("L")
    if ImageChops.difference(kept, grey.convert("RGB")).getbbox() is None:
        kept = grey
    elif kept.getcolors(FEW_COLOURS) is not None:
        kept = kept.quantize(256, dither=Image.Dither.NONE)
    kept.save(small, format="png", optimize=True, dpi=(dpi, dpi))
    return small.getvalue()


class FewColours(PillowWriter):
    """GIF whose frames share 16 colours of the last one, where it has few: lines, points and text need no more."""

    _frames: list[Image.Image]

    def finish(self) -> None:
        frames = [frame.convert("RGB") for frame in self._frames]
        if frames[-1].getcolors(FEW_COLOURS) is not None:
            palette = frames[-1].quantize(16, dither=Image.Dither.NONE)
            frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        frames[0].save(
            self.outfile, save_all=True, append_images=frames[1:], duration=int(1000 / self.fps), loop=0, optimize=True
        )


def _gif(animation: FuncAnimation, frames_per_second: int = 10, dpi: int = 80) -> bytes:
    logging.getLogger("matplotlib.animation").setLevel(logging.WARNING)  # it announces every file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.gif"
        animation.save(path, writer=FewColours(fps=frames_per_second), dpi=dpi)
        return path.read_bytes()


def load_arrays(path: Path) -> dict[str, Array]:
    """The arrays of one seed, in float64 whatever they are stored as."""
    try:
        return {key: array.astype(np.float64) for key, array in read_arrays(path).items()}
    except ValueError as error:
        raise UserError(f"{path}: holds arrays that are no numbers ({error}); evaluate the experiment again") from error
