"""The chapters of the report, each a function from results and claims to Markdown: the summary, and a page per experiment."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dpm.report.markdown import bullets, code, document, setting, table, wide
from dpm.report.pages import Page
from dpm.report.placeholders import Key, fill
from dpm.report.rows import MEANINGS, Row, counted, limits, ours, page_rows, places, unmeasured
from dpm.study.claims import Claim
from dpm.study.records import over_seeds
from dpm.study.results import Entry, Results, common_tier, group_of, grouped, selected

Claims = Mapping[str, Claim]
Link = Callable[[Page], str]
PAPERS = {
    "sohl_dickstein_2015": "Sohl-Dickstein et al. 2015",
    "ho_2020": "Ho et al. 2020",
    "song_2021": "Song et al. 2021",
    "nichol_2021": "Nichol and Dhariwal 2021",
    "boulanger_2012": "Boulanger-Lewandowski et al. 2012",
    "liu_2022": "Liu et al. 2022",
    "tong_2023": "Tong et al. 2023",
    "shi_2023": "Shi et al. 2023",
    "albergo_2023": "Albergo et al. 2023",
    "song_2023": "Song et al. 2023",
    "cardoso_2024": "Cardoso et al. 2024",
}
VERDICT_HEADER = ("paper", "ours ± stderr (seeds × n)", "ceiling", "oracle", "verdict")


def summary(pages: Sequence[Page], rows: Sequence[Row], link: Link) -> str:
    """The table paper | ours | ceiling | oracle | verdict, grouped by the papers' tables."""
    page_of = {claim: page for page in pages for claim in page.claims}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.claim.id.split("/")[0], row.claim.source), []).append(row)
    parts = []
    for (name, source), group in groups.items():
        cells = [(f"[{row.label}]({link(page_of[row.claim.id])})", *row.cells) for row in group]
        parts += [f"**{PAPERS.get(name, name)}, {source}**", table(("claim", *VERDICT_HEADER), cells, "lrrrrl")]
    return document(*parts)


def verdicts(rows: Sequence[Row], claims: Claims) -> str:
    """What the words mean, and how many numbers each of them stands for."""
    counts = counted(claims, rows)
    words = [(f"**{word}**", MEANINGS[word], *map(str, counts[word].values())) for word in counts]
    return table(("verdict", "meaning", "results", "repeated", "quoted", "derived"), words, "llrrrr")


def waiting(rows: Sequence[Row], claims: Claims) -> str:
    """The results that have no number of ours yet: what they need, and the command that fills them."""
    cells = [
        (needs or "**pending**", ", ".join(code(claim.id) for claim in group), _filling(group))
        for needs, group in sorted(unmeasured(claims, rows).items())
    ]
    return table(("needs", "results", "command"), cells, "lll") if cells else "Nothing: every result has a number of ours."


def _filling(group: Sequence[Claim]) -> str:
    commands = dict.fromkeys(code(claim.command) for claim in group if claim.command)
    return "; ".join(commands) or "none yet"


def commands(pages: Sequence[Page], link: Link) -> str:
    blocks = (f"[{page.title}]({link(page)})\n\n```sh\n{page.command.strip()}\n```" for page in pages)
    return document(*blocks)


def page(content: Page, claims: Claims, results: Results, figures: str) -> str:
    """One experiment: what the paper did, our command, deviations, verdicts, figures, everything that was measured."""
    rows, folders = list(page_rows(content, claims, results)), places(content, results)
    cells = [(row.label, row.experiment, *row.cells) for row in rows]
    verdicts = bullets(f"{row.label} ({row.experiment}): {row.verdict.text}." for row in rows if row.verdict)
    return document(
        f"# {content.title}",
        story(content, claims, results),
        *(("## Verdict", table(("claim", "experiment", *VERDICT_HEADER), cells, "llrrrrl"), verdicts) if rows else ()),
        findings(content, claims, results, figures),
        *(everything(folder, label, results) for folder, label in folders.items()),
    )


def appendix(content: Page, claims: Claims, results: Results, figures: str, printed: set[Key]) -> str:
    """The same within the report, where each number stands once: verdicts are in the table of all claims, and what is
    `printed` there or in a text is not listed again; what the page lists is added to it."""
    rows, folders = list(page_rows(content, claims, results)), places(content, results)
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict and row.verdict.reason:
            reasons.setdefault(f"**{row.verdict.word}**: {row.verdict.reason}", []).append(f"{row.label} ({row.experiment})")
    judged = sum(row.verdict is not None for row in rows)
    verdicts = "Its verdict stands" if judged == 1 else f"Its {judged} verdicts stand"
    return document(
        f"# {content.title} {{#{content.anchor}}}",
        story(content, claims, results),
        f"{verdicts} [with the others](#verdicts)." if judged else "",
        bullets(
            f"{'; '.join(labels) if len(labels) < 4 else f'{len(labels)} of them'}: {why}." for why, labels in reasons.items()
        ),
        findings(content, claims, results, figures, printed),
        *(everything(folder, label, results, printed) for folder, label in folders.items()),
    )


def story(content: Page, claims: Claims, results: Results) -> str:
    """What the paper did, what we ran, and how that deviates."""
    return document(
        "## What the paper did" if content.paper else "",
        fill(content.paper, claims, results, content.planned),
        "## What we ran",
        f"```sh\n{content.command.strip()}\n```",
        *(absent(folder, label, results) for folder, label in places(content, results).items()),
        *(f"**D{index}.** {deviation}" for index, deviation in enumerate(content.deviations, 1)),
    )


def findings(content: Page, claims: Claims, results: Results, figures: str, printed: set[Key] | None = None) -> str:
    text = fill(content.text, claims, results, content.planned)
    return document(
        "## What the numbers say" if text else "",
        text,
        "## Figures" if figures and printed is None else "",  # in the report they float to where there is room
        figures,
        *sweeps(content, claims, results, printed),
    )


def absent(folder: str, label: str, results: Results) -> str:
    """How to obtain the weights behind the numbers where they are not shipped."""
    runs = [run for run in results.of(folder) if run.record.provenance.get("weights") == "not kept"]
    if not runs:
        return ""
    return f"Not shipped: the weights of {label}; {code(training(runs))} trains them again."


def training(runs: Sequence[Entry]) -> str:
    """The command that trains these runs, which differ by their seeds."""
    one, *others = runs
    if not others:
        return f"python experiments/train.py {one.arguments}"
    seeds = ",".join(str(run.record.seed) for run in runs)
    return f"python experiments/train.py -m {one.arguments.replace(f'seed={one.record.seed}', f'seed={seeds}')}"


def sweeps(content: Page, claims: Claims, results: Results, printed: set[Key] | None = None) -> Iterator[str]:
    """One table per sweep: the first claim of the page in each folder, by the settings that were varied.

    Where a number is `printed` elsewhere, its cell says so.
    """
    for sweep in content.sweeps:
        claim, rows = claims[next(iter(content.claims))], []
        for runs in (results.of(folder) for pattern in sweep.folders for folder in results.folders(pattern)):
            common_tier(runs)
            if found := selected([run.record for run in runs], claim.quantity, content.protocol):
                mean, settings = over_seeds(found), [found[0].facts.get(key, "") for key in sweep.settings]
                number = (runs[0].folder, *group_of(found[0]))
                values = ["above", "", ""] if printed is not None and number in printed else [ours(mean), *limits(mean)]
                rows.append((settings, [*map(setting, settings), *values]))
                if printed is not None:
                    printed.add(number)
        rows.sort(key=lambda row: [(isinstance(x, str), x) for x in row[0]])
        if rows:
            header = (*sweep.settings.values(), f"ours ± stderr (seeds × n), {claim.unit}", "ceiling", "oracle")
            yield f"## {sweep.title}"
            yield table(header, [cells for _, cells in rows], "l" * len(sweep.settings) + "rrr")


def everything(folder: str, label: str, results: Results, printed: set[Key] | None = None) -> str:
    """All measurements of one experiment, or those that are not `printed` yet, which they are then; what never differs
    between their protocols is said once."""
    runs = results.of(folder)
    if not runs:
        return ""
    groups = grouped(runs)
    items = frozenset.union(*(protocol for _, protocol in groups))
    common = {(key, value) for key, value in items if sum(key == other for other, _ in items) == 1}
    rows = []
    for (quantity, protocol), measurements in groups.items():
        if printed is not None and (folder, quantity, protocol) in printed:
            continue
        mean, own = over_seeds(measurements), sorted(protocol - common)
        rows.append((quantity.replace("_", " "), _protocol(own), ours(mean), mean.unit, *limits(mean)))
    if not rows:
        return ""
    cells = table(("quantity", "protocol", "mean ± stderr (seeds × n)", "unit", "ceiling", "oracle"), rows, "llrlrr")
    if printed is not None:
        printed |= {(folder, *group) for group in groups}
    return document(
        f"## {'All' if len(rows) == len(groups) else 'Other'} measurements: {label}",
        cells if printed is None else wide((18, 36, 20, 10, 8, 8), cells),
        f"Protocol and recipe, where they apply: {_protocol(sorted(common))}. Tier: {common_tier(runs)}.",
    )


def _protocol(items: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} = {setting(value)}" for key, value in items)
