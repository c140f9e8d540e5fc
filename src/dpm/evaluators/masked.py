"""What was learned from examples with missing coordinates: the estimates of what is hidden."""

import torch
from torch import Tensor

from dpm import seeds
from dpm.data.mixtures import GaussianMixture
from dpm.data.noisy import Masked
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.distortion import mean_square
from dpm.evaluators.noisy import noised
from dpm.facts import Scalar
from dpm.processes import per_example
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement, root_mean


class Slopes:
    """`estimate_slope` and `rmse` of x_0-hat(A x_t, A) in each coordinate i, A the first one alone, v = sigma_t / alpha_t.

    Clean data are one centred Gaussian: E[x_0 | A x_t] = Sigma_i1 / (Sigma_11 + v^2) u, u = x_t / alpha_t, is the oracle of the
    slope, which is that of least squares through 0, and what the error is from.
    """

    def __init__(self, level: float) -> None:
        self.level = level

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: Masked, x_0: Tensor, seed: int) -> Evaluation:
        clean = data.clean
        if not isinstance(clean, GaussianMixture) or len(clean.weights) > 1:
            raise UserError("slopes are those of one Gaussian: data.clean must be a GaussianMixture of one component")
        seeds.seed_everything(seed, seeds.EVALUATION)
        x_t, t = noised(reverse, x_0, self.level)
        seen = torch.zeros_like(x_t)
        seen[:, 0] = 1
        x_0_hat = reverse.network(seen * x_t, t, seen)
        u = (x_t / per_example(reverse.process.schedule(t)[0], x_t))[:, 0]
        covariance, rows = clean.covariances[0], []
        for i, estimate in enumerate(x_0_hat.T):
            exact = float(covariance[i, 0] / (covariance[0, 0] + self.level**2))
            slope = float(u @ estimate / (u @ u))
            error = float((estimate - slope * u).square().mean().sqrt() / (u @ u).sqrt())
            about: dict[str, Scalar] = {"noise_level": self.level, "coordinate": i + 1}
            rows.append(Measurement("estimate_slope", slope, error, len(u), "1", about, oracle=exact))
            rmse, error = root_mean(mean_square((estimate - exact * u)[:, None]).numpy())
            rows.append(Measurement("rmse", rmse, error, len(u), "1", {**about, "against": "posterior_mean"}))
        return Evaluation(tuple(rows))
