"""Mirrors of the metrics. The record is `metrics.jsonl` in the run's folder; a mirror may show it elsewhere, too."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from dpm.errors import UserError


class Mirror(Protocol):
    def start(self, folder: Path, identity: str, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Begin a run; `identity` and `name` are stable over restarts, `group` joins the runs of a sweep."""

    def log(self, row: Mapping[str, float]) -> None:
        """Show one row of metrics; row["step"] never decreases within a run."""

    def image(self, key: str, path: Path) -> None: ...

    def finish(self) -> None: ...


class NoMirror:
    """The JSONL file alone."""

    def start(self, folder: Path, identity: str, name: str, group: str, config: Mapping[str, Any]) -> None: ...

    def log(self, row: Mapping[str, float]) -> None: ...

    def image(self, key: str, path: Path) -> None: ...

    def finish(self) -> None: ...


class WandB:
    """Weights & Biases. Offline needs neither account nor network: `wandb sync <run folder>/wandb/offline-*` uploads later.

    Everything it writes stays in the run's folder; a run that is resumed keeps its id. It is a mirror: whatever goes wrong
    with it costs one warning, and the run goes on with its own record. WANDB_MODE=disabled is obeyed.
    """

    def __init__(self, mode: Any, project: str) -> None:
        if mode not in ("offline", "online"):
            raise UserError(f"tracker.mode is offline or online, got {mode!r} (tracker=none for no mirror at all)")
        self.mode, self.project, self.run = mode, project, None

    run: Any  # None before the start, and once it has failed

    def start(self, folder: Path, identity: str, name: str, group: str, config: Mapping[str, Any]) -> None:
        if os.environ.get("WANDB_MODE") != "disabled":
            self._attempt(lambda: self._start(folder, identity, name, group, config))

    def log(self, row: Mapping[str, float]) -> None:
        if self.run is not None:
            self._attempt(lambda: self.run.log(dict(row)))

    def image(self, key: str, path: Path) -> None:
        if self.run is not None:
            self._attempt(lambda: self.run.log({key: _wandb().Image(str(path))}))

    def finish(self) -> None:
        if self.run is not None:
            self._attempt(lambda: self.run.finish())

    def _start(self, folder: Path, identity: str, name: str, group: str, config: Mapping[str, Any]) -> None:
        for variable in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
            os.environ[f"WANDB_{variable}_DIR"] = str(folder / "wandb")
        wandb = _wandb()
        about: dict[str, Any] = {"project": self.project, "name": name, "group": group, "config": dict(config), "dir": folder}
        about |= {"id": identity, "resume": "allow"}
        about["settings"] = wandb.Settings(console="off", silent=True, init_timeout=60, reinit="finish_previous")
        try:
            self.run = wandb.init(mode=self.mode, **about)
        except Exception as error:
            if self.mode == "offline":
                raise
            print(f"warning: W&B cannot be reached ({_line(error)}); this run is kept offline", file=sys.stderr)
            self.run = wandb.init(mode="offline", **about)
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do it; whatever it raises (a mirror may fail in any way) ends the mirror with one warning, and not the run."""
        try:
            action()
        except Exception as error:
            self.run = None
            told = f"warning: W&B failed ({_line(error)}); the run goes on without it, metrics.jsonl is its record"
            print(told, file=sys.stderr)


def _wandb() -> Any:
    import wandb  # here, because it takes a second

    return wandb


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
