"""Guided samplers against the exact law of their output for Gaussian data, and the particle filter against p(y)."""

from collections import deque
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.observations import Mask, Matrix, Observation
from dpm.oracles.gaussian import GaussianOracle
from dpm.oracles.guided_laws import GaussianProblem, Moments
from dpm.predictions.papers import X0
from dpm.processes import at
from dpm.processes.gaussian import GaussianDiffusion, normal
from dpm.reverse.conditioned import GaussianFactor
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.guided.dps import DPS, NormDPS
from dpm.reverse.guided.pigdm import PiGDM
from dpm.reverse.guided.tmpd import TMPD
from dpm.reverse.linear_factor import LinearFactor, multiplied
from dpm.reverse.moments import MomentMatched
from dpm.reverse.replaced import Replaced
from dpm.samplers.ancestral import ancestral
from dpm.samplers.ddim import DDIM
from dpm.samplers.mcgdiff import mcgdiff
from dpm.schedules import linear
from dpm.variances import FixedSmall

S = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
A, Y, NOISE = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64), 0.5
PROCESS = GaussianDiffusion(linear(1000, 1e-4, 0.02))
DATA = GaussianMixture([1.0], [[0.0, 0.0]], S[None])
PROBLEM = GaussianProblem(PROCESS, S, A, Y, NOISE)
SEEN = Observation(Matrix(A), Y[None], NOISE)
FREE = MomentMatched(PROCESS, DATA)
METHODS: dict[str, Any] = {
    "exact": lambda: MomentMatched(PROCESS, DATA.given(A, Y, NOISE)),
    "tmpd": lambda: TMPD(FREE, SEEN, products=2),
    "pigdm": lambda: PiGDM(FREE, SEEN),
    "dps": lambda: DPS(FREE, SEEN),
    "multiplied": lambda: multiplied(FREE, SEEN),
    "replaced": lambda: Replaced(GaussianOracle(PROCESS, DATA, Network()), A[0] > 0, Y),
}
PRINTED = {  # at T = 1000, 100 and 20: KL to the posterior, nats
    "exact": (0.00000, 0.00000, 0.00000),
    "pigdm": (0.00558, 0.00734, 0.02266),
    "dps": (0.30246, 0.30446, 0.31353),
    "multiplied": (0.15917, 0.14677, 0.10582),
}


def steps(T: int) -> list[int]:
    return np.linspace(1000, 0, T + 1).round().astype(int).tolist()


@cache
def law(method: str, T: int, sweeps: int = 1) -> Moments:
    return PROBLEM.law(getattr(PROBLEM, method), steps(T), sweeps)


def last(chain: Any) -> Any:
    return deque(chain, maxlen=1).pop()


@pytest.mark.parametrize("method", PRINTED)
def test_divergences_from_the_posterior(method: str) -> None:
    for T, printed in zip((1000, 100, 20), PRINTED[method], strict=True):
        assert law(method, T).divergence(PROBLEM.posterior()) == pytest.approx(printed, abs=5.1e-6)


def test_moments_at_a_thousand_steps() -> None:
    expected = {
        "pigdm": (1.16176, 0.91416, 0.21533, 0.17774, 0.50917),
        "dps": (1.47291, 1.38280, 0.12532, 0.07061, 0.37332),
        "multiplied": (1.26796, 0.78957, 0.13140, 0.16461, 0.59481),
        "exact": (1.19998, 0.95997, 0.20000, 0.16000, 0.48800),
    }
    for method, numbers in expected.items():
        mean, C = law(method, 1000)
        assert [*mean.tolist(), C[0, 0].item(), C[0, 1].item(), C[1, 1].item()] == pytest.approx(numbers, abs=5.1e-6)


def test_tmpd_tends_to_the_posterior_with_the_number_of_steps() -> None:
    """Its means are exact at once; what the steps' own variance lacks is of first order, and its KL of second."""
    off = [law("tmpd", T).divergence(PROBLEM.posterior()) for T in (20, 100, 1000)]
    assert off[0] < 0.01
    assert off[1] < off[0] / 20
    assert off[2] < off[1] / 80
    torch.testing.assert_close(law("tmpd", 20).mean, law("exact", 20).mean)


def test_a_mask_multiplies_as_the_matrix_of_its_rows_does() -> None:
    torch.manual_seed(0)
    known, mu, deviation = torch.tensor([True, False, True]), torch.randn(5, 3).double(), torch.rand(5, 3).double() + 0.1
    p, y = normal(mu, deviation), torch.randn(5, 2).double()

    reverse = GaussianReverse(PROCESS, torch.nn.Identity(), X0(), FixedSmall(), Network())
    operators = (Mask(known), Matrix(torch.eye(3).double()[known]))
    seen, general = (multiplied(reverse, Observation(A, y, 0.3)).likelihood(p) for A in operators)
    torch.testing.assert_close(seen.mean, general.mean)
    torch.testing.assert_close(torch.diag_embed(seen.variance), general.covariance_matrix)


@pytest.mark.parametrize(("sweeps", "mean", "variance"), [(1, 0.74426, 0.49814), (5, 1.09712, 0.38689), (10, 1.14984, 0.37346)])
def test_repaint_by_number_of_repetitions(sweeps: int, mean: float, variance: float) -> None:
    known = law("replaced", 250, sweeps)
    assert [known.mean[1].item(), known.covariance[1, 1].item()] == pytest.approx([mean, variance], abs=5.1e-6)


@pytest.mark.parametrize(("t", "s"), [(1000, 990), (700, 699), (300, 250), (2, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_every_step_is_the_affine_map_of_its_law(method: str, t: int, s: int) -> None:
    """At three points, which determine it: mean, and covariance."""
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-0.4, 2.0]], dtype=torch.float64)
    F, g, Q = getattr(PROBLEM, method)(torch.tensor(s), torch.tensor(t))
    p = METHODS[method]()(x, at(x, s), at(x, t))
    torch.testing.assert_close(p.mean, x @ F.mT + g)
    found = p.covariance_matrix if hasattr(p, "covariance_matrix") else torch.diag_embed(p.variance)
    torch.testing.assert_close(found.expand(3, 2, 2), Q.expand(3, 2, 2))


@pytest.mark.parametrize("method", METHODS)
def test_samples_have_the_moments_of_their_own_law(method: str) -> None:
    """Within 4 standard errors, and the posterior's where the law is not the posterior are not hit."""
    torch.manual_seed(1)
    n, sweeps = 20_000, 3 if method == "replaced" else 1
    x_T = torch.randn(n, 2, dtype=torch.float64)
    x = last(ancestral(METHODS[method](), x_T, steps(50), sweeps))
    mean, C = law(method, 50, sweeps)
    error = 4 * C.diagonal().div(n).sqrt() + 1e-12
    assert bool(((x.mean(0) - mean).abs() < error).all())
    spread = (
        4 * (C.square() + C.diagonal()[:, None] * C.diagonal()).div(n).sqrt() + 5e-3
    )  # the sampler's last step has no noise
    assert bool(((x.mT.cov() - C).abs() < spread).all())
    if method not in ("exact", "tmpd", "replaced"):
        assert bool(((x.mean(0) - PROBLEM.posterior().mean).abs() > 2 * error).any())


def test_one_coordinate_of_2015_counts_its_factor_twice() -> None:
    """x_0 ~ N(0, 1), y = 2 through noise of variance 1: the posterior of r^2."""
    one = torch.ones(1, 1, dtype=torch.float64)
    problem = GaussianProblem(PROCESS, one, one, 2 * one[0], 1.0)
    mean, variance = problem.law(problem.multiplied, steps(1000))
    assert [mean.item(), variance.item()] == pytest.approx([1.33282, 0.33405], abs=5.1e-6)


def test_a_linear_factor_is_the_factor_of_a_whole_noisy_example() -> None:
    y, x = torch.tensor([[0.3, -1.0]], dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    p = GaussianOracle(PROCESS, DATA, Network())(x, at(x, 300), at(x, 400))
    one = torch.eye(2, dtype=torch.float64)
    by_matrix = LinearFactor(one, y, 0.49 * one)(p)
    known = GaussianFactor(y, 0.49)(p)
    torch.testing.assert_close(by_matrix.mean, known.mean)
    torch.testing.assert_close(by_matrix.variance.expand_as(known.variance), known.variance)


MODES = GaussianMixture([0.2, 0.5, 0.3], [[-3.0, 0.0], [3.0, 1.0], [0.0, 4.0]], torch.eye(2).expand(3, 2, 2))


def learned_form(data: GaussianMixture) -> GaussianReverse:
    return GaussianReverse(PROCESS, MixtureDenoiser(data, PROCESS.schedule), X0(), FixedSmall(), Network())


def test_guidance_of_a_mixture_is_the_gradient_that_it_says() -> None:
    """By finite differences of log N(y; A m(x_t), R) with R held, for a denoiser that is not linear."""
    seen = Observation(Matrix(torch.tensor([[1.0, 0.5]], dtype=torch.float64)), Y[None], NOISE)
    x, t, h = torch.tensor([[0.4, 1.1]], dtype=torch.float64), 400, 1e-5
    alpha, sigma = PROCESS.schedule(torch.tensor(t))
    C = MODES.posterior_covariance(x, alpha, sigma)[1][0]
    spreads = {DPS: 0.0, PiGDM: (sigma**2 * 1.25).item(), TMPD: (seen.operator.A @ C @ seen.operator.A.mT).item()}
    for method, spread in spreads.items():
        R = NOISE**2 + spread

        def log_p(x: Tensor, R: float = R) -> Tensor:
            return -seen.residual(MODES.denoised(x, alpha, sigma)).square().sum() / (2 * R)

        slope = torch.stack([(log_p(x + h * e) - log_p(x - h * e)) / (2 * h) for e in torch.eye(2, dtype=torch.float64)])
        guided = method(learned_form(MODES), seen, **({"products": 1} if method is TMPD else {}))
        look = guided.look(x, at(x, t))
        torch.testing.assert_close(look.shift[0], sigma**2 / alpha * slope, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(guided.predicted(x, at(x, t)), look.x_0 + look.shift)
    moved = (
        NormDPS(learned_form(MODES), seen, 0.3)(x, at(x, 380), at(x, t)).mean
        - learned_form(MODES)(x, at(x, 380), at(x, t)).mean
    )

    def distance(x: Tensor) -> Tensor:
        return seen.residual(MODES.denoised(x, alpha, sigma)).norm()

    slope = torch.stack([(distance(x + h * e) - distance(x - h * e)) / (2 * h) for e in torch.eye(2, dtype=torch.float64)])
    torch.testing.assert_close(moved[0], -0.3 * slope, rtol=1e-6, atol=1e-9)


def test_ddim_walks_a_guided_process() -> None:
    """eta = 1 is the step with the posterior's variance."""
    x = torch.randn(3, 2, dtype=torch.float64)
    guided, times = PiGDM(learned_form(MODES), SEEN), (at(x, 250), at(x, 300))
    torch.testing.assert_close(DDIM(guided, 1.0)(x, *times).mean, guided(x, *times).mean)


def test_draws_by_correction_have_the_law_of_the_product() -> None:
    """Of p(x) r(x) / Z, from draws of p alone."""
    p = GaussianOracle(PROCESS, DATA, Network())(
        torch.ones(1, 2, dtype=torch.float64), at(torch.ones(1), 0), at(torch.ones(1), 500)
    )
    factor = LinearFactor(torch.tensor([[1.0, 2.0]], dtype=torch.float64), Y[None], 0.3 * torch.eye(1, dtype=torch.float64))
    known, n = factor(p), 40_000
    torch.manual_seed(4)
    x = factor.sample(normal(p.mean.expand(n, 2), p.stddev.expand(n, 2)))
    C = known.covariance_matrix[0]
    assert bool(((x.mean(0) - known.mean[0]).abs() < 4 * (C.diagonal() / n).sqrt()).all())
    assert bool(((x.mT.cov() - C).abs() < 4 * ((C.square() + C.diagonal()[:, None] * C.diagonal()) / n).sqrt()).all())


def test_the_particle_filter_estimates_the_evidence_without_bias() -> None:
    """Of the chain's own p(y), by the mean of p(y) over independent filters, within 4 standard errors."""
    B, grid, number = torch.tensor([[1.0, 0.5]], dtype=torch.float64), steps(10), 40
    free, seen = GaussianOracle(PROCESS, DATA, Network()), Observation(Matrix(B), Y[None], 1.0)
    torch.manual_seed(2)
    logs = [last(mcgdiff(free, seen, torch.randn(200, 2, dtype=torch.float64), grid)).log_evidence for _ in range(number)]
    estimates = torch.stack(logs).exp()
    problem = GaussianProblem(PROCESS, S, B, Y, 1.0)

    def diagonal(s: Tensor, t: Tensor) -> Any:
        F, g, Q = problem.free(s, t)[0]
        return F, g, Q.diagonal().diag()

    mean, C = problem.law(diagonal, grid)
    truth = torch.distributions.MultivariateNormal(B @ mean, B @ C @ B.mT + 1.0).log_prob(Y).exp()
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / number**0.5
    assert estimates.std() < truth / 3


def test_the_particle_filter_samples_the_posterior_of_a_mixture() -> None:
    far = GaussianMixture(MODES.weights, 2.5 * MODES.means, MODES.covariances)
    A, y = torch.tensor([[1.0, 0.5]], dtype=torch.float64), torch.tensor([4.0], dtype=torch.float64)
    seen, free, n = Observation(Matrix(A), y[None], 1.0), learned_form(far), 4000
    exact = shares(far, far.given(A, y, 1.0).sample(100_000, torch.Generator().manual_seed(0)))
    torch.manual_seed(3)
    x_T = torch.randn(n, 2, dtype=torch.float64)
    population = last(mcgdiff(free, seen, x_T, steps(50)))
    assert (shares(far, population.x) - exact).abs().sum() / 2 < 0.05
    assert (shares(far, last(ancestral(PiGDM(free, seen), x_T, steps(50)))) - exact).abs().sum() / 2 > 0.1
    assert len(population.x.unique(dim=0)) > n / 2  # those who descend from one particle move on their own
    assert 0 < population.effective <= 1


def shares(data: GaussianMixture, x: Tensor) -> Tensor:
    return torch.bincount(torch.cdist(x, data.means).argmin(1), minlength=len(data.means)) / len(x)


def test_what_cannot_be_meant_is_refused() -> None:
    for wrong in (lambda: TMPD(FREE, SEEN, products=0), lambda: NormDPS(FREE, SEEN, 0.0)):
        with pytest.raises(UserError):
            wrong()
