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
# A diffusion joins data and noise. A *path* joins any two distributions: $x_t = a_t x_0 + b_t x_1 + c_t z$ with $x_0 \sim
# \pi_0$ at $t = 0$, $x_1 \sim \pi_1$ at $t = 1$, $z \sim N(0, I)$, and a *coupling* that says who is paired with whom. This
# notebook derives what can be known about such paths between Gaussians and checks each statement in a second way: the
# velocity field and its straightness, reflow, mini-batch optimal transport, and Schrödinger bridges with the two iterations
# that lead to them.
#
# Papers: rectified flow (Liu, Gong, Liu 2023, arXiv 2209.03003), diffusion Schrödinger bridge matching (Shi et al. 2023,
# arXiv 2303.16852), [SF]²M (Tong et al. 2023, arXiv 2307.03672). Where an average over draws takes part in a check, four
# standard errors are allowed.

# %%
import math
from collections import deque
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import ot
import torch
from torch import nn

from dpm import seeds
from dpm.bridges import GaussianBridges, markovian_fitting, plan, proportional_fitting
from dpm.continuous import VarianceExploding, karras
from dpm.couplings import MiniBatchOT
from dpm.data.ends import GaussianEnds
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.decoders import Network
from dpm.evaluators.interpolants import divergences, residual, with_noise
from dpm.figures import STYLE
from dpm.gaussian_fits import floor
from dpm.labs import Exercise
from dpm.networks.clocks import LogClock
from dpm.networks.mlp import FourierMLP
from dpm.networks.plain_mlp import PlainMLP
from dpm.objectives.consistency import Consistency, OneStep, levels
from dpm.objectives.matching import Matching
from dpm.objectives.rounds import InRounds
from dpm.oracles import consistency
from dpm.oracles.consistency import distilled, flow, trained
from dpm.oracles.interpolants import InterpolatedMixtures
from dpm.paths import rectified, trigonometric
from dpm.predictions.papers import X0
from dpm.predictions.preconditioned import Preconditioned
from dpm.processes import at
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.reverse.rounds import Reflow, Rounds
from dpm.reverse.transport import Transport
from dpm.samplers.consistency import multistep
from dpm.samplers.ode import euler, euler_step, heun
from dpm.samplers.sde import euler_maruyama
from dpm.training import Learner, Plan, fit
from dpm.transport import pushed
from dpm.variances import FixedSmall

torch.set_num_threads(1)
plt.style.use(STYLE)
seeds.seed_everything(0)


def check(what, difference, allowed):
    print(f"{what}: difference {float(difference):+.1e}, allowed {float(allowed):.1e}")
    assert abs(difference) <= allowed


def standard_error(values):
    return float(values.std() / len(values) ** 0.5)


# %% [markdown]
# ## 1. Rectified flow between two Gaussians
#
# $x_0 \sim N(0, 1)$ and $x_1 \sim N(0, s^2)$, independent, joined by straight lines. Their velocity is $x_1 - x_0$; what a
# field can know of it at $(x, t)$ is its mean, $v(x, t) = E[x_1 - x_0 \mid x_t = x]$, and all is Gaussian, so that the mean
# is linear:
#
# $$v(x, t) = \frac{t s^2 - (1 - t)}{(1 - t)^2 + t^2 s^2}\, x .$$

# %%
s = 2.0
one = np.eye(1)
gaussians = GaussianEnds(1, [0.0, 0.0], [1.0, s**2])
lines = GaussianBridges(one, s**2 * one, np.zeros((1, 1)), 0.0)


class ExactField(nn.Module):
    def forward(self, x, t):
        return torch.from_numpy(lines.velocity(t.numpy())[:, :, 0]) * x


exact, pairs = Transport(rectified(), ExactField()), gaussians.held_out(100_000)
t = torch.full((len(pairs),), 0.3, dtype=torch.float64)
x_t, velocity, _ = exact.process(pairs, t)
slope = (x_t * velocity).mean() / x_t.square().mean()
left = (velocity - lines.velocity(0.3)[0, 0] * x_t)[:, 0]
check("slope of the velocity on x_t at t = 0.3", slope - lines.velocity(0.3)[0, 0], 4 * standard_error(left) / float(x_t.std()))

# %% [markdown]
# **Three numbers.** The lines cost $E |x_1 - x_0|^2 = 1 + s^2$. The flow takes $z_0$ to $z_1 = s z_0$, which costs $(s -
# 1)^2$. The difference has two parts: what the field cannot know of the lines, the *crossing* $V = \int E |x_1 - x_0 - v|^2
# dt = \frac\pi2 s$, and how far the flow's own paths are from straight, the *straightness* $S = \int E |z_1 - z_0 - v|^2 dt =
# (2 - \frac\pi2) s$.

# %%
seeds.seed_everything(1)
crossing = Matching()(exact, pairs)
check("crossing", crossing.mean() - math.pi / 2 * s, 4 * standard_error(crossing))
journey = pushed(exact.field, pairs[:, 0], 1000)
cost = (journey.end - pairs[:, 0]).square().sum(1)
straightness = journey.energy - cost
check("straightness", straightness.mean() - (2 - math.pi / 2) * s, 4 * standard_error(straightness) + 2e-3)  # of 1000 steps
given = (pairs[:, 1] - pairs[:, 0]).square().sum(1)
gap = straightness + crossing - (given - cost)
check("S + V against the drop of the cost", gap.mean(), 4 * standard_error(gap) + 5e-3)

# %% [markdown]
# **Few steps.** One step of Euler's from $t = 0$ uses $v(x, 0) = -x$, and ends at 0: the first thing that a flow learns about
# a sample is that its pair is at the mean. Many steps reach the deviation $s$ with an error of first order.

# %%
deviations = {N: float(pushed(exact.field, torch.ones(1, 1, dtype=torch.float64), N).end) for N in (1, 2, 4, 10, 20, 100)}
print({N: round(value, 5) for N, value in deviations.items()})
check("one step", deviations[1], 1e-12)
check("ten steps", deviations[10] - 1.72313, 1e-5)

# %% [markdown]
# ## 2. Reflow, learned
#
# A second round learns from the pairs $(z_0, z_1)$ of the first flow. In one dimension they do not cross, so that round is
# straight and one step suffices. Here are both rounds with small networks, trained at once: in each step the second learns
# from pairs that the first makes as it is then.

# %%
steps = 400
seeds.seed_everything(2)
rounds = Rounds(rectified(), lambda: PlainMLP(1, 1, 32, 2, nn.SiLU()), 2)
learner = Learner(
    rounds,
    lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
    lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    0.99,
)
objective = InRounds(Reflow(8), Matching())
for _ in fit(learner, gaussians, objective, Plan(steps, 1024, 0.99, None, 1, 1, 1), seed=0):
    pass
z = gaussians.held_out(20_000)[:, 0]
one_step = [float(pushed(flow.field, z, 1).end.std()) for flow in learner.ema.module]
print(f"standard deviation after one step, round 1 and 2: {one_step[0]:.2f}, {one_step[1]:.2f}; the target has {s:.2f}")
check("one step of round 1", one_step[0], 0.6)
check("one step of round 2", one_step[1] - s, 0.3)

# %% [markdown]
# ## 3. Pairs by optimal transport
#
# Pairing the points of a batch by the cheapest assignment shortens the lines. In one dimension it pairs order statistics: the
# correlation of a pair is $\rho_B = \frac1B \sum_i (E Z_{(i:B)})^2$, which is $1/\pi$ for two points and reaches 1 in the
# limit only. In many dimensions the assignment of a batch says little about the optimal map.

# %%
seeds.seed_everything(3)
products = torch.stack([MiniBatchOT()(torch.randn(2, 2, 1)).prod(1).mean() for _ in range(4000)])
check("correlation of pairs, batches of two", products.mean() - 1 / math.pi, 4 * standard_error(products))
for d in (2, 50):
    ends = GaussianEnds(d, [0.0, 0.0], [1.0, 1.0]).held_out(256)
    x, y = (end.numpy() for end in ends.unbind(1))
    matched = float(np.sum((ot.emd([], [], ot.dist(x, y)) @ y) * x) / d)
    print(f"d = {d}: covariance {matched:.2f} in a batch of 256, 1 for the optimal map")

# %% [markdown]
# ## 4. Schrödinger bridges
#
# Of all processes from $\pi_0$ to $\pi_1$ the bridge is nearest to $\sigma W$. It is a mixture of Brownian bridges over the
# plan with entropy, and between $N(0, s_0^2)$ and $N(0, s_1^2)$ that plan has the covariance $c = \frac12 (\sqrt{4 s_0^2
# s_1^2 + \sigma^4} - \sigma^2)$: $s_0 s_1$ without noise, 0 in the limit of much of it.

# %%
golden = (math.sqrt(5) - 1) / 2
check("unit variances, sigma = 1: the golden ratio", plan(one, one, 1.0)[0, 0] - golden, 1e-12)
grid = np.linspace(-8, 8, 321)
weights = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()
sinkhorn = ot.sinkhorn(weights, weights, (grid[:, None] - grid) ** 2, 2.0, stopThr=1e-12, numItermax=2000)
check("Sinkhorn's iteration on a grid, cost + 2 sigma^2 entropy", float(grid @ sinkhorn @ grid) - golden, 1e-6)

# %% [markdown]
# **The process.** With $u$ the probability flow and the score $-x / \Sigma_t$, the drift of the bridge is $u +
# \frac{\sigma^2}{2}$ score. Simulated, it ends with variance 1 and with the covariance above, up to what the steps do.

# %%
bridge = GaussianBridges(one, one, golden * one, 1.0)
start = GaussianEnds(1, [0.0, 0.0], [1.0, 1.0]).held_out(50_000)[:, 0]
times = np.linspace(0, 1, 101).tolist()
end = deque(euler_maruyama(lambda x, t: float(bridge.drift(float(t[0]))[0, 0]) * x, start, times, 1.0), maxlen=1).pop()
check("variance at the end", end.var() - 1.0031, 4 * (2 / len(end)) ** 0.5)  # 1.0031 in 100 steps of Euler and Maruyama's
check("covariance of the ends", (start * end).mean() - golden, 4 * standard_error((start * end)[:, 0]))

# %% [markdown]
# **Two iterations.** Iterative proportional fitting (IPF) starts from $\sigma W$ and corrects one end at a time. For unit
# variances and $\sigma = 1$ its covariances are ratios of Fibonacci numbers. Iterative Markovian fitting (IMF) starts from
# independent ends and alternates Brownian bridges with the Markov process of the same marginals.

# %%
ipf = [C[0, 0] for C in islice(proportional_fitting(one, one, 1.0), 6)]
for k, (found, ratio) in enumerate(zip(ipf, (1 / 2, 2 / 3, 3 / 5, 5 / 8, 8 / 13, 13 / 21), strict=True), 1):
    check(f"half step {k} of IPF", found - ratio, 1e-12)
imf = [C[0, 0] for C in islice(markovian_fitting(one, one, 1.0), 6)]
check("IMF after one round", imf[0] - 0.546293, 1e-6)
check("and after six", imf[5] - golden, 1e-6)

# %% [markdown]
# **Small noise.** A half step of IPF multiplies its error by $-c / (c + \sigma^2)$, nearly $-1$ for small $\sigma$. IMF does
# not mind, in one dimension. Where the covariances of the ends do not commute it does: without noise it is reflow, whose flow
# keeps the rotation that its pairs have.

# %%
S_0, S_1 = np.array([[1, 0.5], [0.5, 1]]), np.array([[2, -0.6], [-0.6, 0.5]])
figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.8), layout="constrained", sharey=True)
for panel, (title, A, B) in zip(axes, (("one dimension", one, one), ("two that do not commute", S_0, S_1)), strict=True):
    for color, sigma in enumerate((1.0, 0.3)):
        for style, name, fitting in (("-", "IMF", markovian_fitting), ("--", "IPF", proportional_fitting)):
            errors = [np.abs(C - plan(A, B, sigma)).max() for C in islice(fitting(A, B, sigma), 12)]
            seen = [error for error in errors if error > 1e-8]
            label = f"{name}, $\\sigma$ = {sigma:g}"
            panel.semilogy(range(1, len(seen) + 1), seen, style, color=f"C{color}", label=label)
    panel.set(xlabel="round", title=title)
axes[0].set(ylabel="distance from the bridge's covariance")
axes[1].legend()
plt.show()
rotating = [np.abs(C - plan(S_0, S_1, 0.3)).max() for C in islice(markovian_fitting(S_0, S_1, 0.3), 12)]
assert (
    rotating[-1]
    > 0.05
    > 1e-6
    > abs([C[0, 0] for C in islice(markovian_fitting(one, one, 0.3), 6)][-1] - plan(one, one, 0.3)[0, 0])
)

# %% [markdown]
# **What a table of divergences measures.** A Gaussian fitted to $n$ samples of the truth is not the truth: its divergence is
# about $d (d + 3) / 4 n$. With $n$ = 10,000 that is small in two dimensions, and in a hundred it is what published tables
# print.

# %%
for d in (2, 5, 20, 50, 100):
    print(
        f"d = {d:3}: {floor(d, 10_000):.4f} nats of full covariances, {floor(d, 10_000, diagonal=True):.4f} of variances alone"
    )
draws = np.random.default_rng(0).standard_normal((200, 100, 2))
fits = [0.5 * (np.trace(np.cov(x.T)) + x.mean(0) @ x.mean(0) - 2 - np.log(np.linalg.det(np.cov(x.T)))) for x in draws]
check("the floor for n = 100, d = 2", np.mean(fits) - floor(2, 100), 4 * np.std(fits) / 200**0.5)

# %% [markdown]
# ## 5. Interpolants: one law, many processes
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
# ## 6. Consistency: a map, and three errors
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
print(f"slopes: flow {float(consistency.exact(one, 2e-3, x, 80.0)[-1] / x[-1]):.6e}, Euler {float(by_euler[-1] / x[-1]):.6e}")
check("slope of the exact map", float(consistency.exact(one, 2e-3, x, 80.0)[-1] / x[-1]) / 6.249928e-3 - 1, 1e-6)
check("training against Euler's distillation, one Gaussian", (by_training - by_euler).abs().max(), 1e-6)

# %% [markdown]
# With two Gaussians that is no longer so, and training is farther from the flow.

# %%
x, by_training = trained(two, grid)
_, by_euler = distilled(two, grid, euler)
truth = consistency.exact(two, 2e-3, x, 80.0)
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
# ## 7. EDM: what a network sees and says
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
truth = consistency.exact(two, 2e-3, x, 80.0)
for solver, order in ((euler, 1), (heun, 2)):
    ends = [deque(solver(flow(two), x, karras(80.0, 2e-3, n + 1)[:-1]), maxlen=1).pop() for n in (70, 140)]
    coarse, fine = (float((end - truth).square().mean()) ** 0.5 for end in ends)
    check(f"order of {solver.__name__}", np.log2(coarse / fine) - order, 0.15)

# %% [markdown]
# ## Exercises
#
# Run all cells first. Each exercise has a folded cell with what your number is compared with, a cell for you, and a folded
# solution; click on the three dots to unfold one.
#
# ### Exercise 1 (section 1)
#
# How far from straight are the paths of a rectified flow from $N(0, 1)$ to $N(0, 9)$, ends paired at random? Give the
# straightness $S$, by a formula or with `pushed`.

# %% jupyter={"source_hidden": true} tags=["check"]
unit = np.eye(1)
wider = GaussianBridges(unit, 9 * unit, 0 * unit, 0.0)
journey = pushed(lambda x, t: torch.from_numpy(wider.velocity(t.numpy())[:, :, 0]) * x, torch.ones(1, 1).double(), 2000)
cost = float((journey.end - 1).square())  # everything is linear in x, so that one point of deviation 1 says all
straight = float(journey.energy) - cost
exercise_1 = Exercise(
    truth=straight,
    unit="",
    allowed=0.01,
    mistakes={
        "what is measured: this is how far the lines cross": 1 + 9 - cost - straight,
        "what is measured: this is all that the flow saves, the crossing of the lines among it": 1 + 9 - cost,
        "what is measured: this is what the flow's way costs": cost,
        "what is measured: this is what the flow spends, straight or not": straight + cost,
        "s: a variance is not a deviation": straight * 3,
    },
)

# %% tags=["exercise"]
straightness_of_3 = ...

exercise_1.judge(straightness_of_3)

# %% jupyter={"source_hidden": true} tags=["solution"]
straightness_of_3 = (2 - math.pi / 2) * 3  # of s + s - V: the lines cost 1 + s^2, the flow (s - 1)^2, and they cross by V

assert exercise_1.right(straightness_of_3)

# %% [markdown]
# ### Exercise 2 (section 4)
#
# Which covariance have the ends of the Schrödinger bridge from $N(0, 1)$ to $N(0, 4)$ with $\sigma = \tfrac32$?

# %% jupyter={"source_hidden": true} tags=["check"]
noise = 1.5
bridged = plan(unit, 4 * unit, noise)[0, 0]
exercise_2 = Exercise(
    truth=bridged,
    unit="",
    allowed=1e-3,
    mistakes={
        "the variances: they are not deviations": plan(unit, 2 * unit, noise)[0, 0],
        "the power of sigma": plan(unit, 4 * unit, math.sqrt(noise))[0, 0],
        "the weight of the entropy, which is 2 sigma^2 for the cost |x - y|^2": plan(unit, 4 * unit, noise / math.sqrt(2))[
            0, 0
        ],
        "the noise: this is the map without any": plan(unit, 4 * unit, 1e-6)[0, 0],
        "the number of half steps: this is the first of IPF": next(proportional_fitting(unit, 4 * unit, noise))[0, 0],
        "the number of rounds: this is the first of IMF": next(markovian_fitting(unit, 4 * unit, noise))[0, 0],
        "the scale: this is a correlation": bridged / 2,
    },
)

# %% tags=["exercise"]
covariance_of_the_ends = ...

exercise_2.judge(covariance_of_the_ends)

# %% jupyter={"source_hidden": true} tags=["solution"]
covariance_of_the_ends = (math.sqrt(4 * 1 * 4 + 1.5**4) - 1.5**2) / 2

assert exercise_2.right(covariance_of_the_ends)

# %% [markdown]
# ### Exercise 3 (section 4). Find the bug
#
# The bridge between unit variances with $\sigma = 1$, simulated: $dx = a_t x\, dt + dw$. It must end with variance 1. What
# is compared is the variance after 1000 steps of Euler and Maruyama, by its recursion, without any walker.

# %% jupyter={"source_hidden": true} tags=["check"]
steady = GaussianBridges(unit, unit, plan(unit, unit, 1.0), 1.0)


def variance_at_the_end(slope):
    variance, number = 1.0, 1000
    for i in range(number):
        variance = (1 + slope(i / number) / number) ** 2 * variance + 1 / number
    return variance


def with_factor(factor):
    """u - factor x / Sigma_t."""
    return lambda t: float(steady.velocity(t)[0, 0] - factor / steady.covariance(t)[0, 0])


exercise_3 = Exercise(
    truth=1.0,
    unit="",
    allowed=0.005,
    mistakes={
        "the drift: who draws together what the noise spreads?": variance_at_the_end(with_factor(0.0)),
        "the factor of the score": variance_at_the_end(with_factor(1.0)),
        "the sign of the score": variance_at_the_end(with_factor(-0.5)),
    },
)


# %% tags=["exercise"]
def slope(t):
    """a_t, from the Gaussian bridges `steady`."""
    return float(steady.velocity(t)[0, 0])


exercise_3.judge(variance_at_the_end(slope))


# %% jupyter={"source_hidden": true} tags=["solution"]
def slope(t):
    """The field moves the density without noise; with noise the drift needs sigma^2 / 2 times the score, -x / Sigma_t, too."""
    return float(steady.velocity(t)[0, 0] - 0.5 / steady.covariance(t)[0, 0])


assert exercise_3.right(variance_at_the_end(slope))
