"""The network of the 2015 Swiss roll: normalised radial basis functions with a read-out per time step (appendix D.1.1)."""

import torch
from torch import Tensor, nn

from dpm.data import Data
from dpm.errors import UserError
from dpm.networks import require_whole
from dpm.networks.starts import Start
from dpm.processes.gaussian import GaussianDiffusion
from dpm.schedules import BetaSchedule


class NormalizedRBF(nn.Module):
    """output(x, t) = W_t phi(x) + b_t with phi_k(x) = exp(-|x - c_k|^2 / 2 w_k^2) / sum_j exp(-|x - c_j|^2 / 2 w_j^2).

    Centres c and widths w are shared over time and over both moments; W_t and b_t belong to step t. (B, d) -> (B, outputs).
    """

    def __init__(self, dimensions: int, outputs: int, units: int, T: int) -> None:
        super().__init__()
        if units < 1 or T < 1:
            raise UserError(f"the RBF network needs at least one unit and one step, got {units=}, {T=}")
        self.centres = nn.Parameter(torch.randn(units, dimensions))
        self.log_widths = nn.Parameter(torch.zeros(units))
        self.weights = nn.Parameter(torch.zeros(T, units, outputs))
        self.biases = nn.Parameter(torch.zeros(T, outputs))
        self.facts = {"hidden_units": units}

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        require_whole(self, t)
        squared = (x[:, None] - self.centres).square().sum(-1)
        phi = torch.softmax(-squared / (2 * (2 * self.log_widths).exp()), dim=1).to(self.weights.dtype)
        output = torch.bmm(phi[:, None], self.weights[t - 1]).squeeze(1) + self.biases[t - 1]
        return output.to(x.dtype)


class OrthonormalRBF(NormalizedRBF):
    """The same functions, float64, read-outs in coordinates in which the units of a step are orthonormal: W_t = L_t^-T V_t.

    L_t L_t^T = mean of phi(x) phi(x)^T + 1e-6 I over reference points x of x_t, (T, n, d), so that L_t^-1 phi is white where
    x_t is. V_t is what `weights` holds. Units that overlap, as two on either side of the roll must, are all but the same
    function; a change of their difference then costs a thousand times the step of a change of their sum. Fast where
    examples of one t stand together.

    `widths` is the number of units, or 1 for a width that all share. `scales` (T, outputs), 1 if not given, are the units in
    which V_t counts: W_t = L_t^-T V_t scales_t.
    """

    RIDGE = 1e-6

    def __init__(
        self,
        dimensions: int,
        outputs: int,
        units: int,
        T: int,
        widths: int,
        start: Start,
        reference: Tensor,
        scales: Tensor | None = None,
    ) -> None:
        super().__init__(dimensions, outputs, units, T)
        if widths not in (1, units):
            raise UserError(f"widths are one for each of {units} units, or 1 for all: got widths = {widths}")
        centres, log_widths = start(units, dimensions)
        self.centres, self.log_widths = nn.Parameter(centres), nn.Parameter(log_widths[:widths])
        self.facts |= {"widths": widths}
        self.register_buffer("reference", reference, persistent=False)
        self.register_buffer("scales", torch.ones(T, outputs) if scales is None else scales, persistent=False)
        self.double()

    reference: Tensor
    scales: Tensor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        require_whole(self, t)
        times, counts = t.unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
        phi, W = self.phi(x.to(self.centres.dtype)), self.read_outs()
        blocks = zip(phi.split(counts.tolist()), times - 1, strict=True)  # type: ignore[no-untyped-call]
        return torch.cat([part @ W[index] + self.biases[index] for part, index in blocks]).to(x.dtype)

    def phi(self, x: Tensor) -> Tensor:
        """(B, units): the softmax of -|x - c|^2 / 2 w^2 = x c / w^2 - |x|^2 / 2 w^2 - |c|^2 / 2 w^2, one matrix product."""
        precision = (-2 * self.log_widths).exp()[:, None].expand(len(self.centres), 1)
        square = self.centres.square().sum(1, keepdim=True)
        form = torch.cat([self.centres * precision, -precision / 2, -square * precision / 2], 1)
        return torch.softmax(torch.cat([x, x.square().sum(1, keepdim=True), torch.ones_like(x[:, :1])], 1) @ form.mT, 1)

    def read_outs(self) -> Tensor:
        """W_t, (T, units, outputs)."""
        T, n, _ = self.reference.shape
        phi = self.phi(self.reference.flatten(0, 1)).view(T, n, -1)
        gram = phi.mT @ phi / n + self.RIDGE * torch.eye(phi.shape[2], dtype=phi.dtype, device=phi.device)
        W: Tensor = torch.linalg.solve_triangular(
            torch.linalg.cholesky(gram).mT, self.weights * self.scales[:, None], upper=True
        )
        return W


def scales_of_eq_65(schedule: BetaSchedule, dimensions: int) -> Tensor:
    """(T, 2 d): beta_t^-1/2 for the mean, 1 for the variance, since z of 2015, eq. 65, mu = x (1 - Sigma) + Sigma z with
    Sigma near beta_t, moves the mean as much as beta_t^1/2 z does of the release's form, mu = (1 - beta_t)^1/2 x +
    beta_t^1/2 z.
    """
    z = schedule.betas.detach().rsqrt()[:, None].expand(-1, dimensions)
    return torch.cat([z, torch.ones_like(z)], 1)


@torch.no_grad()
def where_x_t_is(process: GaussianDiffusion, data: Data, n: int) -> Tensor:
    """n training points of x_t for every t = 1..T, (T, n, d)."""
    T, generator = len(process.schedule), torch.Generator().manual_seed(0)
    x_0 = data.batch(n, 0, 0).double()
    q = process.marginal(x_0.repeat(T, 1), torch.arange(1, T + 1).repeat_interleave(n))
    return (q.mean + q.stddev * torch.randn(q.mean.shape, generator=generator, dtype=torch.float64)).view(T, n, -1)
