"""A trained reverse process with better steps at small t: its network corrected by another one, or averaged."""

import torch
from torch import Tensor

from dpm import seeds
from dpm.baselines import maximised
from dpm.bound import draw, term
from dpm.errors import UserError
from dpm.networks.full_resolution import FullResolution
from dpm.networks.refined import Refined, Reflected
from dpm.networks.wrappers import Autocast
from dpm.predictions.papers import Clipped
from dpm.predictions.residual import LinearResidual
from dpm.reverse.gaussian import GaussianReverse
from dpm.times import as_linear, stratified


def refined(
    reverse: GaussianReverse,
    x_0: Tensor,
    seed: int,
    last: int,
    width: int,
    blocks: int,
    steps: int,
    batch_size: int,
    rate: float,
    precision: str = "float32",
) -> GaussianReverse:
    """The same process with a corrector of its network at t <= last, trained on images x_0, (n, C, H, W), and mirrored ones.

    The loss is the bound's: one term L_t per image, at times in proportion to the Gaussian model's terms. Adam, whose rate
    falls from `rate` along a cosine; one process.
    """
    residual = reverse.prediction.prediction if isinstance(reverse.prediction, Clipped) else reverse.prediction
    if type(residual) is not LinearResidual:  # of those made from it the network sees something else than x_t
        raise UserError(f"steps are refined where the prediction is a linear residual, not {type(residual).__name__}")
    if not 1 <= last <= len(reverse.process.schedule) or min(width, blocks, steps, batch_size) < 1 or not rate > 0:
        raise UserError(
            f"steps t = 1..last of {len(reverse.process.schedule)} are refined, and all other numbers are positive: "
            f"{last=}, {width=}, {blocks=}, {steps=}, {batch_size=}, {rate=}"
        )
    C, process = x_0.shape[1], reverse.process
    outputs = reverse.raw(x_0[:1], torch.ones(1, dtype=torch.long, device=x_0.device)).shape[1]
    seeds.seed_everything(seed, seeds.INITIALISATION, 0)
    corrector = Autocast(FullResolution(2 * C + outputs, outputs, width, blocks), precision).to(x_0.device)
    network = Refined(reverse.network, last, process, residual.model, corrector)
    trained = reverse.replacing(network=network, prediction=residual)  # without clipping, which has no gradient
    masses = as_linear(residual.model, process, 1)[:last]

    def log_density(generator: torch.Generator) -> Tensor:
        seeds.seed_everything(generator.initial_seed())
        x = x_0[torch.randint(len(x_0), (batch_size,), generator=generator).to(x_0.device)]
        mirrored = (torch.rand(batch_size, 1, 1, 1, generator=generator) < 0.5).to(x.device)
        x = torch.where(mirrored, x.flip(-1), x)
        t, weights = stratified(masses, batch_size, 1)
        return -weights.to(x.dtype) * term(trained, x, draw(process, x, t), t - 1, t)

    with torch.enable_grad():
        for _ in maximised(corrector, log_density, steps, rate, seed):
            network.examples += batch_size
    corrector.requires_grad_(False)
    return reverse.replacing(network=network)


def reflected(reverse: GaussianReverse, x_0: Tensor, seed: int, last: int) -> GaussianReverse:
    """The same process with the mean over reflections for its network at t <= last. Nothing is fitted to x_0."""
    if not 1 <= last <= len(reverse.process.schedule):
        raise UserError(f"reflections are of steps t = 1..last of {len(reverse.process.schedule)}, got {last=}")
    return reverse.replacing(network=Reflected(reverse.network, last))
