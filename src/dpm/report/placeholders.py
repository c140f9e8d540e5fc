"""Numbers in the texts: none is typed by hand. A placeholder, all on one line, expands to one from the claims or the records:

    {{claim:sohl_dickstein_2015/table1/swiss_roll/K}}                                   2.35 bits
    {{sohl_dickstein_2015/swiss_roll:log_likelihood_bound edges=entropy}}               value ± stderr unit, over all seeds
    {{sohl_dickstein_2015/swiss_roll:log_likelihood_bound.ceiling edges=entropy}}       .oracle; .smallest, .median, .largest
    {{sohl_dickstein_2015/mnist:nll_bound in=parzen_log_likelihood:bits dimensions=784}}  in that quantity's sign, scale, unit
    {{budget:sohl_dickstein_2015/swiss_roll minutes}}                                   mean over seeds; also steps
    {{count:result}}                                                                    claims of this kind; also all

`key=value` picks among several measurements of one quantity by their protocol. A paragraph that needs an experiment which
has no records yet is left out and counted; anything else that cannot be filled in is an error.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from statistics import median

from dpm.errors import UserError
from dpm.report.markdown import limit, measured, thousands
from dpm.study.claims import KINDS, Claim
from dpm.study.records import Mean, over_seeds
from dpm.study.results import Group, Results, group_of, selected
from dpm.study.units import Layout, converted, stated, unit

Key = tuple[str, *Group]  # folder, quantity and facts: one number of the records
PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
SPENT = re.compile(r"budget:(?P<folder>\S+) (?P<what>minutes|steps)")
OF_SEEDS: dict[str, Callable[[list[float]], float]] = {"smallest": min, "median": median, "largest": max}
PART = "|".join(["ceiling", "oracle", *OF_SEEDS])
MEASURED = re.compile(rf"(?P<folder>[^:\s]+):(?P<quantity>\w+)(\.(?P<part>{PART}))?(?P<filters>( \w+=\S+)*)")


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


def check(text: str, claims: Mapping[str, Claim]) -> None:
    """Refuse placeholders of no known form and those of claims that do not exist, whatever has been measured."""
    for inner in PLACEHOLDER.findall(text):
        if inner.startswith("claim:"):
            _claim(inner, claims)
    _folders(text)


def used(text: str, results: Results) -> set[Key]:
    """The numbers of the records that the text prints, ceilings and oracles apart."""
    found: set[Key] = set()
    for inner in PLACEHOLDER.findall(text):
        if (match := MEASURED.fullmatch(inner.strip())) and match["part"] is None and not inner.startswith("claim:"):
            filters = dict(pair.split("=", 1) for pair in match["filters"].split())
            if "in" not in filters:
                records = [run.record for run in results.of(match["folder"])]
                found |= {(match["folder"], *group_of(m)) for m in selected(records, match["quantity"], filters)}
    return found


def _folders(paragraph: str) -> list[str]:
    """The folders whose records the paragraph's placeholders need."""
    inner = [text for text in PLACEHOLDER.findall(paragraph) if not text.startswith(("claim:", "count:"))]
    return [(SPENT.fullmatch(text.strip()) or _measured(text))["folder"] for text in inner]


def _labels(folder: str, planned: Mapping[str, str]) -> list[str]:
    return [label for pattern, label in planned.items() if fnmatchcase(folder, pattern)]


def _expand(inner: str, claims: Mapping[str, Claim], results: Results) -> str:
    if inner.startswith("claim:"):
        claim = _claim(inner, claims)
        return measured(claim.value, claim.stderr, claim.unit)
    if inner.startswith("count:"):
        return _count(inner, claims)
    if spent := SPENT.fullmatch(inner.strip()):
        return _spent(spent["folder"], spent["what"], results)
    match = _measured(inner)
    filters = dict(pair.split("=", 1) for pair in match["filters"].split())
    target, dimensions = filters.pop("in", ""), filters.pop("dimensions", "1")
    runs = results.of(match["folder"])
    if not runs:
        raise UserError(f"{{{{{inner}}}}}: no records in {results.root / match['folder']}")
    found = selected([run.record for run in runs], match["quantity"], filters)
    if not found:
        raise UserError(f"{{{{{inner}}}}}: the records in {results.root / match['folder']} have no such measurement")
    mean = over_seeds(found)
    if target:
        return _converted(mean, match["quantity"], target, Layout(int(dimensions), 1))
    if match["part"] is None:
        return measured(mean.value, mean.stderr, mean.unit)
    value = OF_SEEDS[part]([m.value for m in found]) if (part := match["part"]) in OF_SEEDS else getattr(mean, part)
    if value is None:
        raise UserError(f"{{{{{inner}}}}}: the records state no {match['part']}")
    return limit(value, mean.stderr, mean.unit)


def _converted(mean: Mean, quantity: str, target: str, layout: Layout) -> str:
    number, (other, _, text) = stated(mean.value, unit(quantity, mean.unit), quantity, mean.stderr), target.partition(":")
    found = converted(number, unit(other, text), layout)
    return measured(found.value, found.stderr, str(found.unit))


def _claim(inner: str, claims: Mapping[str, Claim]) -> Claim:
    claim = claims.get(inner.removeprefix("claim:"))
    if claim is None:
        raise UserError(f"{{{{{inner}}}}}: no such claim")
    return claim


def _count(inner: str, claims: Mapping[str, Claim]) -> str:
    kind, counts = inner.removeprefix("count:"), Counter(claim.kind for claim in claims.values())
    if kind not in (*KINDS, "all"):
        raise UserError(f"{{{{{inner}}}}}: no kind of claims; known: all, {', '.join(KINDS)}")
    return str(counts.total() if kind == "all" else counts[kind])


def _spent(folder: str, what: str, results: Results) -> str:
    """What the training took, a mean over the seeds."""
    key, unit = {"minutes": ("seconds", 60), "steps": ("steps", 1)}[what]
    spent = [float(run.record.budget[key]) / unit for run in results.of(folder)]
    return thousands(sum(spent) / len(spent))


def _measured(inner: str) -> re.Match[str]:
    match = MEASURED.fullmatch(inner.strip())
    if match is None:
        raise UserError(
            f"{{{{{inner}}}}}: neither claim:ID nor count:KIND nor budget:FOLDER minutes nor FOLDER:QUANTITY [KEY=VALUE ...]"
        )
    return match
