"""From a Hydra configuration to objects: what Hydra accepts without a word is refused here in one line."""

import difflib
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpm.errors import UserError
from dpm.runs.kinds import fits, wanted
from dpm.study.records import sha256

HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
NOT_THE_EXPERIMENT = "not_the_experiment"  # the key that names all other keys that are no part of it
PRECISION = "precision"  # of arithmetic, wherever it is said: the machine's affair, as its device is


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, checked: no unknown key, no number that is not finite, nothing of another kind."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(_said(error, config)) from error
    assert isinstance(plain, dict)
    for path, node in _mappings("", plain):
        _check_keys(path, node)
        for key, value in node.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{path}{key} = {value}: give a finite number")
    return {str(key): value for key, value in plain.items()}


def _said(error: OmegaConfBaseException, config: DictConfig) -> str:
    """In one line; where `tiers.tiny` is looked up and there is none, what there is to choose from."""
    said = " ".join(str(error).split())
    missing = re.search(r"Interpolation key '([^']+)' not found(?: full_key: (\S+))?", said)
    if missing is None:
        return f"configuration: {said}"
    table, *parts = missing[1].split(".")
    known = OmegaConf.to_container(config, resolve=False).get(table)  # type: ignore[union-attr]
    if parts and isinstance(known, dict) and "_target_" not in known and parts[0] not in known:
        return f"there is no {parts[0]!r} in `{table}` of this experiment; choose from: {', '.join(map(str, known))}"
    return f"{missing[2] or 'configuration'}: ${{{missing[1]}}} is not found in this experiment; +{missing[1]}=... gives it"


def require(values: Mapping[str, Any], kinds: type, path: str = "") -> None:
    """Refuse a value that is not of the kind that the dataclass `kinds` declares for its key."""
    for key, kind in get_type_hints(kinds).items():
        if key in values and not fits(values[key], kind):
            raise UserError(f"{path}{key} = {_shown(values[key])}: {wanted(kind)}")


def meant(key: str, config: Mapping[str, Any]) -> str:
    """ "; did you mean ...?" with the keys that look like this one, or else that end in its last part; nothing if none does."""
    paths = [f"{path}{name}" for path, node in _mappings("", config) for name in node if f"{path}{name}" != key]
    ends = [path for path in paths if path.endswith("." + key.split(".")[-1]) and not path.startswith("evaluators.")]
    close = ends or difflib.get_close_matches(key, paths, 3, 0.75)
    return f"; did you mean {' or '.join(close[:3])}?" if close else ""


def known_keys(config: dict[str, Any], known: set[str]) -> None:
    """Refuse keys that nothing reads."""
    for key in sorted(set(config) - known):
        raise UserError(f"unknown configuration key {key!r}; known: {', '.join(sorted(known))}")


def build(config: dict[str, Any], key: str) -> Any:
    """Instantiate config[key]; a constructor's complaint comes back as one line that names the key."""
    try:
        return instantiate(config[key], _convert_="all")
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, UserError):  # which says more than what it came from
            cause = cause.__cause__
        where = str(error).rsplit("full_key: ", 1)
        full_key = ".".join(part for part in (key, where[1].strip() if len(where) > 1 else "") if part)
        said = re.sub(r"^\[enforce fail .*?\] .*?\. ", "", " ".join(str(cause).split()))  # where torch noticed it
        raise UserError(f"{full_key}: {said}") from error


def digest(config: dict[str, Any]) -> str:
    """SHA-256 of what decides the trained weights: not where files go, who watches, how it is evaluated, or on what machine."""
    return sha256(json.dumps(essential(config), sort_keys=True).encode())


def essential(config: dict[str, Any]) -> dict[str, Any]:
    """The experiment: all keys but those of `not_the_experiment`."""
    return _experiment(config, config[NOT_THE_EXPERIMENT])


def _experiment(config: dict[str, Any], lists: dict[str, list[str]]) -> dict[str, Any]:
    others = {NOT_THE_EXPERIMENT, *(key for keys in lists.values() for key in keys)}
    return {key: _without_precision(value) for key, value in config.items() if key not in others}


def _without_precision(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_precision(value) for key, value in node.items() if key != PRECISION}
    return [_without_precision(value) for value in node] if isinstance(node, list) else node


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`key: old -> new` for every leaf in which two experiments differ; the new configuration says what is none of theirs."""
    one, other = (dict(_leaves("", _experiment(c, new[NOT_THE_EXPERIMENT]))) for c in (old, new))
    return [f"{k}: {one.get(k)} -> {other.get(k)}" for k in sorted(one.keys() | other.keys()) if one.get(k) != other.get(k)]


def _check_keys(path: str, node: dict[Any, Any]) -> None:
    """The keys of a node with a `_target_` are the parameters of its constructor, and its values of their kinds."""
    if "_target_" not in node:
        return
    try:
        target = get_object(node["_target_"])
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}_target_ = {node['_target_']}: there is no such class or function") from error
    if not callable(target):
        raise UserError(f"{path}_target_ = {node['_target_']}: not a class or function")
    parameters = _parameters(target)
    collects = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in sorted(set(map(str, node)) - HYDRA_KEYS):
        if key in parameters:
            _check_kind(f"{path}{key}", node[key], parameters[key])
        elif not collects:
            raise UserError(
                f"unknown configuration key {path}{key}; {node['_target_']} takes: {', '.join(parameters) or 'nothing'} "
                f"(~{path}{key} leaves it out)"
            )


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target, eval_str=True).parameters
    except NameError:  # an annotation that exists for type checkers only
        return inspect.signature(target).parameters


def _check_kind(key: str, value: Any, parameter: inspect.Parameter) -> None:
    annotated = parameter.annotation is not parameter.empty
    if annotated and not (value is None and parameter.default is None) and not fits(value, parameter.annotation):
        raise UserError(f"{key} = {_shown(value)}: {wanted(parameter.annotation)}")


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | dict | list) or value is None else str(value)


def _mappings(path: str, node: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from _mappings(f"{path}{key}.", value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _mappings(f"{path}{index}.", value)


def _leaves(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), value)
    else:
        yield path, node
