"""The network of the 2015 Swiss roll: normalised radial basis functions with a read-out per time step (appendix D.1.1)."""

import torch
from torch import Tensor, nn

from dpm.errors import UserError


class NormalizedRBF(nn.Module):
    """output(x, t) = W_t phi(x) + b_t with phi_k(x) = exp(-|x - c_k|^2 / 2 w_k^2) / sum_j exp(-|x - c_j|^2 / 2 w_j^2).

    Centres c and widths w are shared over time and over both moments; W_t and b_t belong to step t. (B, d) -> (B, outputs).
    """

    def __init__(self, dimensions: int, outputs: int, units: int, T: int) -> None:
        super().__init__()
        if units < 1:
            raise UserError(f"the RBF network needs at least one unit, got units = {units}")
        self.centres = nn.Parameter(torch.randn(units, dimensions))
        self.log_widths = nn.Parameter(torch.zeros(units))
        self.weights = nn.Parameter(torch.zeros(T, units, outputs))
        self.biases = nn.Parameter(torch.zeros(T, outputs))
        self.facts = {"hidden_units": units}

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        squared = (x[:, None] - self.centres).square().sum(-1)
        phi = torch.softmax(-squared / (2 * (2 * self.log_widths).exp()), dim=1).to(self.weights.dtype)
        output = torch.bmm(phi[:, None], self.weights[t - 1]).squeeze(1) + self.biases[t - 1]
        return output.to(x.dtype)
