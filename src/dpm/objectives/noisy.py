"""Training on examples that have noise of a known level of their own (Daras, Dimakis, Daskalakis 2024)."""

from itertools import pairwise

import torch
from torch import Tensor

from dpm.errors import UserError
from dpm.processes import at, per_example
from dpm.reverse.gaussian import GaussianReverse


class FromNoisy:
    """Batches y = x_0 + noise n. Above the noise, for v = sigma_t / alpha_t >= least noise, with u = x_t / alpha_t

    |y - (x_0-hat + (noise / v)^2 (u - x_0-hat))|^2,   x_t = alpha_t y + (sigma_t^2 - alpha_t^2 noise^2)^1/2 eps,

    whose minimum is at x_0-hat = E[x_0 | x_t] = (v^2 E[y | x_t] - noise^2 u) / (v^2 - noise^2) (Tweedie, twice). An error of
    E[y | x_t] comes back v^2 / (v^2 - noise^2) times as large. Below the noise it says nothing; with
    `consistency` w > 0, w (x_0-hat(x_s) - x_0-hat(x_t)) (x_0-hat(x_s') - x_0-hat(x_t)) for two draws of one step asks for
    E[x_0-hat(x_s) | x_t] = x_0-hat(x_t), a martingale; x_t is where the model's own chain takes a noisy example from the noise
    level, in steps of a grid of 16. Shape (B,), t uniform on the chain's steps above the noise.
    """

    STEPS = 16

    def __init__(self, noise: float, least: float = 1.02, consistency: float = 0.0) -> None:
        if not (noise > 0 and least > 1 and consistency >= 0):
            raise UserError(f"noise > 0, least > 1, consistency >= 0 must hold, got {noise=}, {least=}, {consistency=}")
        self.noise, self.least, self.consistency = noise, least, consistency

    def __call__(self, reverse: GaussianReverse, y: Tensor) -> Tensor:
        schedule, T = reverse.process.schedule, len(reverse.process.schedule)
        first = float(schedule.time(torch.full((1,), self.least * self.noise, dtype=torch.float64, device=y.device)))
        low = min(int(first) + 1, T)
        t = torch.randint(low, T + 1, (len(y),), device=y.device)
        loss = self.regression(reverse, y, t)
        return loss + self.consistency * self.martingale(reverse, y, low) if self.consistency else loss

    def regression(self, reverse: GaussianReverse, y: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (per_example(c, y) for c in reverse.process.schedule(t))
        x_t = self.noised(reverse, y, t)
        share = (self.noise * alpha / sigma).square()
        x_0 = reverse.predicted(x_t, t)
        return (y - x_0 - share * (x_t / alpha - x_0)).square().flatten(1).mean(1)

    def noised(self, reverse: GaussianReverse, y: Tensor, t: Tensor) -> Tensor:
        """A draw of x_t given y."""
        alpha, sigma = (per_example(c, y) for c in reverse.process.schedule(t))
        return alpha * y + (sigma.square() - (alpha * self.noise).square()).sqrt() * torch.randn_like(y)

    def martingale(self, reverse: GaussianReverse, y: Tensor, low: int) -> Tensor:
        """Two draws in a product: the variance of one would be a part of its square."""
        grid = torch.linspace(low, 1, min(self.STEPS, low)).round().long().tolist()
        k = int(torch.randint(len(grid) - 1, ()))
        with torch.no_grad():
            x = self.noised(reverse, y, at(y, low))
            for t, s in pairwise(grid[: k + 1]):
                x = reverse(x, at(x, s), at(x, t)).sample()
            goal, p = reverse.predicted(x, at(x, grid[k])), reverse(x, at(x, grid[k + 1]), at(x, grid[k]))
            draws = p.sample(), p.sample()
        one, other = (reverse.predicted(x_s, at(x_s, grid[k + 1])) - goal for x_s in draws)
        return (one * other).flatten(1).mean(1)
