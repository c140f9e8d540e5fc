"""Networks: the published formula, a read-out per time step, the identity of the untrained model, precision in and out."""

import pytest
import torch
from torch import Tensor, nn

from dpm.networks.mlp import FourierMLP
from dpm.networks.rbf import NormalizedRBF

T = 7


def networks() -> list[nn.Module]:
    return [NormalizedRBF(2, 4, units=5, T=T), FourierMLP(2, 4, T=T, width=8, depth=2, octaves=3)]


def randomised(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


def batch(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 2, dtype=torch.float64), torch.arange(n) % T + 1


def test_the_rbf_network_is_its_formula() -> None:
    """W_t phi(x) + b_t with phi_k normalised over the units (2015, appendix D.1.1), one example at a time."""
    network, (x, t) = randomised(NormalizedRBF(2, 4, units=5, T=T)).double(), batch(10)
    output = network(x, t)
    for i in range(10):
        units = zip(network.centres, network.log_widths.exp(), strict=True)
        phi = torch.stack([(-(x[i] - c).square().sum() / (2 * w**2)).exp() for c, w in units])
        expected = network.weights[t[i] - 1].T @ (phi / phi.sum()) + network.biases[t[i] - 1]
        assert torch.allclose(output[i], expected)


def test_the_read_out_of_a_step_is_its_own() -> None:
    network, (x, t) = randomised(NormalizedRBF(2, 4, units=5, T=T)), batch(T)
    network(x, t)[2].sum().backward()
    assert network.weights.grad.flatten(1).abs().sum(1).nonzero().flatten().tolist() == [int(t[2]) - 1]
    assert bool((network.centres.grad != 0).all())  # shared over time


@pytest.mark.parametrize("network", networks(), ids=lambda network: type(network).__name__)
def test_an_untrained_network_outputs_zero_in_the_precision_of_x(network: nn.Module) -> None:
    x, t = batch(5)
    for dtype in (torch.float32, torch.float64):
        output = network(x.to(dtype), t)
        assert (output.shape, output.dtype) == ((5, 4), dtype)
        assert not output.any()


@pytest.mark.parametrize("network", networks(), ids=lambda network: type(network).__name__)
def test_examples_do_not_meet_and_time_matters(network: nn.Module) -> None:
    network, (x, t) = randomised(network), batch(6)
    output = network(x, t)
    assert torch.allclose(torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(6)]), output, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(network(x, t % T + 1), output)


def test_the_smallest_scale_of_the_mlp_is_kept_where_the_weights_are_float32() -> None:
    """Octaves are computed in the precision of x: points 1e-9 apart differ in a network of a thousand million periods."""
    network = randomised(FourierMLP(2, 4, T=T, width=8, depth=1, octaves=30))
    x = torch.tensor([[0.5, 0.5], [0.5 + 1e-9, 0.5]], dtype=torch.float64)
    first, second = network(x, torch.tensor([3, 3]))
    assert bool((first - second).abs().max() > 1e-3)
