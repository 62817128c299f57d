"""Open the files and objects that a result depends on apart from the image, and record their checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from napari_pristine.errors import FileError, SettingError
from napari_pristine.events import Note
from napari_pristine.image.image import Image
from napari_pristine.io.fingerprint import Fingerprint, checksum, fingerprint
from napari_pristine.io.registry import read
from napari_pristine.model import Model, load_model
from napari_pristine.physics.psf import MeasuredPSF, read_psf
from napari_pristine.recipe import PRETRAINED_MODEL, InputFile, Recipe, from_pretrained
from napari_pristine.settings import make


@dataclass(frozen=True, eq=False)
class RecipeInputs:
    """A recipe with the content of all files that it names.

    Attributes:
        recipe: The recipe; its `inputs` hold path and checksum of everything below.
        mask: Not zero where pixels are to be filled in.
        extra_images: Extra images of the scene.
        psfs: Measured point spread functions of the image and of each extra image.
        model: A trained network.
        notes: Warnings, for example of a file that has changed since the recipe was made.
    """

    recipe: Recipe
    mask: Image | None = None
    extra_images: tuple[Image, ...] = ()
    psfs: tuple[MeasuredPSF | None, ...] = (None,)
    model: Model | None = None
    notes: tuple[Note, ...] = ()


@dataclass
class InputCache:
    """Cache of the files beside the images of a batch: the last file of each role, read again if it has changed."""

    _entries: dict[str, tuple[Fingerprint, Any, str]] = field(default_factory=dict)

    def open(self, role: str, path: Path, load: Callable[[Path], Any]) -> tuple[Any, str]:
        """Return the content of a file and its checksum; read again only if the file is another one, or has changed."""
        state = fingerprint(path)
        if role not in self._entries or self._entries[role][0] != state:
            self._entries.pop(role, None)  # free the memory first
            content = load(path)
            digest = content.sha256 if isinstance(content, Model) else checksum(path).removeprefix("sha256:")
            self._entries[role] = state, content, digest
        return self._entries[role][1:]


def open_inputs(
    recipe: Recipe,
    source: Path | None = None,
    *,
    mask: Image | None = None,
    extra_images: Sequence[Image] = (),
    psfs: Sequence[Image | None] = (),
    model: Model | None = None,
    cache: InputCache | None = None,
) -> RecipeInputs:
    """Open the files that a recipe names, unless objects are given in their place.

    Args:
        recipe: The recipe.
        source: File of the image; files that do not exist as named are looked for beside it.
        mask: A mask in place of the recipe's.
        extra_images: Extra images in place of those that the settings name.
        psfs: Measured point spread functions in place of those that the settings name, of the image and of each extra
            image; `None` for those that a file holds, or that are not measured.
        model: A trained network in place of the recipe's.
        cache: Files that were opened before.

    Raises:
        PristineError: A file does not exist or cannot be read, or a measured point spread function is missing.
    """
    cache = InputCache() if cache is None else cache
    inputs: dict[str, InputFile] = {}

    def add_object(role: str, digest: str) -> None:
        inputs[role] = InputFile(sha256=digest)

    def open_file(role: str, path: str, load: Callable[[Path], Any]) -> Any:
        content, digest = cache.open(role, find_file(path, source), load)
        inputs[role] = InputFile(path=path, sha256=digest)
        return content

    if model is not None:
        inputs["model"] = InputFile(path=recipe.model, sha256=model.sha256)
    elif recipe.model:
        model = open_file("model", recipe.model, load_model)
    if mask is not None:
        add_object("mask", image_checksum(mask))
    elif recipe.mask:
        mask = open_file("mask", recipe.mask, read)
    files = recipe.params.input_files
    if extra_images:
        for number, image in enumerate(extra_images, 1):
            add_object(f"extra_image_{number}", image_checksum(image))
    else:
        roles = [role for role in files if role.startswith("extra_image_") and not role.endswith("_psf")]
        extra_images = [open_file(role, files[role], partial(read, lazy=True)) for role in roles]
    psf_roles = ["psf", *(f"extra_image_{number}_psf" for number in range(1, len(extra_images) + 1))]
    opened: list[MeasuredPSF | None] = []
    for role, given in zip_longest(psf_roles, psfs):
        if role not in files:
            opened.append(None)
        elif given is not None:
            add_object(role, image_checksum(given))
            opened.append(MeasuredPSF(np.asarray(given.data, np.float64)))
        elif files[role]:
            opened.append(open_file(role, files[role], read_psf))
        else:
            raise SettingError("blur 'file' needs a measured point spread function; give its file as psf_file")
    notes = []
    for role, old in recipe.inputs.items():
        if role not in inputs:
            text = f"{role}: the recipe was made with '{old.path}'" if old.path else f"{role}: was given in Python"
            notes.append(Note(f"{text}, and is not given now; the result will differ", warning=True))
        elif old.sha256 and old.sha256 != inputs[role].sha256:
            notes.append(Note(f"{role}: '{inputs[role].path}' has changed since the recipe was made", warning=True))
    completed = recipe if inputs == recipe.inputs else recipe.model_copy(update={"inputs": inputs})
    return RecipeInputs(completed, mask, tuple(extra_images), tuple(opened), model, tuple(notes))


def image_checksum(image: Image) -> str:
    """SHA-256 of the values, shape, type and axes of an image in memory."""
    values = np.ascontiguousarray(image.data)
    digest = hashlib.sha256(f"{image.axes} {values.shape} {values.dtype.str}".encode())
    digest.update(values.tobytes())
    return digest.hexdigest()


def find_file(path: str, source: Path | None) -> Path:
    """Find a file by its path, else by its path relative to the folder of the image."""
    file = Path(path).expanduser()
    beside = source.parent / path if source else file
    if file.exists():
        return file
    if beside.exists():
        return beside
    raise FileError(f"'{path}', which the recipe names, does not exist; check the name")


def make_recipe(
    model: Model | None, method: str, preset: str, settings: Mapping[str, Any], fields: Mapping[str, Any]
) -> Recipe:
    """Make a recipe; an empty method or preset is that of the model, or the default.

    Raises:
        PristineError: A setting is unknown or out of range, or cannot be used with the model.
    """
    if model is not None:
        if preset:
            raise SettingError(
                f"preset '{preset}' cannot be used with a model, which has the settings that it was trained with; "
                "leave preset out, and change single settings if need be"
            )
        return model.recipe_with(method, settings, fields)
    chosen = {name: value for name, value in (("method", method), ("preset", preset)) if value}
    return make(Recipe, {**chosen, "settings": dict(settings), **fields})


def change_recipe(
    recipe: Recipe, method: str, preset: str, settings: Mapping[str, Any], fields: Mapping[str, Any]
) -> Recipe:
    """Change settings and fields of a recipe, but not its method or preset.

    Raises:
        PristineError: Another method or preset is given, or a setting is unknown or out of range.
    """
    for name, value, own in (("method", method, recipe.method), ("preset", preset, recipe.preset)):
        if value not in ("", own):
            raise SettingError(
                f"{name} '{value}' contradicts the recipe, whose {name} is '{own}'; leave out {name} or recipe"
            )
    start = from_pretrained(recipe.method) if fields.get("model") == PRETRAINED_MODEL else {}
    return recipe.model_copy(update={**fields, "settings": {**recipe.settings, **start, **settings}})
