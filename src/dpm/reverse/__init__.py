"""p_theta, the reverse process: the only thing that the bound and the samplers see."""

from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from dpm.data import Finite
from dpm.decoders import Decoder
from dpm.errors import UserError
from dpm.facts import Scalar, of_network
from dpm.processes import Process


class Reverse(Protocol):
    """p(x_s | x_t) for 0 <= s < t <= T; owns the process q that it reverses, and q owns the schedule."""

    @property
    def process(self) -> Process: ...

    def __call__(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution: ...


def facts_of(reverse: Reverse) -> dict[str, Scalar]:
    """What a protocol says of this process: `facts`, or what its forward process says where it has none (a wrapper)."""
    facts: dict[str, Scalar] = getattr(reverse, "facts", None) or reverse.process.facts
    return facts


def require_shape(output: Tensor, x_t: Tensor, who: str) -> None:
    if output.shape != x_t.shape:
        raise UserError(
            f"{who} {tuple(output.shape[1:])} for each x_t of {tuple(x_t.shape[1:])}; give it as many outputs, "
            "and twice as many for a variance that is learned"
        )


def require_prediction(reverse: object) -> None:
    """Refuse a process without an x_0-hat, a chain of bits for instance, where a sampler steers by it."""
    if not hasattr(reverse, "predicted"):
        raise UserError(f"{type(reverse).__name__} predicts no x_0, which this sampler needs; take sampler=ancestral")


class ReverseStep(torch.nn.Module):
    """`step` for s >= 1 and a decoder for s = 0; one batch does one or the other."""

    process: Process
    decoder: Decoder
    network: torch.nn.Module

    @property
    def facts(self) -> dict[str, Scalar]:
        """What a number obtained with this process means: its part of a protocol."""
        return {**self.process.facts, "decoder": type(self.decoder).__name__, **self.decoder.facts}

    @property
    def recipe(self) -> dict[str, Scalar]:
        """What is trained."""
        return of_network(self.network)

    def fit(self, data: Finite) -> None:
        """Before training: what in it follows from the training examples in closed form, if anything does."""

    def forward(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        last = s == 0
        if last.any() and not last.all():
            raise UserError("one batch takes the last step, to s = 0, or it does not: split it")
        return self.decoder(self, x_t, t) if last.any() else self.step(x_t, s, t)

    def step(self, x_t: Tensor, s: Tensor, t: Tensor) -> Distribution:
        """What the model, without its decoder, says about x_s."""
        raise NotImplementedError
