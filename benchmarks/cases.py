"""The images: pictures in a folder, and for real noise the truth beside them, found by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from napari_pristine.errors import FileError

_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
_NAME = re.compile(r"(?P<type>.+)_(?P<capture>\d+)")


@dataclass(frozen=True)
class Case:
    """One image of a suite, degraded in one way.

    Attributes:
        name: Of the image. In FMD `Confocal_MICE_2` is capture 2 of the type `Confocal_MICE`.
        type: What a column of the tables has in common: a kind of image, or a way of degrading.
        capture: Number of the capture of one view; 1 where there is one.
        level: Frames averaged.
        noisy: File of the noisy picture, or of the clean one that is to be degraded.
        truth: File of the clean picture.
        suite: Name of the suite.
        variant: Name of the way of degrading.
        tasks: What is wrong with each of its pictures: `denoise`, `enlarge`, `inpaint` or `deblur`.
        needs: Settings that tell a method of degradations how the pictures came about.
        paper: Settings of the `paper` preset of `linr` that its paper has for such images alone.
    """

    name: str
    type: str
    capture: int
    level: int
    noisy: Path
    truth: Path
    suite: str = "fmd"
    variant: str = ""
    tasks: tuple[str, ...] = ("denoise",)
    needs: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values of which `from_json` makes the case."""
        return {**asdict(self), "noisy": str(self.noisy.resolve()), "truth": str(self.truth.resolve())}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Case:
        """The case that `as_json` made these values of."""
        files = {name: Path(values[name]) for name in ("noisy", "truth")}
        return cls(**{**values, **files, "tasks": tuple(values["tasks"])})


def pictures(folder: Path, *, missing_ok: bool = False) -> list[Path]:
    """All pictures in a folder, by name.

    Raises:
        FileError: There is no such folder.
    """
    if folder.is_dir():
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if missing_ok:
        return []
    raise FileError(f"there is no folder '{folder}'; name the one that holds the images with --data or PRISTINE_DATA")


def paired(noisy: Path, truth: Path, level: int, suite: str, types: Sequence[str] = ()) -> list[Case]:
    """All pairs of files of one name in two folders; of some types if there are any.

    Types come from the names in FMD; elsewhere, where a number in a name is no capture, the suite is the only type.

    Raises:
        FileError: A folder or a truth is missing.
    """
    cases = [_case(path, truth / path.name, level, suite) for path in pictures(noisy)]
    return [case for case in cases if not types or case.type in types]


def _case(noisy: Path, truth: Path, level: int, suite: str) -> Case:
    if not truth.is_file():
        raise FileError(f"'{noisy}' has no truth: '{truth}' does not exist")
    if not suite.startswith("fmd"):
        return Case(noisy.stem, suite, 1, level, noisy, truth, suite)
    match = _NAME.fullmatch(noisy.stem)
    kind, capture = (match["type"], int(match["capture"])) if match else (noisy.stem, 1)
    return Case(noisy.stem, kind, capture, level, noisy, truth, suite)
