"""Model: a network that has learned, with all that is needed to use it again; its file can run no code.

A file is in the safetensors format: a header of JSON, then numbers. Our part of the header stands in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from napari_pristine.atomic import appearing
from napari_pristine.errors import FileError, ModelError, PristineError
from napari_pristine.methods import find_method
from napari_pristine.methods.method import Method, MethodParams
from napari_pristine.recipe import Recipe

SUFFIX = ".safetensors"
_FORMAT = "napari-pristine model"
_VERSION = 1
"""Raise it when an older version could not use a new file rightly."""
_LONGEST_HEADER = 2**24
_SIDE = 64
"""Side of the block that a network is asked for with; what learns from many images does not depend on it."""
_BROKEN = (SafetensorError, KeyError, TypeError, ValueError, OverflowError, RuntimeError, RecursionError)
"""What reading a broken header, or numbers that do not fit it, may raise."""


class Facts(BaseModel):
    """How a model came about; for people, and nothing depends on it.

    Attributes:
        images: Names of the images that were learned from.
        blocks: Number of blocks that they were cut into.
        sigma: Noise level of each channel in the normalised units of the network, in the mean over the blocks.
        residual: What the network removed at the end, in noise levels.
        stopped: Which rule ended the learning.
        start: Fingerprint of the model that was learned on from; empty if there was none.
        seconds: How long it took.
        device: Where.
        date: When it was done, in ISO 8601.
        versions: Of the software.
        notes: What was said meanwhile.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    images: tuple[str, ...] = ()
    blocks: int = 0
    sigma: tuple[float, ...] = ()
    residual: float | None = None
    stopped: str = ""
    start: str = ""
    seconds: float = 0.0
    device: str = ""
    date: str = ""
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class _Card(BaseModel):
    """Our part of the header of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    channels: int = Field(ge=1, le=4096)
    axes: Literal["YX", "ZYX", "TYX"] | str = Field(pattern="^[A-Z]?YX$")
    fingerprint: str
    facts: Facts


@dataclass(frozen=True, eq=False)
class Model:
    """A network that has learned.

    Attributes:
        recipe: Method and settings that it learned with.
        channels: Channels of a block, restored together.
        axes: Axes of space of a block, such as `"YX"` or `"ZYX"`.
        weights: All parameters and buffers of the network, by name, on the CPU.
        facts: How it came about.
    """

    recipe: Recipe
    channels: int
    axes: str
    weights: Mapping[str, Tensor]
    facts: Facts = Facts()

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell these weights from others."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            weight = self.weights[name].detach().cpu().contiguous()
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:16]

    def network(self, device: torch.device | str = "cpu") -> nn.Module:
        """The network, ready for use.

        Raises:
            ModelError: The weights are none of this method with these settings.
        """
        self.check()
        with torch.random.fork_rng():
            net = untrained(find_method(self.recipe.method), self.recipe.params, self.channels, self.axes)
        net.load_state_dict(dict(self.weights))
        return net.eval().to(device)

    def check(self, params: MethodParams | None = None) -> None:
        """Raise a `ModelError` unless the weights fit the method, with its own settings or with other `params`."""
        method = find_method(self.recipe.method)
        with torch.device("meta"):  # shapes alone: a broken file could ask for any amount of memory
            expected = untrained(method, params or self.recipe.params, self.channels, self.axes).state_dict()
        shapes = {name: tuple(weight.shape) for name, weight in expected.items()}
        found = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        wrong = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
        if wrong:
            name = wrong[0]
            raise ModelError(
                f"the weights do not fit the method {method.key} with {self._differing(params)}: {len(wrong)} of "
                f"{len(shapes)} differ, such as '{name}', which is {_shown(found.get(name))} and should be "
                f"{_shown(shapes.get(name))}; use the settings that the model has learned with"
            )

    def _differing(self, params: MethodParams | None) -> str:
        """Settings that are not those of the model, in words."""
        mine = self.recipe.params.model_dump()
        theirs = params.model_dump() if params else mine
        differing = [f"{name} {theirs[name]} (model: {mine[name]})" for name in mine if mine[name] != theirs.get(name)]
        return ", ".join(differing) or "these settings"

    def check_fits(self, channels: int, axes: str, method: str) -> None:
        """Raise a `ModelError` unless the model restores blocks of so many channels along these axes of space."""
        if method != self.recipe.method:
            raise ModelError(f"the model has learned by {self.recipe.method}, not by {method}; give that method")
        if sorted(axes) != sorted(self.axes):
            raise ModelError(
                f"the model restores blocks with the axes {self.axes}, the image is cut into blocks {axes}; say which "
                "axes are restored together (together), or what the axes of the image are (axes)"
            )
        if channels != self.channels:
            raise ModelError(
                f"the model restores blocks of {_channels(self.channels)}, the image is cut into blocks of "
                f"{_channels(channels)}; say whether channels are restored together (together)"
            )

    def describe(self) -> dict[str, Any]:
        """All but the weights, as plain JSON values."""
        return self._card().model_dump(mode="json")

    def _card(self) -> _Card:
        return _Card(
            recipe=self.recipe,
            channels=self.channels,
            axes=self.axes,
            fingerprint=self.fingerprint,
            facts=self.facts,
        )


def untrained(method: Method[Any, Any], params: MethodParams, channels: int, axes: str) -> nn.Module:
    """A network for blocks with these channels and axes of space."""
    net: nn.Module = method.network(params, channels, (_SIDE,) * len(axes))
    return net


def save_model(path: str | os.PathLike[str], model: Model, *, overwrite: bool = False) -> None:
    """Write a model; the file appears when it is complete.

    Raises:
        FileError: The file exists and `overwrite` is not set, has another suffix, or cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    header = {"format": _FORMAT, "format_version": str(_VERSION), "model": json.dumps(model.describe())}
    weights = {name: weight.detach().cpu().clone().contiguous() for name, weight in model.weights.items()}
    with appearing(path, overwrite=overwrite) as part:
        part.write_bytes(safetensors.torch.save(weights, header))


def check_suffix(path: Path) -> None:
    """Raise a `FileError` unless the name of a model says what it is."""
    if path.suffix.lower() != SUFFIX:
        raise FileError(f"'{path}' has the suffix '{path.suffix}'; models are {SUFFIX} files: give such a name")


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model. Nothing in the file is run.

    Raises:
        FileError: There is no such file, or it cannot be read.
        ModelError: It is no model, damaged, or made by a newer version.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise FileError(f"'{path}' is a folder; give a file" if path.is_dir() else f"'{path}' does not exist")
    try:
        metadata = _metadata(path)
        with _damaged(path):
            card = _card(path, metadata)
            model = Model(card.recipe, card.channels, card.axes, safetensors.torch.load(path.read_bytes()), card.facts)
            if model.fingerprint != card.fingerprint:
                raise ValueError("the weights are not those that were saved")
            model.check()
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}") from error
    return model


def _metadata(path: Path) -> dict[str, Any]:
    """The metadata in the header of a safetensors file; nothing beyond the header is read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if first[:1] == b"\x80" or first[:4] == b"PK\x03\x04":
            raise ModelError(
                f"'{path}' is a pickle, as torch.save writes them, and was not opened: it could run any code. "
                f"Models are {SUFFIX} files"
            )
        if len(first) < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise ModelError(f"'{path}' is no {SUFFIX} file, or cut off; give a file that 'pristine learn' has written")
        header = file.read(length)
    with _damaged(path):
        metadata = json.loads(header).get("__metadata__", {})
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise ModelError(f"'{path}' holds a network of another software; give a file that 'pristine learn' has written")
    return metadata


def _card(path: Path, metadata: Mapping[str, Any]) -> _Card:
    version = str(metadata.get("format_version"))
    if version != str(_VERSION):
        newer = version.isascii() and version.isdigit() and int(version[:9]) > _VERSION
        advice = "it was made by a newer version of napari-pristine: update" if newer else "it is damaged: copy it again"
        raise ModelError(f"'{path}' has the format version '{version[:20]}', this software reads {_VERSION}; {advice}")
    return _Card.model_validate_json(str(metadata.get("model")))


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Say of what cannot be understood in which file it stands."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "header"
        raise ModelError(
            f"'{path}': {where}: {first['msg'].lower()}; it is damaged, or made by another version of napari-pristine"
        ) from error
    except PristineError as error:
        text = str(error)
        raise ModelError(text if str(path) in text else f"'{path}': {text}") from error
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"'{path}' is damaged ({reason}); copy it again from where it came") from error


def _shown(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " × ".join(map(str, shape)) or "a number"


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count != 1 else ''}"
