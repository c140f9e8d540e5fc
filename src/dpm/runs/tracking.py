"""Mirrors of the metrics. The record is `metrics.jsonl` in the run's folder; a mirror may show it elsewhere, too."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dpm.errors import UserError


class Mirror(Protocol):
    def start(self, folder: Path, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Begin a run; `name` is stable over restarts, `group` joins the runs of a sweep."""

    def log(self, row: Mapping[str, float]) -> None:
        """Show one row of metrics; row["step"] never decreases within a run."""

    def image(self, key: str, path: Path) -> None: ...

    def finish(self) -> None: ...


class NoMirror:
    """The JSONL file alone."""

    def start(self, folder: Path, name: str, group: str, config: Mapping[str, Any]) -> None: ...

    def log(self, row: Mapping[str, float]) -> None: ...

    def image(self, key: str, path: Path) -> None: ...

    def finish(self) -> None: ...


class WandB:
    """Weights & Biases. Offline needs neither account nor network: `wandb sync <run folder>/wandb/offline-*` uploads later.

    Everything it writes stays in the run's folder. A server that cannot be reached costs one warning, not the run.
    """

    def __init__(self, mode: Any, project: str) -> None:
        if mode not in ("offline", "online"):
            raise UserError(f"tracker.mode is offline or online, got {mode!r} (tracker=none for no mirror at all)")
        self.mode, self.project = mode, project

    def start(self, folder: Path, name: str, group: str, config: Mapping[str, Any]) -> None:
        for variable in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
            os.environ[f"WANDB_{variable}_DIR"] = str(folder / "wandb")
        import wandb

        about: dict[str, Any] = {"project": self.project, "name": name, "group": group, "config": dict(config), "dir": folder}
        about["settings"] = wandb.Settings(console="off", silent=True, init_timeout=60, reinit="finish_previous")
        try:
            self.run = wandb.init(mode=self.mode, **about)
        except wandb.errors.Error as error:
            print(f"warning: W&B cannot be reached ({error}); this run is kept offline", file=sys.stderr)
            self.run = wandb.init(mode="offline", **about)
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, row: Mapping[str, float]) -> None:
        self.run.log(dict(row))

    def image(self, key: str, path: Path) -> None:
        import wandb

        self.run.log({key: wandb.Image(str(path))})

    def finish(self) -> None:
        self.run.finish()
