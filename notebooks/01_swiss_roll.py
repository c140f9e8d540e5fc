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
# # The Swiss roll, derived
#
# Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015, arXiv 1503.03585) begin with the smallest example there is: a
# spiral in the plane, forty steps of noise, and a tiny network that undoes them. Everything in this notebook is derived
# before it is used, and every derivation ends with a check against something that was computed in another way. At the end
# stands the number of the paper beside ours.
#
# Notation, as in the code: $x_0$ is data, $x_t$ is data after $t$ steps of noise, $q$ is the forward process that we choose,
# $p$ the reverse process that we learn. Formulas are in nats, printed numbers in bits (1 bit = $\log 2$ nats). A check prints
# the difference of two ways to the same thing and how large it may be; where one of them is an average over random draws,
# four standard errors are allowed.

# %%
import math
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.distributions import kl_divergence

import dpm
from dpm import seeds
from dpm.bound import bound, decoder_edges, entropy_edges, stationary_edges
from dpm.data.synthetic import GaussianData, SwissRoll
from dpm.decoders import Stationary
from dpm.errors import UserError
from dpm.evaluators.bound import NATS_PER_BIT, AllTerms
from dpm.evaluators.truth import log_density_of_x_1
from dpm.figures import STYLE, load_arrays
from dpm.figures.swiss_roll import figure_1
from dpm.figures.terms import per_step
from dpm.labs import Exercise
from dpm.networks.mlp import FourierMLP
from dpm.objectives.one_term import OneTerm
from dpm.oracles.gaussian import GaussianOracle
from dpm.predictions.papers import Epsilon
from dpm.processes.gaussian import GaussianDiffusion
from dpm.report.pages import load_pages
from dpm.report.rows import summary_rows
from dpm.reverse.gaussian import GaussianReverse
from dpm.schedules import LearnedBetaSchedule, constant_erasure, geometric
from dpm.study.claims import load_claims
from dpm.study.records import standard_error
from dpm.study.results import Results
from dpm.training import Learner, Plan, fit
from dpm.variances import SigmoidPerturbation

ROOT = Path(dpm.__file__).parents[2]
TABLE_1 = "sohl_dickstein_2015/table1/swiss_roll"

torch.set_num_threads(1)  # small tensors are faster on one core
plt.style.use(STYLE)
seeds.seed_everything(0)


def check(what, difference, allowed):
    print(f"{what}: difference {float(difference):+.1e}, allowed {float(allowed):.1e}")
    assert abs(difference) <= allowed


def average(values):
    """Mean and standard error."""
    return float(values.mean()), standard_error(values.numpy())


def at(x, t):
    """The time t, once for each row of x."""
    return torch.full((len(x),), t)


# %% [markdown]
# ## 1. The data, and what is true of it
#
# A point of the roll is a point of a spiral plus a little noise:
#
# $$x_0 = m(\varphi) + \sqrt{v}\, n, \qquad m(\varphi) = c\,\varphi\,(\cos\varphi, \sin\varphi), \qquad
#   \varphi \sim U[\tfrac32\pi, \tfrac92\pi], \quad n \sim N(0, I).$$
#
# The paper gives neither the generator nor the noise; these are our choices, and so is $v$. On the left the roll, on the
# right a piece of it under the microscope with its exact density: the roll is a very thin ridge.

# %%
T, beta_1, v = 40, 1e-6, 1e-6
roll = SwissRoll(noise_variance=v)
x_0 = roll.held_out(4000)

# %%
centre, reach = roll.curve(torch.tensor(3 * math.pi, dtype=torch.float64)), 5 * math.sqrt(v)
offsets = torch.linspace(-reach, reach, 121, dtype=torch.float64)
window = centre + torch.cartesian_prod(offsets, offsets)
log_q = roll.log_density(window, alpha=1.0, sigma=0.0).reshape(121, 121) / NATS_PER_BIT

figure, (whole, piece) = plt.subplots(1, 2, figsize=(6.6, 3.0), layout="constrained")
whole.scatter(*x_0.T, s=2, linewidths=0)
whole.set(xlabel="$x_0$, first coordinate", ylabel="second coordinate", aspect="equal")
image = piece.pcolormesh(1e3 * offsets, 1e3 * offsets, log_q.T, vmin=log_q.max() - 12, rasterized=True)
piece.set(xlabel="offset in $10^{-3}$, first coordinate", ylabel="second coordinate", aspect="equal")
figure.colorbar(image, label="$\\log_2 q(x_0)$")
plt.show()

# %% [markdown]
# **The density.** Given $\varphi$, the point is Gaussian. Without it, $q$ is a mixture of Gaussians along the curve:
#
# $$q(x_0) = \frac{1}{3\pi} \int_{3\pi/2}^{9\pi/2} N\left(x_0;\, m(\varphi),\, v I\right) d\varphi .$$
#
# `roll.log_density` integrates with Gauss-Legendre panels that follow the noise. Here is the same integral by the crudest
# rule there is, a million midpoints.

# %%
low, high = SwissRoll.PHI
phi = low + (high - low) * (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
points = x_0[:5]
squared = torch.stack([(x - roll.curve(phi)).square().sum(1) for x in points])
midpoints = torch.logsumexp(-squared / (2 * v), 1) - math.log(len(phi)) - math.log(2 * math.pi * v)
check("log density at five points (nats)", (midpoints - roll.log_density(points, 1.0, 0.0)).abs().max(), 1e-6)

# %% [markdown]
# **The entropy.** No model can score a higher expected log likelihood than the data's own, $E \log q(x_0) = -h(X_0)$ (Gibbs).
# For a thin roll we can also write it down. Along the curve, whose speed is $c\sqrt{1 + \varphi^2}$, the density is
# $1 / (3\pi\, c \sqrt{1 + \varphi^2})$; across it stands a one-dimensional Gaussian of variance $v$:
#
# $$h(X_0) \approx \underbrace{E \log\left(3\pi\, c \sqrt{1 + \varphi^2}\right)}_{\text{along}}
#   + \underbrace{\tfrac12 \log(2\pi e\, v)}_{\text{across}} .$$
#
# Remember the second term: each halving of the noise *standard deviation* makes the data one bit more predictable, without
# end.

# %%
along = float((3 * math.pi * roll.scale * (1 + phi**2).sqrt()).log().mean())


def thin_curve_entropy(variance):
    """Entropy of the roll with noise of this variance, in bits."""
    return (along + 0.5 * math.log(2 * math.pi * math.e * variance)) / NATS_PER_BIT


h_0, error = average(-roll.log_density(x_0, 1.0, 0.0) / NATS_PER_BIT)
print(f"h(X_0) = {h_0:.3f} ± {error:.3f} bits")
check("entropy, exact density against thin curve (bits)", h_0 - thin_curve_entropy(v), 4 * error)

# %% [markdown]
# **Why variance 1.** The reverse process starts from $\pi = N(0, I)$, and the null model of the paper *is* $\pi$. In $d$
# dimensions
#
# $$E[-\log \pi(x)] = \tfrac d2 \log 2\pi + \tfrac12 E\lVert x \rVert^2 \quad\text{equals}\quad H_\pi = \tfrac d2 \log 2\pi e
#   \quad\text{exactly if}\quad E\lVert x \rVert^2 = d .$$
#
# So the constant $c$ is chosen such that the mean of $x_0^2$ over both coordinates is one, $c^2 E\varphi^2 / 2 + v = 1$.
# (About the origin, not about the mean; no centring is needed.) Then $L_\mathrm{null} = E \log \pi(x_0) = -H_\pi$, for any
# data of variance 1. The paper's own two numbers for the roll show it: their difference must be $-H_\pi$ for $d = 2$.

# %%
check("mean of x_0^2 over both coordinates, minus 1", roll.curve(phi).square().mean() + v - 1, 1e-9)

pi = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2).double(), 1.0), 1)
L_null, error = average(pi.log_prob(x_0) / NATS_PER_BIT)
H_pi = float(pi.entropy()) / NATS_PER_BIT
check("L_null against -H_pi (bits)", L_null + H_pi, 4 * error)

published = load_claims(ROOT / "conf" / "claims")
K_paper = published[f"{TABLE_1}/K"].value
null_paper = K_paper - published[f"{TABLE_1}/K_minus_null"].value
check("the paper's K - (K - L_null) against -H_pi (bits)", null_paper + H_pi, 0.01)  # each is printed to two decimals

# %% [markdown]
# ## 2. The forward process
#
# One step shrinks a little and adds a little noise; the kernel of step $t$ is
#
# $$q(x_t \mid x_{t-1}) = N\left(x_t;\, \sqrt{1 - \beta_t}\, x_{t-1},\, \beta_t I\right).$$
#
# If $E\lVert x_{t-1} \rVert^2 = d$, then $E\lVert x_t \rVert^2 = (1 - \beta_t)\, d + \beta_t\, d = d$: the kernel keeps the
# variance at one, and $\pi$ is the distribution that it leaves alone.
#
# **The marginal.** A chain of Gaussian steps is one Gaussian step. Write $x_t = \alpha_t x_0 + \sigma_t \varepsilon$. One
# more step multiplies $\alpha$ by $\sqrt{1 - \beta}$ and turns $\sigma^2$ into $(1 - \beta)\,\sigma^2 + \beta$. Starting from
# $\alpha_0 = 1$, $\sigma_0 = 0$, induction gives
#
# $$q(x_t \mid x_0) = N(x_t;\, \alpha_t x_0,\, \sigma_t^2 I), \qquad
#   \alpha_t^2 = \bar\alpha_t = \prod_{u \le t} (1 - \beta_u), \qquad \sigma_t^2 = 1 - \bar\alpha_t .$$

# %%
q = GaussianDiffusion(geometric(T, beta_1, alpha_bar_T=1e-3))
alpha, variance = 1.0, 0.0
for beta in q.schedule.betas.tolist():
    alpha, variance = alpha * math.sqrt(1 - beta), (1 - beta) * variance + beta
alpha_T, sigma_T = q.schedule(torch.tensor(T))
check("alpha_T, step by step against the product", alpha - alpha_T, 1e-12)
check("sigma_T^2, step by step against 1 - alpha_bar_T", variance - sigma_T**2, 1e-12)

# %% [markdown]
# The same by simulation: many walkers start at one point of the roll and take every step of the kernel. If the marginal is
# right, $(x_t - \alpha_t x_0) / \sigma_t$ is standard normal at every $t$.

# %%
start = x_0[:1].expand(50_000, 2)
x_t, worst_mean, worst_variance = start, 0.0, 0.0
for t in range(1, T + 1):
    x_t = q.kernel(x_t, at(x_t, t - 1), at(x_t, t)).sample()
    marginal = q.marginal(start, at(start, t))
    eps = (x_t - marginal.mean) / marginal.stddev
    worst_mean = max(worst_mean, float(eps.mean().abs()))
    worst_variance = max(worst_variance, float((eps.var() - 1).abs()))
check("largest mean of the standardised walkers", worst_mean, 4 / math.sqrt(eps.numel()))
check("largest error of their variance", worst_variance, 4 * math.sqrt(2 / eps.numel()))

# %%
figure, panels = plt.subplots(1, 4, figsize=(6.6, 2.1), sharex=True, sharey=True, layout="constrained")
for axes, t in zip(panels, (0, T // 2, 5 * T // 8, T), strict=True):
    points = q.marginal(x_0, at(x_0, t)).sample() if t else x_0
    axes.scatter(*points.T, s=1, linewidths=0)
    axes.set(title=f"t = {t}", xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xlabel="first coordinate")
panels[0].set_ylabel("second coordinate")
plt.show()

# %% [markdown]
# **Signal to noise.** What is left of $x_0$ in $x_t$ is the ratio $\mathrm{SNR}_t = \bar\alpha_t / (1 - \bar\alpha_t)$, and
# all that a schedule decides is how it falls. Our starting point is *geometric*: every step divides it by the same factor,
# because the roll has detail at every scale, from the noise $v$ up to its diameter. The schedule $\beta_t = 1 / (T - t + 1)$,
# which the paper uses for binary data, spends nearly all its steps where the fine detail has gone already. (For the roll the
# paper *learns* $\beta_2, \ldots, \beta_T$ and fixes $\beta_1$. So shall we.)

# %%
figure, axes = plt.subplots(figsize=(4.4, 2.6), layout="constrained")
for schedule, label, style in ((q.schedule, "geometric", "o-"), (constant_erasure(T), "1 / (T − t + 1)", "s--")):
    steps = torch.arange(1, T)
    alpha, sigma = schedule(steps)
    axes.plot(steps, (alpha / sigma) ** 2, style, markersize=3, label=label)
axes.axhline(1 / v, color="0.4", linewidth=0.8, linestyle=":", label="roll against its own noise")
axes.set(xlabel="t", ylabel="signal to noise", yscale="log")
axes.legend()
plt.show()

# %% [markdown]
# ## 3. One step back, if we knew the data
#
# Bayes' rule for $s < t$, everything conditional on $x_0$ (and $q(x_t \mid x_s, x_0) = q(x_t \mid x_s)$, as the chain is
# Markov):
#
# $$q(x_s \mid x_t, x_0) = \frac{q(x_t \mid x_s)\; q(x_s \mid x_0)}{q(x_t \mid x_0)} .$$
#
# As functions of $x_s$, both factors on top are Gaussian. With $q(x_t \mid x_s) = N(\alpha_{t|s} x_s, \sigma_{t|s}^2 I)$ the
# precisions add up, and the means are weighted by them:
#
# $$\frac1{\tilde\beta} = \frac{\alpha_{t|s}^2}{\sigma_{t|s}^2} + \frac1{\sigma_s^2}, \qquad
#   \tilde\mu = \tilde\beta \left( \frac{\alpha_{t|s}\, x_t}{\sigma_{t|s}^2} + \frac{\alpha_s\, x_0}{\sigma_s^2} \right).$$
#
# Since $\alpha_{t|s}^2 \sigma_s^2 + \sigma_{t|s}^2 = \sigma_t^2$, this simplifies to
#
# $$\tilde\beta = \frac{\sigma_s^2 \sigma_{t|s}^2}{\sigma_t^2}, \qquad
#   \tilde\mu = \underbrace{\frac{\alpha_{t|s} \sigma_s^2}{\sigma_t^2}}_{a}\, x_t
#       + \underbrace{\frac{\alpha_s \sigma_{t|s}^2}{\sigma_t^2}}_{b}\, x_0 .$$

# %%
s, t = at(x_0, 24), at(x_0, 25)
x_s = q.marginal(x_0, s).sample()
x_t = q.kernel(x_s, s, t).sample()
by_bayes = q.kernel(x_s, s, t).log_prob(x_t) + q.marginal(x_0, s).log_prob(x_s) - q.marginal(x_0, t).log_prob(x_t)
closed_form = q.posterior(x_0, x_t, s, t).log_prob(x_s)
check("log q(x_s | x_t, x_0), product of densities against closed form (nats)", (by_bayes - closed_form).abs().max(), 1e-9)

# %% [markdown]
# In one dimension the product can be seen. What the data say about $x_s$ and what $x_t$ says about it are both vague;
# together they are sharper than either, and lie between.

# %%
line = torch.linspace(-0.6, 2.2, 400, dtype=torch.float64)[:, None]
s, t, data, seen = at(line, 26), at(line, 28), torch.full_like(line, 1.2), torch.full_like(line, 0.3)
from_data, from_x_t = q.marginal(data, s).log_prob(line), q.kernel(line, s, t).log_prob(seen)
together = q.posterior(data, seen, s, t).log_prob(line)

figure, axes = plt.subplots(figsize=(4.4, 2.6), layout="constrained")
for log_density, label, style in (
    (from_data, "$q(x_s\\mid x_0)$", "--"),
    (from_x_t, "$q(x_t\\mid x_s)$", ":"),
    (together, "$q(x_s\\mid x_t, x_0)$", "-"),
):
    axes.plot(line, log_density.exp(), style, label=label)
axes.set(xlabel="$x_s$", ylabel="density", ylim=(0, None))
axes.legend()
plt.show()

# %% [markdown]
# ## 4. The bound
#
# The model is a chain that starts in pure noise, $p(x_{0..T}) = \pi(x_T) \prod_t p(x_{t-1} \mid x_t)$. Its likelihood is an
# integral over all paths, which we write as an average over the forward process and bound by Jensen's inequality
# ($\log E \ge E \log$; eqs. 9 to 12 of the paper):
#
# $$\log p(x_0) = \log E_{q(x_{1..T} \mid x_0)}
#   \left[ \pi(x_T) \prod_{t=1}^T \frac{p(x_{t-1} \mid x_t)}{q(x_t \mid x_{t-1})} \right]
#   \;\ge\; E_q \left[ \log \pi(x_T) + \sum_{t=1}^T \log \frac{p(x_{t-1} \mid x_t)}{q(x_t \mid x_{t-1})} \right].$$
#
# The two chains run in opposite directions. For $t \ge 2$, section 3 turns the forward one around,
#
# $$q(x_t \mid x_{t-1}) = q(x_{t-1} \mid x_t, x_0)\, \frac{q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)},$$
#
# and the fractions telescope to $q(x_T \mid x_0) / q(x_1 \mid x_0)$; the $q(x_1 \mid x_0)$ cancels the one that the first
# step has left over:
#
# $$-\log p(x_0) \;\le\; \underbrace{\mathrm{KL}\big(q(x_T \mid x_0) \,\|\, \pi\big)}_{\text{prior}}
#   + \sum_{t=2}^T \underbrace{E_q\, \mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0)
#       \,\|\, p(x_{t-1} \mid x_t)\big)}_{\text{transitions}}
#   + \underbrace{E_q\left[-\log p(x_0 \mid x_1)\right]}_{\text{reconstruction}} .$$
#
# **Why the sum starts at 2.** At $t = 1$ we would compare $p(x_0 \mid x_1)$ with $q(x_0 \mid x_1, x_0)$, a point mass: its KL
# to any density is infinite. The first step is a density at a known point, not a KL.
#
# **The edges of 2015.** The paper does not learn that step. It takes the reverse that is right for $\pi$ (eq. 44),
# $p(x_0 \mid x_1) = q(x_1 \mid x_0)\, \pi(x_0) / \pi(x_1)$. Then
#
# $$E[-\log p(x_0 \mid x_1)] = H_q(X_1 \mid X_0) + E[-\log \pi(x_0)] - E[-\log \pi(x_1)],$$
#
# and the last two cancel if $x_0$, hence $x_1$, has variance 1 (section 1). In the same way the prior term becomes
# $H_\pi - H_q(X_T \mid X_0)$. What remains, with the sign turned, is eq. 14:
#
# $$K = -\sum_{t=2}^T E\, \mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0) \,\|\, p(x_{t-1} \mid x_t)\big)
#   + H_q(X_T \mid X_0) - H_q(X_1 \mid X_0) - H_\pi .$$
#
# In the code these are `entropy_edges`; `stationary_edges` are the same fixed step without the assumption about the data, and
# `decoder_edges` those of Ho et al. (2020), who draw $x_1$ and take $-\log p(x_0 \mid x_1)$ as it is.
#
# **The check.** For data $x_0 \sim N(0, I)$ everything is known. Every $x_t$ is $N(0, I)$ too, the chain looks the same in
# both directions, and the exact reverse is the kernel itself. Then nothing is lost to Jensen, and the bound must be the
# entropy, whatever the edges.

# %%
gaussian = GaussianData(dimensions=2)
exact = GaussianOracle(q, gaussian, Stationary())
x = gaussian.held_out(20_000)
x_t = q.prior(x).sample()
mismatch = [kl_divergence(exact(x_t, at(x, t - 1), at(x, t)), q.kernel(x_t, at(x, t - 1), at(x, t))) for t in range(2, T + 1)]
check("KL of the exact reverse to the kernel, largest of all steps (nats)", torch.stack(mismatch).max(), 1e-9)

for name_of_edges, edges in {"entropy": entropy_edges, "stationary": stationary_edges, "decoder": decoder_edges}.items():
    terms = bound(exact, x, edges)
    print(f"\n{name_of_edges} edges, in bits:", end="   ")
    parts = {"prior": terms.prior, "transitions": terms.transitions.sum(1), "reconstruction": terms.reconstruction}
    print("   ".join(f"{name} {average(part / NATS_PER_BIT)[0]:+.3f}" for name, part in parts.items()))
    total, error = average(terms.total / NATS_PER_BIT)
    check(f"bound {total:.3f} against the entropy", total - H_pi, 4 * error)

# %% [markdown]
# Read the parts: the reconstruction is large and *negative* (a density in the plane, known to within $\sqrt{\beta_1}$, may be
# far above one), and the transitions pay it back. Only the sum means anything.
#
# Eq. 14 believes in variance 1. For other data the terms that should cancel leave
# $\tfrac12 (E\lVert x_0 \rVert^2 - d)(\beta_1 + \bar\alpha_T)$ behind (question 1), and larger data would seem more likely
# than they are. So the code refuses them:

# %%
try:
    bound(exact, 2 * x, entropy_edges)
except UserError as refusal:
    print(refusal)

# %% [markdown]
# One more exact case, for later: this same chain, applied to the *roll*. As a model it is $p(x_0) = N(0, I)$ with nothing
# lost to Jensen, because the forward process is its exact posterior. So its $K$ is the paper's null model, and the paper's
# network, which before training repeats the forward step, starts from there.

# %%
terms = bound(exact, x_0, stationary_edges)
difference, error = average((-terms.total - pi.log_prob(x_0)) / NATS_PER_BIT)
check("K of the chain that ignores the roll, against L_null (bits)", difference, 4 * error)

# %% [markdown]
# ## 5. The ceiling
#
# How large can $K$ be, for *any* reverse process? Split off the first step, which is fixed. For data of variance 1 it
# contributes nothing on average ($E \log p(x_0 \mid x_1) = E \log q(x_1 \mid x_0)$, section 4), and the rest is a chain on
# $x_1, \ldots, x_T$ alone:
#
# $$K = E_q \log \frac{p(x_{1..T})}{q(x_{2..T} \mid x_1)}
#   = E \log q(x_1) - \mathrm{KL}\big(q(x_{1..T}) \,\|\, p(x_{1..T})\big) .$$
#
# The first term is $-h(X_1)$, and the second is never positive. By the chain rule, backwards in time,
#
# $$-h(X_1) - K = \mathrm{KL}\big(q(x_T) \,\|\, \pi\big)
#   + \sum_{t=2}^T E\, \mathrm{KL}\big(q(x_{t-1} \mid x_t) \,\|\, p(x_{t-1} \mid x_t)\big) \;\ge\; 0 .$$
#
# So **no network gets above $-h(X_1)$**, the negative entropy of the roll after one step. And $h(X_1)$ is the thin-curve
# formula of section 1 with $\beta_1$ added to the noise: for a given roll the ceiling is a matter of $\beta_1 + v$, and of
# nothing else.

# %%
first_betas = torch.logspace(-7, -2, 6, dtype=torch.float64).tolist()
eps = torch.randn_like(x_0)
ceilings = []
for b in first_betas:
    alpha, sigma = math.sqrt(1 - b), math.sqrt(b)
    ceiling, error = average(roll.log_density(alpha * x_0 + sigma * eps, alpha, sigma) / NATS_PER_BIT)
    ceilings.append((ceiling, error))
    check(f"beta_1 = {b:.0e}: {ceiling:+.3f} bits, thin curve", ceiling + thin_curve_entropy(b + (1 - b) * v), 4 * error)

# %%
figure, axes = plt.subplots(figsize=(4.4, 2.8), layout="constrained")
axes.errorbar(first_betas, *zip(*ceilings, strict=True), fmt="o", label="$-h(X_1)$, exact density")
smooth = torch.logspace(-7, -2, 51).tolist()
axes.plot(smooth, [-thin_curve_entropy(b + (1 - b) * v) for b in smooth], "--", label="thin curve")
axes.axhline(K_paper, color="C2", label="K of the paper")
axes.axvline(beta_1, color="0.4", linewidth=0.8, linestyle=":", label="ours")
axes.set(xlabel="$\\beta_1$", ylabel="bits", xscale="log")
axes.legend(loc="lower left")
plt.show()

# %% [markdown]
# Solve $-h(X_1) = K$ for the noise: at most this much can have blurred the data of the paper, first step and data's own noise
# together (if its roll had our shape). The schedule $1 / (T - t + 1)$ begins with $\beta_1 = 1/T$ and is out of the question.

# %%
most_noise = math.exp(2 * (-K_paper * NATS_PER_BIT - along) - 1) / (2 * math.pi)
print(f"K = {K_paper} bits needs beta_1 + v of at most {most_noise:.2g}; 1/T is {1 / T:.2g}; ours is {beta_1 + v:.2g}")
check("ceiling at that noise against the paper's K (bits)", -thin_curve_entropy(most_noise) - K_paper, 1e-9)
assert beta_1 + v < most_noise

# %% [markdown]
# ## 6. The reverse, with perfect knowledge
#
# The true reverse step averages section 3 over all data that could have led to $x_t$:
# $q(x_s \mid x_t) = E_{q(x_0 \mid x_t)}\, q(x_s \mid x_t, x_0)$. That is not a Gaussian, but our $p$ is one, with a diagonal
# covariance. What is the best it can do? Apart from a constant, the expected KL is a cross entropy,
#
# $$E\, \mathrm{KL}\big(q(x_s \mid x_t, x_0) \,\|\, N(\mu, \mathrm{diag}\, \Sigma)\big) =
#   \mathrm{const} + \tfrac12 \sum_i \left( \log \Sigma_i + \frac{E[(x_{s,i} - \mu_i)^2 \mid x_t]}{\Sigma_i} \right),$$
#
# and setting its derivatives to zero gives the moments of $q(x_s \mid x_t)$: with $a$, $b$, $\tilde\beta$ of section 3,
#
# $$\mu = E[x_s \mid x_t] = a\, x_t + b\, E[x_0 \mid x_t], \qquad
#   \Sigma = \mathrm{Var}[x_s \mid x_t] = \tilde\beta + b^2\, \mathrm{Var}[x_0 \mid x_t] .$$
#
# We know the roll's density, so we can compute them: this is the **oracle**, the best reverse process of this form for this
# schedule. First the posterior mean. Differentiating $q(x_t) = \int q(x_0) N(x_t; \alpha_t x_0, \sigma_t^2)\, dx_0$ gives
# Tweedie's formula,
#
# $$E[x_0 \mid x_t] = \frac{x_t + \sigma_t^2\, \nabla \log q(x_t)}{\alpha_t},$$
#
# which says that to denoise is to climb the density. On one side our quadrature of the mean, on the other autograd through
# the log density.

# %%
oracle = GaussianOracle(q, roll, Stationary())
time = 22
alpha, sigma = (float(c) for c in q.schedule(torch.tensor(time)))
x_t = q.marginal(x_0[:500], at(x_0[:500], time)).sample().requires_grad_()
(score,) = torch.autograd.grad(roll.log_density(x_t, alpha, sigma).sum(), x_t)
mean, _ = roll.posterior_moments(x_t.detach(), alpha, sigma)
check("posterior mean against Tweedie's formula", (mean - (x_t.detach() + sigma**2 * score) / alpha).abs().max(), 1e-9)

# %% [markdown]
# Now a point $x_t$ between two windings of the roll. Where was it one step before? Bayes again, this time without $x_0$:
# $q(x_s \mid x_t) \propto q(x_t \mid x_s)\, q(x_s)$, on a grid. The sum over the grid must be $q(x_t)$ (Chapman and
# Kolmogorov), and the moments on the grid must be those of the oracle.

# %%
side = torch.linspace(-2.5, 2.5, 251, dtype=torch.float64)
between = alpha * roll.curve(torch.tensor([2 * math.pi, 4 * math.pi], dtype=torch.float64)).mean(0, keepdim=True)
s, t = torch.tensor([time - 1]), torch.tensor([time])
grid = between + torch.cartesian_prod(side, side)
alpha_s, sigma_s = (float(c) for c in q.schedule(s))
log_joint = q.kernel(grid, s, t).log_prob(between) + roll.log_density(grid, alpha_s, sigma_s)
weights, best = torch.softmax(log_joint, 0)[:, None], oracle(between, s, t)

log_sum = torch.logsumexp(log_joint, 0) + 2 * math.log(side[1] - side[0])
check("log q(x_t), from the grid against the density (nats)", log_sum - roll.log_density(between, alpha, sigma)[0], 1e-9)
mean = (weights * grid).sum(0)
check("mean of q(x_s | x_t), from the grid against the oracle", (mean - best.mean).abs().max(), 1e-9)
spread = (weights * (grid - mean) ** 2).sum(0)
check("variance of q(x_s | x_t), from the grid against the oracle", (spread - best.variance).abs().max(), 1e-9)

# %% [markdown]
# Left: arrows from $x_t$ to $E[x_0 \mid x_t]$, the field that a network has to learn at this $t$; most end on the roll, those
# from between two windings do not. Right: $q(x_s \mid x_t)$ at the cross. It has two humps, one for each winding; the ellipse
# is two standard deviations of the oracle, which can only cover both. The difference is a KL of section 5. No network with a
# Gaussian output can avoid it; smaller steps can.

# %%
axis = torch.linspace(-2.1, 2.1, 16, dtype=torch.float64)
places = torch.cartesian_prod(axis, axis)
field = roll.posterior_moments(places, alpha, sigma)[0] - places
angle = torch.linspace(0, 2 * math.pi, 100, dtype=torch.float64)
ellipse = best.mean + 2 * best.stddev * torch.stack([angle.cos(), angle.sin()], 1)
density = weights.reshape(len(side), len(side)).T / (side[1] - side[0]) ** 2

figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 3.1), layout="constrained")
left.plot(*roll.curve(phi[::1000]).T, color="C0", linewidth=1)
left.quiver(*places.T, *field.T, angles="xy", scale_units="xy", scale=1, width=0.004, color="0.2")
left.plot(*between.T, "+", color="C2", markersize=10, markeredgewidth=2)
left.set(xlabel="$x_t$, first coordinate", ylabel="second coordinate", aspect="equal", title=f"t = {time}")
image = right.pcolormesh(between[0, 0] + side, between[0, 1] + side, density, rasterized=True)
right.plot(*ellipse.T, color="white", linewidth=1)
right.plot(*between.T, "+", color="C2", markersize=10, markeredgewidth=2)
right.set(xlabel="$x_s$, first coordinate", aspect="equal", title=f"one step before, s = {time - 1}")
right.set(xlim=between[0, 0] + torch.tensor([-1, 1]), ylim=(-1, 1))
figure.colorbar(image, label="$q(x_s\\mid x_t)$")
plt.show()

# %% [markdown]
# So even the oracle stays below the ceiling. How far, depends on the number of steps:

# %%
few = x_0[:1000]
log_q_1 = log_density_of_x_1(oracle, roll, few, seed=0)
gaps = {}
for steps in (10, 20, T, 2 * T):
    finer = GaussianOracle(GaussianDiffusion(geometric(steps, beta_1, alpha_bar_T=1e-3)), roll, Stationary())
    K = -bound(finer, few, stationary_edges).total
    gaps[steps] = average((log_q_1 - K) / NATS_PER_BIT)
    (value, _), (gap, error) = average(K / NATS_PER_BIT), gaps[steps]
    print(f"T = {steps}: the oracle reaches {value:.2f} bits, {gap:.2f} ± {error:.2f} below the ceiling")

# %%
figure, axes = plt.subplots(figsize=(4.4, 2.6), layout="constrained")
axes.errorbar(list(gaps), *zip(*gaps.values(), strict=True), fmt="o-")
axes.set(xlabel="number of steps T", ylabel="ceiling − oracle (bits)", xscale="log", xticks=list(gaps), xticklabels=list(gaps))
axes.minorticks_off()
plt.show()

# %% [markdown]
# ## 7. The reverse, learned
#
# A network now takes the place of the oracle: it sees $x_t$ and $t$, and predicts the noise in $x_t$ and, through a sigmoid,
# the variance of the step (eq. 64 of the paper). Training minimises the bound itself, with one random $t$ for each example.
# The draws of $x_t$ are differentiable in the betas (the paper's "frozen noise"), so that $\beta_2, \ldots, \beta_T$ are
# learned along with the weights. A multilayer perceptron gets somewhere within seconds; the committed runs train longer. What
# is evaluated is a moving average of the weights; its decay grows to `ema_decay`, so that it soon forgets where it started.

# %%
plan = Plan(steps=800, batch_size=256, ema_decay=0.98, clip=1e9, log_every=1, validate_every=80, checkpoint_every=800)
seeds.seed_everything(0, seeds.INITIALISATION)
learned = GaussianReverse(
    GaussianDiffusion(LearnedBetaSchedule(geometric(T, beta_1, alpha_bar_T=1e-3))),
    FourierMLP(dimensions=2, outputs=4, T=T, width=128, depth=3, octaves=5),
    Epsilon(),
    SigmoidPerturbation(),
    Stationary(),
)
learner = Learner(
    learned,
    optimizer=partial(torch.optim.Adam, lr=1e-2),
    scheduler=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=plan.steps),
    ema_decay=plan.ema_decay,
    ema_warm_up=plan.ema_warm_up,
)
trained, validation, curve = learner.ema.module, roll.validation(500), {}
for progress in fit(learner, roll, OneTerm(stationary_edges), plan, seed=0):
    if progress.step % plan.validate_every == 0:
        curve[progress.step] = average(-bound(trained, validation, stationary_edges).total / NATS_PER_BIT)

# %% [markdown]
# Held-out points, every term, and the oracle **on the schedule that was just learned** and with the same noise, so that the
# difference is known better than either.

# %%
evaluate = AllTerms(
    edges={"stationary": stationary_edges},
    unit="bits",
    draws=1,
    batch_size=1000,
    oracle=partial(GaussianOracle, decoder=Stationary()),
    ceiling=log_density_of_x_1,
)
evaluation = evaluate(trained, roll, few, seed=0)
for m in evaluation.measurements:
    print(f"{m.quantity:20s} {m.value:+.3f} ± {m.stderr:.3f} {m.unit}")
(K,) = (m for m in evaluation.measurements if m.quantity == "log_likelihood_bound")
assert L_null < K.value < K.oracle < K.ceiling

# %%
figure, axes = plt.subplots(figsize=(5.8, 2.8), layout="constrained")
axes.errorbar(list(curve), *zip(*curve.values(), strict=True), fmt="o-", label="trained network")
for value, label, style in (
    (K.ceiling, "ceiling", ":"),
    (K.oracle, "oracle", "--"),
    (L_null, "null model", "-."),
):
    axes.axhline(value, color="0.3", linewidth=1, linestyle=style, label=label)
axes.set(xlabel="training step", ylabel="K (bits)", ylim=(2 * L_null, None))
figure.legend(loc="outside right upper")
plt.show()

# %% [markdown]
# Where is the rest? Term by term: on the left the terms of the bound, on the right their distance from the oracle's, summed
# up from $t = 2$.

# %%
per_step(evaluation.arrays)

# %% [markdown]
# ## 8. The committed result
#
# The same with the network of the paper, 16 normalised radial basis functions, trained for longer, with several seeds:
# `results/sohl_dickstein_2015/swiss_roll/seed*.json` and `.npz`, written by `experiments/train.py` and
# `experiments/evaluate.py` with `experiment=sohl_dickstein_2015/swiss_roll`. The verdict is computed; `src/dpm/study/claims.py`
# says how.

# %%
results = Results(ROOT / "results")
runs = results.of("sohl_dickstein_2015/swiss_roll")
for run in runs:  # the same chain as in this notebook
    protocol = run.record.measurements[0].protocol
    assert (protocol["T"], float(protocol["beta_1"]), float(protocol["noise_variance"])) == (T, beta_1, v)

print(f"{'':14s}{'paper':>10s}{'ours (seeds × points)':>32s}{'ceiling':>9s}{'oracle':>9s}   verdict")
pages = load_pages(ROOT / "conf" / "report", published)
for row in summary_rows(pages, published, results):
    if not row.claim.id.startswith(TABLE_1) or row.verdict is None:
        continue
    name = row.claim.id.rsplit("/", 1)[1]
    paper, measured, ceiling, best, _ = row.cells
    print(f"{name:14s}{paper:>10s}{measured:>32s}{ceiling:>9s}{best:>9s}   {row.verdict.word}")
    print(f"{'':14s}{row.verdict.text}")

# %% [markdown]
# And Figure 1 of the paper, from our first seed: the forward process, the learned reverse process, and the drift of its mean.

# %%
next((figure_1(load_arrays(run.arrays)) for run in runs), "no runs in results/ yet")

# %% [markdown]
# ## Exercises
#
# Run all cells first. Each exercise has a folded cell with what your number is compared with, a cell for you, and a folded
# solution; click on the three dots to unfold one. A distance from the truth is printed, and where to look if it is that of
# a known mistake.
#
# ### Exercise 1 (section 2). Find the bug
#
# `noised` shall draw from $q(x_t \mid x_0)$. The kernel keeps the mean of $x_t^2$ at one; what comes out here does not.


# %% jupyter={"source_hidden": true} tags=["check"]
def mean_square(noised):
    """Of x_t at t = 30, over 100,000 points of the roll and both coordinates."""
    seeds.seed_everything(1)
    points = roll.held_out(100_000)
    return noised(points, at(points, 30)).square().mean()


def as_if(draw=torch.randn_like, power=1):
    """A draw with another noise, or with a power of sigma_t."""

    def noised(x_0, t):
        alpha, sigma = q.schedule(t[:, None])
        return alpha * x_0 + sigma**power * draw(x_0)

    return noised


exercise_1 = Exercise(
    truth=1.0,
    unit="",
    allowed=0.015,
    mistakes={
        "the law of the noise": mean_square(as_if(draw=torch.rand_like)),
        "the law of the noise: it needs mean 0, and variance 1": mean_square(as_if(draw=lambda x: 2 * torch.rand_like(x) - 1)),
        "the factors of x_0 and of the noise: which is squared?": mean_square(as_if(power=2)),
    },
)


# %% tags=["exercise"]
def noised(x_0, t):
    """A draw of q(x_t | x_0); x_0 (n, 2), t (n,)."""
    alpha, sigma = q.schedule(t[:, None])
    return alpha * x_0 + sigma * torch.rand_like(x_0)


exercise_1.judge(mean_square(noised))


# %% jupyter={"source_hidden": true} tags=["solution"]
def noised(x_0, t):
    """`rand` is uniform on [0, 1]: neither centred nor of variance 1. A network trains on it without a complaint."""
    alpha, sigma = q.schedule(t[:, None])
    return alpha * x_0 + sigma * torch.randn_like(x_0)


assert exercise_1.right(mean_square(noised))

# %% [markdown]
# ### Exercise 2 (section 4). Find the bug
#
# With the exact reverse of data $N(0, I)$ the bound must be the entropy. `kl` is put in the place of the KL divergence of
# two Gaussians with diagonal covariances; the bound comes out in bits.

# %% jupyter={"source_hidden": true} tags=["check"]
few_normal = gaussian.held_out(4000)


def bound_with(kl):
    """Bound of the exact chain of N(0, I) with this divergence, bits."""
    seeds.seed_everything(2)
    total = entropy_edges.prior(exact, few_normal) + entropy_edges.reconstruction(exact, few_normal)
    for t in range(2, T + 1):
        s, t = at(few_normal, t - 1), at(few_normal, t)
        x_t = q.marginal(few_normal, t).sample()
        total = total + kl(q.posterior(few_normal, x_t, s, t), exact(x_t, s, t))
    return average(total / NATS_PER_BIT)


exercise_2 = Exercise(
    truth=H_pi,
    unit="bits",
    allowed=4 * bound_with(kl_divergence)[1],
    mistakes={
        "the axis of the coordinates: what is done along it?": bound_with(lambda a, b: kl_divergence(a, b) / 2)[0],
        "which of the two is in the denominator": bound_with(lambda a, b: kl_divergence(b, a))[0],
        "the factor one half, which all terms have": bound_with(lambda a, b: 2 * kl_divergence(a, b))[0],
    },
)


# %% tags=["exercise"]
def kl(a, b):
    """KL(a || b) of Gaussians, (n,)."""
    ratio = a.variance / b.variance
    return 0.5 * (ratio - 1 - ratio.log() + (a.mean - b.mean).square() / b.variance).mean(1)


exercise_2.judge(bound_with(kl)[0])


# %% jupyter={"source_hidden": true} tags=["solution"]
def kl(a, b):
    """Densities of coordinates multiply, so their logarithms add up. As a loss the mean would do, as a bound it is none."""
    ratio = a.variance / b.variance
    return 0.5 * (ratio - 1 - ratio.log() + (a.mean - b.mean).square() / b.variance).sum(1)


assert exercise_2.right(bound_with(kl)[0])

# %% [markdown]
# ### Exercise 3 (section 4). Find the bug
#
# Data $N(0, 4 I)$, a chain of 20 steps that ends at $\bar\alpha_T = 0.2$, and the best reverse for all steps but the first,
# which is fixed as in 2015. No $K$ may exceed the data's own $-h(X_0)$, which is printed; this one does. Mend `edges`.

# %% jupyter={"source_hidden": true} tags=["check"]
wide, chain = GaussianData(2, 0.0, 4.0), GaussianDiffusion(geometric(20, 1e-2, alpha_bar_T=0.2))
spread = wide.held_out(20_000)
seeds.seed_everything(3)
middle = bound(GaussianOracle(chain, wide, Stationary()), spread, stationary_edges).transitions.sum(1)
print(f"the data's own: {average(wide.log_density(spread, 1.0, 0.0) / NATS_PER_BIT)[0]:.3f} bits")
first, last = chain.marginal(spread, at(spread, 1)), chain.marginal(spread, at(spread, 20))


def K_with(ends):
    return average(-(middle + ends) / NATS_PER_BIT)[0]


prior, reconstruction = stationary_edges(GaussianOracle(chain, wide, Stationary()), spread)
exercise_3 = Exercise(
    truth=K_with(prior + reconstruction),
    unit="bits",
    allowed=1e-3,
    mistakes={
        "the edges: which of their lines takes the variance of the data for 1?": K_with(
            pi.entropy() - last.entropy() + first.entropy()
        ),
        "the edge at t = T: its entropies are those of data of variance 1": K_with(
            pi.entropy() - last.entropy() + reconstruction
        ),
        "the edge at t = 0: its entropies are those of data of variance 1": K_with(prior + first.entropy()),
        "the edge at t = T: the distance of q(x_T | x_0) from pi is missing": K_with(reconstruction),
    },
)


# %% tags=["exercise"]
def edges(x_0, first, last):
    """Both ends of the bound, nats; `first` is q(x_1 | x_0), `last` q(x_T | x_0), and pi the prior."""
    prior = pi.entropy() - last.entropy()
    reconstruction = first.entropy()
    return prior + reconstruction


exercise_3.judge(K_with(edges(spread, first, last)))


# %% jupyter={"source_hidden": true} tags=["solution"]
def edges(x_0, first, last):
    """The prior as a KL divergence; p(x_0 | x_1) = q(x_1 | x_0) pi(x_0) / pi(x_1), averaged without assuming E|x_0|^2 = d."""
    prior = kl_divergence(last, pi)
    reconstruction = -pi.log_prob(x_0) - kl_divergence(first, pi)
    return prior + reconstruction


assert exercise_3.right(K_with(edges(spread, first, last)))

# %% [markdown]
# ### Exercise 4 (section 5)
#
# Somebody trains on our roll with $\beta_1 = 3 \cdot 10^{-6}$ in place of ours. How high is the ceiling of $K$, in bits?

# %% jupyter={"source_hidden": true} tags=["check"]
blurred = 3e-6 + (1 - 3e-6) * v
exercise_4 = Exercise(
    truth=-thin_curve_entropy(blurred),
    unit="bits",
    allowed=0.01,
    mistakes={
        "the noise: the data had some before the first step": -thin_curve_entropy(3e-6),
        "the noise: the first step adds some": -thin_curve_entropy(v),
        "the argument: it is a variance": -thin_curve_entropy(math.sqrt(blurred)),
        "the unit: these are nats": -thin_curve_entropy(blurred) * NATS_PER_BIT,
        "the sign": thin_curve_entropy(blurred),
    },
)

# %% tags=["exercise"]
ceiling = ...

exercise_4.judge(ceiling)

# %% jupyter={"source_hidden": true} tags=["solution"]
ceiling = -thin_curve_entropy(3e-6 + (1 - 3e-6) * v)  # what is left after one step: both noises

assert exercise_4.right(ceiling)

# %% [markdown]
# ### Exercise 5 (section 7). Find the bug
#
# `clock` turns times into features, a row for each example; the network adds them to those of $x_t$. This one was never
# caught by an error of shapes, since the batch happens to be as large as the network is wide. What an example gets must not
# depend on its batch mates: the number is the largest change of the first example's features when the times of all others
# change.

# %% jupyter={"source_hidden": true} tags=["check"]
WIDTH = 32


def change(clock):
    before = torch.arange(1, WIDTH + 1, dtype=torch.float64)
    after = torch.cat([before[:1], before[1:].flip(0)])
    return (clock(after)[0] - clock(before)[0]).abs().max()


def as_phases(t, frequencies):
    return (math.pi / T * t * frequencies).sin()


numbers = torch.arange(1, WIDTH + 1, dtype=torch.float64)
exercise_5 = Exercise(
    truth=0.0,
    unit="",
    allowed=1e-9,
    mistakes={
        "the axes of t and of the frequencies": change(lambda t: as_phases(t[None, :], numbers[:, None])),
        "the axis of t: where does the axis of examples go?": change(lambda t: as_phases(t, numbers).expand(WIDTH, WIDTH)),
    },
)


# %% tags=["exercise"]
def clock(t):
    """(n,) times to (n, WIDTH) features, sin(pi k t / T) for k = 1, ..., WIDTH."""
    k = torch.arange(1, WIDTH + 1, dtype=torch.float64)
    return (math.pi * k[:, None] * t[None, :] / T).sin()


exercise_5.judge(change(clock))


# %% jupyter={"source_hidden": true} tags=["solution"]
def clock(t):
    """The axis of examples first. With batches of two sizes, or one of a single example, the mistake shows at once."""
    k = torch.arange(1, WIDTH + 1, dtype=torch.float64)
    return (math.pi * k[None, :] * t[:, None] / T).sin()


assert exercise_5.right(change(clock))

# %% [markdown]
# ### Exercise 6 (section 7). Find the bug
#
# Training sees one step of the chain for each example, $t$ uniform on $2, \ldots, T$. `estimate` shall make of it a number
# whose mean over $t$ is the whole bound. Here it is averaged over all $t$, for the oracle of section 6.

# %% jupyter={"source_hidden": true} tags=["check"]
seeds.seed_everything(6)
terms = bound(oracle, x_0[:1000], stationary_edges)


def mean_of(estimate):
    """Over all t and examples, bits."""
    each = [estimate(terms.prior, transition, terms.reconstruction) for transition in terms.transitions.T]
    return torch.stack(each).mean() / NATS_PER_BIT


exercise_6 = Exercise(
    truth=average(terms.total / NATS_PER_BIT)[0],
    unit="bits",
    allowed=1e-6,
    mistakes={
        "the number of terms": mean_of(lambda prior, term, reconstruction: prior + T * term + reconstruction),
        "the edges: how often does the sum have them?": mean_of(
            lambda prior, term, reconstruction: (T - 1) * (prior + term + reconstruction)
        ),
        "the term, which stands for all of them": mean_of(lambda prior, term, reconstruction: prior + term + reconstruction),
    },
)


# %% tags=["exercise"]
def estimate(prior, transition, reconstruction):
    """Of the bound, from the edges and one term of t = 2, ..., T."""
    return prior + T * transition + reconstruction


exercise_6.judge(mean_of(estimate))


# %% jupyter={"source_hidden": true} tags=["solution"]
def estimate(prior, transition, reconstruction):
    """A chain of T steps has T - 1 of these terms: the first step is the reconstruction."""
    return prior + (T - 1) * transition + reconstruction


assert exercise_6.right(mean_of(estimate))

# %% [markdown]
# ## Questions
#
# 1. Derive the error of eq. 14 for data of another variance, from the lines above it. Data twice as large: how many bits is
#    that here, and with which schedule would it be many?
# 2. The ceiling grows without limit as $\beta_1 + v \to 0$. Why is a larger $K$ then no evidence of a better model? Which
#    number of section 7 would you report instead?
# 3. In section 6, how does the gap to the ceiling shrink with $T$: like $1/T$, faster, slower? Try the schedule
#    `constant_erasure(T)` with its first beta replaced by ours, at the same $T$.
# 4. Replace `SigmoidPerturbation()` by the `FixedLarge()` or `FixedSmall()` of Ho et al. (`outputs=2`, as no variance is
#    predicted any more). Which of the two costs fewer bits at $T = 40$, and why does the choice matter less for large $T$?
# 5. Put the paper's network, `NormalizedRBF(dimensions=2, outputs=4, units=16, T=T)` with `ScaledForwardPerturbation()`, into
#    section 7. From the two panels at its end: at which $t$ do 16 units lose most, and what does the roll look like at that
#    scale?
