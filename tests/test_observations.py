"""Operators and their adjoints, what a known y says, and conjugate gradients."""

import math

import pytest
import torch

from dpm.errors import UserError
from dpm.observations import (
    Blur,
    Mask,
    Matrix,
    Observation,
    Operator,
    Subsampled,
    conjugate_gradients,
    gaussian_kernel,
    observed,
    radon_transform,
    random_projection,
)

GENERATOR = torch.Generator().manual_seed(0)
KERNEL = torch.randn(3, 5, generator=GENERATOR)  # not symmetric: a kernel that is turned over shows
OPERATORS: dict[str, tuple[Operator, tuple[int, ...]]] = {
    "mask": (Mask(torch.rand(3, 8, 8, generator=GENERATOR) < 0.4), (3, 8, 8)),
    "matrix": (Matrix(torch.randn(5, 12, generator=GENERATOR), (3, 2, 2)), (3, 2, 2)),
    "blur": (Blur(KERNEL), (3, 8, 9)),
    "subsampled": (Subsampled(4), (3, 8, 12)),
    "projection": (random_projection(4, 80, GENERATOR), (80,)),
    "radon": (radon_transform(28, 12), (1, 28, 28)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_adjoint_is_the_adjoint(name: str) -> None:
    A, shape = OPERATORS[name]
    x = torch.randn(3, *shape, generator=GENERATOR, dtype=torch.float64)
    if isinstance(A, Matrix):
        A = Matrix(A.A.double(), A.shape)
    y = torch.randn(A(x).shape, generator=GENERATOR, dtype=torch.float64)
    back = A.adjoint(y)
    assert back.shape == x.shape
    torch.testing.assert_close((A(x) * y).flatten(1).sum(1), (x * back).flatten(1).sum(1))


def test_operators_do_what_they_say() -> None:
    x = torch.arange(2 * 16.0).reshape(1, 2, 4, 4)
    assert Subsampled(4)(x).flatten().tolist() == [7.5, 23.5]
    assert Mask(x[0] % 5 == 0)(x).tolist() == [[0, 5, 10, 15, 20, 25, 30]]
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    torch.testing.assert_close(Blur(gaussian_kernel(5, 1.0))(point)[0, 0, 2:7, 2:7], gaussian_kernel(5, 1.0))
    assert gaussian_kernel(5, 1.0).sum() == pytest.approx(1)
    A = random_projection(3, 10_000, GENERATOR).A
    assert (A @ A.mT - torch.eye(3)).abs().max() < 0.05  # 1/sqrt(d) is 0.01


def test_every_direction_of_a_radon_transform_sees_the_whole_image() -> None:
    disc = (torch.cartesian_prod(torch.arange(28.0), torch.arange(28.0)) - 14).norm(dim=1) < 9  # inside of every projection
    seen = radon_transform(28, 6)(disc.float().reshape(1, 1, 28, 28)).reshape(-1, 6).sum(0) * 28
    torch.testing.assert_close(seen, disc.sum().float().expand(6), rtol=0.01, atol=0)


def test_likelihood_and_residual() -> None:
    observation = Observation(Matrix(torch.tensor([[1.0, 2.0]])), torch.tensor([[3.0]]), 0.5)
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert observation.residual(x).flatten().tolist() == [2, 0]
    top = -math.log(0.5 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(observation.log_likelihood(x), torch.tensor([top - 8, top]))
    torch.manual_seed(0)
    drawn = observed(observation.operator, torch.ones(40_000, 2), 0.5)
    assert drawn.residual(torch.ones(40_000, 2)).std().item() == pytest.approx(0.5, abs=0.5 * 4 / math.sqrt(80_000))


def test_conjugate_gradients_solve_each_example_by_itself() -> None:
    root = torch.randn(4, 6, 6, generator=GENERATOR, dtype=torch.float64)
    maps, b = root @ root.mT + torch.eye(6), torch.randn(4, 6, generator=GENERATOR, dtype=torch.float64)
    b[2] = 0
    v = conjugate_gradients(lambda v: (maps @ v[..., None])[..., 0], b, 20, 1e-12)
    torch.testing.assert_close(v, torch.linalg.solve(maps, b))
    first = conjugate_gradients(lambda v: (maps[:1] @ v[..., None])[..., 0], b[:1], 20, 1e-12)
    torch.testing.assert_close(first, v[:1])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Mask(torch.zeros(3, dtype=torch.bool)),
        lambda: Mask(torch.ones(3)),
        lambda: Matrix(torch.ones(2, 3), (2, 2)),
        lambda: Blur(torch.ones(2, 3)),
        lambda: Subsampled(0),
        lambda: Observation(Subsampled(2), torch.ones(1), 0.0),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong) -> None:
    with pytest.raises(UserError):
        wrong()
