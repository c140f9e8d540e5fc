"""Markdown to one HTML file, to PDF by pandoc and typst, and to LaTeX: no network, the same bytes each time."""

import base64
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpm.errors import UserError

PACKAGE = Path(__file__).parents[1]
CSS, TEMPLATE, FILTER = (PACKAGE / f"report.{suffix}" for suffix in ("css", "typ", "lua"))
MISSING = "report.html and report.pdf need pandoc and typst: pip install pypandoc-binary typst (README.md is written)"
LATEX_FIGURES = "report_figures"
APPENDIX = "::: appendix\n:::"  # report.lua: what follows is numbered by letters
CONTENTS = {
    "typst": "#contents",
    "latex": "\\tableofcontents",
    "html": '<div id="contents"></div>',
}  # by format, where they stand
KINDS = {".png": "image/png", ".gif": "image/gif"}


@dataclass(frozen=True)
class Cover:
    """What stands above the report: from the configuration, never from a clock."""

    title: str = "Diffusion probabilistic models, 2015 and 2020"
    author: str = ""
    date: str = ""

    @property
    def metadata(self) -> list[str]:
        return [f"--metadata={key}:{value}" for key, value in vars(self).items() if value]


def html(text: str, cover: Cover, files: Mapping[str, bytes], bibliography: Path | None = None) -> bytes:
    """One self-contained page; `files` are the images that the text names."""
    with _folder({**files, "style.html": f"<style>\n{CSS.read_text(encoding='utf-8')}</style>\n".encode()}) as folder:
        style = f"--include-in-header={Path(folder) / 'style.html'}"
        options = ["--standalone", "--mathml", "--toc", "--toc-depth=2", style, f"--resource-path={folder}"]
        page = _pandoc(text, "html5", cover, options, bibliography)
    if (contents := re.search(r'<nav id="TOC".*?</nav>\n', page, re.DOTALL)) and CONTENTS["html"] in page:
        page = page.replace(contents[0], "").replace(CONTENTS["html"], contents[0])
    return re.sub(r'(<img[^>]*? src=")([^":]+)"', lambda match: f'{match[1]}{_data(match[2], files)}"', page).encode()


def pdf(text: str, cover: Cover, files: Mapping[str, bytes], bibliography: Path | None = None) -> bytes:
    return typeset(typst_source(text, cover, bibliography), files)


def typst_source(text: str, cover: Cover, bibliography: Path | None = None) -> str:
    return _pandoc(text, "typst", cover, ["--standalone", f"--template={TEMPLATE}"], bibliography)


def typeset(source: str, files: Mapping[str, bytes]) -> bytes:
    """A PDF with tags for screen readers, or without where typst fails on them.

    That depends on where pages happen to break (typst's issues 8487 and 8776); the pages are the same.
    """
    try:
        import typst
    except ImportError as error:
        raise UserError(MISSING) from error
    with _folder({**files, "report.typ": source.encode()}) as folder:
        # typst writes the time of compilation into the file, and looks for fonts, unless told not to
        given: dict[str, Any] = {"root": folder, "ignore_system_fonts": True, "timestamp": 0}
        try:
            return bytes(typst.compile(f"{folder}/report.typ", **given))
        except RuntimeError as error:
            if "internal error" not in str(error):
                raise _unset(error) from error
        try:
            return bytes(typst.compile(f"{folder}/report.typ", pdf_tags=False, **given))
        except RuntimeError as error:
            raise _unset(error) from error


def _unset(error: RuntimeError) -> UserError:
    return UserError(f"typst cannot set the report: {' '.join(str(error).split())}")


def latex(text: str, cover: Cover, bibliography: Path | None = None) -> str:
    """For lualatex or xelatex; its figures lie as PDF below LATEX_FIGURES."""
    text = re.sub(r"(!\[[^\n]*\]\()([^)\n]+)\.png\)", rf"\1{LATEX_FIGURES}/\2.pdf)", text)
    options = ["--standalone", "--variable=geometry:margin=25mm", "--variable=colorlinks", "--variable=papersize:a4"]
    return _pandoc(text, "latex", cover, options, bibliography)


def _pandoc(text: str, to: str, cover: Cover, options: Sequence[str], bibliography: Path | None) -> str:
    try:
        import pypandoc

        common = [f"--lua-filter={FILTER}", "--number-sections", "--columns=100000", "--metadata=lang:en", *cover.metadata]
        cited = ["--citeproc", f"--bibliography={bibliography}", "--metadata=link-citations:true"] if bibliography else []
        result: str = pypandoc.convert_text(text, to, format="markdown-smart", extra_args=[*common, *cited, *options])
    except (ImportError, OSError) as error:  # without the wheel's binary, pypandoc raises OSError
        raise UserError(MISSING) from error
    except RuntimeError as error:
        raise UserError(f"pandoc cannot read the report: {' '.join(str(error).split())}") from error
    return result


def _data(name: str, files: Mapping[str, bytes]) -> str:
    """An image within the page; pandoc does the same, in ten times the time."""
    return f"data:{KINDS[Path(name).suffix]};base64,{base64.b64encode(files[name]).decode()}"


def _folder(files: Mapping[str, bytes]) -> tempfile.TemporaryDirectory[str]:
    """The images of a report in a folder of their own."""
    folder = tempfile.TemporaryDirectory()
    for name, content in files.items():
        path = Path(folder.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
