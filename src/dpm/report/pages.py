"""The pages of the report as data: `conf/claims/pages/<nn>_<name>.yaml`, one for each experiment of a paper.

    title        of the page
    experiments  folder below results/ -> label; the first one answers the claims in the summary
    claims       claim id -> label
    protocol     {key: value} that picks the measurement to show beside a claim where an experiment answers none (another
                 network than the paper's, a sweep); the quantity is the claim's
    paper        what the paper did (Markdown)
    command      how to obtain the page's numbers, one command per line
    deviations   list of texts, numbered D1, D2, ...
    sweeps       list of {title, folders: [patterns below results/], settings: {protocol key: column label}}: a table of the
                 first claim's quantity
    figures      list of {_target_: dpm.figures...., caption, and one of
                   arrays: <folder>/seed<k>    the function gets the arrays of this run; of several, if it is a list; by label,
                                               if it is a mapping label -> run
                   seeds: <folder>             the function gets a list: the arrays of each seed
                   records: [patterns]         the function gets a list: the records in all folders that match
                 and, optionally, name: of the file, options: {...} more arguments (claim: an id becomes the
                 Claim; claims: the start of ids becomes the list of their Claims)}
    animations   list of the same kind, for the HTML report only
    text         what the numbers say (Markdown)

No number is typed into the texts by hand. A placeholder expands to one from the claims or from the records:

    {{claim:sohl_dickstein_2015/table1/swiss_roll/K}}                                   2.35 bits
    {{sohl_dickstein_2015/swiss_roll:log_likelihood_bound edges=entropy}}               value ± stderr unit, over all seeds
    {{sohl_dickstein_2015/swiss_roll:log_likelihood_bound.ceiling edges=entropy}}       also .oracle
    {{budget:sohl_dickstein_2015/swiss_roll minutes}}                                   mean over seeds; also steps

`key=value` picks among several measurements of one quantity by their protocol. A paragraph that needs an experiment which
has no records yet is left out and counted; anything else that cannot be filled in is an error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from dpm.errors import UserError
from dpm.report.markdown import limit, measured, thousands
from dpm.study.claims import Claim
from dpm.study.records import over_seeds
from dpm.study.results import Results, selected

PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
SPENT = re.compile(r"budget:(?P<folder>\S+) (?P<what>minutes|steps)")
MEASURED = re.compile(r"(?P<folder>[^:\s]+):(?P<quantity>\w+)(\.(?P<part>ceiling|oracle))?(?P<filters>( \w+=\S+)*)")


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
    def planned(self) -> dict[str, str]:
        """Label by folder, or pattern of folders, of everything that the page reports when it is measured."""
        return {pattern: sweep.title for sweep in self.sweeps for pattern in sweep.folders} | dict(self.experiments)


def load_pages(folder: Path, claims: Mapping[str, Claim]) -> tuple[Page, ...]:
    return tuple(_load(path, claims) for path in sorted(folder.glob("*.yaml")))


def _load(path: Path, claims: Mapping[str, Claim]) -> Page:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        page = _page(path.stem.split("_", 1)[-1], content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a page ({' '.join(str(error).split())}); see dpm/report/pages.py") from error
    for claim in page.claims:
        if claim not in claims:
            raise UserError(f"{path}: claim {claim} is not in {path.parents[1]}")
    if not page.experiments:
        raise UserError(f"{path}: needs at least one experiment")
    return page


def _page(name: str, content: dict[str, Any]) -> Page:
    sweeps = [Sweep(**entry) for entry in content.pop("sweeps", [])]
    figures = [_figure(entry, ".png") for entry in content.pop("figures", [])]
    animations = [_figure(entry, ".gif") for entry in content.pop("animations", [])]
    unknown = set(content) - {f.name for f in fields(Page)}
    if unknown:
        raise TypeError(f"unknown: {', '.join(sorted(unknown))}")
    return Page(name=name, sweeps=sweeps, figures=figures, animations=animations, **content)


def _figure(entry: dict[str, Any], suffix: str) -> FigureEntry:
    figure = FigureEntry(entry.pop("_target_", ""), suffix, **entry)
    if not figure.target.startswith("dpm.figures."):
        raise TypeError(f"_target_ of a figure must be a function of dpm.figures, not {figure.target!r}")
    if sum(map(bool, (figure.arrays, figure.seeds, figure.records))) != 1:
        raise TypeError(f"{figure.target} needs exactly one of arrays, seeds, records")
    return figure


def fill(text: str, claims: Mapping[str, Claim], results: Results, planned: Mapping[str, str]) -> str:
    """`text` with its placeholders expanded, without the paragraphs that need a planned folder which has no records yet."""
    kept, waiting, paragraphs = [], [], re.split(r"\n\s*\n", text.strip())
    for paragraph in paragraphs:
        missing = [label for folder in _folders(paragraph) if not results.of(folder) for label in _labels(folder, planned)]
        waiting += missing
        if not missing:
            kept.append(PLACEHOLDER.sub(lambda match: _expand(match[1], claims, results), paragraph))
    if waiting:
        kept.append(f"*(More text follows when these are measured: {', '.join(dict.fromkeys(waiting))}.)*")
    return "\n\n".join(kept)


def _folders(paragraph: str) -> list[str]:
    """The folders whose records the paragraph's placeholders need."""
    inner = [text for text in PLACEHOLDER.findall(paragraph) if not text.startswith("claim:")]
    return [(SPENT.fullmatch(text.strip()) or _measured(text))["folder"] for text in inner]


def _labels(folder: str, planned: Mapping[str, str]) -> list[str]:
    return [label for pattern, label in planned.items() if fnmatchcase(folder, pattern)]


def _expand(inner: str, claims: Mapping[str, Claim], results: Results) -> str:
    if inner.startswith("claim:"):
        claim = claims.get(inner.removeprefix("claim:"))
        if claim is None:
            raise UserError(f"{{{{{inner}}}}}: no such claim")
        return measured(claim.value, claim.stderr, claim.unit)
    if spent := SPENT.fullmatch(inner.strip()):
        return _spent(spent["folder"], spent["what"], results)
    match = _measured(inner)
    filters = dict(pair.split("=", 1) for pair in match["filters"].split())
    runs = results.of(match["folder"])
    if not runs:
        raise UserError(f"{{{{{inner}}}}}: no records in {results.root / match['folder']}")
    found = selected([run.record for run in runs], match["quantity"], filters)
    if not found:
        raise UserError(f"{{{{{inner}}}}}: the records in {results.root / match['folder']} have no such measurement")
    mean = over_seeds(found)
    if match["part"] is None:
        return measured(mean.value, mean.stderr, mean.unit)
    value: float | None = getattr(mean, match["part"])
    if value is None:
        raise UserError(f"{{{{{inner}}}}}: the records state no {match['part']}")
    return limit(value, mean.stderr, mean.unit)


def _spent(folder: str, what: str, results: Results) -> str:
    """What the training took, a mean over the seeds."""
    key, unit = {"minutes": ("seconds", 60), "steps": ("steps", 1)}[what]
    spent = [float(run.record.budget[key]) / unit for run in results.of(folder)]
    return thousands(sum(spent) / len(spent))


def _measured(inner: str) -> re.Match[str]:
    match = MEASURED.fullmatch(inner.strip())
    if match is None:
        raise UserError(f"{{{{{inner}}}}}: neither claim:ID nor budget:FOLDER minutes nor FOLDER:QUANTITY [KEY=VALUE ...]")
    return match
