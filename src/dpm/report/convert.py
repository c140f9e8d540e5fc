"""Markdown to one HTML file and to PDF by pandoc and typst: no network, no LaTeX, the same bytes each time."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpm.errors import UserError

PACKAGE = Path(__file__).parents[1]
CSS, TEMPLATE, FILTER = (PACKAGE / f"report.{suffix}" for suffix in ("css", "typ", "lua"))
MISSING = "report.html and report.pdf need pandoc and typst: pip install pypandoc-binary typst (README.md is written)"


def html(text: str, title: str, files: Mapping[str, bytes]) -> bytes:
    """One self-contained page; `files` are the images that the text names."""
    with _folder(files) as folder:
        options = ["--embed-resources", "--standalone", "--mathml", "--toc", "--toc-depth=2", f"--css={CSS}"]
        return _pandoc(text, "html5", title, [*options, f"--resource-path={folder}"]).encode()


def pdf(text: str, title: str, files: Mapping[str, bytes]) -> bytes:
    source = _pandoc(text, "typst", title, ["--standalone", "--toc", f"--template={TEMPLATE}"])
    try:
        import typst
    except ImportError as error:
        raise UserError(MISSING) from error
    with _folder(files) as folder:
        main = Path(folder) / "report.typ"
        main.write_text(source, encoding="utf-8")
        try:  # typst writes the time of compilation into the file, and looks for fonts, unless told not to
            return bytes(typst.compile(str(main), root=folder, ignore_system_fonts=True, timestamp=0))
        except RuntimeError as error:
            raise UserError(f"typst cannot set the report: {' '.join(str(error).split())}") from error


def anchor(heading: str) -> str:
    """The identifier that pandoc gives to a heading."""
    words = re.sub(r"[^\w\s.-]", "", heading.lower()).split()
    return re.sub(r"^[^a-z]+", "", "-".join(words))


def _pandoc(text: str, to: str, title: str, options: Sequence[str]) -> str:
    try:
        import pypandoc

        common = [
            f"--lua-filter={FILTER}",
            "--number-sections",
            "--columns=100000",
            f"--metadata=title:{title}",
            "--metadata=lang:en",
        ]
        result: str = pypandoc.convert_text(text, to, format="markdown-smart", extra_args=[*common, *options])
    except (ImportError, OSError) as error:  # without the wheel's binary, pypandoc raises OSError
        raise UserError(MISSING) from error
    except RuntimeError as error:
        raise UserError(f"pandoc cannot read the report: {' '.join(str(error).split())}") from error
    return result


def _folder(files: Mapping[str, bytes]) -> tempfile.TemporaryDirectory[str]:
    """The images of a report in a folder of their own."""
    folder = tempfile.TemporaryDirectory()
    for name, content in files.items():
        path = Path(folder.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
