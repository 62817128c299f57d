"""Whether the images are those that others measured: the PSNR of the noisy ones is published."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import numpy as np

from benchmarks.cases import Case
from benchmarks.pair import load
from benchmarks.printed import LEVELS, PSF
from benchmarks.published import IMAGES, NOISY, PUBLISHED
from napari_pristine.errors import ImageError

_TOLERANCE = dict(zip(LEVELS, (1.5, 1.5, 1.5, 3.0, 3.0), strict=True))
"""How far, in dB, some captures may be from the mean of all four; brightness drifts, and counts more in low noise."""


def check_noisy(cases: Iterable[Case]) -> list[str]:
    """Compare the PSNR of the noisy full frames of FMD with what is published, and say what was checked.

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
    mean, wanted = float(np.mean(values)), PUBLISHED["fmd"][0].figures[PSF(level)].psnr
    if psnr.keys() != NOISY.keys() or len(values) != IMAGES:
        tolerance = _TOLERANCE[level]
        return f"level {level}: {len(values)} of {IMAGES} images: each type checked to within {tolerance} dB only"
    if abs(mean - wanted) > 0.01:
        raise ImageError(
            f"level {level}: all {IMAGES} images, noisy {mean:.3f} dB, but published {wanted:.2f}: these are others; "
            "--unchecked measures them anyway"
        )
    return f"level {level}: all {IMAGES} images, noisy {mean:.3f} dB: checked against {wanted:.2f} to within 0.01 dB"
