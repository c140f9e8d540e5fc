"""What a sweep ends with: a table and a figure of the validated bound over everything that was varied."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepSummary(Callback):
    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None: ...
