"""Your numbers beside the papers' and the shipped ones: what they say to the claims, and whether the two of ours agree."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dpm.report.markdown import MINUS, bullets, document, measured, table, thousands
from dpm.report.rows import aligned, answering, ours, paper
from dpm.study.agreement import Agreement
from dpm.study.claims import COVERAGE, Claim, Verdict, verdict
from dpm.study.records import Mean, over_seeds
from dpm.study.results import Entry, Results

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
        return f"{'yes' if self.agreement.agree else '**no**'} ({_joint(self.agreement)})"


def compared(
    shipped: Results, yours: Results, claims: Mapping[str, Claim], known: Sequence[Agreement], labels: Mapping[str, str]
) -> list[Comparison]:
    """Folder by folder: the claims that you answer, with the experiments as configured or at the paper's tier; or else the
    bound that was shipped too. labels: names of claims and of folders, where there are some better than their ids."""
    places = {run.folder: run.settings for run in yours.runs}
    theirs = {run.folder for run in shipped.runs}
    kept = [folder for folder, own in places.items() if folder in theirs or own in ({}, {"tier": "paper"})]
    return [row for folder in kept for row in _of(folder, yours.of(folder), claims, known, labels)]


def _of(
    folder: str,
    runs: Sequence[Entry],
    claims: Mapping[str, Claim],
    known: Sequence[Agreement],
    labels: Mapping[str, str],
) -> Iterator[Comparison]:
    own = [a for a in known if a.folder == folder]
    answers = [(c, found) for c in claims.values() if c.kind != "repeated" and (found := answering(c, runs))]
    for claim, found in answers:
        beside = next((a for a in own if a.claim == claim.id), None)
        label = f"{labels.get(claim.id, claim.id)} ({labels.get(folder, folder)})"
        yield Comparison(label, over_seeds(found), beside, claim, verdict(claim, found))
    first = next((a for a in own if a.quantity == runs[0].record.headline.quantity), None)
    if first and not answers:
        yield Comparison(f"{labels.get(folder, folder)}: {first.quantity.replace('_', ' ')}", first.yours, first)


def section(rows: Sequence[Comparison], known: Sequence[Agreement]) -> str:
    if not rows:
        return ""
    return document("## Yours and the shipped", table(("number", *HEADER), _cells(rows), "lrrrll"), agreed(known))


def agreed(known: Sequence[Agreement]) -> str:
    """How many of all the numbers agree that both measured, and which do not."""
    others = [a for a in known if not a.agree]
    said = (
        f"{a.folder}, {a.quantity.replace('_', ' ')}: {measured(a.yours.value, a.yours.stderr, a.yours.unit)} for "
        f"{measured(a.shipped.value, a.shipped.stderr)}, {_joint(a)} joint standard errors"
        for a in others
    )
    counted = (
        f"Of {thousands(len(known))} numbers that both measured by the same protocol, {thousands(len(known) - len(others))} "
        f"agree within {COVERAGE:g} joint standard errors."
    )
    return document(counted, bullets(said)) if known else ""


def terminal(rows: Sequence[Comparison], known: Sequence[Agreement], width: int = 120) -> str:
    """The same as plain text."""
    lines: list[Sequence[str]] = [("number", "paper", "shipped", "yours", "agree (joint σ)")]
    for row in rows:
        shipped = row.agreement.shipped if row.agreement else None
        values = (measured(mean.value, mean.stderr) if mean else "" for mean in (shipped, row.yours))
        lines.append((row.label, row.cells[0], *values, row.agree.replace("*", "")))
    return document(aligned(lines, width), agreed(known))


def _joint(agreement: Agreement) -> str:
    """The deviation with its sign, to a tenth of a joint standard error."""
    return f"{agreement.deviation:+.1f}".replace("-", MINUS)


def _cells(rows: Sequence[Comparison]) -> Iterator[tuple[str, ...]]:
    return ((row.label, *row.cells) for row in rows)
