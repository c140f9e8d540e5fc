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
# # Flows and bridges
#
# Ways from one distribution to another, each against something that is known. The parts that follow do not need each
# other: what noise does to a process whose marginals stay (Albergo et al. 2023), how a map from noise to data is
# learned and what it tends to (Song et al. 2023), and why EDM's networks are scaled as they are (Karras et al. 2022).
# As in the other notebooks everything is checked: a check prints the difference and how large it may be.

# %%
from collections import deque

import matplotlib.pyplot as plt
import numpy as np
import torch

from dpm import seeds
from dpm.continuous import VarianceExploding, karras
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.decoders import Network
from dpm.evaluators.interpolants import divergences, residual, with_noise
from dpm.figures import STYLE
from dpm.networks.clocks import LogClock
from dpm.networks.mlp import FourierMLP
from dpm.objectives.consistency import Consistency, OneStep, levels
from dpm.oracles.consistency import distilled, exact, flow, trained
from dpm.oracles.interpolants import InterpolatedMixtures
from dpm.paths import trigonometric
from dpm.predictions.papers import X0
from dpm.predictions.preconditioned import Preconditioned
from dpm.processes import at
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers.consistency import multistep
from dpm.samplers.ode import euler, euler_step, heun
from dpm.samplers.sde import euler_maruyama
from dpm.variances import FixedSmall

torch.set_num_threads(1)  # small tensors are faster on one core
plt.style.use(STYLE)
seeds.seed_everything(0)


def check(what, difference, allowed):
    print(f"{what}: difference {float(difference):+.1e}, allowed {float(allowed):.1e}")
    assert abs(difference) <= allowed


# %% [markdown]
# ## Interpolants: one law, many processes
#
# $x_t = a_t x_0 + b_t x_1 + c_t z$ between $N(0, 1)$ and two Gaussians. Given the components, everything is Gaussian, so that
# the density, the mean velocity $b$ and the score $s$ are known. They must obey $\partial_t \rho + \partial_x (b \rho) = 0$.

# %%
source = GaussianMixture([1.0], [[0.0]], [[1.0]])
target = GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.09], [0.25]])
between = InterpolatedMixtures(trigonometric(0.7), source, target)
check("transport equation", residual(between), 1e-10)

# %% [markdown]
# The flow $\dot x = b$ carries this law, and so does $dx = (b + \varepsilon s)\, dt + \sqrt{2 \varepsilon}\, dw$ for
# every $\varepsilon$: what the noise spreads, the score draws together. We start at $t = 0.001$, where the velocity of
# the noise is finite.

# %%
n, times = 4000, np.linspace(1e-3, 1 - 1e-3, 301)
ends = torch.stack([source.sample(n, seeds.generator(1)), target.sample(n, seeds.generator(2))], 1)
start = between.path(ends, at(ends, times[0])).x_t
figure, axes = plt.subplots(figsize=(6.3, 2.6))
for eps in (0.0, 0.5, 2.0):
    drift = with_noise(between.drift, between.score, eps)
    x = deque(euler_maruyama(drift, start, times, (2 * eps) ** 0.5), maxlen=1).pop()[:, 0]
    axes.hist(x.numpy(), 60, density=True, histtype="step", label=f"ε = {eps:g}")
    mean = float(target.weights @ target.means[:, 0])
    check(f"mean at the end, ε = {eps:g}", float(x.mean()) - mean, 4 * float(x.std()) / n**0.5 + 0.01)
axes.set(xlabel="x", ylabel="density at the end")
axes.legend()
plt.show()

# %% [markdown]
# Equal marginals, unequal errors. Let the drift of a process that rests at $N(0, 1)$ be off by $0.1 \sin kx$. With
# noise the divergence at the end is at most the squared error over $4 \varepsilon$; for the flow nothing holds it.

# %%
rest = InterpolatedMixtures(trigonometric(), source, source)
span = (1e-6, 1 - 1e-6)
for k, expected in ((1, 0.004921), (5, 0.064296)):
    rows = divergences(rest, lambda x, t, k=k: 0.1 * (k * x).sin(), [0.0, 0.5], span, 900, {})
    of_flow, of_process = (m.value for m in rows if m.quantity == "marginal_divergence")
    ratio = next(m.value for m in rows if m.quantity == "bound_ratio")
    print(f"k = {k}: flow {of_flow:.6f} nats, ε = 0.5: {of_process:.6f} nats, {ratio:.2f} of its bound")
    check("the flow's divergence against its closed form", of_flow / expected - 1, 0.01)
    assert ratio <= 1

# %% [markdown]
# ## Consistency: a map, and three errors
#
# $f(x_t, t)$ shall be the same along each path of the probability flow, and $f(x, \epsilon) = x$. For one Gaussian of
# deviation $s$ the exact map is a straight line. Distillation by Euler's steps tends to the steps themselves; training,
# which knows no score, tends to the same line: the conditional mean of a point with the same noise is where Euler's
# step leads.

# %%
one = GaussianMixture([1.0], [[0.0]], [[0.25]])
two = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[0.25], [0.25]])
grid = levels(2e-3, 80.0, 18)
(x, by_training), (_, by_euler), (_, by_heun) = (
    trained(one, grid),
    distilled(one, grid, euler),
    distilled(one, grid, heun),
)
print(f"slopes: flow {float(exact(one, 2e-3, x, 80.0)[-1] / x[-1]):.6e}, Euler {float(by_euler[-1] / x[-1]):.6e}")
check("slope of the exact map", float(exact(one, 2e-3, x, 80.0)[-1] / x[-1]) / 6.249928e-3 - 1, 1e-6)
check("training against Euler's distillation, one Gaussian", (by_training - by_euler).abs().max(), 1e-6)

# %% [markdown]
# With two Gaussians that is no longer so, and training is farther from the flow.

# %%
x, by_training = trained(two, grid)
_, by_euler = distilled(two, grid, euler)
truth = exact(two, 2e-3, x, 80.0)
weights = torch.exp(-(x / x.max() * 6).square() / 2)
weights /= weights.sum()


def rms(f):
    return float((weights * f.square()).sum()) ** 0.5


check("Euler's distillation against the table", rms(by_euler - truth) - 0.1213, 5e-4)
check("training against the table", rms(by_training - truth) - 0.2053, 5e-4)

# %% [markdown]
# A network makes a second error on top, that of its training; and the boundary condition holds by its form.

# %%
q = GaussianDiffusion(VarianceExploding(80.0))
network = LogClock(FourierMLP(dimensions=1, outputs=1, T=1, width=64, depth=2, octaves=0), 2e-3, 80.0)
model = GaussianReverse(q, network, Preconditioned(0.5, 2e-3), FixedSmall(), Network())
teacher = GaussianReverse(q, MixtureDenoiser(two, q.schedule), X0(), FixedSmall(), Network())
steps, objective = 1500, Consistency(grid, OneStep(teacher, euler_step))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
for step in range(steps):
    loss = objective(model, two.batch(512, 0, step)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
with torch.no_grad():
    learned = model.predicted(x, at(x, 80.0))
    check("the boundary condition", (model.predicted(x, at(x, 2e-3)) - x).abs().max(), 1e-9)
print(f"training {rms(learned - by_euler):.3f}, grid {rms(by_euler - truth):.3f}, both {rms(learned - truth):.3f}")
check("a short training is within its reach", rms(learned - by_euler), 0.3)
figure, axes = plt.subplots(figsize=(6.3, 2.6))
for label, f in (
    ("flow", truth),
    ("distillation tends to", by_euler),
    ("training tends to", by_training),
    ("network", learned),
):
    axes.plot(x[::20, 0], f[::20, 0], label=label)
axes.set(xlabel="$x_T$", ylabel="$f(x_T, T)$")
axes.legend()
plt.show()

# %% [markdown]
# Two steps: noise again, of the variance that is missing, and the map once more. With the exact map both give the law
# of the data.

# %%
perfect = GaussianReverse(q, MixtureDenoiser(one, q.schedule), X0(), FixedSmall(), Network())
perfect.predicted = lambda x, t: x * ((0.25 + 0.002**2) / (0.25 + t.square())).sqrt()[:, None]
noise = (80.0**2 + 0.25) ** 0.5 * torch.randn(20_000, 1, dtype=torch.float64)
for number, sample in enumerate(multistep(perfect, noise, [80.0, 0.8], 2e-3), 1):
    check(f"deviation after {number} step(s)", float(sample.std()) - 0.5, 4 * 0.5 / (2 * 20_000) ** 0.5)

# %% [markdown]
# ## EDM: what a network sees and says
#
# Karras et al. scale input and target so that both have unit variance at every noise level. Their grid is dense where the flow
# bends, and Heun's method has order two on it.

# %%
prediction = Preconditioned(0.5)
for level in (0.01, 0.5, 20.0):
    x_0 = one.sample(50_000, seeds.generator(3))
    t = at(x_0, level)
    x_t = q.marginal(x_0, t).sample()
    seen, said = prediction.input(q, x_t, t), prediction.target(q, x_0, x_t, t)
    check(f"variance of the target at noise {level:g}", float(said.var()) - 1, 4 * (2 / 50_000) ** 0.5)
    check(f"variance of the input at noise {level:g}", float(seen.var()) - 1, 4 * (2 / 50_000) ** 0.5)

# %%
x = 80.0 * torch.linspace(-3, 3, 101, dtype=torch.float64)[:, None]
truth = exact(two, 2e-3, x, 80.0)
for solver, order in ((euler, 1), (heun, 2)):
    ends = [deque(solver(flow(two), x, karras(80.0, 2e-3, n + 1)[:-1]), maxlen=1).pop() for n in (70, 140)]
    coarse, fine = (float((end - truth).square().mean()) ** 0.5 for end in ends)
    check(f"order of {solver.__name__}", np.log2(coarse / fine) - order, 0.15)
