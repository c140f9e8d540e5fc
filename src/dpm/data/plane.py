"""The point sets in the plane that papers on transport measure, on the scales of their tables: several go by the same names."""

import math

import torch
from torch import Tensor

from dpm.data.mixtures import GaussianMixture
from dpm.data.synthetic import Synthetic


class Moons(Synthetic):
    """scale (m + noise N(0, I) - centre), m on two half circles, angles evenly spaced (scikit-learn's make_moons)."""

    def __init__(self, noise: float, scale: float, centre: list[float]) -> None:
        self.noise, self.scale, self.centre = noise, scale, torch.tensor(centre, dtype=torch.float64)

    @property
    def name(self) -> str:
        return f"moons x {self.scale:.3g}"

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        outer, inner = (torch.linspace(0, math.pi, k, dtype=torch.float64) for k in (n // 2, n - n // 2))
        half = torch.stack([outer.cos(), outer.sin()], 1), torch.stack([1 - inner.cos(), 0.5 - inner.sin()], 1)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return self.scale * (shuffled(torch.cat(half), generator) + self.noise * noise - self.centre)


def standard_moons(noise: float, std: float) -> Moons:
    """Moons shifted and scaled, both coordinates alike, to mean 0 and standard deviation `std` (of both together)."""
    mean_square = (3.25 - 2 / math.pi) / 4 + noise**2  # of both coordinates of both moons, whose mean is 3 / 8
    return Moons(noise, std / math.sqrt(mean_square - 0.375**2), [0.375, 0.375])


class SCurve(Synthetic):
    """scale ((sin u, sign u (cos u - 1)) + noise N(0, I)), u uniform on 3 pi (-1/2, 1/2) (two columns of make_s_curve)."""

    def __init__(self, noise: float, scale: float) -> None:
        self.noise, self.scale = noise, scale

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        u = 3 * math.pi * (torch.rand(n, generator=generator, dtype=torch.float64) - 0.5)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return self.scale * (torch.stack([u.sin(), u.sign() * (u.cos() - 1)], 1) + self.noise * noise)


class Ring(GaussianMixture):
    """Eight Gaussians of standard deviation `std` on a circle."""

    def __init__(self, radius: float, std: float) -> None:
        angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
        super().__init__([1 / 8] * 8, radius * torch.stack([angles.cos(), angles.sin()], 1), [[std**2] * 2] * 8)
        self.radius = radius

    @property
    def name(self) -> str:
        return f"8gaussians x {self.radius:.3g}"


class EvenRing(Ring):
    """The same with as many points of each: a set of n has no error of these numbers."""

    def components(self, n: int, generator: torch.Generator) -> Tensor:
        return shuffled(torch.arange(n) % 8, generator)


def shuffled(x: Tensor, generator: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator)]
