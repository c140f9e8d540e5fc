"""What the papers say, as data, and the verdict on it: a pure function of claim and measurements.

`conf/claims/<paper>.yaml` holds `groups`. A group is a mapping whose fields all of its `claims` share; a claim's own
fields stand in front of the group's, its protocol entry by entry. In a tolerance, `relative` (a share of the value) is
added to `value`. So a claim is, with `source`, `tag` and `quantity` from its group,

    - {id: <paper>/<place>/<row>/K, value: 2.35, unit: bits, protocol: {T: 40}, tolerance: {value: 0.1, why: ...}}

The value of the quantity `setting` is a number of the recipe: it is matched by the configuration, not measured.
`reference: true` marks other people's models, quoted by the paper.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from dpm.errors import UserError
from dpm.records import Measurement, Scalar, over_seeds
from dpm.units import QUANTITIES, Direction, Quantity, number, stated, unit, with_error

TAGS = {
    "P8": "read in the full text of arXiv v8 (2015)",
    "ICML": "value of the ICML text (2015), read in secondary write-ups of it",
    "P": "read in the full text of arXiv v2 (2020)",
    "C": "read in the official reference code",
    "PZ": "read in the Parzen-window script of Goodfellow et al. 2014",
    "S": "read in another, named secondary source",
    "D": "derived by arithmetic from tagged numbers",
    "M": "from memory, unverified",
}
RELATIONS = ("=", "<=", ">=")
REDUCING = frozenset({"scale", "n"})  # protocol keys that are budgets: less of them is `reduced`, not `incomparable`
COVERAGE = 2.0  # standard errors granted to chance: about 95 % of faithful replications stay within


@dataclass(frozen=True)
class Tolerance:
    """How far a faithful replication may lie from the printed value, chance aside, fixed before measuring, and why."""

    value: float
    why: str


@dataclass(frozen=True)
class Claim:
    """One number of a paper: value +- stderr in `unit`, where it stands, and what makes another number comparable."""

    id: str
    source: str
    tag: str
    quantity: str
    unit: str
    value: float
    tolerance: Tolerance
    relation: str = "="
    stderr: float | None = None
    protocol: Mapping[str, Scalar] = field(default_factory=dict)
    reference: bool = False
    note: str = ""

    @property
    def amount(self) -> Quantity:
        """The number with its typed unit, as the first line of a derivation."""
        return stated(self.value, unit(self.quantity, self.unit), self.source, self.stderr)

    @property
    def better(self) -> Direction:
        return QUANTITIES[self.quantity].better

    @property
    def setting(self) -> bool:
        return self.quantity == "setting"


@dataclass(frozen=True)
class Verdict:
    """The word of the report for one claim, with our value +- stderr over n examples, and the gap ours - paper.

    `seeds` counts the measurements; `gap` is None where a distance has no meaning (pending, incomparable).
    """

    word: str
    value: float | None
    stderr: float | None
    n: int
    gap: float | None
    text: str
    seeds: int = 0


def load_claims(folder: Path) -> dict[str, Claim]:
    """All claims of `folder/*.yaml` by id, in the order of the files; a UserError names the file and the claim."""
    claims: dict[str, Claim] = {}
    for path in sorted(folder.glob("*.yaml")):
        for claim in _read(path):
            if claim.id in claims:
                raise UserError(f"{path}: claim {claim.id}: defined twice; give one of them another id")
            claims[claim.id] = claim
    if not claims:
        raise UserError(f"{folder}: no claims here; expected <paper>.yaml files")
    return claims


def verdict(claim: Claim, measurements: Sequence[Measurement], tier: str) -> Verdict:
    """Judge the measurements of one claim, one per seed, made at `tier` (which is compared with the claim's `scale`).

    pending        nothing is measured
    incomparable   a key of the claim's protocol is missing or different in some measurement
    reduced        only budgets differ (the tier, the number of examples): number and distance, no judgement
    reproduced     |gap| <= tolerance + 2 sqrt(stderr_paper^2 + stderr_ours^2), see `_allowed`
    exceeded       otherwise, and better than the paper
    differs        otherwise

    Raises UserError if a measurement is of another quantity or unit than the claim: a verdict across units is an error.
    """
    if not measurements:
        return Verdict("pending", None, None, 0, None, "not measured yet")
    ours, text = _over_seeds(claim, measurements)
    gap = ours.gap(claim.amount)
    n, seeds = min(m.n for m in measurements), len(measurements)
    differences = _differences(claim, measurements, tier)
    if any(key not in REDUCING for key in differences):
        return Verdict("incomparable", ours.value, ours.stderr, n, None, f"{text}; {_listed(differences)}", seeds)
    text = f"{text}, {number(abs(gap))} {'above' if gap >= 0 else 'below'} the paper's {claim.amount}"
    if differences:
        return Verdict("reduced", ours.value, ours.stderr, n, gap, f"{text}; {_listed(differences)}", seeds)
    allowed = _allowed(claim.tolerance.value, claim.stderr or 0.0, ours.stderr or 0.0)
    word = _judgement(gap, allowed, claim.better)
    return Verdict(word, ours.value, ours.stderr, n, gap, f"{text}; allowed: {number(allowed)}", seeds)


def _allowed(tolerance: float, theirs: float, ours: float) -> float:
    """tolerance + 2 sqrt(theirs^2 + ours^2), where our own error counts for no more than the larger of the other two.

    Without this limit a careless measurement would be easier to call reproduced than a careful one.
    """
    return tolerance + COVERAGE * math.hypot(theirs, min(ours, max(tolerance, theirs)))


def _judgement(gap: float, allowed: float, better: Direction) -> str:
    if abs(gap) <= allowed or math.isclose(abs(gap), allowed):
        return "reproduced"
    return "exceeded" if gap * better.factor > 0 else "differs"


def _over_seeds(claim: Claim, measurements: Sequence[Measurement]) -> tuple[Quantity, str]:
    """The mean of `dpm.records.over_seeds` with the claim's unit, and in words."""
    for m in measurements:
        _check_same(claim, m)
    mean = over_seeds(measurements)
    seeds = "one seed" if mean.spread is None else f"{mean.seeds} seeds, of the spread alone ± {mean.spread:.2g}"
    ours = Quantity(mean.value, claim.amount.unit, mean.stderr)
    return ours, f"{with_error(mean.value, mean.stderr)} {claim.unit} ({seeds})"


def _check_same(claim: Claim, m: Measurement) -> None:
    if m.claim not in (None, claim.id):
        raise UserError(f"claim {claim.id}: this measurement belongs to {m.claim}")
    if m.quantity != claim.quantity or unit(m.quantity, m.unit) != claim.amount.unit:
        raise UserError(f"claim {claim.id}: {m.quantity} in {m.unit} cannot be compared with {claim.quantity} in {claim.unit}")
    if not all(map(math.isfinite, (m.value, m.stderr or 0.0))):
        raise UserError(f"claim {claim.id}: measured {m.value} ± {m.stderr}; evaluate the experiment again")


def _differences(claim: Claim, measurements: Sequence[Measurement], tier: str) -> dict[str, str]:
    """The keys of the claim's protocol that some measurement does not meet, each with what it says instead."""
    facts = [{**m.protocol, "n": m.n, "scale": tier} for m in measurements]
    return {
        key: f"{key} is {', '.join(sorted({str(fact.get(key, 'not stated')) for fact in facts}))} instead of {wanted}"
        for key, wanted in claim.protocol.items()
        if any(key not in fact or fact[key] != wanted for fact in facts)
    }


def _listed(differences: Mapping[str, str]) -> str:
    return "; ".join(differences.values())


def _read(path: Path) -> Iterator[Claim]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    for group in _mappings(path, "groups", content):
        shared = {key: value for key, value in group.items() if key != "claims"}
        for own in _mappings(path, "claims", group):
            yield _claim(path, shared, own)


def _mappings(path: Path, key: str, parent: Any) -> list[dict[str, Any]]:
    """parent[key], which must be a list of mappings."""
    children = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
        raise UserError(f"{path}: {key!r} must be a list of mappings; see the head of dpm/claims.py")
    return children


def _claim(path: Path, shared: dict[str, Any], own: dict[str, Any]) -> Claim:
    try:
        protocol = _mapping("protocol", shared.get("protocol", {})) | _mapping("protocol", own.get("protocol", {}))
        entry = _known(Claim, {**shared, **own, "protocol": protocol})
        claim = Claim(**{**entry, "tolerance": _tolerance(entry["tolerance"], entry["value"])})
        _validate(claim)
        if not claim.id.startswith(f"{path.stem}/"):
            raise UserError(f"its id must start with {path.stem}/")
    except UserError as error:
        raise UserError(f"{path}: claim {own.get('id', 'without id')}: {error}") from error
    return claim


def _tolerance(entry: Any, value: Any) -> Tolerance:
    absolute = dict(_mapping("tolerance", entry))
    relative = _finite("relative tolerance", absolute.pop("relative", 0.0))
    fixed = Tolerance(**_known(Tolerance, absolute))
    return Tolerance(_finite("tolerance", fixed.value) + relative * abs(_finite("value", value)), fixed.why)


def _mapping(label: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UserError(f"{label} must be a mapping, not {entry!r}")
    return entry


def _known(of: type[Claim] | type[Tolerance], entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass, none missing and none unknown."""
    needed = {f.name for f in fields(of) if f.default is MISSING and f.default_factory is MISSING}
    for problem, names in (("missing", needed - set(entry)), ("unknown", set(entry) - {f.name for f in fields(of)})):
        if names:
            raise UserError(f"{problem} in {of.__name__.lower()}: {', '.join(sorted(map(str, names)))}")
    return entry


def _finite(label: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{label} is {value!r}, not a finite number (YAML reads 1e-5 as text: write 1.0e-5)")
    return value


def _validate(claim: Claim) -> None:
    """Every text says something, every word is a known one, every error is a finite number of at least zero."""
    texts = {name: getattr(claim, name) for name in ("id", "source", "tag", "quantity", "unit", "relation")}
    for label, text in {**texts, "tolerance.why": claim.tolerance.why}.items():
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{label} is empty or no text: {text!r}")
    for label, word, known in (("tag", claim.tag, TAGS), ("relation", claim.relation, RELATIONS)):
        if word not in known:
            raise UserError(f"unknown {label} {word!r}; known: {', '.join(known)}")
    for key, value in claim.protocol.items():
        if not isinstance(value, str | int | float):
            raise UserError(f"protocol.{key} is {value!r}, not a text, a number or true or false")
    if min(claim.tolerance.value, _finite("stderr", 0.0 if claim.stderr is None else claim.stderr)) < 0:
        raise UserError("stderr and tolerance cannot be negative")
    unit(claim.quantity, claim.unit)
