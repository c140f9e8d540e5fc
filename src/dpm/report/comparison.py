"""Your numbers beside the papers' and the shipped ones: what they say to the claims, and whether the two of ours agree."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dpm.report.markdown import bullets, code, document, measured, signed, table, thousands
from dpm.report.rows import aligned, answering, ours, paper
from dpm.study.agreement import Agreement, agreements
from dpm.study.claims import COVERAGE, Claim, Verdict, verdict
from dpm.study.records import Mean, over_seeds
from dpm.study.results import Results

HEADER = ("paper", "shipped (seeds × n)", "yours (seeds × n)", "agree (joint standard errors)", "verdict on yours")


@dataclass(frozen=True)
class Comparison:
    """One number of yours: beside the claim that it answers, and beside the shipped one, as far as there are such."""

    label: str
    yours: Mean
    agreement: Agreement | None
    claim: Claim | None = None
    verdict: Verdict | None = None

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """paper, shipped, yours, whether the last two agree, verdict on yours."""
        printed = paper(self.claim) if self.claim else ""
        shipped = ours(self.agreement.shipped) if self.agreement else ""
        return printed, shipped, ours(self.yours), self.agree, f"**{self.verdict.word}**" if self.verdict else ""

    @property
    def agree(self) -> str:
        if self.agreement is None:
            return ""
        return f"{'yes' if self.agreement.agree else '**no**'} ({signed(self.agreement.deviation)})"


def compared(shipped: Results, yours: Results, claims: Mapping[str, Claim]) -> list[Comparison]:
    """Folder by folder your answers to claims; where there are none, the first number that was shipped too."""
    known = agreements(shipped, yours)
    return [row for folder in dict.fromkeys(run.folder for run in yours.runs) for row in _of(folder, yours, claims, known)]


def _of(folder: str, yours: Results, claims: Mapping[str, Claim], known: Sequence[Agreement]) -> Iterator[Comparison]:
    runs, own = yours.of(folder), [a for a in known if a.folder == folder]
    answers = {claim: answering(claim, runs) for claim in claims.values() if claim.kind != "repeated"}
    for claim, found in answers.items():
        if found:
            beside = next((a for a in own if a.claim == claim.id), None)
            yield Comparison(claim.id, over_seeds(found), beside, claim, verdict(claim, found))
    if own and not any(answers.values()):
        yield Comparison(f"{folder}: {own[0].quantity.replace('_', ' ')}", own[0].yours, own[0])


def section(rows: Sequence[Comparison], known: Sequence[Agreement]) -> str:
    if not rows:
        return ""
    return document("## Yours and the shipped", table(("number", *HEADER), _cells(rows), "lrrrll"), agreed(known))


def agreed(known: Sequence[Agreement]) -> str:
    """How many of all the numbers agree that both measured, and which do not."""
    others = [a for a in known if not a.agree]
    said = (
        f"{a.folder}, {a.quantity.replace('_', ' ')}: {measured(a.yours.value, a.yours.stderr, a.yours.unit)} for "
        f"{measured(a.shipped.value, a.shipped.stderr)}, {signed(a.deviation)} joint standard errors"
        for a in others
    )
    counted = (
        f"Of {thousands(len(known))} numbers that both measured by the same protocol, {thousands(len(known) - len(others))} "
        f"agree within {COVERAGE:g} joint standard errors."
    )
    return document(counted, bullets(said)) if known else ""


def terminal(rows: Sequence[Comparison], known: Sequence[Agreement], width: int = 120) -> str:
    """The same as plain text."""
    lines = [(row.label, *(cell.replace("*", "") for cell in row.cells[:4])) for row in rows]
    return document(aligned([("number", "paper", "shipped", "yours", "agree (joint σ)"), *lines], width), agreed(known))


def _cells(rows: Sequence[Comparison]) -> Iterator[tuple[str, ...]]:
    return ((code(row.label), *row.cells) for row in rows)
