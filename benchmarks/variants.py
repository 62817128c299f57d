"""The ways in which the suites degrade clean pictures, and what a method is told about each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import degrade
from benchmarks.cases import Case, pictures
from benchmarks.degrade import FULL
from benchmarks.pair import Array, Pair, centre, load_clean

Make = Callable[[Array, np.random.Generator], Pair]

_ADORNED = re.compile(r"^image_|_?\d*rgb$")
_INPAINTING = {f"img_{i:03}": name for i, name in enumerate(("baby", "bird", "butterfly", "head", "woman", "kate"), 1)}
"""Names of the images of LINR's inpainting, in its order."""


@dataclass(frozen=True)
class Variant:
    """One way of degrading the pictures in a folder.

    Attributes:
        name: Type of its cases.
        folder: Where the clean pictures are.
        make: `(clean, random numbers) -> pair`.
        tasks: As `Case.tasks`.
        needs: As `Case.needs`.
        paper: As `Case.paper`.
        only: Names of the images; empty for all.
    """

    name: str
    folder: str
    make: Make
    tasks: tuple[str, ...] = ("denoise",)
    needs: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()

    def cases(self, data: Path, suite: str, *, anywhere: bool) -> list[Case]:
        """A case for each picture; `anywhere`: in any folder, whose name becomes part of the type.

        Raises:
            FileError: The folder is missing.
        """
        kind = f"{self.folder} {self.name}" if anywhere else self.name
        named = [(name_of(path), path) for path in pictures(data / self.folder, missing_ok=anywhere)]
        return [
            Case(name, kind, 1, 1, path, path, suite, self.name, self.tasks, self.needs, self.paper)
            for name, path in named
            if not self.only or name in self.only
        ]

    def pair(self, case: Case, crop: int | None) -> Pair:
        """The degraded picture, the same whenever it is made; `crop` is the side of the central square to take."""
        clean = load_clean(case.truth)
        clean = clean if crop is None else centre(clean, crop)
        return self.make(clean, degrade.generator(f"{case.suite} {case.type} {case.name}"))


def name_of(path: Path) -> str:
    """Name of a picture as the tables have it: `baboon` for `image_Baboon512rgb.png`."""
    return _INPAINTING.get(path.stem, _ADORNED.sub("", path.stem).lower())


def _noisy(clean: Array, random: np.random.Generator, noise: Callable[..., Array], level: float) -> Pair:
    return Pair(noise(clean, random, level), clean, FULL)


def _enlarge(clean: Array, random: np.random.Generator, factor: int) -> Pair:
    fitting = degrade.fitting(clean, factor)
    return Pair(degrade.smaller(fitting, factor), fitting, FULL)


def _inpaint(clean: Array, random: np.random.Generator) -> Pair:
    return Pair(degrade.sparse(clean, random), clean, FULL)


def _deblur(clean: Array, random: np.random.Generator) -> Pair:
    return Pair(degrade.blurred(clean, random), clean, FULL)


def _enlarge_and_denoise(clean: Array, random: np.random.Generator) -> Pair:
    fitting = degrade.fitting(clean, 4)
    noisy = degrade.clipped_gaussian(fitting, random, 25)
    return Pair(degrade.smaller(fitting, 4), fitting, FULL, others=(noisy,))


def _inpaint_and_denoise(clean: Array, random: np.random.Generator) -> Pair:
    noisy = degrade.clipped_gaussian(clean, random, 25)
    return Pair(degrade.sparse(clean, random), clean, FULL, others=(noisy,))


def _enlarge_and_inpaint(clean: Array, random: np.random.Generator) -> Pair:
    fitting = degrade.fitting(clean, 4)
    return Pair(degrade.smaller(fitting, 4), fitting, FULL, others=(degrade.sparse(fitting, random),))


_ROUNDED = 1.0
"""Noise level, in grey values, that a method is told of pictures without noise; all noise is known in these suites."""


def _finer(factor: int) -> dict[str, Any]:
    return {"finer": factor, "downsampling": "lanczos", "sigma": _ROUNDED}


_CIRCULAR_BLUR = {"blur": "gaussian", "blur_width": degrade.BLUR_SIGMA, "boundary": "circular"}
_HIDDEN = {"sigma": _ROUNDED}
_NOISY_TOO, _SPARSE_TOO = {"also": "boundary=reflect"}, {"also": "weight=1"}
"""One more picture that shows all of the scene, weighted by its noise; or a sparse one, as good as the first."""
_PAPER_WEIGHT = {"also": "weight=0.1"}
_NOISES: Mapping[str, Make] = {
    "gauss25": partial(_noisy, noise=degrade.gaussian, level=25),
    "gauss0-25": partial(_noisy, noise=degrade.gaussian_up_to, level=25),
    "poisson30": partial(_noisy, noise=degrade.poisson, level=30),
}
_BOTH = ("enlarge", "denoise"), ("inpaint", "denoise"), ("enlarge", "inpaint")


def noises(folder: str) -> tuple[Variant, ...]:
    """All noises of the suite `awgn`, on the pictures of a folder."""
    return tuple(Variant(name, folder, make) for name, make in _NOISES.items())


LINR_DENOISE = (Variant("gauss25", "set9", partial(_noisy, noise=degrade.clipped_gaussian, level=25)),)
LINR_SR = tuple(Variant(f"x{n}", "set5", partial(_enlarge, factor=n), ("enlarge",), _finer(n)) for n in (2, 4, 8))
LINR_INPAINT = (Variant("10%", "linr_inpainting", _inpaint, ("inpaint",), _HIDDEN),)
LINR_DEBLUR = (
    Variant(
        "gauss1.6", "deblur4", _deblur, ("deblur",), {**_CIRCULAR_BLUR, "sigma": degrade.BLUR_NOISE}, {"steps": 4000}
    ),
)
LINR_JOINT = (
    Variant("x4+noise", "set5", _enlarge_and_denoise, _BOTH[0], {**_finer(4), **_NOISY_TOO}, _PAPER_WEIGHT),
    Variant("10%+noise", "set9", _inpaint_and_denoise, _BOTH[1], {**_HIDDEN, **_NOISY_TOO}, _PAPER_WEIGHT),
    Variant(
        "10%+noise", "linr_inpainting", _inpaint_and_denoise, _BOTH[1], {**_HIDDEN, **_NOISY_TOO}, _PAPER_WEIGHT,
        ("kate",),
    ),
    Variant("x4+10%", "set5", _enlarge_and_inpaint, _BOTH[2], {**_finer(4), **_SPARSE_TOO}),
)  # fmt: skip
