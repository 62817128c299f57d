"""Bound the memory that a chunk of a Zarr array takes: its codecs unpack whatever it holds, however large that is."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import zarr
from zarr.abc.codec import BytesBytesCodec, Codec
from zarr.codecs import ShardingCodec

from napari_pristine.errors import FileError

_SLACK = 1 << 20
"""Bytes that may come on top, such as checksums."""
_WIDEST = 16
"""Bytes of the widest type to which filters may convert values."""
_ZSTD = 0xFD2FB528
"""The first four bytes of zstd."""


def bound_chunks(path: Path, array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, whose chunks raise a `FileError` in place of being unpacked to far more than their shape.

    Args:
        path: The folder of the array, for messages.
        array: The array.
    """
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        limit = math.prod(array.chunks) * (_WIDEST if metadata.filters else array.dtype.itemsize)
        compressor = _bounded_compressor(path, metadata.compressor, limit)
        filters = metadata.filters and tuple(_bounded_compressor(path, each, limit) for each in metadata.filters)
        metadata = replace(metadata, compressor=compressor, filters=filters)
    else:
        metadata = replace(metadata, codecs=_bounded_codecs(path, metadata.codecs))
    return zarr.Array(zarr.AsyncArray(metadata, array.store_path, array._async_array.config))


def _bounded_codecs(path: Path, codecs: tuple[Codec, ...]) -> tuple[Codec, ...]:
    return tuple(_bounded_codec(path, codec) for codec in codecs)


def _bounded_codec(path: Path, codec: Codec) -> Codec:
    if isinstance(codec, ShardingCodec):
        return ShardingCodec(
            chunk_shape=codec.chunk_shape,
            codecs=_bounded_codecs(path, codec.codecs),
            index_codecs=_bounded_codecs(path, codec.index_codecs),
            index_location=codec.index_location,
        )
    name = str(codec.to_dict().get("name", "")).removeprefix("numcodecs.")
    return _BoundedCodec(codec, path, name) if isinstance(codec, BytesBytesCodec) and name in _TOO_LARGE else codec


def _bounded_compressor(path: Path, codec: Any, limit: int) -> Any:
    return _BoundedCompressor(codec, path, limit) if codec is not None and codec.codec_id in _TOO_LARGE else codec


@dataclass(frozen=True)
class _BoundedCodec(BytesBytesCodec):
    """A compression of Zarr 3 that is bounded by the shape of a chunk; it is only read."""

    codec: BytesBytesCodec
    path: Path
    name: str
    is_fixed_size = False

    def to_dict(self) -> Any:
        return self.codec.to_dict()

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return self.codec.compute_encoded_size(input_byte_length, chunk_spec)

    def evolve_from_array_spec(self, array_spec: Any) -> _BoundedCodec:
        return replace(self, codec=self.codec.evolve_from_array_spec(array_spec))

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        limit = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        _check(self.path, self.name, chunk_data.to_bytes(), limit)
        (decoded,) = await self.codec.decode([(chunk_data, chunk_spec)])
        return decoded


class _BoundedCompressor:
    """A compression of Zarr 2 that is bounded; it is only read."""

    codec_id = "bounded"

    def __init__(self, codec: Any, path: Path, limit: int) -> None:
        self.codec, self.path, self.limit = codec, path, limit

    def encode(self, buf: Any) -> Any:
        """Pack bytes."""
        return self.codec.encode(buf)

    def get_config(self) -> Any:
        """Settings of the compression."""
        return self.codec.get_config()

    @classmethod
    def from_config(cls, config: Any) -> Any:
        """Not needed: an array that is open has its codecs."""
        raise NotImplementedError

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Unpack bytes.

        Raises:
            FileError: They would be more than the limit.
        """
        _check(self.path, self.codec.codec_id, bytes(buf), self.limit)
        return self.codec.decode(buf, out)


def _check(path: Path, name: str, data: bytes, limit: int) -> None:
    """Raise a `FileError` if data are unpacked to more than a number of bytes; damaged ones are left to their codec."""
    with suppress(EOFError, OSError, struct.error, zlib.error, lzma.LZMAError):
        if _TOO_LARGE[name](data, limit + _SLACK):
            raise FileError(
                f"'{path}' has a chunk that would take more than {limit} bytes, the size of its shape, when it is "
                "unpacked; it is damaged, copy it again"
            )


def _zstd_is_too_large(data: bytes, limit: int) -> bool:
    """See https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.1 for the size in the header."""
    magic, descriptor = struct.unpack_from("<IB", data)
    is_single = bool(descriptor & 32)
    code = {0: "B" if is_single else "", 1: "H", 2: "I", 3: "Q"}[descriptor >> 6]
    if magic == _ZSTD and code:
        start = 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
        return int(struct.unpack_from("<" + code, data, start)[0]) > limit
    try:
        imagecodecs.zstd_decode(data, out=limit)
    except imagecodecs.ZstdError:
        return True
    return False


def _is_longer(open_: Callable[[Any], Any], data: bytes, limit: int) -> bool:
    with open_(BytesIO(data)) as file:
        return len(file.read(limit + 1)) > limit


_TOO_LARGE: Mapping[str, Callable[[bytes, int], bool]] = {
    "blosc": lambda data, limit: int(struct.unpack_from("<I", data, 4)[0]) > limit,
    "lz4": lambda data, limit: int(struct.unpack_from("<I", data)[0]) > limit,
    "zstd": _zstd_is_too_large,
    "zlib": lambda data, limit: len(zlib.decompressobj().decompress(data, limit + 1)) > limit,
    "gzip": lambda data, limit: _is_longer(gzip.open, data, limit),
    "bz2": lambda data, limit: _is_longer(bz2.open, data, limit),
    "lzma": lambda data, limit: _is_longer(lzma.open, data, limit),
}
"""For each compression, whether data are unpacked to more than a number of bytes."""
