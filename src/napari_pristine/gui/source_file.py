"""Metadata of the file that a layer was read from: napari's own reader takes only the values."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_pristine.errors import PristineError
from napari_pristine.image.image import Image
from napari_pristine.io.registry import open_lazily

_WAIT_SECONDS = 0.1
"""Time that the window waits for a file, once for each layer; a slower one is read on in the background."""
_MAX_LAYERS = 64
"""Number of layers for which the metadata are kept."""


class SourceFiles(QObject):  # type: ignore[misc]
    """Files that are opened in the background.

    Signals:
        late: A file for which the window did not wait is read; its path.
    """

    late = Signal(str)


SOURCE_FILES = SourceFiles()


def file_image(layer: ImageLayer, data: Any) -> Image | None:
    """The image in the file that a layer was read from, without its values.

    Args:
        layer: The layer; it may hold one channel of the image, or lack axes of size 1.
        data: Its values at full resolution; only their shape and type are used.

    Returns:
        The image, with the axes of the layer; `None` if the layer is of no file, or of one that holds another image,
        cannot be opened, or is not read yet (see `SourceFiles.late`).
    """
    path = layer.source.path
    if not isinstance(path, str):
        return None
    reading = _read(path, layer.unique_id)
    image = reading.result() if reading.done() else None
    if image is None or image.dtype != np.dtype(data.dtype).newbyteorder("="):
        return None
    single = "".join(axis for axis in image.axes if image.size(axis) == 1 and axis not in "YX")
    for left_out in ("", single, "C", f"{single}C"):
        kept = [number for number, axis in enumerate(image.axes) if axis not in left_out]
        if tuple(image.shape[number] for number in kept) == tuple(data.shape):
            part = _with_axes(image, kept)
            return None if layer.rgb and part.axes[-1] != "S" else part
    return None


@lru_cache(maxsize=_MAX_LAYERS)
def _read(path: str, layer_id: object) -> Future[Image | None]:
    """Open a file in a thread, without reading its values, and wait for it a moment.

    Args:
        path: The file.
        layer_id: Tells layers apart, as a file may have changed when it is opened again.
    """
    reading: Future[Image | None] = Future()

    def open_file() -> None:
        image = None
        with suppress(PristineError, OSError):
            image = open_lazily(Path(path))
        if image is not None:  # the notes say how this software reads the values, which napari has read
            image = replace(image, data=_no_values(image, image.shape), notes=())
        reading.set_result(image)

    # a daemon, so that a network share that does not answer keeps nobody waiting
    Thread(target=open_file, name="source-file", daemon=True).start()
    try:
        reading.exception(_WAIT_SECONDS)
    except TimeoutError:
        reading.add_done_callback(lambda _: SOURCE_FILES.late.emit(path))
    return reading


def _with_axes(image: Image, kept: list[int]) -> Image:
    """An image without its values that has only some of its axes."""
    axes = "".join(image.axes[number] for number in kept)
    return replace(
        image,
        data=_no_values(image, tuple(image.shape[number] for number in kept)),
        axes=axes,
        scale=tuple(image.scale[number] for number in kept),
        units=tuple(image.units[number] for number in kept),
        translate=tuple(image.translate[number] for number in kept),
        channels=image.channels if "C" in axes else (),
        details={key: detail for key, detail in image.details.items() if set(detail.axes) <= set(axes)},
    )


def _no_values(image: Image, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of zeros that takes no memory."""
    return np.broadcast_to(np.zeros((), image.dtype), shape)
