"""A device that refuses tensors of other devices, as a GPU does, and computes on the CPU: under torch's name `meta`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_MIXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "copy_", "_to_copy")
"""Operations that take tensors of the CPU on any device: as indices, or to copy them."""
_NUMBERS = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__")


class Elsewhere(Tensor):
    """A tensor on the device; its values are in another one on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    def __init__(self, inner: Tensor) -> None:
        super().__init__()

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if getattr(func, "__name__", "") in _NUMBERS:
                return getattr(args[0].detach().inner, func.__name__)()
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(func, args, dict(kwargs or {}))


def _compute(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the CPU.

    Raises:
        RuntimeError: Its tensors are on different devices; numbers of the CPU without axes are no tensors here.
    """
    name = func._schema.name.partition("::")[2]
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    there = [isinstance(tensor, Elsewhere) for tensor in tensors]
    if any(there) and name not in _MIXING:
        for tensor in tensors:
            if not isinstance(tensor, Elsewhere) and tensor.dim():
                raise RuntimeError(f"{name}: a tensor {tuple(tensor.shape)} on the CPU, others are on the device")
    is_there = there[0] if name == "copy_" else any(there)
    if kwargs.get("device") is not None:
        is_there = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs["device"] = torch.device("cpu")

    def inner(value: Any) -> Any:
        return value.inner if isinstance(value, Elsewhere) else value

    found = func(*tree_map(inner, args), **tree_map(inner, kwargs))
    if name.endswith("_"):  # in place
        return None if name.startswith("_foreach") else args[0]
    if not is_there:
        return found
    return tree_map(lambda value: Elsewhere(value) if isinstance(value, Tensor) else value, found)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, dict(kwargs or {}))


class _Made(TorchFunctionMode):
    """Tensors made of numbers, which torch makes without an operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            return func(*args, **{**kwargs, "device": None}).to(DEVICE)
        return func(*args, **kwargs)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Let the device compute, within this context."""
    autocast = torch.autocast

    def of_cpu(kind: str, *args: Any, **kwargs: Any) -> Any:
        return autocast("cpu" if kind == DEVICE.type else kind, *args, **kwargs)

    torch.autocast = of_cpu  # type: ignore[misc, assignment]
    try:
        with _Made(), _Operations():
            yield
    finally:
        torch.autocast = autocast  # type: ignore[misc]
