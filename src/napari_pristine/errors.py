"""All errors that the package raises on purpose.

    PristineError
    ├── AxesError         the axes do not fit the image
    ├── SettingError      a setting is unknown or out of range
    ├── ImageError        the image cannot be restored
    ├── FileError         a file cannot be read or written
    ├── ModelError        a model does not fit the image or the method
    └── ComputeError      the computation failed
        └── OutOfMemory   the device ran out of memory

A message says what is wrong, what was found and what to do.
None of these derives from `RuntimeError`, which generator workers of superqt and napari swallow.
"""


class PristineError(Exception):
    """Base of all errors that a user can do something about."""


class AxesError(PristineError):
    """The axes do not fit the image."""


class SettingError(PristineError):
    """A setting is unknown or out of range."""


class ImageError(PristineError):
    """The image cannot be restored."""


class FileError(PristineError):
    """A file cannot be read or written."""


class ModelError(PristineError):
    """A model does not fit the image or the method."""


class ComputeError(PristineError):
    """The computation failed."""


class OutOfMemory(ComputeError):
    """The device ran out of memory, even with the smallest tiles."""


def format_error(error: Exception, about: object) -> PristineError:
    """Turn any error into one of ours, with a message for users; the original is its `__cause__`.

    Args:
        error: The error.
        about: The file concerned, for errors that do not name one.
    """
    if isinstance(error, PristineError):
        return error
    translated: PristineError
    if isinstance(error, MemoryError):
        translated = OutOfMemory(f"'{about}': the memory ran out; restore less at once (tile, together, select)")
    elif isinstance(error, OSError):
        name = error.filename if error.filename is not None else about
        translated = FileError(
            f"'{name}' cannot be read or written: {error.strerror or error}; is the disk full or disconnected?"
        )
    else:
        name = f"'{about}': " if about else ""
        translated = ComputeError(
            f"{name}{type(error).__name__}: {error}; this is a bug in napari-pristine, please report it with --debug"
        )
    translated.__cause__ = error
    return translated
