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
