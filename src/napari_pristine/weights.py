"""Files of weights: named tensors with some text; opening one cannot run code.

The format is safetensors: the length of the header, the header in JSON, then the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from napari_pristine.errors import FileError, ModelError
from napari_pristine.io.atomic import atomic_write

SUFFIX = ".safetensors"
_FILE_NAMES = {"model": "live", "ema": "steady"}
"""Parts of the names of parameters that files have kept from version 0.1, by the part that stands for them now."""
_LONGEST_HEADER = 2**24
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of pickles, by protocol; the oldest are text."""
_BROKEN = (
    ArithmeticError, AttributeError, KeyError, RecursionError, RuntimeError, SafetensorError, TypeError, ValueError,
)  # fmt: skip
"""Errors that a broken header, or one that does not fit the numbers, may raise."""


def write_weights(path: Path, weights: Mapping[str, Tensor], text: Mapping[str, str], *, overwrite: bool) -> None:
    """Write weights and named texts to a file.

    Raises:
        FileError: The file exists and `overwrite` is not set, has another suffix, or cannot be written.
    """
    check_suffix(path)
    # copies: safetensors cannot store that two names share their numbers
    alone = {file_name(name): weight.detach().cpu().clone().contiguous() for name, weight in weights.items()}
    with atomic_write(path, overwrite=overwrite) as part:
        part.write_bytes(safetensors.torch.save(alone, dict(text)))


def file_name(name: str) -> str:
    """Return the name that a parameter of a network has in files."""
    return _translate(name, _FILE_NAMES)


def _translate(name: str, parts: Mapping[str, str]) -> str:
    return ".".join(parts.get(part, part) for part in name.split("."))


def check_suffix(path: Path) -> None:
    """Raise a `FileError` unless a file has the suffix of models."""
    if path.suffix.lower() != SUFFIX:
        raise FileError(f"'{path}' has the suffix '{path.suffix}'; models are {SUFFIX} files: give such a name")


def read_text(path: Path) -> dict[str, str]:
    """Read the texts of a file of weights; only its header is read.

    Raises:
        FileError: There is no such file, or it cannot be read.
        ModelError: It has another format, or is damaged.
    """
    with _readable(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(9)
            _check_start(path, first, size)
            header = first[8:] + file.read(int.from_bytes(first[:8], "little") - 1)
        text = json.loads(header).get("__metadata__", {})
        return {str(name): str(value) for name, value in text.items()}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a file.

    Raises:
        FileError: There is no such file, or it cannot be read.
        ModelError: It has another format, or is damaged.
    """
    with _readable(path):
        found = safetensors.torch.load(path.read_bytes())
        return {
            _translate(name, {old: new for new, old in _FILE_NAMES.items()}): value for name, value in found.items()
        }


def _check_start(path: Path, first: bytes, size: int) -> None:
    """Raise a `ModelError` if the first bytes are not those of a safetensors file."""
    length = int.from_bytes(first[:8], "little")
    if first[8:] == b"{" and length <= min(size - 8, _LONGEST_HEADER):
        return
    if _is_pickle(first):
        raise ModelError(
            f"'{path}' is a pickle, as torch.save writes them, and was not opened: it could run any code. "
            f"Models are {SUFFIX} files"
        )
    raise ModelError(f"'{path}' is not a {SUFFIX} file, or is cut off; give a file written by 'pristine learn'")


def _is_pickle(first: bytes) -> bool:
    """Tell whether a file is a pickle by its first bytes; the length of a header may begin alike."""
    header = first[8:] in (b"{", b"") and not any(first[4:8])
    return first[:4] == b"PK\x03\x04" or (not header and first[:2] in _PICKLES)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    if path.is_dir():
        raise FileError(f"'{path}' is a folder; give a {SUFFIX} file in it")
    try:
        yield
    except FileNotFoundError:
        raise FileError(f"'{path}' does not exist; check the name") from None
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"'{path}' is damaged ({reason}); copy it again from where it came") from error
