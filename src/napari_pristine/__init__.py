"""Restores microscopy images from the noisy data alone.

    import napari_pristine as pristine

    result = pristine.restore(array, "inr", axes="YX")
    result.data, result.recipe, result.quality, result.seconds

Importing this package is light: torch is imported with the first use of a name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_pristine.errors import PristineError
    from napari_pristine.events import Note, Preview, Progress, Wish
    from napari_pristine.files import read, write
    from napari_pristine.image.image import Image
    from napari_pristine.methods import METHODS
    from napari_pristine.recipe import Recipe
    from napari_pristine.run import Restored, restore, run

try:
    __version__ = version("napari-pristine")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0+unknown"

_HOME = {
    "METHODS": "methods",
    "Image": "image.image",
    "Note": "events",
    "Preview": "events",
    "PristineError": "errors",
    "Progress": "events",
    "Recipe": "recipe",
    "Restored": "run",
    "Wish": "events",
    "read": "files",
    "restore": "run",
    "run": "run",
    "write": "files",
}

__all__ = [
    "METHODS", "Image", "Note", "Preview", "PristineError", "Progress", "Recipe", "Restored", "Wish", "__version__",
    "read", "restore", "run", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
