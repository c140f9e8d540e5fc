"""What a regression leaves: its own loss on examples that it was not trained on."""

import torch
from torch import Tensor, nn

from dpm import seeds
from dpm.data import Data
from dpm.evaluators import Evaluation
from dpm.objectives import Objective
from dpm.study.records import Measurement, standard_error


class Regression:
    """`regression_loss`, the mean of the objective over the examples, one draw of its times and noise for each."""

    def __init__(self, objective: Objective, batch_size: int) -> None:
        self.objective, self.batch_size = objective, batch_size

    @torch.no_grad()
    def __call__(self, reverse: nn.Module, data: Data, x_0: Tensor, seed: int) -> Evaluation:
        seeds.seed_everything(seed, seeds.EVALUATION)
        batches = x_0.split(self.batch_size)  # type: ignore[no-untyped-call]
        losses = torch.cat([self.objective(reverse, batch).double() for batch in batches]).cpu().numpy()
        value, error = float(losses.mean()), standard_error(losses)
        return Evaluation((Measurement("regression_loss", value, error, len(losses), "1", {}),))
