"""Options of several commands, each declared once; help texts are those of the fields of the recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

from napari_pristine.cli.output import report_error
from napari_pristine.errors import SettingError
from napari_pristine.recipe import Recipe
from napari_pristine.resources import BASE_MEMORY, Device
from napari_pristine.settings import settings_of

_FIELDS = {field.name: field for field in settings_of(Recipe)}
DEFAULT: dict[str, Any] = {name: field.default for name, field in _FIELDS.items()}


def option(name: str, text: str = "") -> Parameter:
    """An option with the help text of a field of the recipe, and more text."""
    field = _FIELDS[name]
    return Parameter(help=f"{field.text} {text}".strip(), show_default=field.default != "")


INPUTS = "Images, folders of images or patterns: TIFF, STK, LSM, OME-Zarr, PNG, JPEG, CZI, LIF, LOF, ND2, OIB, OIF."
"""Help on the inputs of a command; names every format of `io.registry`, which takes long to import."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}

MethodName: TypeAlias = Annotated[str, option("method", "See 'pristine methods'.")]
Preset: TypeAlias = Annotated[str, option("preset")]
Axes: TypeAlias = Annotated[str, option("axes")]
Series: TypeAlias = Annotated[int | None, option("series")]
Together: TypeAlias = Annotated[str, option("together")]
DeviceName: TypeAlias = Annotated[Device, option("device")]
Seed: TypeAlias = Annotated[int, option("seed")]
Settings: TypeAlias = Annotated[
    list[str] | None,
    Parameter(name="--set", help="Setting of the method, NAME=VALUE; may be repeated.", negative=()),
]
Overwrite: TypeAlias = Annotated[bool, Parameter(help="Replace results that exist.", negative=())]
Resume: TypeAlias = Annotated[
    bool, Parameter(help="Continue what was interrupted, and skip results that exist.", negative=())
]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, one object per line.")]
SaveRecipe: TypeAlias = Annotated[
    Path | None, Parameter(help="Also save these options as a recipe, a .yaml file, for 'pristine batch'.")
]
Memory: TypeAlias = Annotated[
    str,
    Parameter(
        help="Maximum memory of a process, such as 2GB. [default: free memory, divided among the workers]",
        show_default=False,
    ),
]
Threads: TypeAlias = Annotated[
    int | None,
    Parameter(
        help="Threads of each process. Trained networks differ in the last digits with another number. "
        "[default: the CPUs, divided among the workers]"
    ),
]
Log: TypeAlias = Annotated[
    Path | None, Parameter(help="Also write all messages, and the progress, to this file, with the time of each.")
]
Debug: TypeAlias = Annotated[bool, Parameter(parse=False)]


def read_settings(texts: Sequence[str] | None) -> dict[str, str | None]:
    """Settings from `--set`, as text; the type of a value is converted by the setting."""
    pairs = read_pairs("--set", texts, "steps=500")
    return {name: None if text.lower() == "none" else text for name, text in pairs.items()}


def read_pairs(name: str, texts: Sequence[str] | None, example: str) -> dict[str, str]:
    """Split texts such as `steps=500` into names and values.

    Raises:
        SettingError: A text has another form.
    """
    pairs: dict[str, str] = {}
    for text in texts or ():
        key, sign, value = (part.strip() for part in text.partition("="))
        if not (key and sign):
            raise SettingError(f"cannot read {name} '{text}'; write it like {name} {example}")
        pairs[key] = value
    return pairs


def check_count(name: str, count: int | None) -> None:
    """Raise a `SettingError` if a number of processes or threads is given that is less than 1."""
    if count is not None and count < 1:
        raise SettingError(f"{name} is {count}; give at least 1")


def check_threads(threads: int | None, processes: int | None = 1) -> None:
    """Check the number of threads of each process, and warn if they are more than the CPUs.

    Args:
        threads: The number that is asked for; `None` for the CPUs divided among the processes.
        processes: Number of processes on this machine; `None` if they are elsewhere.

    Raises:
        SettingError: It is less than 1.
    """
    check_count("--threads", threads)
    if processes is None or (threads is None and processes == 1):
        return
    from napari_pristine.device import thread_warning  # here, as it imports torch

    if warning := thread_warning(threads, processes):
        report_error(warning)


def read_bytes(text: str) -> int | None:
    """Number of bytes in a text such as 2GB or 500 MiB; `None` if it is empty.

    Raises:
        SettingError: It cannot be read, or is less than the program itself takes.
    """
    if not text:
        return None
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*((?:[KMGT]I?)?)(B?)\s*", text.upper())
    if match is None:
        raise SettingError(f"cannot read --memory '{text}'; write it like 2GB or 800MiB")
    if not match[2] + match[3]:
        raise SettingError(f"--memory {text} has no unit; give one, such as {text}GB")
    found = int(float(match[1]) * _UNITS[match[2]])
    if found < BASE_MEMORY:
        raise SettingError(
            f"--memory {text} is less than the program itself takes, {BASE_MEMORY / 1e6:.0f} MB; give more"
        )
    return found
