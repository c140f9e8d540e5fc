"""Every identity holds for the registered claims, fails for wrong ones, and is right by an independent computation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from dpm.errors import UserError
from dpm.study import audit
from dpm.study.audit import EXCEEDS, IS_NOT, Identity, bits_per_dim_audit, identities
from dpm.study.claims import load_claims
from dpm.study.units import DIM, GREY_LEVELS, NEGATIVE, PIXEL, Layout, Quantity, on_scale, per, stated, unit, with_sign

CLAIMS = load_claims(Path(__file__).parents[1] / "conf" / "claims")
IDENTITIES = identities(CLAIMS)


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: identity.name)
def test_every_identity_holds(identity: Identity) -> None:
    assert identity.holds, identity.text


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: identity.name)
def test_every_identity_would_notice(identity: Identity) -> None:
    """Move the printed number to where the relation must break: each row can fail."""
    push = 3 * identity.tolerance + 1e-9
    computed = identity.computed.value
    broken = {IS_NOT: computed, EXCEEDS: computed - push}.get(identity.relation, computed + push)
    wrong = replace(identity, expected=replace(identity.expected, value=broken))
    assert not wrong.holds
    assert wrong.word == "fails"
    assert "does not hold" in wrong.text


def test_names_are_unique() -> None:
    assert len({identity.name for identity in IDENTITIES}) == len(IDENTITIES)


def test_refuted_readings_say_so() -> None:
    refuted = [identity for identity in IDENTITIES if identity.word == "refuted"]
    assert len(refuted) == 6
    assert all("refuted" in identity.conclusion for identity in refuted)
    (rate,) = (identity for identity in refuted if "Table App.1" in identity.conclusion)
    assert rate.computed.value == -20


def test_an_identity_across_units_is_an_error() -> None:
    wrong = replace(IDENTITIES[0], computed=Quantity(-4.1, unit("log_likelihood", "bits/dim")))
    with pytest.raises(UserError, match="cannot compare"):
        _ = wrong.holds


def test_a_missing_claim_is_one_line() -> None:
    fewer = {id: claim for id, claim in CLAIMS.items() if id != "ho_2020/text/T"}
    with pytest.raises(UserError, match="ho_2020/text/T"):
        identities(fewer)


@pytest.mark.parametrize(
    ("id", "value"),
    [
        ("sohl_dickstein_2015/table1/swiss_roll/K", 2.45),
        ("sohl_dickstein_2015/table1/cifar10/K", 5.4 * 3),  # a sum over colours read as one dimension
        ("sohl_dickstein_2015/text/binary_heartbeat/base_rate", 0.5),
        ("sohl_dickstein_2015/code/step1_beta", 0.0),
        ("ho_2020/text/simple/rate", 1.68),
        ("ho_2020/text/beta_T", 0.01),
    ],
)
def test_a_wrong_claim_breaks_the_audit(id: str, value: float) -> None:
    wrong = {**CLAIMS, id: replace(CLAIMS[id], value=value)}
    assert not all(identity.holds for identity in identities(wrong))


# --- the formulas, each against an independent computation ------------------------------------------------------------


def test_null_model_is_the_mean_log_density_of_a_unit_gaussian() -> None:
    x = np.random.default_rng(0).standard_normal(200_000)
    monte_carlo = norm.logpdf(x).mean() / math.log(2)
    assert audit.null_log_likelihood(DIM, Layout(1, 1)).value == pytest.approx(monte_carlo, abs=0.01)
    assert audit.null_log_likelihood(PIXEL, Layout(1, 3)).value == pytest.approx(-6.1413, abs=1e-4)


def test_entropy_of_the_first_step_by_enumeration() -> None:
    T, rate = 50, 0.2
    joint = {(x, on): 0.0 for x in (0, 1) for on in (0, 1)}
    for x, p in ((0, 1 - rate), (1, rate)):
        switched_on = x * (1 - 1 / T) + rate / T
        joint[x, 1], joint[x, 0] = p * switched_on, p * (1 - switched_on)
    conditional = -sum(p * math.log2(p / (rate if x else 1 - rate)) for (x, _), p in joint.items())
    assert audit.first_step_entropy(20, T, rate) == pytest.approx(20 * conditional)


def test_thin_curve_ceiling_against_the_exact_density() -> None:
    """-h(X_1) by Monte Carlo, with the density of the blurred roll summed over phi."""
    variance, generator = 1e-3, np.random.default_rng(1)

    def roll(phi: np.ndarray) -> np.ndarray:
        mean = np.array([audit.roll_mean(lambda p: p * math.cos(p)), audit.roll_mean(lambda p: p * math.sin(p))])
        return (np.stack([phi * np.cos(phi), phi * np.sin(phi)], -1) - mean) / audit.roll_std()

    phi = generator.uniform(1.5 * math.pi, 4.5 * math.pi, 1500)
    x = roll(phi) + math.sqrt(variance) * generator.standard_normal((1500, 2))
    grid = roll(1.5 * math.pi + 3 * math.pi * (np.arange(4000) + 0.5) / 4000)
    squares = (x**2).sum(1)[:, None] - 2 * x @ grid.T + (grid**2).sum(1)
    log_p = logsumexp(-squares / (2 * variance), axis=1) - math.log(4000 * 2 * math.pi * variance)
    bits = log_p / math.log(2)
    assert audit.thin_curve_ceiling(variance).value == pytest.approx(bits.mean(), abs=4 * bits.std() / math.sqrt(1500))
    assert roll(np.linspace(1.5, 4.5, 200_001) * math.pi).var(0).mean() == pytest.approx(1, abs=1e-4)


def test_gain_ceiling_is_the_difference_of_two_entropies() -> None:
    betas = np.array([0.01, 0.3, 0.5])
    last, first = (Normal(0.0, math.sqrt(v)).entropy().item() for v in (1 - 0.99 * 0.7 * 0.5, 0.01))
    assert audit.gain_ceiling(betas).value == pytest.approx((last - first) / math.log(2), rel=1e-5)


def test_prior_kl_against_torch() -> None:
    x_0, alpha_bar = torch.tensor([-0.5, 0.5], dtype=torch.float64), 4.0358e-5
    kl = kl_divergence(Normal(math.sqrt(alpha_bar) * x_0, math.sqrt(1 - alpha_bar)), Normal(torch.zeros(2).double(), 1.0))
    assert audit.prior_kl(alpha_bar, power=0.25).value == pytest.approx(kl.mean().item() / math.log(2), rel=1e-6)


@pytest.mark.parametrize("std", [0.9415, 1.275])
def test_distortion_against_the_discretised_gaussian(std: float) -> None:
    """The error is Gaussian with the RMSE; the decoder gives each grey level the mass of its bin."""
    rmse = 0.95136

    def bits(error: float) -> float:
        return -math.log2(norm.cdf(error + 0.5, scale=std) - norm.cdf(error - 0.5, scale=std))

    exact = quad(lambda error: norm.pdf(error, scale=rmse) * bits(error), -6, 6)[0]
    correction = audit.bin_correction(rmse, std)
    assert abs(exact - audit.gaussian_distortion(rmse, std).value) <= 1.2 * correction


def test_beta_tilde_is_the_variance_of_the_posterior() -> None:
    betas = np.array([0.1, 0.2, 0.3])
    precision = 1 / (1 - 0.9 * 0.8) + (1 - 0.3) / 0.3  # of x_2 given x_0 and x_3
    assert audit.beta_tilde(betas)[2] == pytest.approx(1 / precision)
    assert audit.beta_tilde(betas)[0] == 0


# --- 5.40 bits/dim ----------------------------------------------------------------------------------------------------


def test_the_quotation_is_4_20_bits_per_dim() -> None:
    result = bits_per_dim_audit(CLAIMS)
    assert result.converted.value == pytest.approx(-5.4 / 3 + math.log2(0.2516 * 255))
    assert result.converted.value == pytest.approx(4.20, abs=0.005)
    assert result.converted.stderr == pytest.approx(0.2 / 3)
    assert result.converted.unit == unit("nll_bound", "bits/dim")
    assert result.printed.gap(result.converted) == pytest.approx(1.20, abs=0.005)


def test_the_derivation_is_data_line_by_line() -> None:
    steps = bits_per_dim_audit(CLAIMS).steps
    assert [step.value for step in steps] == pytest.approx([5.4, -5.4, -1.8, 4.2036], abs=1e-4)
    assert [str(step.unit) for step in steps] == ["bits/pixel", "bits/pixel", "bits/dim", "bits/dim"]
    assert "0.2516" in steps[-1].text
    assert "training set" in steps[-1].text


def test_the_quotation_itself_cannot_be_compared_with_its_source() -> None:
    result = bits_per_dim_audit(CLAIMS)
    for compare in (lambda: result.printed.gap(result.original), lambda: result.printed - result.original):
        with pytest.raises(UserError):
            compare()


K_PIXEL = stated(5.4, unit("log_likelihood_bound", "bits/pixel"), "Table 1")
STD = audit.CIFAR10_STD.value * 255
RGB = audit.CIFAR10


def mutants() -> dict[str, Quantity]:
    """The conversion with one mistake each."""
    as_dim = stated(5.4, unit("log_likelihood_bound", "bits/dim"), "bits/pixel read as bits/dim")
    return {
        "bits per pixel read as bits per dimension": on_scale(with_sign(as_dim, NEGATIVE), GREY_LEVELS, STD, RGB),
        "one channel": on_scale(per(with_sign(K_PIXEL, NEGATIVE), DIM, Layout(1024, 1)), GREY_LEVELS, STD, RGB),
        "sign forgotten": on_scale(per(K_PIXEL, DIM, RGB), GREY_LEVELS, STD, RGB),
        "scale forgotten": per(with_sign(K_PIXEL, NEGATIVE), DIM, RGB),
        "scale inverted": on_scale(per(with_sign(K_PIXEL, NEGATIVE), DIM, RGB), GREY_LEVELS, 1 / STD, RGB),
        "std on [-1, 1]": on_scale(per(with_sign(K_PIXEL, NEGATIVE), DIM, RGB), GREY_LEVELS, STD / 127.5, RGB),
    }


@pytest.mark.parametrize("name", mutants())
def test_each_mistake_is_seen(name: str) -> None:
    """It either has another unit than the true conversion, so that it cannot stand beside it, or another number."""
    truth, wrong = bits_per_dim_audit(CLAIMS).converted, mutants()[name]
    assert wrong.unit != truth.unit or abs(wrong.value - truth.value) > 1
