"""The network of the 2015 heartbeat: sigmoid layers shared over time, a read-out for each time step (appendix D.1.2)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dpm.errors import UserError
from dpm.networks import require_whole


class SigmoidMLP(nn.Module):
    """output(x, t) = W_t (h, 1) with h = sigma(A_depth ... sigma(A_1 x + a_1) ... + a_depth). (B, n) -> (B, n).

    W_t = sum_b V_b[block of t] / sqrt(b), where the T times fall into b equal blocks, for b in (*blocks, T), coarse to fine.
    Any T read-outs can be written so, which is the paper's network. But what a block of steps has in common is learned from
    the examples of all of them, and the single step, which sees one in T of the examples, learns only its own correction, at
    1 / sqrt(T) of the rate: T read-outs that are learned apart lose 51 parameters' worth of noise each.
    """

    def __init__(self, bits: int, width: int, depth: int, T: int, blocks: Sequence[int]) -> None:
        super().__init__()
        levels = [*blocks, T]
        if min(levels) < 1 or any(fine % coarse for coarse, fine in pairwise(levels)):
            raise UserError(f"blocks of time steps: each number divides the next, the last one T = {T}; got {list(blocks)}")
        layers = [nn.Linear(i, o) for i, o in pairwise([bits, *[width] * depth])]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight, gain=4.0)  # the slope of a sigmoid at 0 is 1/4
            nn.init.zeros_(layer.bias)
        self.body = nn.Sequential(*(module for layer in layers for module in (layer, nn.Sigmoid())))
        self.facts = {"hidden_layers": depth, "hidden_units": width}
        self.corrections = nn.ParameterList(torch.zeros(b, width + 1, bits) for b in levels)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Layers in the precision of the weights, output in that of x."""
        require_whole(self, t)
        h = self.body(x.to(self.corrections[0].dtype))
        return self.read_out(torch.cat([h, h.new_ones(len(h), 1)], 1), t).to(x.dtype)

    def read_out(self, h: Tensor, t: Tensor) -> Tensor:
        """W_t h for every row: one batched product over the groups of rows with equal t."""
        times, group, counts = t.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
        order = group.argsort(stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(t), device=t.device) - (counts.cumsum(0) - counts)[group[order]]
        rows = h.new_zeros(len(times), int(counts.max()), h.shape[1]).index_put((group, place), h)
        return torch.bmm(rows, self.weights()[times - 1])[group, place]

    def weights(self) -> Tensor:
        """W_1..W_T, shape (T, width + 1, bits)."""
        W: Tensor = self.corrections[0] / len(self.corrections[0]) ** 0.5
        for V in self.corrections[1:]:
            W = torch.add(W[:, None], V.unflatten(0, (len(W), -1)), alpha=len(V) ** -0.5).flatten(0, 1)
        return W
