"""The images: pairs of a noisy picture and its truth in a folder, found by their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.published import IMAGES, LEVELS, NOISY, PUBLISHED
from napari_pristine.errors import FileError, ImageError, SettingError
from napari_pristine.files import read
from napari_pristine.image.quality import Comparison, compare

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Suite:
    """A family of pairs: `folder/noisy/X` belongs to `folder/truth/X`; `{level}` stands for the frames averaged."""

    folder: str
    noisy: str
    truth: str
    levels: tuple[int, ...]


SUITES = {"fmd": Suite("fmd_test_mix", "noisy_avg{level}", "gt", LEVELS)}
_SUFFIXES = (".png", ".tif", ".tiff")
_NAME = re.compile(r"(?P<type>.+)_(?P<capture>\d+)")
_TOLERANCE = dict(zip(LEVELS, (1.5, 1.5, 1.5, 3.0, 3.0), strict=True))
"""How far, in dB, some captures may be from the mean of all four; brightness drifts, and counts more in low noise."""


@dataclass(frozen=True)
class Case:
    """One pair of files. `Confocal_MICE_2` is capture 2 of the type `Confocal_MICE`."""

    name: str
    type: str
    capture: int
    level: int
    noisy: Path
    truth: Path


@dataclass(frozen=True, eq=False)
class Pair:
    """One pair of pictures `(Y, X)`; `full` is the largest value that the detector can give."""

    noisy: Array
    truth: Array
    full: float

    def cropped(self, side: int | None) -> Pair:
        """The central square with this side, or all of it."""
        return self if side is None else Pair(centre(self.noisy, side), centre(self.truth, side), self.full)

    def score(self, restored: NDArray[Any]) -> Comparison:
        """The restored picture against the truth by protocol A: clipped to the range of the detector, not rounded."""
        return compare(np.clip(restored, 0, self.full), self.truth, data_range=self.full)

    def psnr(self, restored: NDArray[Any]) -> tuple[float, float]:
        """PSNR and PSNR after the best gain and offset, as `score` has them; without SSIM, which takes far longer."""
        clipped = np.clip(restored, 0, self.full)
        (own, common), (_, wanted) = np.cov(clipped.ravel(), self.truth.ravel(), bias=True)
        fitted = wanted - common**2 / own if own else wanted
        squares = np.array([np.mean((clipped - self.truth) ** 2), fitted])
        plain, affine = 10 * np.log10(self.full**2 / np.maximum(squares, 1e-12))
        return float(plain), float(affine)


def find_cases(
    data: Path, suite: str, levels: Iterable[int], captures: Collection[int] = (), images: Collection[str] = ()
) -> list[Case]:
    """All pairs of a suite at some levels, of some captures or images (empty: all), by level and name.

    Raises:
        SettingError: The suite has no such level.
        FileError: A folder or a truth is missing, or nothing is left.
    """
    root = data / SUITES[suite].folder
    cases: list[Case] = []
    for level in levels:
        if level not in SUITES[suite].levels:
            known = ", ".join(map(str, SUITES[suite].levels))
            raise SettingError(f"the suite '{suite}' has no level {level}; its levels are {known}")
        folder = root / SUITES[suite].noisy.format(level=level)
        if not folder.is_dir():
            raise FileError(
                f"there is no folder '{folder}'; name the one that holds '{root.name}' with --data or PRISTINE_DATA"
            )
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        found = [_case(path, root / SUITES[suite].truth / path.name, level) for path in files]
        cases += [c for c in found if (not captures or c.capture in captures) and (not images or c.name in images)]
    missing = set(images) - {case.name for case in cases}
    if missing or not cases:
        what = f"images named {', '.join(sorted(missing))}" if missing else "images"
        raise FileError(f"there are no {what} of the chosen levels and captures in '{root}'")
    return cases


def _case(noisy: Path, truth: Path, level: int) -> Case:
    if not truth.is_file():
        raise FileError(f"'{noisy}' has no truth: '{truth}' does not exist")
    match = _NAME.fullmatch(noisy.stem)
    kind, capture = (match["type"], int(match["capture"])) if match else (noisy.stem, 1)
    return Case(noisy.stem, kind, capture, level, noisy, truth)


def load(noisy: Path, truth: Path) -> Pair:
    """Read a pair.

    Raises:
        ImageError: They are not two grey pictures of one shape with whole numbers.
    """
    pictures = [np.asarray(read(path).data) for path in (noisy, truth)]
    shapes, kinds = {p.shape for p in pictures}, {p.dtype for p in pictures}
    if len(shapes) > 1 or len(kinds) > 1 or pictures[0].ndim != 2 or pictures[0].dtype.kind != "u":
        found = " and ".join(f"{p.dtype} {p.shape}" for p in pictures)
        raise ImageError(f"'{noisy}' and its truth must be two grey pictures of one shape, 8 or 16 bits; found {found}")
    full = float(np.iinfo(pictures[0].dtype).max)
    return Pair(pictures[0].astype(np.float64), pictures[1].astype(np.float64), full)


def centre(pictures: Array, side: int) -> Array:
    """The central square of pictures `(..., Y, X)`.

    Raises:
        ImageError: They are smaller.
    """
    height, width = pictures.shape[-2:]
    if side > min(height, width):
        raise ImageError(f"a crop of {side} pixels does not fit into {height} × {width} pixels; make --crop smaller")
    top, left = (height - side) // 2, (width - side) // 2
    return pictures[..., top : top + side, left : left + side]


def check_noisy(cases: Iterable[Case]) -> list[str]:
    """Compare the PSNR of the noisy full frames with what is published, and say what was checked.

    Raises:
        ImageError: They differ: other images, another pairing or another protocol.
    """
    lines: list[str] = []
    for level, at_level in groupby(sorted(cases, key=lambda c: c.level), key=lambda c: c.level):
        psnr: dict[str, list[float]] = {}
        for case in at_level:
            pair = load(case.noisy, case.truth)
            psnr.setdefault(case.type, []).append(pair.psnr(pair.noisy)[0])
        lines += [*_check_types(level, psnr), _check_all(level, psnr)]
    return lines


def _check_types(level: int, psnr: dict[str, list[float]]) -> Iterable[str]:
    index = LEVELS.index(level)
    for kind, values in psnr.items():
        mean = float(np.mean(values))
        if len(NOISY.get(kind, ())) <= index:
            yield f"level {level}, {kind}: noisy {mean:.2f} dB (nothing published to check it against)"
            continue
        wanted, tolerance = NOISY[kind][index], _TOLERANCE[level]
        text = f"level {level}, {kind}: noisy {mean:.2f} dB ({len(values)} captures), published {wanted:.2f} for all 4"
        if abs(mean - wanted) > tolerance:
            raise ImageError(
                f"{text}; more than {tolerance} dB apart: these are other images, or another pairing or level; "
                "--unchecked measures them anyway"
            )
        yield text


def _check_all(level: int, psnr: dict[str, list[float]]) -> str:
    values = [value for of_type in psnr.values() for value in of_type]
    mean, wanted = float(np.mean(values)), PUBLISHED[0].psnr[LEVELS.index(level)]
    if psnr.keys() != NOISY.keys() or len(values) != IMAGES:
        tolerance = _TOLERANCE[level]
        return f"level {level}: {len(values)} of {IMAGES} images: each type checked to within {tolerance} dB only"
    if abs(mean - wanted) > 0.01:
        raise ImageError(
            f"level {level}: all {IMAGES} images, noisy {mean:.3f} dB, but published {wanted:.2f}: these are others; "
            "--unchecked measures them anyway"
        )
    return f"level {level}: all {IMAGES} images, noisy {mean:.3f} dB: checked against {wanted:.2f} to within 0.01 dB"
