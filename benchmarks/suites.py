"""The suites: which images, degraded and compared how."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import variants
from benchmarks.cases import Case, paired, pictures
from benchmarks.pair import PROTOCOL_A, Pair, Protocol, load
from benchmarks.printed import LEVELS
from benchmarks.variants import Variant
from napari_pristine.errors import FileError, SettingError


@dataclass(frozen=True)
class Suite:
    """A family of images.

    Attributes:
        protocol: How results are compared with the truth.
        differs: Where we differ from the publications, in words.
        folders: Folders of the noisy pictures (`{level}` stands for the frames averaged) and of their truth.
        types: The types that take part; empty for all.
        variants: Ways of degrading clean pictures, where the noise is not real.
        levels: All levels there are; `usual` are those that are measured unless others are asked for.
        captures: Captures that are measured unless others are asked for; empty for all.
        methods: What takes part unless something else is asked for.
        references: What comes first in every table.
        paper: As `Case.paper`, of its images with real noise.
        across: Whether a mean over the types says anything.
        anywhere: Whether the pictures may come from any folder.
    """

    protocol: Protocol = PROTOCOL_A
    differs: str = ""
    folders: tuple[str, str] | None = None
    types: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    levels: tuple[int, ...] = (1,)
    usual: tuple[int, ...] = (1,)
    captures: tuple[int, ...] = ()
    methods: tuple[str, ...] = ("inr", "classical")
    references: tuple[str, ...] = ("noisy",)
    paper: Mapping[str, Any] = field(default_factory=dict)
    across: bool = False
    anywhere: bool = False

    @property
    def checked(self) -> bool:
        """Whether the PSNR of the noisy pictures is published."""
        return self.across or bool(self.types)


_FMD = ("fmd_test_mix/noisy_avg{level}", "fmd_test_mix/gt")
_CAMERA = "RGB, all colours together."
_LINR = Protocol(
    "LINR's protocol: not clipped, not rounded; SSIM with a range of 2, as scikit-image guessed it for the paper.",
    clipped=False, ssim_range=2.0,
)  # fmt: skip
_PROTOCOL_C = Protocol(
    "Protocol C: clipped, rounded to 8 bits; SSIM with a Gaussian 11 × 11 window.", rounded=True, gaussian=True
)
_DEBLUR = Protocol("DeepRED's protocol: clipped, rounded to 8 bits; PSNR of the rounded luma.", rounded=True, luma=True)
_OURS = ("sampling", "iddp", "blind2unblind", "inr", "linr", "classical")

SUITES = {
    "fmd": Suite(folders=_FMD, levels=LEVELS, captures=(1,), across=True),
    "fmd-b2u": Suite(
        _PROTOCOL_C,
        "The paper trains on 950 frames of 19 views and tests on 50 frames of another; here both are the captures "
        "of one view that are there, without their truth.",
        _FMD, ("Confocal_FISH", "Confocal_MICE", "TwoPhoton_MICE"),
        methods=("blind2unblind@type", "blind2unblind", "classical"),
    ),
    "fmd-iddp": Suite(
        PROTOCOL_A,
        "The paper trains on 30 000 frames and tests on four captures of six types at five levels; here both are the "
        "captures that are there, without their truth. How it compares is not stated.",
        _FMD, (*(f"Confocal_BPAE_{colour}" for colour in "BGR"), "Confocal_FISH", "Confocal_MICE", "TwoPhoton_MICE"),
        levels=LEVELS, usual=LEVELS, methods=("iddp@suite", "iddp", "classical"), across=True,
    ),
    "polyu": Suite(
        PROTOCOL_A,
        _CAMERA + " The INS paper has all 100 images, cut to their centre (--crop 256); Kim et al. and LINR full ones.",
        ("polyu/noisy", "polyu/gt"), methods=_OURS, paper={"steps": 1000},
    ),
    "cc": Suite(PROTOCOL_A, _CAMERA + " The papers have 15 images.", ("cc15/noisy", "cc15/gt"), methods=_OURS),
    "sidd": Suite(
        PROTOCOL_A, _CAMERA + " The papers have 1280 images.", ("sidd_val/noisy", "sidd_val/gt"), methods=_OURS
    ),
    "awgn": Suite(
        PROTOCOL_A,
        "Noise neither clipped nor rounded. The levels that Kim et al. drew are not published; ours is one per image.",
        variants=(*variants.noises("set9"), *variants.noises("set12"), *variants.noises("kodak24")),
        methods=_OURS, anywhere=True,
    ),
    "linr-denoise": Suite(_LINR, variants=variants.LINR_DENOISE, methods=_OURS),
    "linr-sr": Suite(
        _LINR, variants=variants.LINR_SR, methods=("linr", "classical"), references=("bicubic",)
    ),
    "linr-inpaint": Suite(
        _LINR, variants=variants.LINR_INPAINT, methods=("linr", "classical"), references=("linear",)
    ),
    "linr-deblur": Suite(
        _DEBLUR, variants=variants.LINR_DEBLUR, methods=("linr", "classical"), references=("blurred",),
    ),
    "linr-joint": Suite(
        _LINR, variants=variants.LINR_JOINT, methods=("linr", "classical"), references=("noisy", "bicubic", "linear")
    ),
}  # fmt: skip


def find_cases(
    data: Path,
    suite: str,
    levels: Iterable[int] | None = None,
    captures: Collection[int] = (),
    images: Collection[str] = (),
    limit: int | None = None,
) -> list[Case]:
    """All cases of a suite at some levels, of some captures or images (empty: all), by level and name.

    Args:
        data: Folder of folders of images; where the suite allows it, a folder of images.
        suite: Its name.
        levels: Frames averaged; none for the usual ones.
        captures: Captures of the view.
        images: Names.
        limit: The most cases of each type and level.

    Raises:
        SettingError: The suite has no such level.
        FileError: A folder or a truth is missing, or nothing is left.
    """
    found = SUITES[suite]
    cases = _of_pairs(data, suite, found.usual if levels is None else levels) if found.folders else _made(data, suite)
    cases = [c for c in cases if (not captures or c.capture in captures) and (not images or c.name in images)]
    missing = set(images) - {case.name for case in cases}
    if missing or not cases:
        what = f"images named {', '.join(sorted(missing))}" if missing else "images"
        raise FileError(f"there are no {what} of the chosen levels and captures of the suite '{suite}' in '{data}'")
    return _limited(cases, limit)


def _of_pairs(data: Path, suite: str, levels: Iterable[int]) -> list[Case]:
    found = SUITES[suite]
    noisy, truth = found.folders or ("", "")
    cases: list[Case] = []
    for level in levels:
        if level not in found.levels:
            known = ", ".join(map(str, found.levels))
            raise SettingError(f"the suite '{suite}' has no level {level}; its levels are {known}")
        cases += paired(data / noisy.format(level=level), data / truth, level, suite, found.types)
    return [replace(case, paper=found.paper) for case in cases]


def _made(data: Path, suite: str) -> list[Case]:
    found = SUITES[suite]
    if found.anywhere and pictures(data, missing_ok=True):  # a folder of pictures, not of such folders
        return [case for v in variants.noises(data.name) for case in v.cases(data.parent, suite, anywhere=True)]
    return [case for variant in found.variants for case in variant.cases(data, suite, anywhere=found.anywhere)]


def _limited(cases: Sequence[Case], limit: int | None) -> list[Case]:
    count: dict[tuple[int, str], int] = {}
    kept = []
    for case in cases:
        key = case.level, case.type
        count[key] = count.get(key, 0) + 1
        if limit is None or count[key] <= limit:
            kept.append(case)
    return kept


def load_case(case: Case, crop: int | None = None) -> Pair:
    """The pictures of a case; `crop` is the side of the central square of the truth that is taken.

    Raises:
        ImageError: The files do not hold what they should, or the crop does not fit.
    """
    suite = SUITES[case.suite]
    if suite.folders:
        pair = load(case.noisy, case.truth, colour=not case.suite.startswith("fmd")).cropped(crop)
    else:
        ways = [*suite.variants, *variants.noises(case.truth.parent.name)]
        pair = next(way for way in ways if way.name == case.variant).pair(case, crop)
    return replace(pair, protocol=suite.protocol)
