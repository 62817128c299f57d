"""Files that appear when they are complete, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_pristine.errors import FileError


@contextmanager
def appearing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a hidden name beside `path` to write to, and rename it to `path` at the end.

    Whatever goes wrong, Ctrl-C included, what was written so far is removed.

    Raises:
        FileError: `path` exists and may not be overwritten, or cannot be written.
    """
    # not by tempfile, whose files only their owner may read
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        check_free(path, overwrite=overwrite)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be written: {error.strerror or error}; is the disk full, the folder write-protected "
            "or the file open in another program?"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise a `FileError` unless a file can be written there, as far as can be told without doing it."""
    if not path.parent.is_dir():
        raise FileError(f"cannot write '{path}': there is no folder '{path.parent}'; make it first")
    if path.is_dir():
        raise FileError(f"cannot write '{path}': it is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise FileError(f"'{path}' exists already; choose another name or allow overwriting")
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"cannot write '{path}': you may not write to '{path.parent}'; choose another folder")
