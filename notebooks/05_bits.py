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
# # Bits that can be counted
#
# Both papers state their results in bits. This notebook turns the bound into a file: it codes sequences with a chain, counts
# what was written, and decodes it; it sends samples as indices; it ends with signals whose code length is known in closed form.
# Every step is checked.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.distributions import MultivariateNormal

from dpm.baselines.gaussian_signals import GaussianSignals
from dpm.bound import bound, decoder_edges
from dpm.codes.bits_back import Bits, Code, start
from dpm.codes.progressive import CHUNK, Gaussians, Writer, candidates, chosen, divergence
from dpm.codes.stack import Stack
from dpm.data.heartbeat import BinaryHeartbeat
from dpm.data.signals import Autoregressive
from dpm.decoders import Network
from dpm.evaluators.signals import spectrum
from dpm.figures import STYLE
from dpm.labs import Exercise
from dpm.oracles.binomial import BinomialOracle
from dpm.oracles.linear import LinearOracle
from dpm.processes.binomial import BinomialDiffusion, bernoulli
from dpm.processes.gaussian import GaussianDiffusion
from dpm.samplers.ancestral import sample
from dpm.schedules import constant_erasure, geometric
from dpm.trajectories import log_weights

torch.set_num_threads(1)
torch.manual_seed(0)
plt.style.use(STYLE)


def check(what: str, difference: float, allowed: float) -> None:
    print(f"{what}: {difference:.2e} (allowed: {allowed:.2e})")
    assert abs(difference) <= allowed


# %% [markdown]
# ## The heartbeat as a file
#
# The heartbeat of 2015 has five equally likely words: $\log_2 5 = 2.3219$ bits. Its best reverse process with independent bits
# is known (`dpm.oracles.binomial`). On a stack of bits, for $t = 1, \dots, T$: *take* $x_t \sim q(x_t \mid x_{t-1})$ off the
# stack, as if what lies there were random, then *put* $x_{t-1}$ on it by $p(x_{t-1} \mid x_t)$; at the end put $x_T$ by $\pi$.
# The stack has grown by
#
# $$\sum_t \log_2 q(x_t \mid x_{t-1}) - \log_2 p(x_{t-1} \mid x_t) - \log_2 \pi(x_T),$$
#
# whose expectation is the bound.

# %%
data, T, n = BinaryHeartbeat(20, 5), 50, 600
reverse = BinomialOracle(BinomialDiffusion(constant_erasure(T), 0.2), data, Network())
code, x_0 = Code(reverse, range(T + 1)), data.held_out(n)
stack = code.encode([x_0])
print(f"{stack.bits / n:.4f} bits per sequence, {stack.ideal / n:.4f} without rounding, entropy {math.log2(5):.4f}")
check("rounding of probabilities, bits per sequence", (stack.bits - stack.ideal) / n, 0.005)

# %%
bounds = torch.cat([bound(reverse, data.held_out(n), decoder_edges).total for _ in range(4)]) / math.log(2)
spread = float(bounds.std())
check("coded minus bound", stack.bits / n - float(bounds.mean()), 4 * 0.6 / n**0.5)
check(
    "bound minus entropy, which is not negative", min(0.0, float(bounds.mean()) - math.log2(5)), 4 * spread / len(bounds) ** 0.5
)

# %% [markdown]
# Decoding runs backwards: what was put is taken, what was taken is put back. At the end all sequences are there, and so is
# every bit that was on the stack before.

# %%
words, under = stack.words()
reader = Stack(start([x_0.shape]), words, under)
assert torch.equal(code.decode(reader, [x_0.shape])[0], x_0)
assert reader.as_at_start
print(f"decoded {n} of {n}; the file has {4 * len(words)} bytes, {stack.taken} of its bits come back")

# %% [markdown]
# Those bits are the price of the first example: they were taken before anything was put, and a file must hold them. Side by
# side 600 sequences take 600 times as many; one after another they take them once. Files of `compress.py` start with a few
# examples that are coded by counting, without a model: what those leave on the stack is as good as random bits.

# %%
one = code.encode(list(x_0[:20].split(1)))
print(f"one after another: {one.bits / 20:.3f} bits each, {one.taken} bits taken; side by side {stack.taken}")
assert one.taken < stack.taken / 50

# %% [markdown]
# ## Fewer steps, longer files
#
# A chain with few steps reverses them less well when bits are independent. The code pays for that, bit by bit.

# %%
lengths = {}
for steps in (5, 10, 20, 50, 100):
    few = BinomialOracle(BinomialDiffusion(constant_erasure(steps), 0.2), data, Network())
    lengths[steps] = Code(few, range(steps + 1)).encode([x_0]).bits / n
figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
axes.plot(list(lengths), list(lengths.values()), "o-", label="coded")
axes.axhline(math.log2(5), color="0.4", linestyle="--", label="entropy")
axes.set(xscale="log", xlabel="steps T", ylabel="bits per sequence")
axes.legend()
plt.show()
assert lengths[5] > lengths[20] > lengths[100]

# %% [markdown]
# ## A sample as an index
#
# 2020's progressive code sends $x_s \sim q(x_s \mid x_t, x_0)$ to somebody who knows $p(x_s \mid x_t)$. Both draw the same
# candidates from $p$; an index is sent (`dpm.codes.progressive`). What is received has the law $q$ if there are many times
# $2^\mathrm{KL}$ candidates. The index takes the divergence and a few bits more, on average not more than
# $\mathrm{KL} + \log_2(\mathrm{KL} + 1) + 4$.

# %%
divergences, written, received = np.arange(1.0, 4.5, 0.5), [], []
p = Gaussians(np.zeros(4), np.ones(4))
for number, bits in enumerate(divergences):
    q, writer = Gaussians(np.full(4, (2 * bits * np.log(2) / 4) ** 0.5), np.ones(4)), Writer()
    assert abs(divergence(q, p) - bits) < 1e-9
    for k in range(300):
        index, _ = chosen(q, p, 2**14, number, k)
        writer.index(index)
        chunk, row = divmod(index, CHUNK)
        received.append(candidates(4, chunk, number, k)[row] - q.mean)
    written.append(32 * len(writer.coder.get_compressed()) / 300)
check("mean of what was received", float(np.mean(received)), 4 / np.size(received) ** 0.5)
check("deviation of what was received", float(np.std(received)) - 1, 0.03)
figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
axes.plot(divergences, divergences, "--", label="divergence")
axes.plot(divergences, written, "o-", label="written")
axes.plot(divergences, divergences + np.log2(divergences + 1) + 4, ":", label="promised at most")
axes.set(xlabel="divergence (bits)", ylabel="bits per index", ylim=(0, None))
axes.legend()
plt.show()
assert (divergences < written).all()
assert (written < divergences + np.log2(divergences + 1) + 4).all()

# %% [markdown]
# ## A signal with a known code length
#
# For Gaussian data nothing is lost at any number of steps, if the reverse step has the right covariance: then *every*
# trajectory has the weight $p(x_0, \dots, x_T) / q(x_1, \dots, x_T \mid x_0) = N(x_0; 0, C)$.

# %%
signal = Autoregressive([1.5, -0.8], 32)
x = signal.held_out(500)
exact = MultivariateNormal(torch.zeros(32).double(), signal.covariance()).log_prob(x[:, 0])
model = GaussianSignals(32)
model.take(torch.from_numpy(signal.autocovariance()))
for steps in (2, 10, 50):
    linear = LinearOracle(GaussianDiffusion(geometric(steps, 1e-4, 1e-10)), model, Network())
    weights = log_weights(linear, x, range(steps, -1, -1), 1)[:, 0]
    check(f"{steps} steps, nats per sample", float((weights - exact).abs().max()) / 32, 1e-3)

# %% [markdown]
# Samples of that chain have the spectrum of the process.

# %%
drawn = sample(linear, linear.process.prior(x).sample(), 50)
figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
frequency = np.arange(17) / 32
for name, windows in (("data", x), ("samples", drawn)):
    axes.plot(frequency, 10 * np.log10(spectrum(windows)), label=name)
axes.set(xlabel="frequency (cycles per sample)", ylabel="power (dB)")
axes.legend()
plt.show()
# the last step shows the mean and not a draw: it lacks what is smaller than the noise of the first step
difference = np.abs(spectrum(drawn) / spectrum(x) - 1)[:8].max()
check("spectrum, where the signal is strong", float(difference), 6 * (2 / 500) ** 0.5)

# %% [markdown]
# ## Exercises
#
# Run all cells first. Each exercise has a folded cell with what your number is compared with, a cell for you, and a folded
# solution; click on the three dots to unfold one.
#
# The smallest model with a latent: a hidden bit $z$ is 1 with probability 0.3, and the bit $x$ that is seen is 1 with
# probability 0.9 if $z = 1$, else 0.2. `prior(n)`, `decoder(z)` and `posterior(x)` are $p(z)$, $p(x \mid z)$ and the exact
# $p(z \mid x)$ of $n$ bits; `bits.pop(stack, p)` takes $n$ bits off the stack and `bits.push(stack, x, p)` puts $n$ bits on
# it.
#
# ### Exercise 1. Find the bug
#
# Coded in this way a bit needs more than $E[-\log_2 p(x)]$. What has been paid, and not been given back?

# %% jupyter={"source_hidden": true} tags=["check"]
bits = Bits()


def prior(n):
    return bernoulli(torch.full((n, 1), 0.3, dtype=torch.float64))


def decoder(z):
    return bernoulli(0.2 + 0.7 * z)


def posterior(x):
    """p(z = 1 | x) by Bayes' rule."""
    on, off = (x * p + (1 - x) * (1 - p) for p in (0.9, 0.2))
    return bernoulli(0.3 * on / (0.3 * on + 0.7 * off))


def length(encode):
    """Bits for each bit of `seen`."""
    torch.manual_seed(0)
    stack = Stack(1000)
    encode(stack, seen)
    return stack.bits / len(seen)


def put(stack, x, z, with_latent=True):
    bits.push(stack, x, decoder(z))
    if with_latent:
        bits.push(stack, z, prior(len(x)))


torch.manual_seed(1)
seen = decoder(prior(5000).sample()).sample()
shares = bernoulli(torch.full((5000, 1), 0.3 * 0.9 + 0.7 * 0.2, dtype=torch.float64))
exercise_1 = Exercise(
    truth=-float(shares.log_prob(seen).mean()) / math.log(2),
    unit="bits",
    allowed=0.002,
    mistakes={
        "where z comes from: whose bits choose it?": length(lambda stack, x: put(stack, x, posterior(x).sample())),
        "where z comes from: it should know x": length(lambda stack, x: put(stack, x, bits.pop(stack, prior(len(x))))),
        "what is put: nobody can decode x without z": length(
            lambda stack, x: put(stack, x, bits.pop(stack, posterior(x)), with_latent=False)
        ),
    },
)


# %% tags=["exercise"]
def encode(stack, x):
    z = posterior(x).sample()
    bits.push(stack, x, decoder(z))
    bits.push(stack, z, prior(len(x)))


exercise_1.judge(length(encode))


# %% jupyter={"source_hidden": true} tags=["solution"]
def encode(stack, x):
    """The choice of z costs H(z | x) random bits. Taken off the stack they are a message, which the decoder puts back."""
    z = bits.pop(stack, posterior(x))
    bits.push(stack, x, decoder(z))
    bits.push(stack, z, prior(len(x)))


assert exercise_1.right(length(encode))

# %% [markdown]
# ### Exercise 2. Find the bug
#
# Ten blocks of 500 bits lie on one stack, coded by the solution of exercise 1. The decoder gets the last block right. The
# number is that of wrong bits.


# %% jupyter={"source_hidden": true} tags=["check"]
def wrong_bits(decode):
    stack = Stack(1000)
    for block in seen.split(500):
        put(stack, block, bits.pop(stack, posterior(block)))
    return int((decode(stack, 10) != seen).sum())


def taken(stack, number, give_back=True):
    for _ in range(number):
        z = bits.pop(stack, prior(500))
        x = bits.pop(stack, decoder(z))
        if give_back:
            bits.push(stack, z, posterior(x))
        yield x


exercise_2 = Exercise(
    truth=0,
    unit="bits",
    allowed=0.5,
    mistakes={
        "what the encoder took off the stack before it put anything": wrong_bits(
            lambda stack, number: torch.cat([*taken(stack, number, give_back=False)][::-1])
        ),
        "the order: last in, first out": wrong_bits(lambda stack, number: torch.cat([*taken(stack, number)])),
    },
)


# %% tags=["exercise"]
def decode(stack, number):
    """All blocks, in the order in which they were coded."""
    found = []
    for _ in range(number):
        z = bits.pop(stack, prior(500))
        found.append(bits.pop(stack, decoder(z)))
    return torch.cat(found[::-1])


exercise_2.judge(wrong_bits(decode))


# %% jupyter={"source_hidden": true} tags=["solution"]
def decode(stack, number):
    """The encoder's steps backwards: it began by taking z, so that the decoder ends by putting z back."""
    found = []
    for _ in range(number):
        z = bits.pop(stack, prior(500))
        found.append(bits.pop(stack, decoder(z)))
        bits.push(stack, z, posterior(found[-1]))
    return torch.cat(found[::-1])


assert exercise_2.right(wrong_bits(decode))

# %% [markdown]
# ### Exercise 3
#
# How many bits does one heartbeat of 20 bins take off the stack on its way through $T = 50$ steps, on average? They all
# come back. (`reverse.process.kernel(x, s, t)` has an `entropy()`.)

# %% jupyter={"source_hidden": true} tags=["check"]
q, beats = reverse.process, data.held_out(4000)


def entropies(of_step):
    """Of q(x_t | x_{t-1}) on the way, or of another step, summed over t: (n,), nats."""
    torch.manual_seed(3)
    x, total = beats, 0.0
    for t in range(1, T + 1):
        before, now = torch.full((len(x),), t - 1), torch.full((len(x),), t)
        total = total + of_step(x, before, now).entropy()
        x = q.kernel(x, before, now).sample()
    return total


on_the_way = entropies(q.kernel) / math.log(2)
exercise_3 = Exercise(
    truth=float(on_the_way.mean()),
    unit="bits",
    allowed=4 * float(on_the_way.std()) / 1000**0.5,
    mistakes={
        "the unit: these are nats": float(on_the_way.mean()) * math.log(2),
        "what is drawn: x_t given x_{t-1}, not given x_0": float(
            entropies(lambda x, s, t: q.marginal(beats, t)).mean() / math.log(2)
        ),
        "the number of bins: each has its bit": float(on_the_way.mean()) / 20,
        "the number of steps": float(on_the_way.mean()) / T,
    },
)

# %% tags=["exercise"]
bits_taken = ...

exercise_3.judge(bits_taken)

# %% jupyter={"source_hidden": true} tags=["solution"]
x, bits_taken = data.held_out(4000), 0.0
for t in range(1, T + 1):
    step = reverse.process.kernel(x, torch.full((4000,), t - 1), torch.full((4000,), t))
    x, bits_taken = step.sample(), bits_taken + float(step.entropy().mean()) / math.log(2)

assert exercise_3.right(bits_taken)
