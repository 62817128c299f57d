"""OME-Zarr and plain Zarr arrays: reading, and writing as a whole or block by block."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import ContainsArrayError
from zarr.storage import LocalStore

from napari_pristine.errors import AxesError, FileError, PristineError
from napari_pristine.image.image import Image, LazySequence, axes_from_names, guess_axes, ranges
from napari_pristine.io import ngff
from napari_pristine.io.atomic import ZARR_METADATA, ZARR_SUFFIX, is_zarr_node
from napari_pristine.io.collection import join_inside, list_images, read_node
from napari_pristine.io.lazy import LazyArray, translate_errors
from napari_pristine.io.metadata import (
    AXES_GUESSED,
    FileMetadata,
    Provenance,
    check_series,
    make_image,
    samples_last,
    stem_of,
)
from napari_pristine.io.ngff import ContrastLimits, Version
from napari_pristine.io.planes import (
    CHUNK_SIDE,
    chunk_height,
    count_levels,
    find_chunks,
    halve,
    halved,
    row_chunk_indices,
)
from napari_pristine.io.zarr_codecs import bound_chunks
from napari_pristine.resources import check_fits
from napari_pristine.threads import CheckCancelled

FORMAT = "zarr"
_COARSEST = 512
"""Maximum number of pixels of the coarsest level along Y and X."""
_BLOSC_V2: Any = {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0}


class ZarrArray(LazyArray):
    """A Zarr array in a folder, read and written by integers and slices; its axes may be in another order.

    Processes that write to parts of the same chunk at the same time overwrite each other: give each whole chunks.

    Args:
        path: The folder of the array.
        order: For each axis of this object, the stored axis; the stored order if empty.
        writable: Allow assignments.

    Raises:
        FileError: There is no such array, it is damaged, or it holds no numbers.
    """

    format_name = "Zarr"

    def __init__(self, path: Path, order: Sequence[int] = (), *, writable: bool = False) -> None:
        with translate_errors(path, self.format_name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names and codecs of other programs
            store = LocalStore(path, read_only=not writable)
            self._array = zarr.open_array(store, mode="r+" if writable else "r")
            _check_array(path, self._array)
            if not writable:
                self._array = bound_chunks(path, self._array)
        metadata = next((path / name for name in ZARR_METADATA[:2] if (path / name).exists()), path)
        super().__init__(path, self._array.shape, np.dtype(self._array.dtype), order, watched=metadata)
        self.chunks = tuple(int(self._array.chunks[axis]) for axis in self._order)

    @property
    def path(self) -> Path:
        """The folder of the array."""
        return self._path

    def coarser_levels(self) -> list[ZarrArray]:
        """Coarser levels of the image whose finest level this is, with the same order of axes."""
        try:
            group = read_node(self._path.parent)
            levels = ngff.read_multiscale(group.file, group.attributes).levels if "multiscales" in group.ome else ()
            paths = [join_inside(group.path, level) for level in levels]
            return [ZarrArray(path, self._order) for path in paths[1:]] if self._path in paths[:1] else []
        except PristineError:  # the finest level can be shown alone
            return []

    def _open(self) -> AbstractContextManager[Any]:
        return nullcontext(self._array)

    def __setitem__(self, index: Any, values: Any) -> None:
        wanted = ranges(index, self.shape)
        shape = tuple(len(r) for r in wanted if isinstance(r, range))
        stored = np.broadcast_to(np.asarray(values, self.dtype), shape).transpose(np.argsort(self._kept_axes(wanted)))
        region = tuple(r if isinstance(r, int) else slice(r.start, r.stop, r.step) for r in self._as_stored(wanted))
        with _writing(self._path):
            self._array[region] = stored

    def files(self, index: Any) -> Iterator[Path]:
        """Files of all chunks of which a part is indexed; chunks of zeros have none."""
        wanted = [r if isinstance(r, range) else range(r, r + 1) for r in ranges(index, self.shape)]
        spans = [
            range(min(r) // size, max(r) // size + 1) if r else r
            for r, size in zip((wanted[axis] for axis in np.argsort(self._order)), self._file_shape, strict=True)
        ]
        for position in np.ndindex(*map(len, spans)):
            chunk = tuple(span[n] for span, n in zip(spans, position, strict=True))
            yield self._path / self._array.metadata.encode_chunk_key(chunk)

    @property
    def _file_shape(self) -> tuple[int, ...]:
        """Shape of the part that a file holds: a chunk, or a shard of several."""
        return tuple(self._array.shards or self._array.chunks)

    def is_stored(self, index: Any) -> bool:
        """False if no file holds a part of what is indexed; all of it has the fill value."""
        return any(file.exists() for file in self.files(index))

    def stored_parts(self) -> Sequence[tuple[slice, ...]]:
        """Parts of which there are files; all other values are the fill value, see `napari_pristine.image.image`."""
        encode, order = self._array.metadata.encode_chunk_key, self._order
        parts = find_chunks(self._path, self._array.shape, self._file_shape, encode)
        return LazySequence(parts.numbers, lambda n: tuple(parts[n][axis] for axis in order))


def read(path: Path, axes: str, series: int | None = None) -> Image:
    """Read the image at full resolution into memory; see `open_lazily`."""
    image = open_lazily(path, axes, series)
    check_fits(path, math.prod(image.shape) * image.dtype.itemsize)
    return replace(image, data=np.asarray(image.data))


def open_lazily(path: Path, axes: str, series: int | None = None) -> Image:
    """Open the image at full resolution without reading its values.

    Args:
        path: An OME-Zarr (of a collection of images the first), an image or array in one, or a plain Zarr array.
        axes: One letter per dimension, in place of what the file states.
        series: Number of the image in a collection, from 0.

    Raises:
        FileError: There is no image, or it cannot be read.
        AxesError: `axes` do not fit the array.
    """
    members = list_images(path)
    check_series(path, series, max(len(members), 1))
    if not members:
        return _open_image(path, axes)
    numbers = [number for number, member in enumerate(members) if not member.problem] if series is None else [series]
    if not numbers:
        raise FileError(f"'{path / members[0].path}': {members[0].problem}; copy the whole store again")
    member = members[numbers[0]]
    if member.problem:
        raise FileError(f"'{path / member.path}': {member.problem}; copy it again")
    image = _open_image(path / member.path, axes)
    if series is not None or len(members) == 1:
        return image if len(members) > 1 else replace(image, name=_name_of(path))
    note = (
        f"image {numbers[0]} of {len(members)} ({member.path}) was read; choose another by its number (--series, "
        f"series=), or restore all of them with 'pristine batch' or 'pristine restore'"
    )
    metadata = {**image.metadata, "images": len(members)}
    return replace(image, name=_name_of(path), metadata=metadata, notes=(*image.notes, note))


def write(temporary: Path, target: Path, image: Image, provenance: Provenance, check_cancelled: CheckCancelled) -> None:
    """Write an image to the folder `temporary` in chunks of rows, in the version that it was read from.

    Raises:
        FileError: OME-Zarr cannot hold the image, or the folder cannot be written.
    """
    was_zarr = image.metadata.get("format") == FORMAT
    version: Version = "0.4" if was_zarr and image.metadata.get("version") == "0.4" else "0.5"
    ngff.stored_axes(str(target), image.axes)
    out = create_image(temporary, image, version=version)
    for index in row_chunk_indices(image, image.axes, chunk_height(image)):
        check_cancelled()
        out[index] = np.asarray(image.data[index])
    complete_image(temporary, image, provenance, check_cancelled)


def create_image(
    path: Path, like: Image, *, version: Version = "0.5", block_sides: Mapping[str, int] | None = None
) -> ZarrArray:
    """Create the finest level of an OME-Zarr that is written block by block, or open it with what was written.

    The folder becomes an OME-Zarr by `complete_image`. If the process is killed, no assigned value is lost, and both
    functions can be called again. Values are zero until they are assigned; chunks of zeros take no space.

    Args:
        path: A folder, new or not.
        like: Shape, type and axes of the image; its values are not read.
        version: Version of OME-Zarr.
        block_sides: Sides along Y and X of blocks that several processes write at the same time, where a block is less
            than a plane. Blocks then consist of whole chunks.

    Returns:
        The array, in the order of `like.axes`.

    Raises:
        FileError: OME-Zarr cannot hold such an image, another image is there, or the folder cannot be written.
    """
    if version not in get_args(Version):
        known = ", ".join(get_args(Version))
        raise FileError(f"'{path}': OME-Zarr {version} cannot be written; use one of {known}")
    axes = ngff.stored_axes(str(path), like.axes)
    if like.dtype.kind not in "uif":
        raise FileError(f"'{path}': OME-Zarr is written with integers or floats, not {like.dtype}")
    with _writing(path):
        zarr.open_group(path, mode="a", zarr_format=_zarr_format(version))
    return _open_or_create(path / "0", like, axes, version, block_sides or {})


def create_array(path: Path, like: Image, *, block_sides: Mapping[str, int] | None = None) -> ZarrArray:
    """Create a plain Zarr array for any axes, to be written block by block; arguments as of `create_image`."""
    return _open_or_create(path, like, like.axes, "0.5", block_sides or {})


def complete_image(
    path: Path, like: Image, provenance: Provenance = None, check_cancelled: CheckCancelled = lambda: None
) -> None:
    """Write the coarser levels and the metadata, after which the folder is an OME-Zarr.

    Args:
        path: As given to `create_image`.
        like: The same image, with scale, units, position, name and channels; its values are not read.
        provenance: Origin of the image.
        check_cancelled: Called for each chunk; if it raises, this function can be called again later.

    Raises:
        FileError: There is no such array, or the folder cannot be written.
    """
    version, axes = _version_of(path), ngff.stored_axes(str(path), like.axes)
    levels = count_levels(like.size("Y"), like.size("X"), _COARSEST)
    shape = tuple(like.size(axis) for axis in axes)
    with _writing(path):
        for left in path.rglob("*.partial"):  # by processes that were killed while they wrote a chunk
            left.unlink(missing_ok=True)
        for level in range(1, levels):
            shape = (*shape[:-2], halved(shape[-2]), halved(shape[-1]))
            _create(path / str(level), axes, shape, like.dtype, version, {}, overwrite=True)
            fine, coarse = ZarrArray(path / str(level - 1)), ZarrArray(path / str(level), writable=True)
            _write_coarser(fine, coarse, check_cancelled)
        contrast = _contrast_limits(ZarrArray(path / str(levels - 1)), axes)
        attributes = ngff.write_attributes(like, levels, contrast, provenance, version)
        zarr.open_group(path, mode="r+", zarr_format=_zarr_format(version)).attrs.put(attributes)


def _open_image(path: Path, axes: str) -> Image:
    """Open an image with its levels, or an array: a level of an image, or a plain one."""
    node = read_node(path)
    if not node.is_image:
        raise FileError(f"'{path}' is a collection of images inside another one; give the path of an image in it")
    if not node.array:
        multiscale = ngff.read_multiscale(node.file, node.attributes, axes=axes)
        array = join_inside(path, multiscale.levels[0])
        return _make_image(path, array, multiscale.axes, axes, multiscale.stated, {"version": multiscale.version})
    stated = FileMetadata()
    try:  # the array of a level knows its axes only by the group above it
        above = read_node(path.parent) if is_zarr_node(path.parent) else node
        if "multiscales" in above.ome:
            multiscale = ngff.read_multiscale(above.file, above.attributes, path.name, axes)
            if path.name in multiscale.levels:
                return _make_image(path, path, multiscale.axes, axes, multiscale.stated, {})
    except PristineError as error:
        if not axes:
            raise
        stated = FileMetadata(notes=(f"its spacing and units are not read: {error}",))
    names = node.array.get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS")
    shape = ZarrArray(path).shape
    named = axes or _named_axes(path, names, shape)
    return _make_image(path, path, named or guess_axes(shape), axes, stated, {} if named else {AXES_GUESSED: True})


def _named_axes(path: Path, names: Any, shape: tuple[int, ...]) -> str:
    """Axes of a plain array by the names of its dimensions; empty if it has none.

    Raises:
        AxesError: A name is unknown.
    """
    texts = [str(name) for name in names if name is not None] if isinstance(names, list) else []
    if len(texts) != len(shape) or all(re.fullmatch(r"dim_?\d+|phony_dim_\d+", text) for text in texts):
        return ""
    try:
        return axes_from_names(texts)
    except AxesError as error:
        raise AxesError(f"'{path}': {error}") from None


def _make_image(
    path: Path, array: Path, file_axes: str, axes: str, stated: FileMetadata, extra: Mapping[str, Any]
) -> Image:
    """Make an image of an array; the samples of RGB pixels, which are stored like channels, become the last axis."""
    image_axes, data = axes or samples_last(file_axes), ZarrArray(array)
    if not axes and image_axes != file_axes and data.ndim == len(file_axes):
        data = ZarrArray(array, [file_axes.index(axis) for axis in image_axes])
    return make_image(path, data, image_axes, stated, {"format": FORMAT, **extra}, _name_of(path))


def _name_of(path: Path) -> str:
    """Name of the file, followed by the path of an image inside."""
    parts = path.absolute().parts
    root = next((n for n, part in enumerate(parts) if part.lower().endswith(ZARR_SUFFIX)), len(parts) - 1)
    return " ".join([stem_of(Path(parts[root])), *parts[root + 1 :]])


def _check_array(path: Path, array: zarr.Array[Any]) -> None:
    """Raise a `FileError` for arrays without numbers, with dangerous codecs, or of an impossible size."""
    if array.dtype.kind not in "uifbc":
        raise FileError(f"'{path}' holds values of type {array.dtype}, not numbers; give the path of an image")
    codecs = [*array.compressors, *array.filters]
    if any("pickle" in str(getattr(codec, "codec_id", type(codec).__name__)).lower() for codec in codecs):
        raise FileError(f"'{path}' is packed with pickle, which could run any code; it is not read")
    if math.prod(array.shape) * array.dtype.itemsize >= 2**62:
        raise FileError(f"'{path}' claims to have the shape {array.shape}, which no disk can hold; it is damaged")
    check_fits(path, math.prod(array.chunks) * array.dtype.itemsize)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn errors while writing into a `FileError`; zarr renames each chunk into place when it is complete."""
    try:
        yield
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be written: {error.strerror or error}; is the disk full or the folder write-protected?"
        ) from error


def _zarr_format(version: Version) -> Any:
    return 2 if version == "0.4" else 3


def _version_of(path: Path) -> Version:
    return "0.5" if (path / "zarr.json").is_file() else "0.4"


def _open_or_create(path: Path, like: Image, axes: str, version: Version, block_sides: Mapping[str, int]) -> ZarrArray:
    """Open the array that is there, or create one, with its axes stored in the order `axes`."""
    if not any((path / name).is_file() for name in ZARR_METADATA[:2]):
        with _writing(path), suppress(ContainsArrayError):  # another process may have been faster
            shape = tuple(like.size(axis) for axis in axes)
            _create(path, axes, shape, like.dtype, version, block_sides, overwrite=False)
    found = ZarrArray(path, [axes.index(axis) for axis in like.axes], writable=True)
    if (found.shape, found.dtype, _version_of(path)) != (like.shape, like.dtype.newbyteorder("="), version):
        raise FileError(f"'{path}' holds another image, {found.dtype} of the shape {found.shape}; delete it first")
    return found


def _create(
    path: Path,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    version: Version,
    block_sides: Mapping[str, int],
    *,
    overwrite: bool,
) -> None:
    """Create an array of zeros; a chunk is part of one plane with all its samples, so that planes are independent.

    Along Y and X a chunk is as long as it can be, up to `CHUNK_SIDE`, so that a block consists of whole chunks.
    """
    chunk = {"S": 4}
    for axis in "YX":
        block = block_sides.get(axis, CHUNK_SIDE)
        chunk[axis] = max(n for n in range(1, CHUNK_SIDE + 1) if block % n == 0)
    zarr.create_array(
        path,
        shape=shape,
        chunks=tuple(min(n, chunk.get(axis, 1)) for axis, n in zip(axes, shape, strict=True)),
        dtype=dtype.newbyteorder("="),
        # all readers of OME-Zarr, in Java, too, know Blosc with zstd
        compressors=_BLOSC_V2 if version == "0.4" else BloscCodec(cname="zstd", clevel=3),
        chunk_key_encoding={"name": "v2" if version == "0.4" else "default", "separator": "/"},
        dimension_names=None if version == "0.4" else list(axes.replace("S", "C").lower()),
        fill_value=0,
        zarr_format=_zarr_format(version),
        config={"write_empty_chunks": False},
        overwrite=overwrite,
    )


def _write_coarser(fine: ZarrArray, coarse: ZarrArray, check_cancelled: CheckCancelled) -> None:
    """Write a level from the one before, chunk by chunk; chunks of zeros are not even read."""
    counts = (math.ceil(n / size) for n, size in zip(coarse.shape, coarse.chunks, strict=True))
    for position in np.ndindex(*counts):
        check_cancelled()
        part = tuple(
            slice(at * size, min((at + 1) * size, n))
            for at, size, n in zip(position, coarse.chunks, coarse.shape, strict=True)
        )
        doubled = (slice(2 * p.start, min(2 * p.stop, n)) for p, n in zip(part[-2:], fine.shape[-2:], strict=True))
        source = (*part[:-2], *doubled)
        if any(file.exists() for file in fine.files(source)):
            values = np.moveaxis(fine[source], (-2, -1), (0, 1))
            coarse[part] = np.moveaxis(halve(values), (0, 1), (-2, -1))


def _contrast_limits(coarsest: ZarrArray, axes: str) -> list[ContrastLimits]:
    """Darkest and brightest value to show of each channel, from the plane in the middle of time and depth."""
    channel_axis = next((axes.index(axis) for axis in "CS" if axis in axes), None)
    limits = []
    for channel in range(1 if channel_axis is None else coarsest.shape[channel_axis]):
        index = [n // 2 for n in coarsest.shape[:-2]]
        if channel_axis is not None:
            index[channel_axis] = channel
        values = coarsest[tuple(index)].astype(np.float64)
        values = values[np.isfinite(values)]
        dark, bright = (float(np.quantile(values, q)) for q in (0.001, 0.999)) if values.size else (0.0, 1.0)
        limits.append((dark, bright if bright > dark else dark + 1))
    return limits
