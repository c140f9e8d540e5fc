"""The chapters of the appendix beside the pages: all claims with their verdicts, the audit of the papers' own numbers,
budget and provenance."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from dpm.report.markdown import UNLISTED, code, document, measured, plain, table, thousands, wide
from dpm.report.rows import Row, paper
from dpm.report.sections import PAPERS, Claims
from dpm.study import audit
from dpm.study.claims import TAGS, Claim
from dpm.study.results import Entry, Results
from dpm.study.units import Unit, number

SAID = {"quoted": "quoted", "repeated": "repeats another", "withdrawn": "withdrawn"}  # of claims that need no verdict
SHOWN = 7  # characters of a commit or hash


def audits(claims: Claims, introduction: str) -> str:
    """What follows from the papers' own numbers: three stories, then every other identity."""
    heartbeat = [*audit.heartbeat_null(claims), *audit.heartbeat_ceiling(claims)]
    roll = list(audit.swiss_roll(claims))
    others = [identity for identity in audit.identities(claims) if identity not in (*heartbeat, *roll)]
    return document(
        "# Audit",
        introduction,
        "## Where “5.40 bits/dim” comes from",
        *_derivation(audit.bits_per_dim_audit(claims)),
        "## The heartbeat's base rate: 0.2, not 0.5",
        _identities(heartbeat),
        "## What the Swiss roll allows",
        _identities(roll),
        "## Every other identity",
        _identities(others),
    )


def registry(claims: Claims, judged: Sequence[Row], anchors: Mapping[str, str], above: Collection[Row]) -> str:
    """Every number of the papers by its source: results with what was measured and the verdict, settings in a paragraph each.

    judged: the rows with a verdict, several for a claim that several experiments answer; anchors: of the page of a claim;
    above: the rows whose numbers stand in a table of the main text, and not once more here.
    """
    parts = ["Where a number was read: " + "; ".join(map(": ".join, TAGS.items())) + "."]
    words = _words(claims)
    for name, title in PAPERS.items():
        own = [claim for claim in claims.values() if claim.id.startswith(f"{name}/")]
        results = [line for claim in own if not claim.setting for line in _lines(claim, judged, anchors, above, words)]
        parts += [f"## {title} {UNLISTED}", _by_source(results), _settings(own)]
    return document(*parts)


def provenance(results: Results) -> str:
    """What every record cost and where it comes from."""
    if not results.runs:
        return document("# Budget and provenance", "No records yet.")
    header = ("record", "tier", "steps", "examples", "seconds", "device", "commit", "config", "data", "weights")
    return document(
        "# Budget and provenance",
        "Steps, examples and seconds are those of the training. Hashes are the first digits of SHA-256, of the resolved "
        "configuration, the held-out data and the weights; + behind a commit marks changes that were not committed.",
        wide((30, 6, 7, 10, 7, 6, 8, 8, 8, 8), table(header, map(_provenance, results.runs), "llrrrlllll")),
        *_shared("Versions", results.runs, _versions),
        *_shared("Commands", results.runs, lambda run: code(str(run.record.provenance.get("command", "unknown")))),
    )


def _derivation(story: audit.BitsPerDimAudit) -> tuple[str, str]:
    rows = [
        (str(index), plain(step.text), measured(step.value, step.stderr, str(step.unit)), _axes(step.unit))
        for index, step in enumerate(story.steps, 1)
    ]
    return wide((3, 45, 26, 26), table(("", "step", "value", "what it is"), rows, "llrl")), story.conclusion


def _axes(unit: Unit) -> str:
    return ", ".join(filter(None, (unit.sign.name, unit.scale.name)))


def _identities(identities: Sequence[audit.Identity]) -> str:
    rows = [
        (plain(i.name), code(i.formula), f"{number(i.expected.value)} {i.relation.symbol} {i.computed}", _outcome(i))
        for i in identities
    ]
    return wide((26, 30, 20, 24), table(("what", "follows from", "printed, computed", "outcome"), rows, "llll"))


def _outcome(identity: audit.Identity) -> str:
    return f"**{identity.word}**" + (f": {plain(identity.conclusion)}" if identity.holds and identity.conclusion else "")


def _words(claims: Claims) -> dict[str, str]:
    """The last column of the registry without a measurement: what kind of number it is, or what the audit says to it."""
    audited = {(i.expected, i.source): i for i in audit.identities(claims) if i.relation is audit.EQUALS}
    words = {}
    for claim in claims.values():
        identity = audited.get((claim.amount, claim.source))
        words[claim.id] = SAID.get(claim.kind) or (f"needs {claim.needs}" if claim.needs else "**pending**")
        if claim.tag == "D" and identity is not None:
            words[claim.id] = f"{_outcome(identity)} (audit)"
    return words


def _lines(
    claim: Claim, judged: Sequence[Row], anchors: Mapping[str, str], above: Collection[Row], words: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    """source, number, paper, ours, ceiling, oracle, verdict: a line for each experiment that answers the claim."""
    rows = [row for row in judged if row.claim.id == claim.id]
    if not rows:
        yield _source(claim), code(_tail(claim)), paper(claim), "", "", "", words[claim.id]
    for index, row in enumerate(rows):
        name = f"[{row.label}](#{anchors[claim.id]})" if index == 0 else f"the same, {row.experiment}"
        printed, ours, ceiling, oracle, judgement = row.cells
        values = ("main text", "", "") if row in above else (ours, ceiling, oracle)
        yield _source(claim), name, "" if index else printed, *values, judgement


def _by_source(lines: Iterable[tuple[str, ...]]) -> str:
    """The source is named in the first line of its group."""
    header = ("source", "number", "paper", "ours ± stderr (seeds × n)", "ceiling", "oracle", "verdict")
    rows = []
    for source, group in groupby(lines, lambda line: line[0]):
        rows += [("" if index else source, *line[1:]) for index, line in enumerate(group)]
    return wide((17, 24, 13, 17, 7, 7, 15), table(header, rows, "llrrrrl"))


def _settings(claims: Sequence[Claim]) -> str:
    groups = groupby((claim for claim in claims if claim.setting), _source)
    cells = [(source, "; ".join(f"{code(_tail(claim))} {paper(claim)}" for claim in group)) for source, group in groups]
    return wide((25, 75), table(("source", "settings"), cells, "ll")) if cells else ""


def _source(claim: Claim) -> str:
    return f"{plain(claim.source)} ({claim.tag})"


def _provenance(run: Entry) -> tuple[str, ...]:
    record, origin = run.record, run.record.provenance
    counts = (thousands(float(record.budget[key])) if key in record.budget else "" for key in ("steps", "examples", "seconds"))
    commit = str(origin.get("commit", "unknown"))[:SHOWN] + ("+" if origin.get("dirty") else "")
    hashes = (str(origin.get(f"{key}_sha256", ""))[:SHOWN] for key in ("config", "data", "weights"))
    return (code(run.name), record.tier, *counts, str(record.budget.get("device", "")), *map(code, (commit, *hashes)))


def _versions(run: Entry) -> str:
    origin = run.record.provenance
    return ", ".join(f"{key} {origin[key]}" for key in ("python", "torch", "numpy", "machine") if key in origin)


def _shared(title: str, runs: Sequence[Entry], of: Callable[[Entry], str]) -> tuple[str, str]:
    """Each distinct text once, with the records that it holds for."""
    texts: dict[str, list[Entry]] = {}
    for run in runs:
        texts.setdefault(of(run), []).append(run)
    rows = ((text, "all" if len(own) == len(runs) else _names(own)) for text, own in texts.items())
    return f"**{title}**", wide((60, 40), table((title.lower(), "records"), rows, "ll"))


def _names(runs: Sequence[Entry]) -> str:
    """Folders with their seeds."""
    folders = groupby(runs, lambda run: run.folder)
    return "; ".join(f"{code(folder)} {', '.join(str(run.record.seed) for run in own)}" for folder, own in folders)


def _tail(claim: Claim) -> str:
    return claim.id.split("/", 1)[1]
