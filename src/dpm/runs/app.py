"""What all entrypoints share: a user's mistake ends in one line and a non-zero status, never in a traceback."""

import argparse
import codecs
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpm.errors import UserError
from dpm.stored import ROOT

ASCII = {"±": "+-", "×": "x", "−": "-", "σ": "sigma", "≤": "<=", "≥": ">=", "…": "..."}
ASKING = ("SIGTERM", "SIGHUP", "SIGUSR1")  # the last is Slurm's warning
STOPPING = tuple(getattr(signal, name) for name in ASKING if hasattr(signal, name))
LESS = "lower the tier, training.batch_size, examples or T"
SIGPIPE = 13  # Windows has none
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
    sys.argv[1:] = map(quoted, sys.argv[1:])
    try:
        refuse_no_choice(sys.argv[1:])
        main()
    except (UserError, HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        fail(explained(error))
    except MemoryError as error:
        fail(UserError(f"out of memory: {error}; {LESS}"))
    except RuntimeError as error:  # torch's own
        if not re.search("allocate memory|out of memory", str(error)):
            raise
        fail(UserError(f"out of memory: {str(error).splitlines()[0]}; {LESS}"))
    except BrokenPipeError:
        silence()
        sys.exit(128 + SIGPIPE)
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
            if not alone():
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


def next_is(verb: str, arguments: Sequence[str]) -> None:
    """The command that comes after this one."""
    print(f"next: {shlex.join(['python', f'experiments/{verb}.py', *arguments])}", flush=True)


def alone() -> bool:
    """Whether this is a run by itself, and none of a sweep."""
    return HydraConfig.get().mode is not RunMode.MULTIRUN


def quoted(argument: str) -> str:
    """`weights=outputs/x/optimizer.lr=0.01/seed0`, the project's own names of folders, as Hydra's grammar wants it."""
    key, _, value = argument.partition("=")
    plain = "=" in value and not argument.startswith("-") and not re.match(r"""['"\[{]|\w+\(""", value)
    return f"{key}='{value}'" if plain and "'" not in value else argument


def refuse_no_choice(arguments: Sequence[str]) -> None:
    """Hydra dies of a group that is no name, and finds no values by glob() for a key that is no group: no job, and no word."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        folder = CONF / key.lstrip("+").split("@")[0]
        if value.startswith("glob(") and not folder.is_dir():
            raise UserError(f"{argument}: glob() chooses among files, and conf/{key} is no folder; list the values, {key}=a,b")
        if folder.is_dir() or key.startswith("hydra"):
            refuse_no_name(argument, value, folder)


def refuse_no_name(argument: str, value: str, folder: Path) -> None:
    if "=" not in argument or "." in argument.partition("=")[0]:
        return
    parts = [value] if value.startswith("[") else value.split(",")
    try:
        named = all(isinstance(yaml.safe_load(part), str | list) for part in parts)
    except yaml.YAMLError:  # Hydra's own grammar says what is wrong with it
        named = True
    if not named:
        known = ", ".join(options(folder))
        raise UserError(f"{argument}: choose one by its name{known and ': '}{known}")


def explained(error: Exception) -> Exception:
    """The same with what the user may have meant, where Hydra does not know an experiment or a key."""
    if any(text in str(error) for text in ("specify 'experiment'", "find 'experiment/")):
        return UserError(f"{error}; experiments: {', '.join(experiments())}")
    unknown = re.match(r"Could not override '([^']+)'\.\s+To append", str(error))
    if unknown is None:
        return error
    within = re.search(rf"full_key: ({re.escape(unknown[1])}\S+)", str(error.__cause__))  # where a whole node was given
    key = (within or unknown)[1]
    return UserError(f"there is no key {key!r} in the configuration{_hint(key)}")


def _hint(key: str) -> str:
    """What the experiment's configuration holds that looks like the key; where a constructor might take it, how to add it."""
    from dpm.runs import configs

    chosen = [argument.split(",")[0] for argument in sys.argv[1:] if argument.startswith("experiment=")]  # of a sweep, one
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(Path(sys.argv[0]).stem, chosen)
    except HydraException:  # more is wrong than this key
        return "; see --cfg job"
    hint = configs.meant(key, OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]
    added = f"; +{key}=... adds an argument to a constructor" if "." in key and not hint else ""
    return hint or added or "; see --cfg job"


def experiments() -> list[str]:
    """What `experiment=` can be (Hydra lists only the top of a group)."""
    return options(CONF / "experiment")


def options(folder: Path) -> list[str]:
    """The names of a group's files, those in its folders too."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("**/*.yaml"))
