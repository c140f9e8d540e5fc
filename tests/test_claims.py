"""The registry loads, a broken file is one clear line, and each word of the verdict is reached where it should be."""

import math
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from dpm.errors import UserError
from dpm.study.claims import TAGS, Claim, Tolerance, load_claims, verdict
from dpm.study.records import Measurement

FOLDER = Path(__file__).parents[1] / "conf" / "claims"
CLAIMS = load_claims(FOLDER)


# --- the registry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "value", "unit"),
    [
        ("sohl_dickstein_2015/table1/swiss_roll/K", 2.35, "bits"),
        ("sohl_dickstein_2015/table1/swiss_roll/K_minus_null", 6.45, "bits"),
        ("sohl_dickstein_2015/table1/binary_heartbeat/K", -2.414, "bits/sequence"),
        ("sohl_dickstein_2015/table1/cifar10/K", 5.4, "bits/pixel"),
        ("sohl_dickstein_2015/table1_icml/cifar10/K_minus_null", 18.037, "bits/pixel"),
        ("sohl_dickstein_2015/table2/mnist/diffusion", 317, "bits"),
        ("ho_2020/table1/simple/nll", 3.75, "bits/dim"),
        ("ho_2020/table1/simple/fid", 3.17, "1"),
        ("ho_2020/table3/simple_large/bedroom", 4.90, "1"),
        ("ho_2020/table4/900/rmse", 12.02277, "grey levels"),
        ("ho_2020/text/prior_kl", 1e-5, "bits/dim"),
        ("ho_2020/text/cifar10/parameters", 35.7e6, "parameters"),
    ],
)
def test_the_papers_numbers_are_registered(id: str, value: float, unit: str) -> None:
    assert (CLAIMS[id].value, CLAIMS[id].unit) == (value, unit)


@pytest.mark.parametrize(
    ("prefix", "count"),
    [
        ("sohl_dickstein_2015/table1/", 10),
        ("sohl_dickstein_2015/table1_icml/", 10),
        ("sohl_dickstein_2015/table2/", 8),
        ("sohl_dickstein_2015/table2_icml/", 5),
        ("ho_2020/table1/", 8 + 11 + 12 + 4),
        ("ho_2020/table2/", 8),
        ("ho_2020/table3/", 12),
        ("ho_2020/table4/", 20),
    ],
)
def test_every_cell_of_every_table_is_there(prefix: str, count: int) -> None:
    assert sum(id.startswith(prefix) for id in CLAIMS) == count


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_is_complete(claim: Claim) -> None:
    assert claim.amount.value == claim.value
    assert claim.tag in TAGS
    assert claim.tolerance.why
    assert claim.tolerance.value >= 0
    assert claim.amount.steps[0].text == claim.source


def test_a_relative_tolerance_becomes_a_width() -> None:
    assert CLAIMS["ho_2020/table1/simple/fid"].tolerance.value == pytest.approx(0.03 * 3.17)
    assert CLAIMS["ho_2020/table4/1000/rate"].tolerance.value == pytest.approx(0.0005 + 0.02 * 1.77581)


def test_own_protocol_entries_stand_in_front_of_the_groups() -> None:
    assert CLAIMS["ho_2020/table1/simple/nll"].protocol["split"] == "test"
    assert CLAIMS["ho_2020/table1/simple/nll_train"].protocol["split"] == "train"
    assert CLAIMS["sohl_dickstein_2015/table1/swiss_roll/K"].protocol == {
        "data": "SwissRoll",
        "split": ["held-out", "test"],
        "edges": "entropy",
        "T": 40,
    }
    assert CLAIMS["ho_2020/table4/100/rmse"].recipe == CLAIMS["ho_2020/table4/1000/rate"].recipe


GROUP = """
groups:
  - source: Table 1
    tag: P
    quantity: fid
    unit: "1"
    tolerance: {value: 0.1, why: because}
    claims:
"""


def load(folder: Path, claims: str) -> dict[str, Claim]:
    (folder / "paper.yaml").write_text(GROUP + textwrap.indent(claims, "      ") + "\n")
    return load_claims(folder)


def test_a_small_file_loads(tmp_path: Path) -> None:
    claim = load(tmp_path, "- {id: paper/fid, value: 3.17}")["paper/fid"]
    assert (claim.value, claim.tolerance, claim.relation) == (3.17, Tolerance(0.1, "because"), "=")
    assert not claim.reference


BROKEN = {
    "text for a number": ("- {id: paper/a, value: 1e-5}", "value is '1e-5', not a finite number"),
    "nan": ("- {id: paper/a, value: .nan}", "not a finite number"),
    "true": ("- {id: paper/a, value: true}", "not a finite number"),
    "infinite error": ("- {id: paper/a, value: 1, stderr: .inf}", "stderr is inf"),
    "negative error": ("- {id: paper/a, value: 1, stderr: -1}", "cannot be negative"),
    "negative tolerance": ("- {id: paper/a, value: 1, tolerance: {value: -1, why: so}}", "cannot be negative"),
    "no value": ("- {id: paper/a}", "missing in claim: value"),
    "typo": ("- {id: paper/a, value: 1, protcol: {}}", "unknown in claim: protcol"),
    "no reason": ("- {id: paper/a, value: 1, tolerance: {value: 1}}", "missing in tolerance: why"),
    "empty reason": ("- {id: paper/a, value: 1, tolerance: {value: 1, why: ' '}}", "tolerance.why is empty"),
    "bare tolerance": ("- {id: paper/a, value: 1, tolerance: 0.1}", "tolerance must be a mapping"),
    "empty source": ("- {id: paper/a, value: 1, source: ''}", "source is empty"),
    "unit": ("- {id: paper/a, value: 1, unit: bit}", "unknown unit 'bit'"),
    "unit of another kind": ("- {id: paper/a, value: 1, unit: bits}", "fid cannot be in 'bits'"),
    "quantity": ("- {id: paper/a, value: 1, quantity: FID}", "unknown quantity 'FID'"),
    "tag": ("- {id: paper/a, value: 1, tag: Q}", "unknown tag 'Q'"),
    "relation": ("- {id: paper/a, value: 1, relation: '<'}", "unknown relation '<'"),
    "protocol": ("- {id: paper/a, value: 1, protocol: [T]}", "protocol must be a mapping"),
    "protocol value": ("- {id: paper/a, value: 1, protocol: {T: [[40]]}}", "protocol.T is"),
    "recipe value": ("- {id: paper/a, value: 1, recipe: {network: ''}}", "recipe.network is"),
    "no alternative": ("- {id: paper/a, value: 1, recipe: {network: []}}", "recipe.network is"),
    "error of what": ("- {id: paper/a, value: 1, error: both}", "unknown error 'both'"),
    "repeats nothing": ("- {id: paper/a, value: 1, repeats: paper/b}", "repeats paper/b, which is no claim"),
    "twice": ("- {id: paper/a, value: 1}\n- {id: paper/a, value: 2}", "defined twice"),
    "other paper": ("- {id: elsewhere/a, value: 1}", "must start with paper/"),
}


@pytest.mark.parametrize(("claims", "complaint"), BROKEN.values(), ids=BROKEN)
def test_a_broken_claim_is_one_line_with_file_and_id(tmp_path: Path, claims: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, claims)
    message = str(caught.value)
    assert complaint in message
    assert str(tmp_path / "paper.yaml") in message
    assert "/a" in message.removeprefix(str(tmp_path / "paper.yaml"))
    assert "\n" not in message


@pytest.mark.parametrize("content", ["groups: [", "groups: 3", "- 1", "", "groups: [{claims: [3]}]", "groups: [{}]"])
def test_a_broken_file_is_one_line_with_its_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "paper.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        load_claims(tmp_path)
    assert "paper.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_claims_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no claims here"):
        load_claims(tmp_path)


# --- the verdict ------------------------------------------------------------------------------------------------------

K = Claim(
    id="paper/K",
    source="Table 1",
    tag="P8",
    quantity="log_likelihood_bound",
    unit="bits",
    value=2.35,
    tolerance=Tolerance(0.1, "because"),
    protocol={"T": 40, "edges": "entropy"},
)
FID = replace(K, id="paper/fid", quantity="fid", unit="1", value=3.17)
RATE = replace(K, id="paper/rate", quantity="rate", unit="bits/dim", value=1.78)


def measured(claim: Claim, value: float, stderr: float | None = None, n: int = 10000, **protocol: object) -> Measurement:
    return Measurement(claim.quantity, value, stderr, n, claim.unit, {**claim.protocol, **protocol}, claim.id)  # type: ignore[dict-item]


def word(claim: Claim, *measurements: Measurement) -> str:
    return verdict(claim, measurements).word


def test_nothing_measured_is_pending() -> None:
    v = verdict(K, [])
    assert (v.word, v.value, v.stderr, v.n, v.gap, v.seeds) == ("pending", None, None, 0, None, 0)


@pytest.mark.parametrize(
    ("claim", "value", "expected"),
    [
        (K, 2.35, "reproduced"),
        (K, 2.45, "reproduced"),  # the tolerance itself is within, whatever 2.45 - 2.35 is in binary
        (K, 2.25, "reproduced"),
        (K, 2.4501, "exceeded"),
        (K, 2.2499, "differs"),
        (FID, 3.0699, "exceeded"),  # less is better
        (FID, 3.2701, "differs"),
        (RATE, 1.6, "differs"),  # neither is better
        (RATE, 1.9, "differs"),
    ],
)
def test_the_edge_of_the_tolerance(claim: Claim, value: float, expected: str) -> None:
    assert word(claim, measured(claim, value)) == expected


def test_the_gap_is_ours_minus_the_papers() -> None:
    v = verdict(K, [measured(K, 2.0)])
    assert v.gap == pytest.approx(-0.35)
    assert "0.35 below the paper's 2.35 bits" in v.text


def test_errors_widen_the_tolerance_by_two_of_them() -> None:
    paper = replace(K, stderr=0.03)
    edge = 2.35 + 0.1 + 2 * math.hypot(0.03, 0.04)
    assert word(paper, measured(paper, edge - 1e-6, 0.04)) == "reproduced"
    assert word(paper, measured(paper, edge + 1e-6, 0.04)) == "exceeded"


def test_a_careless_measurement_is_not_easier_to_reproduce() -> None:
    assert word(K, measured(K, 2.35 + 0.1 + 2 * 0.1 - 1e-6, 50.0)) == "reproduced"
    assert word(K, measured(K, 2.35 + 0.1 + 2 * 0.1 + 1e-6, 50.0)) == "exceeded"
    assert word(K, measured(K, -20.0, 50.0)) == "differs"


def test_several_seeds_give_mean_and_combined_error() -> None:
    v = verdict(K, [measured(K, x, 0.03, n) for x, n in ((2.30, 900), (2.34, 1000), (2.38, 1000))])
    assert v.value == pytest.approx(2.34)
    spread = 0.04  # standard deviation of the three values, ddof 1
    assert v.stderr == pytest.approx(math.sqrt(spread**2 / 3 + 0.03**2))
    assert (v.seeds, v.n, v.word) == (3, 900, "reproduced")
    assert "3 seeds" in v.text


def test_the_error_within_a_seed_does_not_average_out() -> None:
    """All seeds are scored on the same held-out points: a hundred seeds cannot know more than the points do."""
    many = verdict(K, [measured(K, 2.35, 0.03)] * 100)
    assert many.stderr == pytest.approx(0.03)


def test_one_seed_has_no_spread() -> None:
    assert verdict(K, [measured(K, 2.35, 0.03)]).stderr == pytest.approx(0.03)
    assert verdict(K, [measured(K, 2.35)]).stderr is None


def test_another_protocol_is_incomparable_whatever_the_number() -> None:
    v = verdict(K, [measured(K, 2.35, 0.01, edges="decoder", T=1000)])
    assert (v.word, v.value, v.gap) == ("incomparable", 2.35, None)
    assert "edges is decoder instead of entropy" in v.text
    assert "T is 1000 instead of 40" in v.text


def test_a_protocol_that_does_not_say_is_incomparable() -> None:
    silent = replace(measured(K, 2.35), protocol={"T": 40})
    v = verdict(K, [silent])
    assert v.word == "incomparable"
    assert "edges is not stated instead of entropy" in v.text


def test_one_deviating_seed_is_enough() -> None:
    assert word(K, measured(K, 2.35), measured(K, 2.35, T=50)) == "incomparable"


def test_what_the_paper_does_not_state_is_free() -> None:
    assert word(K, measured(K, 2.35, points=123, terms="all")) == "reproduced"


@pytest.mark.parametrize(
    "wrong",
    [
        replace(measured(K, 2.35), unit="bits/pixel"),
        replace(measured(K, 2.35), unit="nats"),
        replace(measured(K, 2.35), quantity="nll_bound"),
        replace(measured(K, 2.35), claim="paper/other"),
        measured(K, math.nan),
        measured(K, 2.35, math.inf),
    ],
    ids=["per", "measure", "sign", "claim", "nan", "infinite error"],
)
def test_a_verdict_across_units_is_an_error(wrong: Measurement) -> None:
    with pytest.raises(UserError, match="paper/K") as caught:
        verdict(K, [measured(K, 2.35), wrong])
    assert "\n" not in str(caught.value)


def test_the_quotation_of_2015_in_2020_cannot_be_judged_by_a_K() -> None:
    """bits/pixel of log likelihood in a column of bits/dim: the ledger refuses it."""
    quoted = CLAIMS["ho_2020/table1/diffusion_original/nll"]
    ours = Measurement("log_likelihood_bound", 5.4, 0.2, 10000, "bits/pixel", quoted.protocol)
    with pytest.raises(UserError, match="cannot be compared"):
        verdict(quoted, [ours])
