"""What ran, read off the objects themselves: names and counts that a claim's protocol and recipe are compared with."""

from torch import nn

Scalar = str | int | float | bool


def named(thing: object) -> str:
    """The name of its class, and in parentheses what it wraps: Epsilon, Unshuffled(UNet), OneTerm(AsLinear).

    A wrapper names the attribute in question by `wraps`; one that changes nothing but precision is `transparent`: left out.
    """
    inner = _wrapped(thing)
    if inner is None:
        return type(thing).__name__
    return named(inner) if getattr(thing, "transparent", False) else f"{type(thing).__name__}({named(inner)})"


def of_network(network: nn.Module) -> dict[str, Scalar]:
    """Name, number of trained parameters, and what the innermost network says of its own size."""
    parameters = sum(p.numel() for p in network.parameters())
    return {"network": named(network), "parameters": parameters, **getattr(innermost(network), "facts", {})}


def innermost(thing: object) -> object:
    """What is left of it without what it is wrapped in."""
    while (inner := _wrapped(thing)) is not None:
        thing = inner
    return thing


def digits(value: float) -> float:
    """Six of them: 1e-6 for a number that was computed in binary."""
    return float(f"{value:.6g}")


def _wrapped(thing: object) -> object | None:
    return getattr(thing, getattr(thing, "wraps", ""), None)
