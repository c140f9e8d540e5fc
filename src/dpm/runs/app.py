"""What all entrypoints share: a user's mistake ends in one line and a non-zero status, never in a traceback."""

import argparse
import codecs
import io
import os
import re
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
from dpm.stored import ROOT

ASCII = {"±": "+-", "×": "x", "−": "-", "σ": "sigma", "≤": "<=", "≥": ">=", "…": "..."}
ASKING = ("SIGTERM", "SIGHUP", "SIGUSR1")  # the last is Slurm's warning
STOPPING = tuple(getattr(signal, name) for name in ASKING if hasattr(signal, name))
CONF = ROOT / "conf"
TIERS = "tier=smoke (seconds), tier=laptop (the default: minutes to hours on two cores), tier=paper (as published, a GPU)"


def run(main: Callable[[], Any], about: str = "", stopped: str = "nothing was written") -> None:
    """Call a Hydra main function; exit 2 after a mistake of the user, 128 + the signal when stopped from outside.

    about: what the script does, with examples, for --help; stopped: what is left when it is stopped.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        print(f"stopped by {signal.Signals(signum).name}; {stopped}", file=sys.stderr)
        sys.exit(128 + signum)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to here
    steady_output()
    if about and {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(about))
        return
    for number in STOPPING:
        signal.signal(number, stop)
    try:
        refuse_globs_of_values(sys.argv[1:])
        main()
    except (UserError, HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        unknown = any(text in str(error) for text in ("specify 'experiment'", "find 'experiment/"))
        fail(UserError(f"{error}; experiments: {', '.join(experiments())}") if unknown else error)
    except BrokenPipeError:
        silence()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        fail(UserError(f"{error.strerror}: {error.filename}") if error.filename else error)
    except KeyboardInterrupt:
        stop(signal.SIGINT, None)


def silence() -> None:
    """From now on nothing is printed: whoever read our output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def steady_output() -> None:
    """What a terminal cannot show is spelled in ASCII instead of being an error."""
    codecs.register_error("spelled", lambda error: ("".join(_spelled(error)), error.end))  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")


def _spelled(error: UnicodeError) -> list[str]:
    assert isinstance(error, UnicodeEncodeError)
    return [ASCII.get(letter, "?") for letter in error.object[error.start : error.end]]


def help_text(about: str) -> str:
    """What the script says of itself, the experiments with the first line of what they are, the tiers, where results go."""
    lines = [(name, *_said(CONF / "experiment" / f"{name}.yaml")) for name in experiments()]
    width = max((len(name) for name, *_ in lines), default=0)
    return "\n".join(
        [
            about.strip(),
            "",
            "experiments, what they cost at the laptop tier, and what they are (conf/experiment/<experiment>.yaml says more):",
            *(f"  {name:<{width}}  {cost[:44]:<44}  {what[:72]}".rstrip() for name, cost, what in lines),
            "",
            f"tiers: {TIERS}",
            "results: runs in outputs/, evaluations in results/yours/; `python experiments/report.py` shows both",
            "all settings: --cfg job; of Hydra itself: --hydra-help; completion of a shell: --shell-completion install=bash",
        ]
    )


def _said(path: Path) -> tuple[str, str]:
    """What the comments at the head of an experiment say of the laptop tier, and their first line."""
    comments = [line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ") and line[2] != "@"]
    cost = re.search(r"Laptop tier: ([^,;]*?)(?=[,;]|\. |\.$|$)", " ".join(comments))
    return cost[1] if cost else "", comments[0] if comments else ""


def job(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Decorate a job: alone it fails with one line; in a sweep Hydra goes on with the other jobs and fails at the end."""

    @wraps(main)  # Hydra finds conf/ beside the file that defines main
    def wrapped(config: DictConfig) -> Any:
        os.chdir(HydraConfig.get().runtime.cwd)  # paths are those of the command line, whatever hydra.job.chdir says
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
        if value.startswith("glob(") and not (CONF / key).is_dir():
            raise UserError(f"{argument}: glob() chooses among files, and conf/{key} is no folder; list the values, {key}=a,b")


def experiments() -> list[str]:
    """What `experiment=` can be (Hydra lists only the top of a group)."""
    folder = CONF / "experiment"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob("**/*.yaml"))
