"""Refined steps: what changes at t <= last, what does not, and that the bound falls by training and by reflecting."""

import pytest
import torch
from torch import Tensor, nn

from dpm import schedules
from dpm.baselines.gaussian_images import GaussianImages
from dpm.bound import draw, term
from dpm.decoders import Discretized
from dpm.errors import UserError
from dpm.networks.full_resolution import AtNoiseLevel, FullResolution
from dpm.networks.refined import AtSmallTimes, Refined, Reflected, TwoNetworks
from dpm.networks.wrappers import Autocast
from dpm.predictions.papers import X0
from dpm.predictions.residual import LinearResidual, WhitenedResidual
from dpm.processes.gaussian import GaussianDiffusion
from dpm.reverse import facts_of
from dpm.reverse.gaussian import GaussianReverse, clipped
from dpm.reverse.refined import refined, reflected
from dpm.variances import FixedSmall, LearnedPosterior

Q = GaussianDiffusion(schedules.linear(1000, 1e-4, 0.02))
T_MIXED = torch.tensor([3, 900, 1, 5, 4, 77])
SETTINGS = {"last": 4, "width": 4, "blocks": 2, "steps": 80, "batch_size": 8, "rate": 1e-2}


class Slanted(nn.Module):
    """A network that treats each corner of an image differently; two outputs for each value."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.4, 0.7, 64).reshape(8, 8))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.weight.to(x.dtype) * x.roll(1, -1) + 1e-3 * t[:, None, None, None].to(x.dtype)
        return torch.cat([y, 0.5 * y], 1)


def images(n: int, seed: int) -> Tensor:
    """Two levels, in patches of 4 x 4 pixels: a Gaussian model does not know that there are no others."""
    signs = torch.randint(2, (n, 2, 2, 2), generator=torch.Generator().manual_seed(seed))
    return (0.6 * (2 * signs - 1.0)).repeat_interleave(4, 2).repeat_interleave(4, 3)


def process(x_0: Tensor) -> GaussianReverse:
    residual = LinearResidual(GaussianImages(2, 8, 8))
    residual.model.fit(x_0)
    network = Slanted()
    network.weight.data *= 0.1
    return clipped(GaussianReverse(Q, network, residual, LearnedPosterior(), Discretized())).requires_grad_(False)


def terms(reverse: GaussianReverse, x_0: Tensor, t: int) -> float:
    torch.manual_seed(t)
    times = torch.full((len(x_0),), t)
    return term(reverse, x_0, draw(Q, x_0, times), times - 1, times).mean().item()


def corrector(spread: float) -> Autocast:
    network, generator = FullResolution(8, 4, width=3, blocks=2), torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return Autocast(network, "float32").requires_grad_(False)


@pytest.mark.parametrize("kind", ["refined", "reflected"])
def test_a_mixed_batch_is_changed_at_small_t_and_only_there(kind: str) -> None:
    base, x = Slanted().requires_grad_(False), torch.randn(6, 2, 8, 8)
    changed: AtSmallTimes = (
        Refined(base, 4, Q, GaussianImages(2, 8, 8), corrector(0.3)) if kind == "refined" else Reflected(base, 4)
    )
    together, apart = changed(x, T_MIXED), torch.cat([changed(x[i : i + 1], T_MIXED[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, apart)
    same = (together - base(x, T_MIXED)).abs().flatten(1).amax(1) == 0
    assert same.tolist() == (T_MIXED > 4).tolist()


def test_of_two_networks_each_has_its_times() -> None:
    above, below = Slanted(), AtNoiseLevel(FullResolution(2, 4, width=3, blocks=2), Q.schedule)
    torch.nn.init.normal_(below.network.last.weight)
    x, small = torch.randn(6, 2, 8, 8), T_MIXED <= 4
    y = TwoNetworks(above, below, 4)(x, T_MIXED)
    torch.testing.assert_close(y[small], below(x[small], T_MIXED[small]))
    torch.testing.assert_close(y[~small], above(x[~small], T_MIXED[~small]))
    above.weight.data += 1
    again = TwoNetworks(above, below, 4)(x, T_MIXED)
    assert torch.equal(again[small], y[small])
    assert not torch.allclose(again[~small], y[~small])


def test_a_network_at_its_noise_level_sees_the_logarithm_of_noise_to_signal() -> None:
    class Level(nn.Module):
        def forward(self, x: Tensor, level: Tensor) -> Tensor:
            return level

    alpha, sigma = Q.schedule(T_MIXED)
    torch.testing.assert_close(AtNoiseLevel(Level(), Q.schedule)(torch.zeros(6, 1), T_MIXED).exp(), sigma / alpha)


def test_a_guide_may_differentiate_what_is_refined() -> None:
    network = Refined(Slanted().double(), 4, Q, GaussianImages(2, 8, 8), corrector(0.3))
    x, step = torch.randn(1, 2, 8, 8, dtype=torch.float64, requires_grad=True), torch.randn(1, 2, 8, 8, dtype=torch.float64)
    t = torch.tensor([2])
    (slope,) = torch.autograd.grad(network(x, t).square().sum(), x)
    ends = [network((x + h * step).detach(), t).square().sum().item() for h in (1e-3, -1e-3)]
    assert (slope * step).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-3)


def test_an_untrained_corrector_changes_nothing() -> None:
    base, x = Slanted(), torch.randn(6, 2, 8, 8)
    network = Refined(base, 1000, Q, GaussianImages(2, 8, 8), Autocast(FullResolution(8, 4, width=3, blocks=2), "float32"))
    assert torch.equal(network(x, T_MIXED), base(x, T_MIXED))


def test_a_reflected_network_answers_a_reflected_image_by_the_reflected_answer() -> None:
    base, x, t = Slanted(), torch.randn(3, 2, 8, 8), torch.tensor([1, 2, 4])
    network = Reflected(base, 4)
    for axes in ((-1,), (-2,), (-2, -1)):
        torch.testing.assert_close(network(x.flip(axes), t), network(x, t).flip(axes))
        assert not torch.allclose(base(x.flip(axes), t), base(x, t).flip(axes))
    by_hand = (
        base(x, t) + base(x.flip(-1), t).flip(-1) + base(x.flip(-2), t).flip(-2) + base(x.flip(-1, -2), t).flip(-1, -2)
    ) / 4
    torch.testing.assert_close(network(x, t), by_hand)


def test_training_lowers_the_terms_at_small_t_and_leaves_the_rest_alone() -> None:
    x_0, held_out = images(200, 0), images(100, 1)
    reverse = process(x_0)
    weight = reverse.network.weight.clone()
    better, again = (refined(reverse, x_0, 0, **SETTINGS) for _ in range(2))
    other, rounded = refined(reverse, x_0, 1, **SETTINGS), refined(reverse, x_0, 0, precision="bfloat16", **SETTINGS)
    for t in (1, 2, 4):
        before, after = terms(reverse, held_out, t), terms(better, held_out, t)
        assert after < 0.98 * before
        assert after == terms(again, held_out, t) != terms(other, held_out, t)
        assert abs(terms(rounded, held_out, t) - after) < 0.3 * (before - after)
    assert all(terms(better, held_out, t) == terms(reverse, held_out, t) for t in (5, 100))
    assert torch.equal(reverse.network.weight, weight)
    numbers = sum(parameter.numel() for parameter in better.network.corrector.parameters())
    about = {"orientations": 1, "refined_until": 4, "refining_parameters": numbers, "refining_examples": 640, "clip_x_0": True}
    assert about.items() <= facts_of(better).items()
    assert "refined_until" not in facts_of(reverse)


def test_the_mean_over_reflections_lowers_the_terms_of_images_without_a_side() -> None:
    x_0 = images(400, 0)
    reverse = process(x_0)
    mirrored = reflected(reverse, x_0, 0, 4)
    assert all(terms(mirrored, x_0, t) < terms(reverse, x_0, t) for t in (1, 2, 4))
    assert all(terms(mirrored, x_0, t) == terms(reverse, x_0, t) for t in (5, 100))
    assert {"orientations": 4, "reflected_until": 4}.items() <= facts_of(mirrored).items()
    both = reflected(refined(reverse, x_0, 0, **(SETTINGS | {"steps": 1})), x_0, 0, 3)
    assert {"orientations": 4, "reflected_until": 3, "refined_until": 4}.items() <= facts_of(both).items()
    turned = refined(mirrored, x_0, 0, **(SETTINGS | {"steps": 1}))
    assert {"orientations": 4, "reflected_until": 4, "refined_until": 4}.items() <= facts_of(turned).items()


@pytest.mark.parametrize("wrong", [{"last": 0}, {"last": 1001}, *({key: 0} for key in SETTINGS)])
def test_a_refinement_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    ((key, value),) = wrong.items()
    with pytest.raises(UserError, match=f"{key}={value}") as error:
        refined(process(images(8, 0)), images(8, 0), 0, **(SETTINGS | wrong))
    assert "\n" not in str(error.value)


def test_what_cannot_be_refined_or_reflected_is_refused() -> None:
    x_0 = images(8, 0)
    with pytest.raises(UserError, match="X0"):
        refined(GaussianReverse(Q, Slanted(), X0(), FixedSmall(), Discretized()), x_0, 0, **SETTINGS)
    with pytest.raises(UserError, match="WhitenedResidual"):
        refined(process(x_0).replacing(prediction=WhitenedResidual(GaussianImages(2, 8, 8))), x_0, 0, **SETTINGS)
    with pytest.raises(UserError, match="last=0"):
        reflected(process(x_0), x_0, 0, 0)
