"""A device that is not the CPU, on a machine that has no other: what mixes tensors of two devices is found without a GPU.

Tensors on it carry their values in the CPU's memory, so that control flow which depends on data runs too. Torch calls the
device "meta", the one device besides the CPU that every build of torch has and whose gradients need no driver.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
ELSEWHERE = torch.device("meta")
BETWEEN = {aten.copy_.default, aten._to_copy.default}  # what a device does with tensors of another one
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}  # by CPU indices
WAITS = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.nonzero.default}  # and what brings numbers here


class There(torch.Tensor):
    """A tensor on the other device; `values` are its numbers."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> "There":
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset(), "dtype": values.dtype}
        there = torch.Tensor._make_wrapper_subclass(cls, values.shape, device=ELSEWHERE, **layout)
        there.values = values
        return there

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.values})"

    def new_tensor(self, data: Any, **kwargs: Any) -> torch.Tensor:
        return torch.tensor(data, **{"dtype": self.dtype, "device": self.device, **kwargs})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **kwargs: Any) -> Any:
        raise TypeError("can't convert a tensor of another device to numpy; use Tensor.cpu() first")

    def __array__(self, *args: Any) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the accelerator's context")


class Accelerator(TorchDispatchMode):
    """Runs everything on the CPU and refuses what a GPU would; `waits` are the places that waited for one of its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, There)]
        result_there = isinstance(args[0], There) if func is aten.copy_.default else bool(there)
        if kwargs.get("device") is not None:
            result_there = torch.device(kwargs["device"]) == ELSEWHERE
            kwargs["device"] = torch.device("cpu")
        if there and func not in BETWEEN:
            indexed = func in INDEXING and isinstance(args[0], There)  # which indices of the CPU may do
            refuse_mixture(
                func, [leaf for leaf in (args[0], *args[2:]) if isinstance(leaf, torch.Tensor)] if indexed else tensors
            )
        if result_there and isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError(f"{func}: expected a generator of the other device")
        if there and (func in WAITS or not result_there):
            self.waits.append(_place())
        known = {id(tensor.values): tensor for tensor in there}
        out = func(*tree_map(_values, args), **tree_map(_values, kwargs))
        return tree_map(lambda leaf: known.get(id(leaf), _moved(leaf) if result_there else leaf), out)


class Literals(TorchFunctionMode):
    """Numbers written in Python: torch makes them where no dispatch is, so they are made here and moved."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor):
            device = kwargs.pop("device", None)
            return func(*args, **kwargs).to(device=device)
        return func(*args, **kwargs)


@contextmanager
def accelerator() -> Iterator[Accelerator]:
    """There is another device, ELSEWHERE, as long as this lasts."""
    with Literals(), Accelerator() as there:
        yield there


def refuse_mixture(func: Any, tensors: Any) -> None:
    """A number (a CPU tensor without dimensions) may be added to a tensor of any device, nothing else may."""
    if any(tensor.ndim and not isinstance(tensor, There) for tensor in tensors) and any(isinstance(t, There) for t in tensors):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")


def _values(leaf: Any) -> Any:
    return leaf.values if isinstance(leaf, There) else leaf


def _moved(leaf: Any) -> Any:
    return There(leaf) if isinstance(leaf, torch.Tensor) else leaf


def _place() -> str:
    """The innermost file of the project that is running."""
    return next((Path(f.filename).name for f in reversed(traceback.extract_stack()) if "/src/dpm/" in f.filename), "outside")
