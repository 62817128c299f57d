"""Restores microscopy images from the noisy data alone.

    import napari_pristine as pristine

    result = pristine.restore(array, "inr", axes="YX")
    result.data, result.recipe, result.quality, result.seconds

Importing this package is light: torch is imported with the first use of a name that needs it.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_pristine.comparison import compare
    from napari_pristine.diagnosis import Diagnosis, diagnose
    from napari_pristine.errors import PristineError
    from napari_pristine.events import Command, Note, Preview, Progress
    from napari_pristine.image.image import Image
    from napari_pristine.image.quality import Comparison
    from napari_pristine.image.verdict import Verdict
    from napari_pristine.io.registry import read, write
    from napari_pristine.jobs.restore import Restored, restore, run
    from napari_pristine.jobs.train import learn
    from napari_pristine.methods import METHODS
    from napari_pristine.model import Model, load_model, save_model
    from napari_pristine.recipe import Recipe
    from napari_pristine.recipe_file import load_recipe, save_recipe
    from napari_pristine.verdict import judge

try:
    __version__ = version("napari-pristine")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0+unknown"

# Read when torch is loaded: threads that spin for long while they wait make a fit many times slower on a machine that
# has other work to do as well; this little costs next to nothing on one that has not.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

_HOME = {
    "Comparison": "image.quality",
    "Diagnosis": "diagnosis",
    "METHODS": "methods",
    "Image": "image.image",
    "Model": "model",
    "Note": "events",
    "Preview": "events",
    "PristineError": "errors",
    "Progress": "events",
    "Recipe": "recipe",
    "Restored": "jobs.restore",
    "Verdict": "image.verdict",
    "Command": "events",
    "compare": "comparison",
    "diagnose": "diagnosis",
    "judge": "verdict",
    "learn": "jobs.train",
    "load_model": "model",
    "load_recipe": "recipe_file",
    "read": "io.registry",
    "restore": "jobs.restore",
    "run": "jobs.restore",
    "save_model": "model",
    "save_recipe": "recipe_file",
    "write": "io.registry",
}

__all__ = [
    "METHODS", "Command", "Comparison", "Diagnosis", "Image", "Model", "Note", "Preview", "PristineError", "Progress",
    "Recipe", "Restored", "Verdict", "__version__", "compare", "diagnose", "judge", "learn", "load_model",
    "load_recipe", "read", "restore", "run", "save_model", "save_recipe", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
