"""What the papers say, as data, and the verdict on it: a pure function of claim and measurements.

`conf/claims/<paper>.yaml` holds `groups`. A group is a mapping whose fields all of its `claims` share; a claim's own
fields stand in front of the group's, protocol and recipe entry by entry. In a tolerance, `relative` (a share of the value)
is added to `value`. So a claim is, with `source`, `tag` and `quantity` from its group,

    - {id: <paper>/<place>/<row>/K, value: 2.35, unit: bits, protocol: {T: 40}, recipe: {network: NormalizedRBF},
       tolerance: {value: 0.1, why: ...}}

`protocol` says what the number means (data, split, n, T, schedule, edges, clipping, ...), `recipe` what was trained how
(network, parameters, prediction, variance, objective, steps, batch_size). A fact with several possible values is a list of
them; what the paper does not state is left out. `released` in a recipe names weights that the authors published: they are
the recipe, whatever else a record says of their training.

The value of the quantity `setting` is a number of the recipe: it is matched by the configuration, not measured.
`reference: true` marks other people's models, quoted by the paper. `needs` says what must be had before the number can be
measured and cannot be shipped, `command` what then fills it. `repeats` is the id of the claim that says the same: it is
judged by that one's measurements and does not count. `withdrawn` says why the authors took the number back.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from dpm.errors import UserError
from dpm.facts import Scalar
from dpm.study.records import ERRORS, Mean, Measurement, over_seeds
from dpm.study.units import QUANTITIES, Direction, Quantity, number, stated, unit, with_error

TAGS = {
    "P8": "read in the full text of arXiv v8 (2015)",
    "ICML": "value of the ICML text (2015), read in secondary write-ups of it",
    "P": "read in the full text of arXiv v2 (2020)",
    "C": "read in the official reference code",
    "T": "read in the full text, in the version that the file names",
    "PZ": "read in the Parzen-window script of Goodfellow et al. 2014",
    "S": "read in another, named secondary source",
    "D": "derived by arithmetic from tagged numbers",
    "M": "from memory, unverified",
}
RELATIONS = ("=", "<=", ">=")
KINDS = ("result", "repeated", "withdrawn", "quoted", "setting", "derived")  # of a claim
Fact = Scalar | list[Scalar]  # a list holds alternatives
EXAMPLES = frozenset({"data", "split", "n"})  # a claim that states all of them is about the same examples for everybody
COVERAGE = 2.0  # standard errors granted to chance: about 95 % of faithful replications stay within


@dataclass(frozen=True)
class Tolerance:
    """How far a faithful replication may lie from the printed value, chance aside, fixed before measuring, and why."""

    value: float
    why: str


@dataclass(frozen=True)
class Claim:
    """One number of a paper: value +- stderr in `unit`, where it stands, and what makes another number comparable.

    `error` says what `stderr` is an error of, as in `dpm.study.records.Measurement`.
    """

    id: str
    source: str
    tag: str
    quantity: str
    unit: str
    value: float
    tolerance: Tolerance
    relation: str = "="
    stderr: float | None = None
    error: str = "examples"
    protocol: Mapping[str, Fact] = field(default_factory=dict)
    recipe: Mapping[str, Fact] = field(default_factory=dict)
    reference: bool = False
    needs: str = ""
    command: str = ""
    repeats: str = ""
    withdrawn: str = ""
    note: str = ""

    @property
    def kind(self) -> str:
        """What sort of number it is: a setting, derived, quoted, repeated, withdrawn, or a result of the paper."""
        said = {"setting": self.setting, "repeated": self.repeats, "withdrawn": self.withdrawn, "quoted": self.reference}
        return next((kind for kind, holds in said.items() if holds), "derived" if self.tag == "D" else "result")

    @property
    def same_examples(self) -> bool:
        """Whether everybody who meets the protocol scores the same examples, so that their choice is no error."""
        return self.protocol.keys() >= EXAMPLES

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

    `seeds` counts the measurements; `gap` is None where a distance has no meaning (not measured, incomparable); `reason` is
    what differs in protocol or recipe.
    """

    word: str
    value: float | None
    stderr: float | None
    n: int
    gap: float | None
    text: str
    seeds: int = 0
    reason: str = ""


def load_claims(folder: Path) -> dict[str, Claim]:
    """All claims of `folder/*.yaml` by id, in the order of the files; a UserError names the file and the claim."""
    claims: dict[str, Claim] = {}
    for path in sorted(folder.glob("*.yaml")):
        for claim in _read(path):
            if claim.id in claims:
                raise UserError(f"{path}: claim {claim.id}: defined twice; give one of them another id")
            claims[claim.id] = claim
        for claim in claims.values():
            if claim.repeats and claim.repeats not in claims:
                raise UserError(f"{path}: claim {claim.id}: repeats {claim.repeats}, which is no claim")
    if not claims:
        raise UserError(f"{folder}: no claims here; expected <paper>.yaml files")
    return claims


def verdict(claim: Claim, measurements: Sequence[Measurement]) -> Verdict:
    """Judge the measurements of one claim, one per seed, by what they state.

    pending        nothing is measured; `needs` where it cannot be, with what this study may ship
    incomparable   a key of the claim's protocol is missing or different in some measurement
    With protocol and recipe equal:
    reproduced     |gap| <= allowed, see `allowed`
    exceeded       otherwise, and better than the paper
    differs        otherwise
    With another or smaller recipe:
    surpassed      better than the paper by more than is allowed: a fortiori
    short of       otherwise

    Raises UserError if a measurement is of another quantity or unit than the claim: a verdict across units is an error.
    """
    if not measurements:
        filled = f", then `{claim.command}`" if claim.command else ""
        text = f"not measured: needs {claim.needs}{filled}" if claim.needs else "not measured yet"
        return Verdict("needs" if claim.needs else "pending", None, None, 0, None, text)
    for m in measurements:
        _check_same(claim, m)
    mean = over_seeds(measurements)
    ours = Quantity(mean.value, claim.amount.unit, mean.stderr)
    gap, text, about = ours.gap(claim.amount), _in_words(claim, mean), (ours.value, ours.stderr, mean.n)
    if other := _differences(claim.protocol, measurements):
        return Verdict("incomparable", *about, None, f"{text}; {other}", mean.seeds, other)
    limit = allowed(claim, mean)
    text = f"{text}, {number(abs(gap))} {'above' if gap >= 0 else 'below'} the paper's {claim.amount}; allowed: {number(limit)}"
    if other := _differences(_trained(claim, measurements), measurements):
        word = "surpassed" if _judgement(gap, limit, claim.better) == "exceeded" else "short of"
        return Verdict(word, *about, gap, f"{text}; {other}", mean.seeds, other)
    return Verdict(_judgement(gap, limit, claim.better), *about, gap, text, mean.seeds)


def allowed(claim: Claim, mean: Mean) -> float:
    """tolerance + 2 sqrt(theirs^2 + ours^2), where our own error counts for no more than the larger of the other two.

    Without this limit a careless measurement would be easier to call reproduced than a careful one. Where both score the
    same examples, the error of their choice is common to both and counts for neither.
    """
    shared, tolerance = claim.same_examples, claim.tolerance.value
    theirs = 0.0 if claim.stderr is None or (shared and claim.error == "examples") else claim.stderr
    ours = (mean.of_estimate if shared else mean.stderr) or 0.0
    return tolerance + COVERAGE * math.hypot(theirs, min(ours, max(tolerance, theirs)))


def _judgement(gap: float, allowed: float, better: Direction) -> str:
    if abs(gap) <= allowed or math.isclose(abs(gap), allowed):
        return "reproduced"
    return "exceeded" if gap * better.factor > 0 else "differs"


def _in_words(claim: Claim, mean: Mean) -> str:
    seeds = "one seed" if mean.spread is None else f"{mean.seeds} seeds, of the spread alone ± {mean.spread:.2g}"
    return f"{with_error(mean.value, mean.stderr)} {claim.unit} ({seeds})"


def _check_same(claim: Claim, m: Measurement) -> None:
    if m.claim not in (None, claim.id, claim.repeats):
        raise UserError(f"claim {claim.id}: this measurement belongs to {m.claim}")
    if m.quantity != claim.quantity or unit(m.quantity, m.unit) != claim.amount.unit:
        raise UserError(f"claim {claim.id}: {m.quantity} in {m.unit} cannot be compared with {claim.quantity} in {claim.unit}")
    if refusal := m.refusal():
        raise UserError(f"claim {claim.id}: measured with {refusal}; evaluate the experiment again")


def _trained(claim: Claim, measurements: Sequence[Measurement]) -> Mapping[str, Fact]:
    """The facts of the recipe that are left to compare: none for the weights that the authors published."""
    published = _alternatives(claim.recipe.get("released", []))
    if published and all(m.facts.get("released") in published for m in measurements):
        return {}
    return {key: value for key, value in claim.recipe.items() if key != "released"}


def _differences(wanted: Mapping[str, Fact], measurements: Sequence[Measurement]) -> str:
    """The facts that some measurement does not meet, each with what it says instead; nothing if all are met."""
    differing = []
    for key, value in wanted.items():
        alternatives = _alternatives(value)
        found = [m.facts.get(key) for m in measurements]
        if any(fact is None or fact not in alternatives for fact in found):
            said = ", ".join(sorted({"not stated" if fact is None else str(fact) for fact in found}))
            differing.append(f"{key} is {said} instead of {' or '.join(map(str, alternatives))}")
    return "; ".join(differing)


def _alternatives(fact: Fact) -> list[Scalar]:
    return fact if isinstance(fact, list) else [fact]


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
        raise UserError(f"{path}: {key!r} must be a list of mappings; see the head of dpm/study/claims.py")
    return children


def _claim(path: Path, shared: dict[str, Any], own: dict[str, Any]) -> Claim:
    try:
        facts = {key: _mapping(key, shared.get(key, {})) | _mapping(key, own.get(key, {})) for key in ("protocol", "recipe")}
        entry = _known(Claim, {**shared, **own, **facts})
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
    for label, facts in (("protocol", claim.protocol), ("recipe", claim.recipe)):
        for key, value in facts.items():
            if value in ("", []) or not all(isinstance(v, str | int | float) for v in _alternatives(value)):
                raise UserError(f"{label}.{key} is {value!r}, not a text, a number, true or false, or a list of such")
    if claim.error not in ERRORS:
        raise UserError(f"unknown error {claim.error!r}; known: {', '.join(ERRORS)}")
    if min(claim.tolerance.value, _finite("stderr", 0.0 if claim.stderr is None else claim.stderr)) < 0:
        raise UserError("stderr and tolerance cannot be negative")
    unit(claim.quantity, claim.unit)
