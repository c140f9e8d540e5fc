"""From runs to verdicts: which measurements answer a claim, and the rows that every table of the report is made of."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dpm.errors import UserError
from dpm.report.markdown import limit, measured, signed, thousands
from dpm.report.pages import Page
from dpm.study.claims import Claim, Verdict, verdict
from dpm.study.records import Mean, Measurement, over_seeds
from dpm.study.results import Entry, Results, at_paper_tier, common_tier, selected

MEANINGS = {
    "reproduced": "same protocol and recipe, and the gap is within what is allowed: the tolerance fixed beforehand and two "
    "standard errors",
    "exceeded": "same protocol and recipe, and our number is better than the paper's by more than is allowed",
    "differs": "same protocol and recipe, and our number is worse by more than is allowed",
    "surpassed": "same protocol, another or smaller recipe, and better than the paper by more than is allowed: a fortiori",
    "short of": "same protocol, another or smaller recipe, and not better than that: the page says what differs",
    "incomparable": "another protocol or other data: no comparison, whatever the number",
    "pending": "ours to measure, and not measured yet",
    "needs": "cannot be measured with what this study may ship; listed below with the command that fills it",
}


JUDGED = ("result", "repeated", "quoted", "derived")  # kinds of claims that a row may set against our records


@dataclass(frozen=True)
class Row:
    """One claim and what one experiment says to it; no verdict where the experiment does not answer the claim."""

    claim: Claim
    label: str
    folder: str
    experiment: str
    verdict: Verdict | None
    mean: Mean | None

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """paper, ours ± stderr (seeds x n), ceiling, oracle, verdict."""
        return (paper(self.claim), ours(self.mean), *limits(self.mean), self.judgement)

    @property
    def judgement(self) -> str:
        if self.verdict is None:
            return "not the paper's model"
        if self.verdict.word == "needs":
            return f"needs {self.claim.needs.split(',')[0]}"
        return f"**{self.verdict.word}**" + ("" if self.verdict.gap is None else f" ({signed(self.verdict.gap)})")


def places(page: Page, results: Results) -> dict[str, str]:
    """Label by folder: the experiments at the paper's tier, where they were run, and then all of them as configured."""
    paper = {at_paper_tier(folder): f"{label}, paper tier" for folder, label in page.experiments.items()}
    return {folder: label for folder, label in paper.items() if results.of(folder)} | dict(page.experiments)


def summary_rows(pages: Sequence[Page], claims: Mapping[str, Claim], results: Results) -> list[Row]:
    """One row per claim of a page: that of the experiment which answers it."""
    rows = ((page, row) for page in pages for row in page_rows(page, claims, results))
    return [row for page, row in rows if row.folder == answerer(page, row.claim, results)]


def page_rows(page: Page, claims: Mapping[str, Claim], results: Results) -> Iterator[Row]:
    """Every claim of the page with every experiment that measured it, and one that is to answer it where it is pending.

    A number without error, as one in closed form, is no further result where an earlier experiment of the page has it.
    """
    for claim, label in page.claims.items():
        exact = set[float]()
        for folder, experiment in places(page, results).items():
            runs = results.of(folder)
            common_tier(runs)
            found = answering(claims[claim], runs)
            shown = found or selected([run.record for run in runs], claims[claim].quantity, page.protocol)
            answers = folder == answerer(page, claims[claim], results) or bool(found)
            word = verdict(claims[claim], found) if answers else None
            mean = over_seeds(shown) if shown else None
            if mean and mean.stderr == 0:
                if mean.value in exact:
                    continue
                exact.add(mean.value)
            if word or shown:
                yield Row(claims[claim], label, folder, experiment, word, mean)


def answerer(page: Page, claim: Claim, results: Results) -> str:
    """The first experiment of the page that answers the claim, those at the paper's tier before others, or the page's first."""
    return next((folder for folder in places(page, results) if answering(claim, results.of(folder))), page.home)


def answering(claim: Claim, runs: Sequence[Entry]) -> list[Measurement]:
    """The one measurement of each run that names the claim, or the one that it repeats."""
    found = []
    for run in runs:
        own = [m for m in run.record.measurements if m.claim in (claim.id, claim.repeats or claim.id)]
        if len(own) > 1:
            raise UserError(f"{run.name}: {len(own)} measurements answer {claim.id}; only one can")
        found += own
    return found


def unmeasured(claims: Mapping[str, Claim], rows: Sequence[Row]) -> dict[str, list[Claim]]:
    """The results of the papers without a number of ours, by what they need; "" for those that are pending."""
    measured = {row.claim.id for row in rows if row.mean and row.verdict}
    groups: dict[str, list[Claim]] = {}
    for claim in claims.values():
        if claim.kind == "result" and claim.id not in measured:
            groups.setdefault(claim.needs, []).append(claim)
    return groups


def counted(claims: Mapping[str, Claim], rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """By word and by kind of claim: every row with a verdict, and the results of the papers that have no row."""
    words = {row.claim.id: row.verdict.word for row in rows if row.verdict}
    words |= {c.id: verdict(c, []).word for group in unmeasured(claims, rows).values() for c in group}
    found = Counter((word, claims[name].kind) for name, word in words.items())
    return {word: {kind: found[word, kind] for kind in JUDGED} for word in MEANINGS}


def check_claims(claims: Mapping[str, Claim], results: Results) -> None:
    for run in results.runs:
        for m in run.record.measurements:
            if m.claim is not None and m.claim not in claims:
                raise UserError(f"{run.name}: answers {m.claim}, which is not in the claims")


def paper(claim: Claim) -> str:
    relation = {"=": "", "<=": "≤ ", ">=": "≥ "}[claim.relation]
    return relation + measured(claim.value, claim.stderr, claim.unit)


def ours(mean: Mean | None) -> str:
    if mean is None:
        return ""
    return f"{measured(mean.value, mean.stderr)} ({mean.seeds} × {thousands(mean.n)})"


def limits(mean: Mean | None) -> tuple[str, str]:
    """Ceiling and oracle."""
    return ("", "") if mean is None else (limit(mean.ceiling, mean.stderr), limit(mean.oracle, mean.stderr))


def terminal(rows: Sequence[Row], width: int = 120) -> str:
    """claim, paper, ours, verdict as plain text."""
    cells = [(row.label, row.cells[0], row.cells[1] or "-", row.cells[4].replace("*", "")) for row in rows]
    return aligned([("claim", "paper", "ours ± stderr (seeds × n)", "verdict"), *cells], width)


def aligned(cells: Sequence[Sequence[str]], width: int) -> str:
    """Columns of plain text, no line longer than `width`: what stands in the first column is cut first, the last one last."""
    longest, *others = [max(map(len, column)) for column in zip(*cells, strict=True)]
    columns = [max(min(longest, width - sum(others) - 3 * len(others)), len(cells[0][0])), *others]
    lines = ("   ".join(f"{cut(cell, size):<{size}}" for cell, size in zip(line, columns, strict=True)) for line in cells)
    return "\n".join(cut(line.rstrip(), width) for line in lines)


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
