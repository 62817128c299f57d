"""Model: a trained network with all that is needed to use it again; opening its file cannot run code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from napari_pristine.device import seeded
from napari_pristine.errors import FileError, ModelError, PristineError
from napari_pristine.io.atomic import atomic_write
from napari_pristine.methods import find_method
from napari_pristine.methods.method import Method, MethodParams
from napari_pristine.recipe import Recipe
from napari_pristine.settings import make
from napari_pristine.text import to_json

_FORMAT = "napari-pristine model"
_VERSION = 1
"""To be raised when older versions would misread a new file."""
_DAMAGED = "it is damaged, or made by another version of napari-pristine"
_SIDE = 64
"""Side of the block that a network is made for; networks that are trained on many images do not depend on it."""


class Facts(BaseModel):
    """Training history of a model, for information only.

    Attributes:
        images: Names of the images that it was trained on, the first thousand.
        count: Number of these images.
        blocks: Number of blocks that they were cut into.
        sigma: Noise level of each channel in the normalised units of the network, in the mean over the blocks.
        residual: Root mean square of what the network removed in the last steps, in noise levels.
        stopped: Reason why the training ended.
        start: Fingerprint of the model that the training started from; empty if there was none.
        seconds, device: Duration and device of the training.
        date, versions: Date of the training, in ISO 8601, and versions of the software.
        notes: Notes of the training.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    images: tuple[str, ...] = ()
    count: int = 0
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
    """The part of the header of a file that is ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    channels: int = Field(ge=1, le=4096)
    axes: str = Field(pattern="^[A-Z]?YX$")
    fingerprint: str
    facts: Facts


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network.

    Attributes:
        recipe: Method and settings that it was trained with.
        channels: Channels of a block, restored together.
        axes: Axes of space of a block, such as `"YX"` or `"ZYX"`.
        weights: All parameters and buffers of the network, by name, on the CPU.
        facts: History of its training.
    """

    recipe: Recipe
    channels: int
    axes: str
    weights: Mapping[str, Tensor] = field(repr=False)
    facts: Facts = field(default_factory=Facts)

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the checksum of the weights."""
        return self.sha256[:16]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of names, types, shapes and values of the weights."""
        digest = hashlib.sha256()
        for name in sorted(self.weights, key=file_name):
            weight = self.weights[name].detach().cpu().contiguous()
            digest.update(f"{file_name(name)} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def network(self, device: torch.device | str = "cpu") -> nn.Module:
        """Make the network, ready for use.

        Raises:
            ModelError: The weights do not fit the method with its settings.
        """
        self.check()
        with seeded(0):  # the random weights are overwritten
            net = untrained(find_method(self.recipe.method), self.recipe.params, self.channels, self.axes)
        net.load_state_dict(dict(self.weights))
        return net.eval().to(device)

    def check(self, params: MethodParams | None = None) -> None:
        """Raise a `ModelError` unless the weights fit the method, with its own settings or with other `params`."""
        expected = self._shapes(params or self.recipe.params)
        found = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if not wrong:
            return
        name, settings = wrong[0], self._shaping(params or self.recipe.params)
        advice = "use the settings of the model" if settings else _DAMAGED
        shape, expected_shape = _shape_text(found.get(name)), _shape_text(expected.get(name))
        raise ModelError(
            f"the weights do not fit the method {self.recipe.method}{' with ' if settings else ''}{settings}: "
            f"{len(wrong)} of {len(expected)} differ, such as '{name}', which is {shape} and should "
            f"be {expected_shape}; {advice}"
        )

    def _shapes(self, params: MethodParams) -> dict[str, tuple[int, ...]]:
        """Names and shapes that the weights should have."""
        with torch.device("meta"):  # shapes only: a broken file could ask for any amount of memory
            net = untrained(find_method(self.recipe.method), params, self.channels, self.axes)
        return {name: tuple(weight.shape) for name, weight in net.state_dict().items()}

    def _shaping(self, params: MethodParams) -> str:
        """List the settings that differ from the model's and change the shape of the network."""
        mine, theirs = self.recipe.params, params.model_dump()
        differing = [name for name, value in mine.model_dump().items() if value != theirs[name]]
        shapes = self._shapes(mine)
        shaping = [n for n in differing if self._shapes(mine.model_copy(update={n: theirs[n]})) != shapes]
        return ", ".join(f"{name} {theirs[name]} (model: {getattr(mine, name)})" for name in shaping)

    def check_fits(self, channels: int, axes: str, method: str) -> None:
        """Raise a `ModelError` unless the model restores blocks of so many channels along these axes of space."""
        self._check_method(method)
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

    def _check_method(self, method: str) -> None:
        if method != self.recipe.method:
            raise ModelError(f"the model was trained with {self.recipe.method}, not with {method}; use that method")

    def recipe_with(self, method: str, settings: Mapping[str, Any], fields: Mapping[str, Any]) -> Recipe:
        """Make a recipe to restore with this model.

        Args:
            method: Name of the method; empty for that of the model.
            settings: Settings that differ from those of the model.
            fields: Other fields of the recipe.

        Raises:
            ModelError: The method is another one, or the weights do not fit the settings.
            SettingError: A setting is unknown or out of range.
        """
        self._check_method(method or self.recipe.method)
        mine = {"method": self.recipe.method, "preset": self.recipe.preset}
        recipe = make(Recipe, {**mine, "settings": {**self.recipe.settings, **settings}, **fields})
        self.check(recipe.params)
        return recipe

    def describe(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values."""
        card = _Card(
            recipe=self.recipe,
            channels=self.channels,
            axes=self.axes,
            fingerprint=self.fingerprint,
            facts=self.facts,
        )
        return card.model_dump(mode="json")


def pretrained_model() -> Model:
    """The network that comes with the package, for single planes."""
    recipe = Recipe(method="pretrained", preset="fast")
    return Model(recipe, 1, "YX", untrained(find_method(recipe.method), recipe.params, 1, "YX").state_dict())


def untrained(method: Method[Any, Any], params: MethodParams, channels: int, axes: str) -> nn.Module:
    """Make an untrained network for blocks with these channels and axes of space."""
    net: nn.Module = method.network(params, channels, (_SIDE,) * len(axes))
    return net


def save_model(path: str | os.PathLike[str], model: Model, *, overwrite: bool = False) -> None:
    """Write a model to a `.safetensors` file.

    Raises:
        FileError: The file exists and `overwrite` is not set, has another suffix, or cannot be written.
    """
    text = {"format": _FORMAT, "format_version": str(_VERSION), "model": to_json(model.describe(), ascii_only=True)}
    write_weights(Path(path), model.weights, text, overwrite=overwrite)


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model; no code in the file is run.

    Raises:
        FileError: There is no such file, or it cannot be read.
        ModelError: It is not a model, is damaged, or was made by a newer version.
    """
    path = Path(path).expanduser()
    card = _read_card(path)
    model = Model(card.recipe, card.channels, card.axes, read_weights(path), card.facts)
    if model.fingerprint != card.fingerprint:
        raise ModelError(f"'{path}' is damaged (its weights are not those that were saved); copy it again")
    try:
        model.check()
    except ModelError as error:
        raise ModelError(f"'{path}': {error}") from None
    return model


def _read_card(path: Path) -> _Card:
    text = read_metadata(path)
    if text.get("format") != _FORMAT:
        raise ModelError(f"'{path}' holds weights of other software; give a file written by 'pristine learn'")
    version = text.get("format_version", "")
    if version != str(_VERSION):
        newer = re.fullmatch("[1-9][0-9]*", version)
        advice = "it was made by a newer version of napari-pristine: update" if newer else "it is damaged"
        raise ModelError(f"'{path}' has the format version '{version[:20]}', this software reads {_VERSION}; {advice}")
    try:
        return _Card.model_validate_json(text.get("model", ""))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its header"
        reason = f"{where}: {first['msg'].lower()}"
    except PristineError as error:  # of the recipe: an unknown method, preset or setting
        reason = str(error)
    raise ModelError(f"'{path}': {reason}; {_DAMAGED}")


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " × ".join(map(str, shape)) or "a number"


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count != 1 else ''}"


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


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a weights file; only its header is read.

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
        raise ModelError(f"'{path}' is damaged ({reason}); copy it again from its source") from error
