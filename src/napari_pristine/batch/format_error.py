"""Faults: what went wrong with a file, in words that the report can show, whatever it was."""

from __future__ import annotations

from napari_pristine.errors import ComputeError, FileError, OutOfMemory, PristineError


def format_error(error: Exception, about: object) -> PristineError:
    """An error as one of ours.

    Args:
        error: What was raised.
        about: The file that it is about, where the error does not say.
    """
    if isinstance(error, PristineError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory(f"'{about}': the memory ran out; restore less at once (tile, together, select)")
    if isinstance(error, OSError):
        name = error.filename if error.filename is not None else about
        return FileError(f"'{name}' cannot be read or written: {error.strerror or error}; is the disk full or gone?")
    return ComputeError(f"'{about}': {type(error).__name__}: {error}; this is a mistake of ours, please report it")
