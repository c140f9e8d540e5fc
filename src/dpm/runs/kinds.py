"""Whether a value of a configuration is of the kind that an annotation declares, and what to say where it is not.

No value is converted: `true` is no whole number, and 40.5 is not 40.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def fits(value: Any, kind: Any) -> bool:
    """Whether the plain value may stand for a `kind`; a node with a `_target_` may stand for anything, since it is built."""
    if kind is Any or isinstance(kind, str | TypeVar) or (isinstance(value, dict) and "_target_" in value):
        return True
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is Literal:
        return value in arguments and not isinstance(value, bool)
    if kind in SCALARS:
        return type(value) in {float: (int, float), Path: (str,)}.get(kind, (kind,))
    if kind in (None, NoneType):
        return value is None
    if isinstance(value, list):
        items = arguments[:1] if origin is not None and _is(origin, Sequence) and arguments else (Any,)
        return not _is(origin or kind, Mapping) and all(fits(item, items[0]) for item in value)
    if isinstance(value, dict):
        return all(fits(item, arguments[1]) for item in value.values()) if _is(origin, Mapping) and arguments else True
    return False


def wanted(kind: Any) -> str:
    """What to give for a `kind`: "give a whole number or null"."""
    return f"give {_described(kind)}"


def _described(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        plain = [choice for choice in arguments if choice in SCALARS]  # what else there is cannot be written so simply
        return " or ".join(map(_described, [*(plain or arguments), *([NoneType] if plain and NoneType in arguments else [])]))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if kind in (None, NoneType):
        return "null"
    if kind in SCALARS:
        return SCALARS[kind]
    if _is(origin or kind, Mapping):
        return "a mapping, {key: value}"
    if _is(origin or kind, Sequence):
        return f"a list of {_described(arguments[0])} each" if arguments else "a list"
    return f"what it is made of ({getattr(kind, '__name__', kind)}), {{_target_: ...}}"


def _is(kind: Any, abstract: type) -> bool:
    return inspect.isclass(kind) and issubclass(kind, abstract)
