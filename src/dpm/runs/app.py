"""What all entrypoints share: a user's mistake ends in one line and a non-zero status, never in a traceback."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dpm.errors import UserError


def run(main: Callable[[], Any]) -> None:
    """Call a Hydra main function; exit 2 after a mistake of the user, 130 or 143 when stopped from outside."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to here
    signal.signal(signal.SIGTERM, _stop)
    try:
        refuse_globs_of_values(sys.argv[1:])
        main()
    except (UserError, HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        unknown = any(text in str(error) for text in ("specify 'experiment'", "find 'experiment/"))
        fail(UserError(f"{error}; experiments: {', '.join(experiments())}") if unknown else error)
    except OSError as error:
        fail(UserError(f"{error.strerror}: {error.filename}") if error.filename else error)
    except KeyboardInterrupt:
        print("stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def job(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Decorate a job: alone it fails with one line; in a sweep Hydra goes on with the other jobs and fails at the end."""

    @wraps(main)  # Hydra finds conf/ beside the file that defines main
    def wrapped(config: DictConfig) -> Any:
        try:
            return main(config)
        except UserError as error:
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise
            return fail(error)

    return wrapped


class Parser(argparse.ArgumentParser):
    """For scripts without Hydra: a mistake on the command line is one line too."""

    def error(self, message: str) -> NoReturn:
        fail(UserError(f"{message}; see --help"))


def fail(error: Exception) -> NoReturn:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def overrides() -> list[str]:
    """What the user changed on the command line, e.g. ["optimizer.lr=0.01", "seed=1"]."""
    return list(HydraConfig.get().overrides.task)


def refuse_globs_of_values(arguments: Sequence[str]) -> None:
    """Of a key that is no group Hydra's glob() finds no values, and the sweep ends without a job and without a word."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if value.startswith("glob(") and not Path("conf", key).is_dir():
            raise UserError(f"{argument}: glob() chooses among files, and conf/{key} is no folder; list the values, {key}=a,b")


def experiments() -> list[str]:
    """What `experiment=` can be (Hydra lists only the top of a group)."""
    folder = Path("conf/experiment")
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob("**/*.yaml"))


def _stop(signum: int, frame: FrameType | None) -> None:
    print("terminated; the same command resumes from the last checkpoint", file=sys.stderr)
    sys.exit(128 + signum)
