"""The methods: settings and declaration of each, without torch, and the list of them; `fits` computes them."""

from __future__ import annotations

from typing import Any

from napari_pristine.errors import SettingError
from napari_pristine.methods.auto import AUTO
from napari_pristine.methods.blind2unblind import BLIND2UNBLIND
from napari_pristine.methods.iddp import IDDP
from napari_pristine.methods.inr import INR
from napari_pristine.methods.linr import LINR
from napari_pristine.methods.method import Method
from napari_pristine.methods.pretrained import PRETRAINED
from napari_pristine.methods.sampling import SAMPLING

METHODS: dict[str, Method[Any, Any]] = {
    method.key: method
    for method in (
        AUTO,
        PRETRAINED,
        INR,
        SAMPLING,
        IDDP,
        BLIND2UNBLIND,
        LINR,
    )
}
"""All methods by key, in the order in which they are listed for users."""


def find_method(key: str) -> Method[Any, Any]:
    """The method with this key.

    Raises:
        SettingError: There is none.
    """
    if key not in METHODS:
        raise SettingError(f"there is no method '{key}'; the methods are {', '.join(METHODS)}")
    return METHODS[key]
