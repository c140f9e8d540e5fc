"""From runs to verdicts: which measurements answer a claim, and the rows that every table of the report is made of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dpm.claims import Claim, Verdict, verdict
from dpm.errors import UserError
from dpm.records import Mean, Measurement, over_seeds
from dpm.report.markdown import limit, measured, signed, thousands
from dpm.report.pages import Page
from dpm.results import Results, Run, selected

MEANINGS = {
    "reproduced": "same protocol, and the gap is within the tolerance fixed beforehand plus two standard errors",
    "exceeded": "same protocol, and our number is better than the paper's by more than that",
    "differs": "same protocol, and our number is worse by more than that; the gap is given",
    "reduced": "smaller budget than the paper's: the number and its distance, without judgement",
    "incomparable": "another protocol or other data: no comparison, whatever the number",
    "pending": "not measured yet",
}


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
        return (paper(self.claim), ours(self.mean), *limits(self.mean), judgement(self.verdict))


def summary_rows(pages: Sequence[Page], claims: Mapping[str, Claim], results: Results) -> list[Row]:
    """One row per claim of a page: that of the experiment which answers it."""
    rows = ((page, row) for page in pages for row in page_rows(page, claims, results))
    return [row for page, row in rows if row.folder == answerer(page, row.claim, results)]


def page_rows(page: Page, claims: Mapping[str, Claim], results: Results) -> Iterator[Row]:
    """Every claim of the page with every experiment that measured it, and one that is to answer it where it is pending."""
    for claim, label in page.claims.items():
        for folder, experiment in page.experiments.items():
            runs = results.of(folder)
            tier, found = common_tier(runs), answering(claims[claim], runs)
            shown = found or selected([run.record for run in runs], claims[claim].quantity, page.protocol)
            answers = folder == answerer(page, claims[claim], results)
            word = verdict(claims[claim], found, tier) if answers else None
            if word or shown:
                yield Row(claims[claim], label, folder, experiment, word, over_seeds(shown) if shown else None)


def answerer(page: Page, claim: Claim, results: Results) -> str:
    """The first experiment of the page that answers the claim, or else the page's first."""
    return next((folder for folder in page.experiments if answering(claim, results.of(folder))), page.home)


def answering(claim: Claim, runs: Sequence[Run]) -> list[Measurement]:
    """The one measurement of each run that names the claim."""
    found = []
    for run in runs:
        own = [m for m in run.record.measurements if m.claim == claim.id]
        if len(own) > 1:
            raise UserError(f"{run.name}: {len(own)} measurements answer {claim.id}; only one can")
        found += own
    return found


def common_tier(runs: Sequence[Run]) -> str:
    tiers = sorted({run.record.tier for run in runs})
    if len(tiers) > 1:
        raise UserError(f"{runs[0].folder}: seeds of different tiers ({', '.join(tiers)}); evaluate them again at one tier")
    return tiers[0] if tiers else ""


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


def judgement(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not the paper's model"
    return f"**{verdict.word}**" + ("" if verdict.gap is None else f" ({signed(verdict.gap)})")


def terminal(rows: Sequence[Row], width: int = 120) -> str:
    """claim, paper, ours, verdict as plain text, no line longer than `width`: names of claims are cut first, a verdict last."""
    cells = [("claim", "paper", "ours ± stderr (seeds × n)", "verdict")]
    cells += [(row.label, row.cells[0], row.cells[1] or "-", row.cells[4].replace("*", "")) for row in rows]
    longest, *others = [max(map(len, column)) for column in zip(*cells, strict=True)]
    columns = [max(min(longest, width - sum(others) - 3 * len(others)), len("claim")), *others]
    lines = ("   ".join(f"{cut(cell, size):<{size}}" for cell, size in zip(line, columns, strict=True)) for line in cells)
    return "\n".join(cut(line.rstrip(), width) for line in lines)


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
