"""Markdown from data: the one table, and how numbers are printed. What GitHub and pandoc both read, nothing else."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dpm.errors import UserError
from dpm.study.units import number

ROUNDING = 1e-12  # an error that small, relative to the value, is the computer's
UNLISTED = "{.unnumbered .unlisted}"  # of a heading that is in no table of contents
MINUS = "\N{MINUS SIGN}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """A pipe table; `align` has one letter per column: l, c or r."""
    rule = [{"l": ":--", "c": ":-:", "r": "--:"}[letter] for letter in align]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in (header, rule, *rows))


def wide(widths: Sequence[int], table: str) -> str:
    """The table over the full width, its columns in these proportions; for pandoc only, by report.lua."""
    return f'::: {{.wide widths="{" ".join(map(str, widths))}"}}\n{table}\n:::'


def document(*parts: str) -> str:
    """Blocks separated by blank lines; empty ones left out."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def demoted(text: str) -> str:
    """Every heading one level deeper; a # within a block of code is a comment."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else re.sub(r"^(#+ )", r"#\1", part, flags=re.MULTILINE) for part in parts)


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def code(text: str) -> str:
    """A vertical bar would end the cell of a table, and cannot be escaped in code."""
    return f"`{text.replace('|', chr(0x2223))}`"


def plain(text: str) -> str:
    """Text from elsewhere, so that none of it is taken for markup."""
    return re.sub(r"([\\*_`$<>\[\]])", r"\\\1", text)


def measured(value: float | None, stderr: float | None = None, unit: str = "") -> str:
    """value ± stderr unit, the value to the second significant digit of its error; nothing for None."""
    if value is None:
        return ""
    if stderr and stderr > ROUNDING * abs(value):
        digits = decimals(stderr)
        text = f"{value:,.{digits}f} ± {stderr:,.{digits}f}"
    else:
        text = number(value)
    return _with_unit(text, unit)


def limit(value: float | None, stderr: float | None = None, unit: str = "") -> str:
    """A ceiling or an oracle, to the digit of the error of what it is compared with, to the hundredth at least, never as 0."""
    if value is None:
        return ""
    digits = max(2, decimals(stderr)) if stderr else 2
    if round(value, digits) == 0 != value:
        digits = decimals(abs(value))
    return _with_unit(f"{value:,.{digits}f}", unit)


def _with_unit(text: str, unit: str) -> str:
    """Nothing for the unit 1; a minus sign but in exponents."""
    return f"{text} {unit}".removesuffix(" 1").strip().replace("-", MINUS if "e" not in text else "-")


def decimals(stderr: float) -> int:
    """Decimals down to the second significant digit of an error."""
    return max(0, 1 - math.floor(math.log10(stderr)))


def setting(value: object) -> str:
    """A number of a configuration as one types it: 1e-6, 0.2, 40."""
    if isinstance(value, float) and 0 < abs(value) < 0.01:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def signed(value: float) -> str:
    """+0.05 or -0.05, two significant digits."""
    return f"{'+' if value >= 0 else MINUS}{abs(value):#.2g}".removesuffix(".")


def thousands(n: float) -> str:
    return f"{n:,.0f}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Complaints inside begin with the name of the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
