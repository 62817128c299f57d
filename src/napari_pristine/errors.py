"""Every error the software raises on purpose.

    PristineError
    ├── AxesError         the axes do not fit the image
    ├── SettingError      a setting is unknown or out of range
    ├── ImageError        the image cannot be restored as it is
    ├── FileError         a file cannot be read or written
    ├── ModelError        a network does not fit the image or the method
    └── ComputeError      the computation failed
        └── OutOfMemory   the device ran out of memory

A message says what is wrong, what was found and what to do.
None of these derives from `RuntimeError`: generator workers of superqt and napari swallow that one.
"""


class PristineError(Exception):
    """Base of all errors that a user can do something about."""


class AxesError(PristineError):
    """The axes do not fit the image."""


class SettingError(PristineError):
    """A setting is unknown or out of range."""


class ImageError(PristineError):
    """The image cannot be restored as it is."""


class FileError(PristineError):
    """A file cannot be read or written."""


class ModelError(PristineError):
    """A network does not fit the image or the method."""


class ComputeError(PristineError):
    """The computation failed."""


class OutOfMemory(ComputeError):
    """The device ran out of memory, also with the work cut to its smallest pieces."""
