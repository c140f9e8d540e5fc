"""The texts of the report, which are there to be edited: Markdown files in `conf/report`.

    <nn>_<name>.md   a page, for one experiment of a paper; their order is that of the report
    main/            the main text of the report, `dpm.report.maintext`
    reading.md       how to read a verdict; {{verdicts}} is the table of words and counts
    audit.md         introduction of the audit

A page begins with front matter, YAML between two lines `---`. What is not marked optional is needed:

    title        of the page
    experiments  folder below results/ -> label; the first one answers the claims in the summary
    claims       claim id -> label
    protocol     optional: {key: value} that picks the measurement to show beside a claim where an experiment answers none
                 (another network than the paper's, a sweep); the quantity is the claim's
    sweeps       optional: list of {title, folders: [patterns below results/], settings: {protocol key: column label}}: a
                 table of the first claim's quantity
    figures      optional: list of {_target_: dpm.figures...., caption, and one of
                   arrays: <folder>/seed<k>    the function gets the arrays of this run; of several, if it is a list; by label,
                                               if it is a mapping label -> run
                   seeds: <folder>             the function gets a list: the arrays of each seed
                   records: [patterns]         the function gets a list: the records in all folders that match
                 and, optionally, name: of the file, options: {...} more arguments (claim: an id becomes the
                 Claim; claims: the start of ids becomes the list of their Claims)}
    animations   optional: list of the same kind, for the HTML report only

After it the page has these sections and no other:

    ## What the paper did      optional, for an experiment that is no paper's
    ## What we ran             how to obtain the page's numbers: one block ```sh, a command on each line
    ## Deviations              optional: a list, each item "- text"; numbered D1, D2, ...
    ## What the numbers say    optional

Numbers stand in the texts as placeholders: `dpm.report.placeholders`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dpm.errors import UserError
from dpm.report.markdown import naming, read_text
from dpm.report.placeholders import check, fill
from dpm.study.claims import Claim
from dpm.study.results import Results

TEXTS = ("reading.md", "audit.md")
FRONT_MATTER = re.compile(r"---\n(?P<front>.*?)^---\n(?P<body>.*)", re.DOTALL | re.MULTILINE)
NEEDED = {"title": str, "experiments": dict, "claims": dict}
OPTIONAL = {"protocol": dict, "sweeps": list, "figures": list, "animations": list}
SWEEP = {"title": str, "folders": list, "settings": dict}
FIGURE = {"_target_": str, "caption": str}
SOURCES = {"arrays": (str, list, dict), "seeds": str, "records": list}
KINDS = {str: "text", list: "a list", dict: "a mapping"}
PAPER, RAN, DEVIATIONS, SAY = HEADINGS = ("What the paper did", "What we ran", "Deviations", "What the numbers say")
COMMANDS = re.compile(r"```sh\n((?:(?!```).)+)\n```", re.DOTALL)


@dataclass(frozen=True)
class Sweep:
    title: str
    folders: Sequence[str]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class FigureEntry:
    """One figure: the function that draws it, what it is given, and where its file goes below results/."""

    target: str
    suffix: str
    caption: str
    arrays: str | Sequence[str] | Mapping[str, str] = ()
    seeds: str = ""
    records: Sequence[str] = ()
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def wanted(self) -> Sequence[str]:
        """The runs whose arrays the function gets."""
        if isinstance(self.arrays, Mapping):
            return list(self.arrays.values())
        return [self.arrays] if isinstance(self.arrays, str) else self.arrays

    @property
    def file(self) -> str:
        """<paper>/<experiment>/<name>.png, or .gif for an animation."""
        source = self.seeds or [*self.wanted, *self.records][0]
        return "/".join([*source.split("/")[:2], (self.name or self.target.rsplit(".", 1)[1]) + self.suffix])

    def in_form(self, form: str) -> str:
        """The file in another format; an animation has one."""
        return self.file if self.suffix == ".gif" else f"{self.file.removesuffix(self.suffix)}.{form}"

    @staticmethod
    def anchor_of(file: str) -> str:
        return "figure-" + re.sub(r"\W+", "-", file.rsplit(".", 1)[0])

    @property
    def anchor(self) -> str:
        """Its identifier within the whole report."""
        return self.anchor_of(self.file)


@dataclass(frozen=True)
class Page:
    name: str
    title: str
    experiments: Mapping[str, str]
    claims: Mapping[str, str]
    paper: str
    command: str
    protocol: Mapping[str, Any] = field(default_factory=dict)
    deviations: Sequence[str] = ()
    sweeps: Sequence[Sweep] = ()
    figures: Sequence[FigureEntry] = ()
    animations: Sequence[FigureEntry] = ()
    text: str = ""

    @property
    def home(self) -> str:
        """The folder of the first experiment: where the page lies as README.md."""
        return next(iter(self.experiments))

    @property
    def anchor(self) -> str:
        """Its identifier within the whole report."""
        return "page-" + re.sub(r"\W+", "-", self.name)

    @property
    def planned(self) -> dict[str, str]:
        """Label by folder, or pattern of folders, of everything that the page reports when it is measured."""
        return {pattern: sweep.title for sweep in self.sweeps for pattern in sweep.folders} | dict(self.experiments)


def image(figure: FigureEntry, path: str, width: str = "", caption: str = "") -> str:
    """The figure, with an identifier for those who read pandoc's Markdown (GitHub would show it)."""
    about = f"#{figure.anchor}" + (f" width={width}" if width else "")
    return f"![{' '.join((caption or figure.caption).split())}]({path}){{{about}}}"


def load_pages(folder: Path, claims: Mapping[str, Claim]) -> tuple[Page, ...]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of pages")
    paths = [path for path in sorted(folder.glob("*.md")) if path.name not in TEXTS]
    for path in paths:
        if not re.match(r"\d\d_.", path.name):
            raise UserError(f"{path}: a page is named <nn>_<name>.md, and the other texts are {', '.join(TEXTS)}")
    pages = tuple(_load(path, claims) for path in paths)
    for page in pages:
        others = [other.title for other in pages if other.home == page.home and other is not page]
        if others:
            raise UserError(
                f"{page.title!r} and {others[0]!r} would both be {page.home}/README.md: list another experiment first"
            )
    return pages


def load_text(path: Path, claims: Mapping[str, Claim], results: Results, planned: Mapping[str, str], **tables: str) -> str:
    """A text beside the pages; {{name}} stands for the table of this name."""
    text = read_text(path)
    for name, table in tables.items():
        text = text.replace(f"{{{{{name}}}}}", table)
    with naming(path):
        return fill(text, claims, results, planned)


def _load(path: Path, claims: Mapping[str, Claim]) -> Page:
    content = read_text(path)
    with naming(path):
        front, sections = _parts(content)
        _check("front matter", front, NEEDED, OPTIONAL)
        page = Page(
            name=path.stem.split("_", 1)[1],
            title=front["title"],
            experiments=front["experiments"],
            claims=front["claims"],
            protocol=front.get("protocol", {}),
            sweeps=[_sweep(entry) for entry in front.get("sweeps", [])],
            figures=[_figure(entry, ".png") for entry in front.get("figures", [])],
            animations=[_figure(entry, ".gif") for entry in front.get("animations", [])],
            paper=sections.get(PAPER, ""),
            command=_command(sections[RAN]),
            deviations=_items(sections.get(DEVIATIONS, "")),
            text=sections.get(SAY, ""),
        )
        if not page.experiments:
            raise UserError("needs at least one experiment")
        drawn = [*page.figures, *page.animations]
        for claim in (*page.claims, *(entry.options["claim"] for entry in drawn if "claim" in entry.options)):
            if claim not in claims:
                raise UserError(f"claim {claim} is not in the claims")
        check(f"{page.paper}\n{page.text}", claims)
        if "{{" in " ".join([*page.deviations, *(entry.caption for entry in drawn)]):
            raise UserError("a deviation or a caption has no placeholders")
    return page


def _parts(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Front matter as data, and the text of each section by its heading."""
    match = FRONT_MATTER.fullmatch(text)
    if match is None:
        raise UserError("no front matter; a page begins with YAML between two lines ---")
    try:
        front = yaml.safe_load(match["front"])
    except yaml.YAMLError as error:
        raise UserError(f"the front matter is not YAML: {' '.join(str(error).split())}") from error
    before, *parts = re.split(r"^## +(.*?) *$", match["body"], flags=re.MULTILINE)
    headings, texts = parts[::2], [part.strip() for part in parts[1::2]]
    if before.strip():
        raise UserError(f"text before the first heading: {before.strip().splitlines()[0]!r}")
    for heading in headings:
        if heading not in HEADINGS:
            raise UserError(f"unknown heading '## {heading}'; known: {', '.join(HEADINGS)}")
        if headings.count(heading) > 1:
            raise UserError(f"more than one heading '## {heading}'")
    if RAN not in headings:
        raise UserError(f"lacks the heading '## {RAN}'")
    return front, dict(zip(headings, texts, strict=True))


def _command(text: str) -> str:
    match = COMMANDS.fullmatch(text)
    if match is None:
        raise UserError("'## What we ran' must be one block, ```sh, a command on each line, ```")
    return match[1]


def _items(text: str) -> list[str]:
    """The items of a Markdown list, each on one line."""
    for line in text.splitlines():
        if line.strip() and not line.startswith(("- ", "  ")):
            raise UserError(f"'## Deviations' is a list, whose lines begin with '- ' or two blanks, not {line[:30]!r}")
    return [" ".join(item.split()) for item in re.split("^- ", text, flags=re.MULTILINE)[1:]]


def _sweep(entry: Any) -> Sweep:
    _check("a sweep", entry, SWEEP, {})
    return Sweep(**entry)


def _figure(entry: Any, suffix: str) -> FigureEntry:
    _check("a figure", entry, FIGURE, SOURCES | {"name": str, "options": dict})
    target = entry.pop("_target_")
    if not target.startswith("dpm.figures."):
        raise UserError(f"_target_ of a figure must be a function of dpm.figures, not {target!r}")
    if sum(bool(entry.get(source)) for source in SOURCES) != 1:
        raise UserError(f"{target} needs exactly one of {', '.join(SOURCES)}")
    return FigureEntry(target, suffix, **entry)


def _check(what: str, entry: Any, needed: Mapping[str, Any], optional: Mapping[str, Any]) -> None:
    """Refuse unknown and missing keys, and values of another kind."""
    known = {**needed, **optional}
    if not isinstance(entry, dict):
        raise UserError(f"{what} must be a mapping with the keys {', '.join(known)}")
    for key, value in entry.items():
        if key not in known:
            raise UserError(f"{what} has the unknown key {key}; known: {', '.join(known)}")
        if not isinstance(value, known[key]):
            raise UserError(f"{what}: {key} must be {KINDS.get(known[key], 'a run or several')}, not {value!r:.40}")
    if missing := [key for key in needed if key not in entry]:
        raise UserError(f"{what} lacks {', '.join(missing)}")
