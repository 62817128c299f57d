"""Test suites: the images of a paper, the way they are degraded, and the way results are compared.

FMD and the camera suites hold real noisy images with a truth beside them; all others degrade clean images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import images
from benchmarks.images import PROTOCOL_A, Array, ImagePair, Protocol, crop_square, read_clean, read_pair
from benchmarks.published import LEVELS
from napari_pristine.errors import FileError, SettingError

Degrade = Callable[[Array, np.random.Generator], Array]
_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
_FMD_NAME = re.compile(r"(?P<type>.+)_(?P<capture>\d+)")
_DECORATION = re.compile(r"^image_|_?\d*rgb$")  # parts of a file name that are not part of the name of the image
_INPAINTING = {f"img_{i:03}": name for i, name in enumerate(("baby", "bird", "butterfly", "head", "woman", "kate"), 1)}
"""Names of the images of LINR's inpainting, in the order of their files."""


@dataclass(frozen=True)
class Degradation:
    """The reason why images need restoring."""

    name: str = ""  # type of the cases
    folder: str = ""  # of the clean images
    steps: tuple[Degrade, ...] = ()  # each makes one image of the pair; none where the noise is real
    tasks: tuple[str, ...] = ("denoise",)  # of each of these images: `denoise`, `enlarge`, `inpaint` or `deblur`
    settings: Mapping[str, Any] = field(default_factory=dict)  # tell `linr` how the images were degraded
    paper_settings: Mapping[str, Any] = field(default_factory=dict)  # of the LINR paper for such images only
    only: tuple[str, ...] = ()  # names of the images to take; empty for all


@dataclass(frozen=True)
class Case:
    """One image of a suite. In FMD, `Confocal_MICE_2` is capture 2 of the type `Confocal_MICE`."""

    suite: str
    name: str
    type: str  # group that shares a column of the tables: a kind of image, or a way of degrading
    noisy: Path  # the clean image where that is to be degraded
    truth: Path
    degradation: Degradation = Degradation()
    capture: int = 1  # number of the capture of one field of view
    level: int = 1  # number of frames averaged


@dataclass(frozen=True)
class Suite:
    """A set of images with the protocol of a paper."""

    protocol: Protocol = PROTOCOL_A
    differs: str = ""  # differences from the publications, in words
    folders: tuple[str, str] | None = None  # of real noisy images (`{level}`: frames averaged) and of their truth
    types: tuple[str, ...] = ()  # that take part; empty for all
    degradations: tuple[Degradation, ...] = ()  # of clean images, where the noise is not real
    levels: tuple[int, ...] = (1,)  # that exist
    default_levels: tuple[int, ...] = (1,)  # measured unless others are asked for
    default_captures: tuple[int, ...] = ()  # the same; empty for all
    default_methods: tuple[str, ...] = ("inr", "classical")
    references: tuple[str, ...] = ("noisy",)  # methods that come first in every table
    paper_settings: Mapping[str, Any] = field(default_factory=dict)  # as those of `Degradation`, for real noise
    mean_over_types: bool = False  # the tables show means over the types for each level
    any_folder: bool = False  # the clean images may come from any folder

    @property
    def is_fmd(self) -> bool:
        """The suite uses images of FMD, whose noisy PSNR is published."""
        return self.folders == _FMD


# degradations of clean images

_HIDE, _NOISE = images.hide_pixels, partial(images.clipped_gaussian_noise, sigma=25)
_NOISES = {
    "gauss25": partial(images.gaussian_noise, sigma=25),
    "gauss0-25": partial(images.random_gaussian_noise, highest=25),
    "poisson30": partial(images.poisson_noise, peak=30),
}
_ROUNDING = 1.0  # noise level, in grey values, given to a method for images whose only noise is rounding
_HIDDEN = {"sigma": _ROUNDING}
_BLURRED = {
    "blur": "gaussian", "blur_width": images.BLUR_SIGMA, "boundary": "circular", "sigma": images.BLUR_NOISE
}  # fmt: skip
_NOISY_TOO = {"also": "boundary=reflect"}
"""One extra image that shows all of the scene; its weight follows from its noise."""
_SPARSE_TOO = {"also": "weight=1"}  # one extra image with hidden pixels, as reliable as the first one
_PAPER_WEIGHT = {"also": "weight=0.1"}


def _noises(folder: str) -> tuple[Degradation, ...]:
    """List all noises of the suite `awgn` for the images of a folder."""
    return tuple(Degradation(name, folder, (noise,)) for name, noise in _NOISES.items())


def _downsample(factor: int) -> partial[Array]:
    return partial(images.downsample, factor=factor)


def _coarse(factor: int) -> dict[str, Any]:
    return {"finer": factor, "downsampling": "lanczos", "sigma": _ROUNDING}


_INPAINT_AND_DENOISE = partial(
    Degradation, "10%+noise", steps=(_HIDE, _NOISE), tasks=("inpaint", "denoise"),
    settings={**_HIDDEN, **_NOISY_TOO}, paper_settings=_PAPER_WEIGHT,
)  # fmt: skip
_LINR_JOINT = (
    Degradation(
        "x4+noise", "set5", (_downsample(4), _NOISE), ("enlarge", "denoise"), {**_coarse(4), **_NOISY_TOO},
        _PAPER_WEIGHT,
    ),
    _INPAINT_AND_DENOISE(folder="set9"),
    _INPAINT_AND_DENOISE(folder="linr_inpainting", only=("kate",)),
    Degradation("x4+10%", "set5", (_downsample(4), _HIDE), ("enlarge", "inpaint"), {**_coarse(4), **_SPARSE_TOO}),
)  # fmt: skip


# the suites

_FMD = ("fmd_test_mix/noisy_avg{level}", "fmd_test_mix/gt")
_CAMERA = "RGB, all colours together."
_LINR = Protocol(
    "LINR's protocol: not clipped, not rounded; SSIM with a range of 2, as scikit-image guessed it for the paper.",
    clip=False, ssim_range=2.0,
)  # fmt: skip
_PROTOCOL_C = Protocol(
    "Protocol C: clipped, rounded to 8 bits; SSIM with a Gaussian 11 × 11 window.", round=True, gaussian_ssim=True
)
_DEEPRED = Protocol("DeepRED's protocol: clipped, rounded to 8 bits; PSNR of the rounded luma.", round=True, luma=True)
_DENOISERS = ("sampling", "iddp", "blind2unblind", "inr", "linr", "classical")
_RECOVERY = ("linr", "classical")

SUITES = {
    "fmd": Suite(folders=_FMD, levels=LEVELS, default_captures=(1,), mean_over_types=True),
    "fmd-b2u": Suite(
        _PROTOCOL_C,
        "The paper trains on 950 frames of 19 views and tests on 50 frames of another view; here the network trains "
        "and is tested on the captures of one view that are in the folder, without their truth.",
        _FMD, ("Confocal_FISH", "Confocal_MICE", "TwoPhoton_MICE"),
        default_methods=("blind2unblind@type", "blind2unblind", "classical"),
    ),
    "fmd-iddp": Suite(
        PROTOCOL_A,
        "The paper trains on 30 000 frames and tests on four captures of six types at five levels; here the network "
        "trains and is tested on the captures that are in the folder, without their truth. The paper does not state "
        "its protocol.",
        _FMD, (*(f"Confocal_BPAE_{colour}" for colour in "BGR"), "Confocal_FISH", "Confocal_MICE", "TwoPhoton_MICE"),
        levels=LEVELS, default_levels=LEVELS, default_methods=("iddp@suite", "iddp", "classical"),
        mean_over_types=True,
    ),
    "polyu": Suite(
        PROTOCOL_A,
        _CAMERA + " The INS paper uses the central 256 pixels of all 100 images (--crop 256); Kim et al. and LINR use "
        "full images.",
        ("polyu/noisy", "polyu/gt"), default_methods=_DENOISERS, paper_settings={"steps": 1000},
    ),
    "cc": Suite(
        PROTOCOL_A, _CAMERA + " The papers use 15 images.", ("cc15/noisy", "cc15/gt"), default_methods=_DENOISERS
    ),
    "sidd": Suite(
        PROTOCOL_A, _CAMERA + " The papers use 1280 images.", ("sidd_val/noisy", "sidd_val/gt"),
        default_methods=_DENOISERS,
    ),
    "awgn": Suite(
        PROTOCOL_A,
        "Noise neither clipped nor rounded. Kim et al. do not publish the levels that they drew; here each image has "
        "one random level.",
        degradations=(*_noises("set9"), *_noises("set12"), *_noises("kodak24")), default_methods=_DENOISERS,
        any_folder=True,
    ),
    "linr-denoise": Suite(
        _LINR, default_methods=_DENOISERS,
        degradations=(Degradation("gauss25", "set9", (_NOISE,)),),
    ),
    "linr-sr": Suite(
        _LINR, default_methods=_RECOVERY, references=("bicubic",),
        degradations=tuple(
            Degradation(f"x{factor}", "set5", (_downsample(factor),), ("enlarge",), _coarse(factor))
            for factor in (2, 4, 8)
        ),
    ),
    "linr-inpaint": Suite(
        _LINR, default_methods=_RECOVERY, references=("linear",),
        degradations=(Degradation("10%", "linr_inpainting", (_HIDE,), ("inpaint",), _HIDDEN),),
    ),
    "linr-deblur": Suite(
        _DEEPRED, default_methods=_RECOVERY, references=("blurred",),
        degradations=(Degradation("gauss1.6", "deblur4", (images.blur,), ("deblur",), _BLURRED, {"steps": 4000}),),
    ),
    "linr-joint": Suite(
        _LINR, default_methods=_RECOVERY, references=("noisy", "bicubic", "linear"), degradations=_LINR_JOINT
    ),
}  # fmt: skip


# finding and loading the images


def find_cases(
    data: Path,
    suite: str,
    levels: Iterable[int] | None = None,
    captures: Collection[int] = (),
    names: Collection[str] = (),
    limit: int | None = None,
) -> list[Case]:
    """List the cases of a suite, ordered by level and file name.

    Args:
        data: Folder that holds the folders of images; a folder of images where the suite allows any folder.
        suite: Name of the suite.
        levels: Numbers of frames averaged; None for the default of the suite.
        captures: Captures to take; empty for all.
        names: Names of the images to take; empty for all.
        limit: Largest number of cases of each type and level.

    Raises:
        SettingError: The suite has no such level.
        FileError: A folder or a truth is missing, or no image is left.
    """
    chosen = SUITES[suite]
    if chosen.folders:
        cases = _real_cases(data, suite, chosen.default_levels if levels is None else levels)
    else:
        cases = _degraded_cases(data, suite)
    cases = [c for c in cases if (not captures or c.capture in captures) and (not names or c.name in names)]
    missing = set(names) - {case.name for case in cases}
    if missing or not cases:
        subject = f"images named {', '.join(sorted(missing))}" if missing else "images"
        raise FileError(f"there are no {subject} of the chosen levels and captures of the suite '{suite}' in '{data}'")
    count: Counter[tuple[int, str]] = Counter()
    kept = []
    for case in cases:
        count[case.level, case.type] += 1
        if limit is None or count[case.level, case.type] <= limit:
            kept.append(case)
    return kept


def _real_cases(data: Path, suite: str, levels: Iterable[int]) -> list[Case]:
    """List pairs of files of one name in two folders.

    The names of FMD hold type and capture; elsewhere the suite is the only type.
    """
    chosen = SUITES[suite]
    assert chosen.folders is not None
    noisy_folder, truth_folder = chosen.folders
    cases: list[Case] = []
    for level in levels:
        if level not in chosen.levels:
            known = ", ".join(map(str, chosen.levels))
            raise SettingError(f"the suite '{suite}' has no level {level}; its levels are {known}")
        for noisy in _image_files(data / noisy_folder.format(level=level)):
            truth = data / truth_folder / noisy.name
            if not truth.is_file():
                raise FileError(f"'{noisy}' has no truth: '{truth}' does not exist")
            kind, capture = suite, 1
            if chosen.is_fmd and (match := _FMD_NAME.fullmatch(noisy.stem)):
                kind, capture = match["type"], int(match["capture"])
            if not chosen.types or kind in chosen.types:
                real = Degradation(paper_settings=chosen.paper_settings)
                cases.append(Case(suite, noisy.stem, kind, noisy, truth, real, capture, level))
    return cases


def _degraded_cases(data: Path, suite: str) -> list[Case]:
    """List each clean image with each degradation of the suite."""
    any_folder, degradations = SUITES[suite].any_folder, SUITES[suite].degradations
    if any_folder and _image_files(data, missing_ok=True):  # a folder of images, not a folder of folders
        data, degradations = data.parent, _noises(data.name)
    return [
        Case(suite, image_name(path), f"{d.folder} {d.name}" if any_folder else d.name, path, path, d)
        for d in degradations
        for path in _image_files(data / d.folder, missing_ok=any_folder)
        if not d.only or image_name(path) in d.only
    ]


def _image_files(folder: Path, *, missing_ok: bool = False) -> list[Path]:
    if folder.is_dir():
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if missing_ok:
        return []
    raise FileError(f"there is no folder '{folder}'; name the one that holds the images with --data or PRISTINE_DATA")


def image_name(path: Path) -> str:
    """Name of an image in the tables of the papers: `baboon` for `image_Baboon512rgb.png`."""
    return _INPAINTING.get(path.stem, _DECORATION.sub("", path.stem).lower())


def load_case(case: Case, crop: int | None = None) -> ImagePair:
    """Load the images of a case; they are the same each time.

    Args:
        case: The case.
        crop: Side of the central square of the truth to take; None for the whole image.

    Raises:
        ImageError: The files do not hold what they should, or the crop does not fit.
    """
    suite, degradation = SUITES[case.suite], case.degradation
    if not degradation.steps:
        pair = read_pair(case.noisy, case.truth, colour=not suite.is_fmd).cropped(crop)
    else:
        clean = read_clean(case.truth)
        clean = clean if crop is None else crop_square(clean, crop)
        truth = images.crop_to_multiple(clean, degradation.settings.get("finer", 1))
        random = images.random_generator(f"{case.suite} {case.type} {case.name}")
        *extra, noisy = [step(truth, random) for step in reversed(degradation.steps)]
        pair = ImagePair(noisy, truth, extra_images=tuple(reversed(extra)))
    return replace(pair, protocol=suite.protocol)
