# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Inverse problems: samples of a posterior, and whether they are
#
# A diffusion model is a prior $p(x_0)$. Somebody observes $y = A x_0 + \sigma_y n$: a part of an image, a blurred one, a few
# line integrals. What is wanted are samples of $p(x_0 \mid y)$. Sohl-Dickstein et al. (2015, section 2.5) multiply every
# reverse step by a factor $r(x)$; many methods followed. Pictures do not tell which of them is right. Here the posterior is
# known, and every claim ends with a check against it.

# %%
from collections import deque

import matplotlib.pyplot as plt
import numpy as np
import torch

from dpm.data.mixtures import GaussianMixture, MixtureDenoiser, grid_of_modes
from dpm.decoders import Network
from dpm.labs import Exercise
from dpm.observations import Matrix, Observation, Subsampled
from dpm.oracles.guided_laws import GaussianProblem
from dpm.predictions.papers import X0
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.guided.pigdm import PiGDM
from dpm.reverse.guided.tmpd import TMPD
from dpm.reverse.linear_factor import multiplied
from dpm.reverse.moments import MomentMatched
from dpm.samplers.ancestral import ancestral
from dpm.samplers.mcgdiff import mcgdiff
from dpm.schedules import linear
from dpm.variances import FixedSmall

torch.manual_seed(0)
process = GaussianDiffusion(linear(1000, 1e-4, 0.02))


def last(chain):
    return deque(chain, maxlen=1).pop()


def steps(number):
    return np.linspace(1000, 0, number + 1).round().astype(int).tolist()


# %% [markdown]
# ## Operators and adjoints
#
# All that a guided sampler asks of $A$ is $A x$ and $A^\top y$, with $\langle A x, y \rangle = \langle x, A^\top y \rangle$.

# %%
A = Subsampled(4)
x, y = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 2, 2)
difference = float((A(x) * y).sum() - (x * A.adjoint(y)).sum())
print(f"<A x, y> - <x, A^T y> = {difference:.1e}")
assert abs(difference) < 1e-5

# %% [markdown]
# ## A Gaussian prior: laws without samples
#
# With a linear $\hat x_0(x_t)$ every step is affine, and the output is Gaussian with moments that follow a recursion. For
# $x_0 \sim N(0, \Sigma)$ with correlation 0.8 and $x_1$ seen through noise of deviation $1/2$ at $3/2$:

# %%
S = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
first, y = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64)
problem = GaussianProblem(process, S, first, y, 0.5)
divergences = {}
for method in ("tmpd", "pigdm", "multiplied", "dps"):
    law = problem.law(getattr(problem, method), steps(100))
    divergences[method] = law.divergence(problem.posterior())
    print(f"{method:>10}: mean {law.mean.numpy().round(3)}, KL to the posterior {divergences[method]:.5f} nats")
assert divergences["tmpd"] < divergences["pigdm"] < divergences["multiplied"] < divergences["dps"]

# %% [markdown]
# The samplers themselves, against their own laws: within four standard errors of the mean.

# %%
data, seen = GaussianMixture([1.0], [[0.0, 0.0]], S[None]), Observation(Matrix(first), y[None], 0.5)
free = MomentMatched(process, data)
for name, guided in {
    "pigdm": PiGDM(free, seen),
    "tmpd": TMPD(free, seen, products=2),
    "multiplied": multiplied(free, seen),
}.items():
    samples = last(ancestral(guided, torch.randn(4000, 2, dtype=torch.float64), steps(50)))
    law = problem.law(getattr(problem, name), steps(50))
    off = (samples.mean(0) - law.mean).abs() / (law.covariance.diagonal() / len(samples)).sqrt()
    print(f"{name:>10}: mean off by {off.max():.1f} standard errors")
    assert off.max() < 4

# %% [markdown]
# ## A mixture: which modes?
#
# 25 modes in the plane, one number observed. The exact posterior is a mixture again, with two modes that matter.

# %%
modes = grid_of_modes(2)
A, y = torch.tensor([[1.0, 0.5]], dtype=torch.float64), torch.tensor([4.0], dtype=torch.float64)
posterior = modes.given(A, y, 1.0)
print("exact weights of the five largest:", posterior.weights.sort(descending=True).values[:5].numpy().round(4))
assert abs(posterior.weights.max().item() - 0.5051) < 1e-4

free = GaussianReverse(process, MixtureDenoiser(modes, process.schedule), X0(), FixedSmall(), Network())
seen, n = Observation(Matrix(A), y[None], 1.0), 1000
found = {
    "PiGDM": last(ancestral(PiGDM(free, seen), torch.randn(n, 2, dtype=torch.float64), steps(50))),
    "TMPD": last(ancestral(TMPD(free, seen, products=1), torch.randn(n, 2, dtype=torch.float64), steps(50))),
    "particles": last(mcgdiff(free, seen, torch.randn(4 * n, 2, dtype=torch.float64), steps(50))).x[::4],
}


def mode_error(samples):
    shares = torch.bincount(torch.cdist(samples, modes.means).argmin(1), minlength=25) / len(samples)
    return float((shares - posterior.weights).abs().sum() / 2)


errors = {name: mode_error(samples) for name, samples in found.items()}
print({name: round(error, 3) for name, error in errors.items()})
assert errors["particles"] < min(errors["PiGDM"], errors["TMPD"])

# %%
found["exact"] = posterior.sample(n, torch.Generator().manual_seed(0))
figure, panels = plt.subplots(1, 4, figsize=(9, 2.5), sharex=True, sharey=True, layout="constrained")
for axes, (name, samples) in zip(panels, found.items(), strict=True):
    axes.plot(*modes.means.T, "x", color="0.7")
    axes.plot(*samples.T, ".", markersize=2)
    axes.set(title=name, xlim=(-22, 22), ylim=(-22, 22), aspect="equal")
plt.show()

# %% [markdown]
# ## What to take from it
#
# A method that is exact for Gaussian data need not find the weights of modes, and no picture of a sample shows that it did
# not. A particle filter does, at the price of many particles and of an observation of few numbers. The report has the table
# with more methods and dimensions, calibration over many observations, and the audit of a stored benchmark.

# %% [markdown]
# ## Exercises
#
# Run all cells first. Each exercise has a folded cell with what your number is compared with, a cell for you, and a folded
# solution; click on the three dots to unfold one.
#
# ### Exercise 1 (a Gaussian prior)
#
# In the Gaussian problem above let $x_1$ be seen better: again at $3/2$, but through noise of deviation
# $1/4$. What is the mean of $x_2$ given that?


# %% jupyter={"source_hidden": true} tags=["check"]
def posterior_mean_of(coordinate, noise):
    return float(GaussianProblem(process, S, first, problem.y, noise).posterior().mean[coordinate])


exercise_1 = Exercise(
    truth=posterior_mean_of(1, 0.25),
    unit="",
    allowed=1e-3,
    mistakes={
        "the noise: its variance is meant": posterior_mean_of(1, 0.25**0.5),
        "the noise: this takes y for x_1 itself": posterior_mean_of(1, 0.0),
        "which coordinate: this is the mean of x_1": posterior_mean_of(0, 0.25),
    },
)

# %% tags=["exercise"]
posterior_mean = ...

exercise_1.judge(posterior_mean)

# %% jupyter={"source_hidden": true} tags=["solution"]
posterior_mean = 0.8 / (1 + 0.25**2) * 1.5  # Cov(x_2, y) / Var(y) * y

assert exercise_1.right(posterior_mean)

# %% [markdown]
# ### Exercise 2 (a Gaussian prior). Find the bug
#
# A guided step shifts the mean of the free one along $\nabla_{x_t} \log N\big(y;\, A \hat x_0(x_t),\, R\big)$ with
# $\hat x_0 = G x_t$; $\Pi$GDM takes $R = \sigma_y^2 I + \sigma_t^2 A A^\top$. What is compared is the divergence of what
# the hundred steps draw from the posterior, in nats, without a sample.


# %% jupyter={"source_hidden": true} tags=["check"]
def divergence_with(gradient):
    """KL(output || posterior) of a hundred steps whose guidance is D (y - A G x_t), D = gradient(...) for `problem`."""

    def guided(s, t):
        (F, g, Q), G, _ = problem.free(s, t)
        alpha, sigma = process.schedule(t)
        D = process.step(s, t).on_x_0 * sigma**2 / alpha * gradient(G, problem.A, sigma)
        return F - D @ problem.A @ G, g + D @ problem.y, Q

    return problem.law(guided, steps(100)).divergence(problem.posterior())


def with_parts(jacobian=True, of_noise=0.5**2, spread=1.0):
    def gradient(G, A, sigma):
        R = of_noise * torch.eye(1).double() + spread * sigma**2 * A @ A.mT
        return (G.mT if jacobian else torch.eye(2).double()) @ A.mT @ torch.linalg.inv(R)

    return gradient


exercise_2 = Exercise(
    truth=divergence_with(with_parts()),
    unit="nats",
    allowed=1e-6,
    mistakes={
        "the chain rule: x_0-hat depends on x_t": divergence_with(with_parts(jacobian=False)),
        "R: y misses A x_0-hat by more than its own noise": divergence_with(with_parts(spread=0.0)),
        "R: the variance of the noise is meant": divergence_with(with_parts(of_noise=0.5)),
    },
)


# %% tags=["exercise"]
def gradient(G, A, sigma):
    """D of the gradient D (y - A G x_t), (2, 1); y has noise of deviation 1/2, x_t of deviation `sigma`."""
    R = 0.5**2 * torch.eye(1).double() + sigma**2 * A @ A.mT
    return A.mT @ torch.linalg.inv(R)


exercise_2.judge(divergence_with(gradient))


# %% jupyter={"source_hidden": true} tags=["solution"]
def gradient(G, A, sigma):
    """The gradient is that in x_t: x_0-hat has the Jacobian G. With a network, `detach` on x_0-hat is the same mistake."""
    R = 0.5**2 * torch.eye(1).double() + sigma**2 * A @ A.mT
    return G.mT @ A.mT @ torch.linalg.inv(R)


assert exercise_2.right(divergence_with(gradient))

# %% [markdown]
# ### Exercise 3 (a mixture). Find the bug
#
# Two modes, $N(-1, v)$ with weight 0.9 and $N(2, v)$ with weight 0.1, $v = 1/4$; $y = x + n$ is seen at 1.5, with noise of
# variance $\sigma_y^2 = 1/4$. Which weight has the second mode given $y$?


# %% jupyter={"source_hidden": true} tags=["check"]
def second(weights, variance, y=1.5):
    """The weight of the second mode, from densities of this variance."""
    likelihood = torch.exp(-((y - torch.tensor([-1.0, 2.0], dtype=torch.float64)) ** 2) / (2 * variance))
    product = torch.tensor(weights, dtype=torch.float64) * likelihood
    return float(product[1] / product.sum())


pair = GaussianMixture([0.9, 0.1], [[-1.0], [2.0]], [[[0.25]], [[0.25]]])
given_y = pair.given(torch.ones(1, 1).double(), torch.tensor([1.5]).double(), 0.5)
exercise_3 = Exercise(
    truth=float(given_y.weights[1]),
    unit="",
    allowed=1e-4,
    mistakes={
        "the spread of y in a mode: that of the noise is not all": second([0.9, 0.1], 0.25),
        "the weights before y was seen": second([0.5, 0.5], 0.5),
        "the spread of y in a mode: a variance is no deviation": second([0.9, 0.1], 0.5**0.5),
        "which mode": float(given_y.weights[0]),
    },
)


# %% tags=["exercise"]
def weights_given(y):
    """Weights of the modes, (2,)."""
    prior = torch.tensor([0.9, 0.1], dtype=torch.float64)
    means, noise = torch.tensor([-1.0, 2.0], dtype=torch.float64), 0.25
    likelihood = torch.exp(-((y - means) ** 2) / (2 * noise))
    return prior * likelihood / (prior * likelihood).sum()


exercise_3.judge(weights_given(1.5)[1])


# %% jupyter={"source_hidden": true} tags=["solution"]
def weights_given(y):
    """Given a mode, y = x + n has the variance v + 1/4: a mode must be integrated over, not seen as a point."""
    prior = torch.tensor([0.9, 0.1], dtype=torch.float64)
    means, spread = torch.tensor([-1.0, 2.0], dtype=torch.float64), 0.25 + 0.25
    likelihood = torch.exp(-((y - means) ** 2) / (2 * spread))
    return prior * likelihood / (prior * likelihood).sum()


assert exercise_3.right(weights_given(1.5)[1])
