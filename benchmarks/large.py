"""Images larger than memory, written chunk by chunk: almost all of them empty, so that they can be stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from napari_pristine.image.image import Image
from napari_pristine.io.zarr import complete, create


def write_zarr(path: Path, frames: int, side: int, filled: int) -> Image:
    """An OME-Zarr TYX of 16 bits, of which only some frames hold a picture.

    Args:
        path: A folder that is not there yet.
        frames: Number of frames.
        side: Pixels along Y and X.
        filled: Number of frames that hold a picture, evenly spread.
    """
    like = _like(frames, side)
    array = create(path, like)
    for number in np.linspace(0, frames - 1, filled).astype(int).tolist():
        array[number] = picture(side, number)
    complete(path, like)
    return like


def write_tiff(path: Path, frames: int, side: int, filled: int) -> Image:
    """The same as a BigTIFF in one piece; the empty frames are holes in the file."""
    like = _like(frames, side)
    mapped = tifffile.memmap(path, shape=like.shape, dtype=like.dtype, bigtiff=True, ome=True, metadata={"axes": "TYX"})
    for number in np.linspace(0, frames - 1, filled).astype(int).tolist():
        mapped[number] = picture(side, number)
    mapped.flush()
    return like


def write_plane(path: Path, side: int, filled: int) -> Image:
    """An OME-Zarr YX of 16 bits, of which only some squares of 1024 pixels, along its diagonal, hold a picture."""
    data = zarr.create_array({}, shape=(side, side), dtype="uint16")
    like = Image(data, "YX", scale=(0.1, 0.1), units=("micrometer", "micrometer"))
    array = create(path, like)
    for number in np.linspace(0, side // 2048 - 1, filled).astype(int).tolist():
        part = slice(number * 2048 + 512, number * 2048 + 1536)
        array[part, part] = picture(1024, number)
    complete(path, like)
    return like


def picture(side: int, seed: int) -> NDArray[np.uint16]:
    """Blobs with the noise of photons."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    signal = 20 + 40 * np.square(np.sin(x / 17 + seed) * np.sin(y / 23))
    return np.asarray(rng.poisson(signal), np.uint16)


def _like(frames: int, side: int) -> Image:
    data = zarr.create_array({}, shape=(frames, side, side), dtype="uint16")
    return Image(data, "TYX", scale=(1.0, 0.1, 0.1), units=("second", "micrometer", "micrometer"))
