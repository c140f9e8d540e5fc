"""The index of equations: which function of this package is which equation of which paper, read from the docstrings.

A docstring cites "(2015, eq. 14)", "(2020, eqs. 6-7)", "(Song et al. 2021, eq. 13)", an algorithm, a theorem or a proposition
in the same way; bare years are the two papers of this study. A number belongs to the paper that was named last before it in the
same docstring, and a docstring that names none is an error: whoever reads one function need not read another to know.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpm.errors import UserError
from dpm.report.markdown import UNLISTED, code, document, plain, table, wide

PACKAGE = Path(__file__).parents[1]
BARE = {"2015": "Sohl-Dickstein et al. 2015", "2020": "Ho et al. 2020"}
KINDS = {"eq": "eq.", "algorithm": "algorithm", "theorem": "theorem", "proposition": "proposition", "Table App": "Table App."}
AUTHORS = r"[A-Z][\w-]+(?:(?:,| and) [A-Z][\w-]+)*(?: et al\.)?"
NUMBER = r"[A-Z]?\d+(?:\.\d+)?"
CITED = re.compile(
    rf"(?P<paper>{AUTHORS},? (?:19|20)\d\d\b|\b(?:2015|2020)\b(?!-))"
    rf"|\b(?P<kind>[Ee]q|[Aa]lgorithm|[Tt]heorem|[Pp]roposition|Table App)s?\.? ?"
    rf"(?P<numbers>{NUMBER}(?:(?:, | and |-){NUMBER}(?![\w.]*:))*)"
)
SPLIT = re.compile(r", | and ")
SENTENCE = re.compile(r"(?<!eq)(?<!eqs)(?<!App)(?<!al)[.] (?=[A-Z_`])|: (?=`)")
BRACKETS = re.compile(r" ?\([^()]*(?:eqs?\.|[Aa]lgorithm|theorem|proposition|Table App)[^()]*\)")
SHOW = ("report", "figures")  # what shows numbers, and computes none
LONGEST = 130  # characters of what is said of an equation


@dataclass(frozen=True)
class Cited:
    """One equation of a paper, what the docstring says of it, and the module and name that it is the docstring of."""

    paper: str
    kind: str
    number: str
    said: str
    file: str
    name: str

    @property
    def label(self) -> str:
        return f"{self.kind} {self.number}".replace(". ", ".\N{NO-BREAK SPACE}").replace("App.\N{NO-BREAK SPACE}", "App.")

    @property
    def key(self) -> tuple[str, str, str]:
        return self.paper, self.kind, self.number


def index(package: Path = PACKAGE) -> list[Cited]:
    """Every citation of the package's docstrings, by paper, kind and number."""
    paths = [path for path in sorted(package.rglob("*.py")) if path.relative_to(package).parts[0] not in SHOW]
    found = {cited: None for path in paths for cited in _of_module(path, package)}
    return sorted(found, key=_order)


def section(cited: Sequence[Cited], base: str = "") -> str:
    """A table for each paper; `base` is the way to the package, where files are to be links."""
    parts = []
    for paper in dict.fromkeys(c.paper for c in cited):
        rows = [(c.label, plain(c.said), _where(c, base)) for c in cited if c.paper == paper]
        cells = table(("number", "what", "where"), rows, "lll")
        parts += [f"## {paper}", cells] if base else [f"## {paper} {UNLISTED}", wide((13, 52, 35), cells)]
    return document(*parts)


def _where(cited: Cited, base: str) -> str:
    place = f"[{code(cited.file)}]({base}/{cited.file})" if base else code(cited.file)
    return f"{place}: {code(cited.name)}" if cited.name else place


def _order(cited: Cited) -> tuple[object, ...]:
    papers = list(BARE.values())
    of_paper = (
        (papers.index(cited.paper), "") if cited.paper in papers else (len(papers), cited.paper.split()[-1] + cited.paper)
    )
    return (*of_paper, list(KINDS.values()).index(cited.kind), _digits(cited.number), cited.file, cited.name)


def _digits(number: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", number)]


def _of_module(path: Path, package: Path) -> Iterator[Cited]:
    text, file = path.read_text(encoding="utf-8"), path.relative_to(package).as_posix()
    if not any(match["kind"] for match in CITED.finditer(text)):  # most modules, and parsing takes longer
        return
    tree = ast.parse(text)
    yield from _of_docstring(ast.get_docstring(tree) or "", file, "")
    yield from _of_body(tree.body, file, "")


def _of_body(body: Sequence[ast.stmt], file: str, within: str) -> Iterator[Cited]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            name = f"{within}{node.name}"
            yield from _of_docstring(ast.get_docstring(node) or "", file, name)
            yield from _of_body(node.body, file, f"{name}.")


def _of_docstring(text: str, file: str, name: str) -> Iterator[Cited]:
    text, paper = " ".join(text.split()), ""
    for match in CITED.finditer(text):
        if match["paper"]:
            paper = BARE.get(match["paper"], match["paper"].replace(", ", " ") if "et al" in match["paper"] else match["paper"])
            continue
        if not paper:
            raise UserError(f"{file}: the docstring of {name or 'the module'} cites {match[0]!r} of no paper")
        kind = next(word for start, word in KINDS.items() if match["kind"].lower() == start.lower())
        for number in _numbers(match["numbers"]):
            yield Cited(paper, kind, number, _sentence(text, match.start()), file, name)


def _numbers(text: str) -> Iterator[str]:
    """ "6-7" -> 6, 7; "11, 32" -> 11, 32; "A1" stays what it is."""
    for part in SPLIT.split(text):
        first, _, last = part.partition("-")
        yield from map(str, range(int(first), int(last) + 1)) if last else [first]


def _sentence(text: str, position: int) -> str:
    """What stands around the citation: its sentence, without the brackets that hold it, and no longer than a table likes."""
    ends = [0, *(match.end() for match in SENTENCE.finditer(text)), len(text)]
    start = max(end for end in ends if end <= position)
    said = BRACKETS.sub("", text[start : min(end for end in ends if end > position)]).strip(" .:;")
    return said if len(said) <= LONGEST else f"{said[:LONGEST].rsplit(' ', 1)[0]} …"
