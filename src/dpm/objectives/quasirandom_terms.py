"""The bound by all of its terms, each at one quasi-random draw of x_t per example: nearly its expectation."""

import torch
from torch import Tensor

from dpm import quasirandom
from dpm.bound import Edges, divergence, stationary_edges
from dpm.reverse.gaussian import GaussianReverse


class QuasiRandomTerms:
    """prior + sum_t term_t(x_t) + reconstruction, x_t = alpha_t x_0 + sigma_t eps_t, shape (B,), in nats.

    eps_t are the first D coordinates of Sobol's sequence, shifted by its own uniform draw for each t, so that the mean over a
    batch of the other coordinates (`data.synthetic.QuasiRandom`) is off by almost 1 / B. With the generator's state fixed the
    noise is frozen and the objective a smooth function of all parameters, betas among them (2015, section 2.4.1).
    """

    def __init__(self, edges: Edges = stationary_edges) -> None:
        self.edges = edges

    def __call__(self, reverse: GaussianReverse, x_0: Tensor) -> Tensor:
        (n, d), T = x_0.shape, len(reverse.process.schedule)
        prior, reconstruction = self.edges(reverse, x_0)
        u = quasirandom.uniform(n, slice(0, d), torch.rand(T - 1, 1, d, dtype=torch.float64))
        t, x = torch.arange(2, T + 1, device=x_0.device).repeat_interleave(n), x_0.repeat(T - 1, 1)
        q = reverse.process.marginal(x, t)
        x_t = q.mean + q.stddev * quasirandom.normal(u).flatten(0, 1).to(x_0)
        return prior + divergence(reverse, x, x_t, t - 1, t).view(T - 1, n).sum(0) + reconstruction
