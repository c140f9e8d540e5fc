"""The chapters of the report, each a function from results and claims to Markdown."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from dpm import audit
from dpm.claims import TAGS, Claim
from dpm.report.markdown import bullets, code, document, measured, plain, setting, table, thousands, wide
from dpm.report.pages import Page, fill
from dpm.report.verdicts import MEANINGS, Row, common_tier, limits, ours, page_rows, paper
from dpm.results import Results, Run, grouped, over_seeds, selected
from dpm.units import Unit, number

Claims = Mapping[str, Claim]
Link = Callable[[Page], str]
PAPERS = {
    "sohl_dickstein_2015": "Sohl-Dickstein et al. 2015",
    "ho_2020": "Ho et al. 2020",
}
VERDICT_HEADER = ("paper", "ours ± stderr (seeds × n)", "ceiling", "oracle", "verdict")
SHOWN = 7  # characters of a commit or hash


def summary(pages: Sequence[Page], rows: Sequence[Row], link: Link) -> str:
    """The table paper | ours | ceiling | oracle | verdict, grouped by the papers' tables."""
    home = {page.home: page for page in pages}
    parts = []
    for (name, source), group in groupby(rows, lambda row: (row.claim.id.split("/")[0], row.claim.source)):
        cells = [(f"[{row.label}]({link(home[row.folder])})", *row.cells) for row in group]
        parts += [f"**{PAPERS.get(name, name)}, {source}**", table(("claim", *VERDICT_HEADER), cells, "lrrrrl")]
    return document(*parts)


def reading(rows: Sequence[Row], claims: Claims) -> str:
    """What the words mean, and how many numbers each of them stands for."""
    kinds = Counter(
        "setting" if c.setting else "quoted" if c.reference else "derived" if c.tag == "D" else "result"
        for c in claims.values()
    )
    words = Counter(row.verdict.word for row in rows if row.verdict)
    words["pending"] += kinds["result"] - len(rows)
    return document(
        f"The registry holds {len(claims)} numbers: {kinds['result']} results of the two papers, {kinds['quoted']} of other "
        f"people's models that they quote, {kinds['setting']} settings of their recipes, and {kinds['derived']} numbers that "
        "follow from these by arithmetic. A program sets each result against our records and says one word:",
        table(
            ("verdict", "meaning", "results"),
            [(f"**{word}**", meaning, str(words[word])) for word, meaning in MEANINGS.items()],
            "llr",
        ),
        "*Ours ± stderr (seeds × n)* is the mean over the training seeds, each evaluated on n held-out examples. The error "
        "contains both the spread over the seeds and the choice of the examples. In parentheses behind a verdict stands the "
        "gap, ours minus paper. The *ceiling* is what no model can exceed with this data and this first noise step; the "
        "*oracle* is the best reverse process of the given form for the very schedule in use, computed from the exact "
        "posterior without any training. Ceiling and oracle are there only where the distribution of the data is known.",
    )


def commands(pages: Sequence[Page], link: Link) -> str:
    blocks = (f"[{page.title}]({link(page)})\n\n```sh\n{page.command.strip()}\n```" for page in pages)
    return document(*blocks)


def page(content: Page, claims: Claims, results: Results, figures: str) -> str:
    """One experiment: what the paper did, our command, deviations, verdicts, figures, everything that was measured."""
    rows = list(page_rows(content, claims, results))
    cells = [(row.label, row.experiment, *row.cells) for row in rows]
    text = fill(content.text, claims, results, content.planned)
    return document(
        f"# {content.title}",
        "## What the paper did",
        fill(content.paper, claims, results, content.planned),
        "## What we ran",
        f"```sh\n{content.command.strip()}\n```",
        *(f"**D{index}.** {deviation}" for index, deviation in enumerate(content.deviations, 1)),
        "## Verdict",
        table(("claim", "experiment", *VERDICT_HEADER), cells, "llrrrrl"),
        bullets(f"{row.label} ({row.experiment}): {row.verdict.text}." for row in rows if row.verdict),
        "## What the numbers say" if text else "",
        text,
        "## Figures" if figures else "",
        figures,
        *(sweep for sweep in sweeps(content, claims, results)),
        *(everything(folder, label, results) for folder, label in content.experiments.items()),
    )


def sweeps(content: Page, claims: Claims, results: Results) -> Iterable[str]:
    """One table per sweep: the first claim of the page in each folder, by the settings that were varied."""
    claim = claims[next(iter(content.claims))]
    for sweep in content.sweeps:
        rows = []
        for runs in (results.of(folder) for pattern in sweep.folders for folder in results.folders(pattern)):
            common_tier(runs)
            if found := selected([run.record for run in runs], claim.quantity, content.protocol):
                mean, settings = over_seeds(found), [found[0].protocol.get(key, "") for key in sweep.settings]
                rows.append((settings, [*map(setting, settings), ours(mean), *limits(mean)]))
        rows.sort(key=lambda row: [(isinstance(x, str), x) for x in row[0]])
        if rows:
            header = (*sweep.settings.values(), f"ours ± stderr (seeds × n), {claim.unit}", "ceiling", "oracle")
            yield f"## {sweep.title}"
            yield table(header, [cells for _, cells in rows], "l" * len(sweep.settings) + "rrr")


def everything(folder: str, label: str, results: Results) -> str:
    """All measurements of one experiment; what never differs between their protocols is said once."""
    runs = results.of(folder)
    if not runs:
        return ""
    groups = grouped(runs)
    items = frozenset.union(*(protocol for _, protocol in groups))
    common = {(key, value) for key, value in items if sum(key == other for other, _ in items) == 1}
    rows = []
    for (quantity, protocol), measurements in groups.items():
        mean, own = over_seeds(measurements), sorted(protocol - common)
        rows.append((quantity.replace("_", " "), _protocol(own), ours(mean), mean.unit, *limits(mean)))
    return document(
        f"## All measurements: {label}",
        table(("quantity", "protocol", "mean ± stderr (seeds × n)", "unit", "ceiling", "oracle"), rows, "llrlrr"),
        f"Protocol, where it applies: {_protocol(sorted(common))}. Tier: {common_tier(runs)}.",
    )


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


def registry(claims: Claims, rows: Sequence[Row]) -> str:
    """Every number of both papers by its source: results as a table, settings in a paragraph per source."""
    parts = ["# All claims", "Where a number was read: " + "; ".join(map(": ".join, TAGS.items())) + "."]
    words = _words(claims, rows)
    for name, title in PAPERS.items():
        own = [claim for claim in claims.values() if claim.id.startswith(f"{name}/")]
        results = [claim for claim in own if not claim.setting]
        parts += [f"## {title}", _results(results, words), _settings(own)]
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


def _words(claims: Claims, rows: Sequence[Row]) -> dict[str, str]:
    """The last column of the registry: our verdict, or what the audit says to a number that was itself derived."""
    audited = {(i.expected, i.source): i for i in audit.identities(claims) if i.relation is audit.EQUALS}
    words = {}
    for claim in claims.values():
        identity = audited.get((claim.amount, claim.source))
        words[claim.id] = "quoted" if claim.reference else "**pending**"
        if claim.tag == "D" and identity is not None:
            words[claim.id] = f"{_outcome(identity)} (audit)"
    return words | {row.claim.id: row.cells[-1] for row in rows}


def _results(claims: Sequence[Claim], words: Mapping[str, str]) -> str:
    """Claims by source, which is named in the first row of its group."""
    rows = []
    for source, group in groupby(claims, _source):
        for index, claim in enumerate(group):
            rows.append(("" if index else source, code(_tail(claim)), paper(claim), words[claim.id]))
    return wide((36, 34, 16, 14), table(("source", "claim", "paper", "verdict"), rows, "llrl"))


def _settings(claims: Sequence[Claim]) -> str:
    groups = groupby((claim for claim in claims if claim.setting), _source)
    rows = ((source, "; ".join(f"{code(_tail(claim))} {paper(claim)}" for claim in group)) for source, group in groups)
    return wide((25, 75), table(("source", "settings"), rows, "ll"))


def _source(claim: Claim) -> str:
    return f"{plain(claim.source)} ({claim.tag})"


def _protocol(items: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} = {setting(value)}" for key, value in items)


def _provenance(run: Run) -> tuple[str, ...]:
    record, origin = run.record, run.record.provenance
    counts = (thousands(float(record.budget[key])) if key in record.budget else "" for key in ("steps", "examples", "seconds"))
    commit = str(origin.get("commit", "unknown"))[:SHOWN] + ("+" if origin.get("dirty") else "")
    hashes = (str(origin.get(f"{key}_sha256", ""))[:SHOWN] for key in ("config", "data", "weights"))
    return (code(run.name), record.tier, *counts, str(record.budget.get("device", "")), *map(code, (commit, *hashes)))


def _versions(run: Run) -> str:
    origin = run.record.provenance
    return ", ".join(f"{key} {origin[key]}" for key in ("python", "torch", "numpy", "machine") if key in origin)


def _shared(title: str, runs: Sequence[Run], of: Callable[[Run], str]) -> tuple[str, str]:
    """Each distinct text once, with the records that it holds for."""
    texts: dict[str, list[Run]] = {}
    for run in runs:
        texts.setdefault(of(run), []).append(run)
    rows = ((text, "all" if len(own) == len(runs) else _names(own)) for text, own in texts.items())
    return f"**{title}**", wide((60, 40), table((title.lower(), "records"), rows, "ll"))


def _names(runs: Sequence[Run]) -> str:
    """Folders with their seeds."""
    folders = groupby(runs, lambda run: run.folder)
    return "; ".join(f"{code(folder)} {', '.join(str(run.record.seed) for run in own)}" for folder, own in folders)


def _tail(claim: Claim) -> str:
    return claim.id.split("/", 1)[1]
