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
# # Real time: from the chain to the flow
#
# The chain of Sohl-Dickstein et al. (2015) and of Ho et al. (2020) is a discretisation of something that has no steps. This
# notebook takes the steps away: first a stochastic differential equation, then the equation that its density obeys, then a
# flow without any noise that has the same marginals (Song et al. 2021), and last the likelihoods that all of them give to
# the same data. As in `01_swiss_roll.py`, everything is checked against something that was computed in another way; a check
# prints the difference and how large it may be, and averages over random draws are allowed four standard errors.
#
# The data are a mixture of two Gaussians on a line. Its density, score and posterior are known at every noise level, so that
# no network stands between us and the mathematics until section 6.

# %%
import math
from functools import partial
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import dpm
from dpm import seeds
from dpm.bound import bound, decoder_edges
from dpm.continuous import VariancePreserving
from dpm.data.mixtures import GaussianMixture, MixtureDenoiser
from dpm.data.synthetic import GaussianData
from dpm.decoders import Network
from dpm.figures import STYLE
from dpm.figures.likelihoods import estimates
from dpm.flows import axes, log_density, noise_level, probability_flow
from dpm.fokker_planck import CRANK_NICOLSON, cells, coefficients, evolve
from dpm.information import entropy, entropy_from_mmse, expectation, fisher_information
from dpm.labs import Exercise
from dpm.predictions.papers import X0, Epsilon
from dpm.processes import at, per_example
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import ode
from dpm.samplers.ancestral import grid
from dpm.samplers.ddim import DDIM, ddim
from dpm.schedules import linear
from dpm.study.records import standard_error
from dpm.study.results import Results
from dpm.trajectories import log_mean_exp, log_weights, transitions_in_the_limit
from dpm.variances import FixedLarge

ROOT = Path(dpm.__file__).parents[2]

torch.set_num_threads(1)  # small tensors are faster on one core
plt.style.use(STYLE)
seeds.seed_everything(0)


def check(what, difference, allowed):
    print(f"{what}: difference {float(difference):+.1e}, allowed {float(allowed):.1e}")
    assert abs(difference) <= allowed


def average(values):
    """Mean and standard error."""
    return float(values.mean()), standard_error(values.numpy())


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


# %% [markdown]
# ## 1. One density at every noise level
#
# $x_t = \alpha_t x_0 + \sigma_t \varepsilon$ of a mixture is a mixture, with means $\alpha_t m_k$ and variances
# $\alpha_t^2 v_k + \sigma_t^2$. That is all that makes this example easy.

# %%
data = GaussianMixture(weights=[0.3, 0.7], means=[[-1.0], [0.5]], covariances=[[0.04], [0.01]])
x_0 = data.held_out(4000)
h_0 = float(entropy(data, 1.0, 0.0))
print(f"entropy of the data {h_0:.6f} nats")
value, error = average(-data.log_density(x_0, 1.0, 0.0))
check("entropy, examples against quadrature (nats)", value - h_0, 4 * error)

# %% [markdown]
# ## 2. From steps to a rate
#
# One step of the chain is $x_t = \sqrt{1 - \beta_t}\, x_{t-1} + \sqrt{\beta_t}\, n$. Cut the same time into ever more steps
# with $\beta = \beta(t)\, dt$: since $\sqrt{1 - \beta\, dt} \approx 1 - \beta\, dt / 2$, the limit is
#
# $$dx = -\tfrac12 \beta(t)\, x\, dt + \sqrt{\beta(t)}\, dw, \qquad \bar\alpha_t = \exp\left(-\int_0^t \beta\right).$$
#
# The code goes the other way, too: `linear(1000, ...)` is a chain whose $\log\bar\alpha_t$ is linear *between* whole steps. It
# answers at any real $t$, is a differential equation with a piecewise constant rate, and its marginals at whole steps are
# exactly the chain's. Beside it stands the equation with the same two ends, `VariancePreserving(0.1, 20)` on $[0, 1]$.

# %%
chain, equation = linear(1000, 1e-4, 0.02), VariancePreserving(0.1, 20.0)
product = torch.cumprod(1 - chain.betas, 0)
alpha, sigma = chain(torch.arange(1, 1001).double())
check("alpha_bar at whole steps of real time against the product", (alpha**2 - product).abs().max(), 1e-14)
alpha, sigma = (float(c) for c in equation(real(1.0)))
print(f"alpha_bar at the end: chain {float(product[-1]):.6e}, equation {alpha**2:.6e}")

# %% [markdown]
# Is the rate right? Many walkers start at one point and take small steps of the equation (Euler and Maruyama). Each step
# errs by a little, the sum of them by the first power of the step, so we halve it and see the error of the variance halve.

# %%
errors = []
for steps in (50, 100, 200):
    v = real(0.0)  # the variance of the walkers obeys the same recursion, without any walker
    for t in torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:-1]:
        rate = 0.1 + 19.9 * t
        v = (1 - rate / (2 * steps)) ** 2 * v + rate / steps
    errors.append(float(v) - sigma**2)
print("errors of the variance:", [f"{e:.2e}" for e in errors])
check("halving the step, ratio of errors against 2", errors[1] / errors[2] - 2, 0.1)

# %% [markdown]
# ## 3. The density moves by an equation of its own
#
# Walkers are random, their density is not. With $f = \alpha' / \alpha$ and $g^2 = 2\sigma\sigma' - 2 f \sigma^2$ it obeys the
# Fokker-Planck equation,
#
# $$\partial_t q = -\partial_x (f x\, q) + \tfrac12 g^2\, \partial_x^2 q .$$
#
# We solve it on a grid from $t = 0.05$ on and never show it the exact density again.


# %%
def exact(x, t):
    return data.log_density(torch.from_numpy(x)[:, None], *equation(real(t))).exp().numpy()


def solved(number):
    x = cells(5.0, number)
    *_, p = evolve(CRANK_NICOLSON, equation, x, exact(x, 0.05), 0.05, 0.5, number // 2)
    return x, p


distances = {}
for number in (200, 400, 800):
    x, p = solved(number)
    distances[number] = np.abs(p - exact(x, 0.5)).sum() * (x[1] - x[0])
check("order of convergence against 2", math.log2(distances[400] / distances[800]) - 2, 0.05)

figure, panel = plt.subplots(figsize=(4.4, 2.6), layout="constrained")
panel.plot(x, exact(x, 0.05), ":", label="t = 0.05, given")
panel.plot(x, exact(x, 0.5), "-", label="t = 0.5, exact")
panel.plot(x[::20], p[::20], "o", markersize=3, label="t = 0.5, solved")
panel.set(xlabel="x", ylabel="density", xlim=(-3, 3))
panel.legend()
plt.show()

# %% [markdown]
# Integrate the equation times $-\log q$ by parts, and the entropy turns out to grow at the rate $f + \frac12 g^2 J$, where
# $J = E (\partial_x \log q)^2$ is the Fisher information (de Bruijn). Left a difference quotient, right the formula.

# %%
t, h = 0.3, 1e-4
f, g2 = coefficients(equation, real(t))
slope = (entropy(data, *equation(real(t + h))) - entropy(data, *equation(real(t - h)))) / (2 * h)
check("rate of entropy (nats per unit of time)", slope - (f + g2 / 2 * fisher_information(data, *equation(real(t)))), 1e-5)

# %% [markdown]
# ## 4. A flow with the same marginals
#
# Write $\partial_x^2 q = \partial_x (q\, \partial_x \log q)$ and the equation becomes one without diffusion,
#
# $$\partial_t q = -\partial_x \left[ \left( f x - \tfrac12 g^2\, \partial_x \log q_t \right) q \right],$$
#
# the equation of walkers that all follow the field in the bracket and draw no noise: the **probability flow**. Its only
# ingredient is the score, and the score is a denoiser (Tweedie):
#
# $$\sigma_t^2\, \partial_x \log q_t = \alpha_t E[x_0 \mid x_t] - x_t .$$
#
# Two changes of variables make it simple. In $y = x_t / \alpha_t$ every Gaussian process is $y = x_0 + s\,\varepsilon$, and the
# noise level $s = \sigma_t / \alpha_t$ can serve as time. What remains is
#
# $$\frac{dy}{ds} = \frac{y - \hat x_0(y, s)}{s} .$$

# %%
q = GaussianDiffusion(equation)
model = GaussianReverse(q, MixtureDenoiser(data, equation), X0(), FixedLarge(), Network())
field = probability_flow(model)
x_t = real(-1.5, -0.5, 0.0, 0.4, 1.0)[:, None]
t = at(x_t, 0.3)
(alpha, sigma), (d_alpha, d_sigma) = equation(t), equation.rates(t)
(f, g2), score = coefficients(equation, t), data.score(x_t, alpha, sigma)
by_bracket = per_example(f, x_t) * x_t - per_example(g2 / 2, x_t) * score
s = sigma / alpha
ds_dt = (d_sigma * alpha - sigma * d_alpha) / alpha**2
by_level = per_example(d_alpha / alpha, x_t) * x_t + per_example(alpha * ds_dt, x_t) * field(x_t / per_example(alpha, x_t), s)
check("dx/dt, bracket against the flow in noise levels", (by_bracket - by_level).abs().max(), 1e-9)

# %% [markdown]
# Euler's step of this equation is not new: it is the sampler DDIM of Song, Meng and Ermon, which they found without any
# differential equation. On the chain, step by step:

# %%
discrete = GaussianReverse(GaussianDiffusion(chain), MixtureDenoiser(data, chain), X0(), FixedLarge(), Network())
times = [*range(1000, 0, -100), 1]
x_T = torch.randn(5, 1, dtype=torch.float64)
*_, by_ddim = (x for x, t in zip(ddim(discrete, x_T, [*times, 0]), times[1:], strict=False))
levels = [noise_level(chain, t) for t in times]
alpha_T, alpha_1 = (float(chain(torch.tensor(t))[0]) for t in (1000, 1))
*_, by_euler = ode.euler(probability_flow(discrete), x_T / alpha_T, levels)
check("ten steps of DDIM against ten of Euler", (by_ddim - alpha_1 * by_euler).abs().max(), 1e-9)

# %% [markdown]
# A flow is a map, and in one dimension the only increasing map between two laws. Paths never cross; which noise becomes which
# datum is decided at the start.

# %%
start, end = noise_level(equation, 1.0), 1e-3
path_levels = np.geomspace(start, end, 200)
y = start * torch.linspace(-2.2, 2.2, 23, dtype=torch.float64)[:, None]
paths = torch.stack([y, *ode.heun(field, y, path_levels)])[..., 0]
drawn = start * torch.randn(4000, 1, dtype=torch.float64)
*_, samples = ode.heun(field, drawn, path_levels)
check("no path crosses: least distance of neighbours", min(0.0, float(paths.diff(dim=1).min())), 0.0)
value, error = average(-data.log_density(samples, 1.0, end))
check("cross entropy of 4,000 samples (nats)", value - float(entropy(data, 1.0, end)), 4 * error)

figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.8), layout="constrained")
left.plot(path_levels, paths.numpy() / np.hypot(1, path_levels)[:, None], color="C0", linewidth=0.8)
left.set(xlabel="noise level s", ylabel="$y / \\sqrt{1 + s^2}$", xscale="log")
left.invert_xaxis()
right.hist(samples[:, 0].numpy(), bins=60, density=True, color="0.8", label="samples of the flow")
line = np.linspace(-2, 1.2, 400)
right.plot(line, data.log_density(torch.from_numpy(line)[:, None], 1.0, 0.0).exp(), label="density of the data")
right.set(xlabel="x", ylabel="density")
right.legend()
plt.show()

# %% [markdown]
# ## 5. The likelihood of a flow
#
# Along a path the log density changes by minus the divergence of the field, so
#
# $$\log p(x_0) = \log \pi(x_T) + \int \mathrm{div}\, \text{field}\; dt ,$$
#
# one more number to integrate beside the path. It is the *model's* density, not the data's: the model starts in $\pi$ and not
# in $q_T$. But the flow is a bijection and loses nothing on the way, so that on average it is worse than the data's own density
# by $\mathrm{KL}(q_T \| \pi)$ exactly, however much single points differ.

# %%
solve = partial(ode.adaptive, tolerance=1e-7)
x, weights = expectation(data, 1.0, 0.0)
few, share = x[::20], weights[::20] * 20
log_p = log_density(model, few, 1e-7, solve, axes(few))
check("integral of the model's density, minus 1", (share * (log_p - data.log_density(few, 1.0, 0.0)).exp()).sum() - 1, 1e-4)
end_x, end_weights = expectation(data, *equation(real(1.0)))
pi = torch.distributions.Normal(0.0, 1.0)
kl = float(end_weights @ (data.log_density(end_x, *equation(real(1.0))) - pi.log_prob(end_x[:, 0])))
check("mean -log p minus entropy, against KL(q_T || pi) (nats)", -(share * log_p).sum() - h_0 - kl, 1e-4)
apart = (log_p - data.log_density(few, 1.0, 0.0)).abs().max()
print(f"KL(q_T || pi) = {kl:.2e}; largest difference of single points {float(apart):.1e}")

# %% [markdown]
# ## 6. One network, three models
#
# Now let the network be wrong. For data $N(0, 1)$ and $\hat\varepsilon = (1 + \delta)\, \varepsilon^*$, the reverse equation,
# the flow and the bound of infinitely many steps are all Gaussian and can be written down: with $B = \int \beta = 10.05$,
# the variance of what the equation draws is $1 / (1 + 2\delta)$, that of the flow $e^{-B\delta}$, and the bound exceeds the
# entropy by $B \delta^2 / 2$. They are three different models.


# %%
class Wrong(torch.nn.Module):
    """eps-hat = (1 + delta) E[eps | x_t] for x_0 ~ N(0, 1)."""

    def __init__(self, delta):
        super().__init__()
        self.delta = delta

    def forward(self, x, t):
        alpha, sigma = equation(t)
        return per_example((1 + self.delta) * sigma / (alpha**2 + sigma**2), x) * x


delta, B = 0.05, 10.05
wrong = GaussianReverse(q, Wrong(delta), Epsilon(), FixedLarge(), Network())
normal = GaussianData(1, 0.0, 1.0)
h = 0.5 * math.log(2 * math.pi * math.e)
points = real(0.0, 1.0)[:, None]  # -log p of the flow is quadratic: its value at 1 is the mean over N(0, 1)
flow = -log_density(wrong, points, 1e-9, solve, axes(points))[1]
of_flow = 0.5 * math.log(2 * math.pi) - B * delta / 2 + math.exp(B * delta) / 2
check("cross entropy of the flow against its closed form (nats)", flow - of_flow, 1e-4)
of_equation = 0.5 * math.log(2 * math.pi / (1 + 2 * delta)) + (1 + 2 * delta) / 2
print(f"nats above the entropy: equation {of_equation - h:.6f}, its bound {B * delta**2 / 2:.6f}, flow {float(flow) - h:.6f}")
assert of_equation < h + B * delta**2 / 2 < flow

# %% [markdown]
# A scale error of one twentieth costs the flow thirty times what it costs the equation. "The likelihood of a flow is exact"
# means: exact for a model that amplifies the error.
#
# ## 7. Estimators of one chain
#
# Back to whole steps: a hundred of them, with the exact denoiser and the variance $\beta_t$. The bound by one trajectory, the
# importance-weighted bound by more of them, the limit of infinitely many steps by its noise levels (once more as a difference
# from the denoising error of a Gaussian, at the same draws), and the flow from $t = 1$ on with the chain's own last step. All
# bound the truth from above.

# %%
hundred = linear(100, 1e-3, 0.2)
short = GaussianReverse(GaussianDiffusion(hundred), MixtureDenoiser(data, hundred), X0(), FixedLarge(), Network())
few = x_0[:1000]
log_w = log_weights(short, few, grid(100, 100), 16)
one = at(few, 1)
x_1 = short.process.marginal(few, one).sample()
decoded = -short(x_1, one - 1, one).log_prob(few)
prior = decoder_edges.prior(short, few)
tail = short.process.marginal(few, one).log_prob(x_1)
plain, by_difference = (prior + total + decoded for total in transitions_in_the_limit(short, few, 20))
rows = {
    "bound, all terms": bound(short, few, decoder_edges).total,
    "1 trajectory": -log_mean_exp(log_w, 1),
    "4 trajectories": -log_mean_exp(log_w, 4),
    "16 trajectories": -log_mean_exp(log_w, 16),
    "infinitely many steps": plain,
    "the same, less spread": by_difference,
    "probability flow": decoded + tail - log_density(short, x_1, 1, partial(ode.adaptive, tolerance=1e-5), axes(few)),
}
truth, _ = average(-data.log_density(few, 1.0, 0.0))
means = {}
for name, values in rows.items():
    means[name], error = average(values + data.log_density(few, 1.0, 0.0))
    print(f"{name:24s} {means[name]:+.4f} ± {error:.4f} nats above the truth")
    assert means[name] > -4 * error
for a, b in pairwise(["1 trajectory", "4 trajectories", "16 trajectories"]):
    assert means[a] > means[b]

# %% [markdown]
# ## 8. Bits from squared errors
#
# Why does regressing on noise train a likelihood at all? The entropy of the data is that of a Gaussian of equal variance
# minus half the area between two curves of denoising error, over the signal-to-noise ratio (Guo, Shamai, Verdú 2005).

# %%
check("entropy from denoising errors (nats)", entropy_from_mmse(data) - h_0, 1e-6)

# %% [markdown]
# ## 9. The committed result
#
# The same table for trained networks: this mixture and a chain of a hundred steps, and below it the Swiss roll. Made by
# `experiments/evaluate.py ... evaluators=likelihoods_of_points`, drawn from `results/`.

# %%
results = Results(ROOT / "results")
for name in ("ho_2020/mixture_likelihoods", "sohl_dickstein_2015/swiss_roll_mlp_likelihoods"):
    print(name)
    for m in results.of(name)[0].record.measurements:
        estimator, K = str(m.protocol.get("estimator", "")), str(m.protocol.get("K", ""))
        print(f"  {m.quantity:24s} {estimator:18s} {K:>3s} {m.value:+.4f} {m.unit}")

# %%
estimates([run.record for run in results.of("ho_2020/mixture_likelihoods")])

# %% [markdown]
# ## Exercises
#
# Run all cells first. Each exercise has a folded cell with what your number is compared with, a cell for you, and a folded
# solution; click on the three dots to unfold one.
#
# ### Exercise 1 (section 4). Find the bug
#
# For data $N(0, \tfrac14)$ the score is known, and one path of the probability flow says all: it starts one standard
# deviation from the mean at $t = 1$, and must end one standard deviation from it. Mend `velocity`.


# %% jupyter={"source_hidden": true} tags=["check"]
def deviation(t):
    """Of x_t, for data of variance 1/4."""
    alpha, sigma = equation(real(t))
    return float((alpha**2 / 4 + sigma**2).sqrt())


def end_of(velocity):
    """Where Heun's steps lead at t = 0.001."""
    *_, x = ode.heun(velocity, real(deviation(1.0))[:, None], np.geomspace(1.0, 1e-3, 60))
    return float(x)


def with_factor(factor, power=0):
    """f x + factor sigma^power g^2 score."""

    def velocity(x, t):
        (alpha, sigma), (f, g2) = equation(t), coefficients(equation, t)
        return (f - factor * sigma**power * g2 / (alpha**2 / 4 + sigma**2))[:, None] * x

    return velocity


exercise_1 = Exercise(
    truth=deviation(1e-3),
    unit="",
    allowed=1e-3,
    mistakes={
        "the factor of the score: the reverse equation has noise, and another one": end_of(with_factor(-1.0)),
        "the sign of the score: a flow against the noise climbs the density": end_of(with_factor(0.5)),
        "the score: without it the flow only scales": end_of(with_factor(0.0)),
        "the score: the noise is -sigma times it": end_of(with_factor(-0.5, power=1)),
    },
)


# %% tags=["exercise"]
def velocity(x, t):
    """dx/dt of the probability flow at x (n, 1), t (n,)."""
    (alpha, sigma), (f, g2) = equation(t), coefficients(equation, t)
    score = -x / (alpha**2 / 4 + sigma**2)[:, None]
    return f[:, None] * x - g2[:, None] * score


exercise_1.judge(end_of(velocity))


# %% jupyter={"source_hidden": true} tags=["solution"]
def velocity(x, t):
    """Half of g^2: the reverse equation takes the other half for what its own noise spreads."""
    (alpha, sigma), (f, g2) = equation(t), coefficients(equation, t)
    score = -x / (alpha**2 / 4 + sigma**2)[:, None]
    return f[:, None] * x - g2[:, None] / 2 * score


assert exercise_1.right(end_of(velocity))

# %% [markdown]
# ### Exercise 2 (section 4). Find the bug
#
# Eight steps of DDIM from $x_{900} = 1$ to $t = 100$, on the chain of a thousand steps with its exact denoiser. The result
# looks plausible, and is not that of `dpm.samplers.ddim`.


# %% jupyter={"source_hidden": true} tags=["check"]
def walked(step):
    x = real(1.0)[:, None]
    for t in range(900, 100, -100):
        x = step(x, t, t - 100)
    return float(x)


def with_times(of_level, of_network=0):
    """DDIM whose noise levels, or whose network, are told a time beside the right one."""

    def step(x, t, s):
        (now, sigma_t), (then, sigma_s) = (chain(torch.tensor(u + of_level)) for u in (t, s))
        x_0 = discrete.predicted(x, at(x, t + of_network))
        return then * x_0 + sigma_s / sigma_t * (x - now * x_0)

    return step


exercise_2 = Exercise(
    truth=walked(lambda x, t, s: DDIM(discrete, 0.0)(x, at(x, s), at(x, t)).mean),
    unit="",
    allowed=1e-9,
    mistakes={
        "the index: which t does the first entry belong to?": walked(with_times(1)),
        "the index: one too early": walked(with_times(-1)),
        "the time that the network is told": walked(with_times(0, -1)),
    },
)

# %% tags=["exercise"]
alpha_bars = torch.cumprod(1 - chain.betas, 0)


def step(x, t, s):
    """x_s of x_t (n, 1), DDIM without noise; t and s are numbers."""
    now, then = alpha_bars[t], alpha_bars[s]
    x_0 = discrete.predicted(x, at(x, t))
    eps = (x - now.sqrt() * x_0) / (1 - now).sqrt()
    return then.sqrt() * x_0 + (1 - then).sqrt() * eps


exercise_2.judge(walked(step))

# %% jupyter={"source_hidden": true} tags=["solution"]
alpha_bars = torch.cat([real(1.0), torch.cumprod(1 - chain.betas, 0)])  # alpha_bar_0 = 1 first: then the index is t

assert exercise_2.right(walked(step))

# %% [markdown]
# ### Exercise 3 (section 5)
#
# Papers give likelihoods of images in bits per dimension of the 256 grey levels, while a flow has the density of pixels
# that were scaled to $[-1, 1]$ and dequantised with noise as wide as a level. Turn the log density of an image (nats, all
# $d$ dimensions) into bits per dimension. Checked on uniform noise, for which everybody needs the same number of bits.

# %% jupyter={"source_hidden": true} tags=["check"]
d = 3 * 32 * 32
log_p = -d * math.log(256 * 2 / 255)  # 256 levels, 2/255 apart
per_nat = -log_p / d

exercise_3 = Exercise(
    truth=math.log2(256),
    unit="bits/dim",
    allowed=1e-3,
    mistakes={
        "the width of a level": per_nat / math.log(2),
        "the width of a level: 256 of them have 255 gaps": per_nat / math.log(2) + math.log2(128),
        "the sign of the width's logarithm": per_nat / math.log(2) - math.log2(255 / 2),
        "the unit: these are nats": per_nat + math.log(255 / 2),
        "the number of dimensions: each has a width": -log_p / math.log(2) + math.log2(255 / 2),
        "the sign: fewer bits are better": -math.log2(256),
    },
)


# %% tags=["exercise"]
def bits_per_dim(log_p, d):
    return ...


exercise_3.judge(bits_per_dim(log_p, d))


# %% jupyter={"source_hidden": true} tags=["solution"]
def bits_per_dim(log_p, d):
    """The mass of a level is the density times its width, in each dimension."""
    return -(log_p / d + math.log(2 / 255)) / math.log(2)


assert exercise_3.right(bits_per_dim(log_p, d))

# %% [markdown]
# ### Exercise 4 (section 7). Find the bug
#
# Ho et al. (2020, section 4.3) report a reconstruction that is off by 0.95 grey levels (root of the mean square), and 1.97
# bits/dim for it: $E[-\log_2 p(x_0 \mid x_1)]$ of a Gaussian around it, times the width of a level. The variance of that
# step is not among the $\tilde\beta_t$, since $\tilde\beta_1 = 0$. What did they take? Mend `decoder_variance`.


# %% jupyter={"source_hidden": true} tags=["check"]
def distortion(variance):
    """Bits/dim of a Gaussian decoder that misses by 0.95136 grey levels."""
    rmse, level = 0.95136 * 2 / 255, 2 / 255
    return (0.5 * math.log(2 * math.pi * variance) + rmse**2 / (2 * variance) - math.log(level)) / math.log(2)


beta_1, beta_2 = chain.betas[:2].tolist()
beta_tilde_2 = float(GaussianDiffusion(chain).step(torch.tensor(1), torch.tensor(2)).posterior_variance)
exercise_4 = Exercise(
    truth=distortion(beta_tilde_2),
    unit="bits/dim",
    allowed=0.005,
    mistakes={
        "the step's variance: beta_1 is that of the forward step": distortion(beta_1),
        "the step's variance: beta_2 is that of a forward step": distortion(beta_2),
        "the decoder's argument: it is a variance": distortion(beta_tilde_2**0.5),
    },
)


# %% tags=["exercise"]
def decoder_variance(betas):
    """Of p(x_0 | x_1), given beta_1, ..., beta_T."""
    return float(betas[0])


exercise_4.judge(distortion(decoder_variance(chain.betas)))


# %% jupyter={"source_hidden": true} tags=["solution"]
def decoder_variance(betas):
    """beta-tilde_2 = beta_2 (1 - alpha_bar_1) / (1 - alpha_bar_2), half of beta_1: of both fixed variances in the release."""
    beta_1, beta_2 = betas[:2].tolist()
    return beta_2 * beta_1 / (1 - (1 - beta_1) * (1 - beta_2))


assert exercise_4.right(distortion(decoder_variance(chain.betas)))

# %% [markdown]
# ## Questions
#
# 1. In section 2, which power of the step does the error of the *mean* have? Find a step that makes both exact, for a
#    constant rate.
# 2. Replace Heun by Euler in section 4. How many looks at the denoiser does each need for samples whose cross entropy is
#    right to a thousandth of a nat?
# 3. In section 5, draw $\log p - \log q$ against $x$. Where is the model above the data's density, and why must the difference
#    average to less than zero?
# 4. In section 6, for which sign of $\delta$ does the flow lose less, and for which the equation? Explain both by the variance
#    of what is drawn.
# 5. Section 7 with `FixedSmall()` in place of `FixedLarge()`: the bound is far worse, the model is not. Which estimator tells?
