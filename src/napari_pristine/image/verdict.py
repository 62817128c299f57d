"""Verdict: structure that a result lost or added, noise that it kept, told from the noisy image and the result alone.

If only noise was removed, then what was removed is noise: as strong as that of the image, and without structure. Each
fault shows as something that noise alone does not explain.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.intensity import fill_invalid, find_padding, find_valid
from napari_pristine.image.noise import (
    Noise,
    count_saturated,
    fourth_differences,
    measure_noise,
    spread,
)
from napari_pristine.image.outliers import fill_outliers, find_outliers
from napari_pristine.image.removed import LIMITS, Kind, Peak, look_at, measure_levels
from napari_pristine.image.safeguard import noise_variance
from napari_pristine.image.stripes import measure_stripes

Map = NDArray[np.floating[Any]]

MIN_SIDE = 32
"""Least number of pixels along Y and X for a verdict."""
_MAX_PLANES, _TILE, _MAX_TILES = 8, 1024, 16
"""Planes that are judged, evenly spread; side of the tiles in which larger planes are judged; number of these."""
_USUAL_SIZE = 512**2
"""Pixels to which `LIMITS` refer: the largest of more deviations is larger."""
_KEPT = 0.25
"""Share of the noise in the result, above which noise remains."""
_CELL, _FLAT = 16, 0.25
"""Side of the squares, in pixels, whose flattest part shows the noise that is left; that part of them."""
_BRIGHTER, _STEEPER, _CLEAR = 0.02, 0.06, 6.0
"""Relative changes of the mean and of the slope of the brightness that count; their least standard deviations."""
_DARK = 1e-3
"""Quantile of the blurred image that counts as dark, where the noise does not tell the offset of the camera."""
_MANY = 0.2
"""Share of the image with a fault, above which it is not that of a single place."""


@dataclass(frozen=True)
class Finding:
    """One fault of a result.

    Attributes:
        kind: Kind of fault.
        sentence: The fault in plain words.
        strength: Strength of the evidence, relative to the limit from which it counts.
        place: Position of the strongest evidence, an index for each axis of the array; None for the image as a whole.
    """

    kind: Kind
    sentence: str
    strength: float
    place: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Evidence:
    """Figures that a verdict rests on; those with a limit were compared with it.

    Attributes:
        sigma: Noise level in the units of the image.
        residual: Root mean square of what was removed, in noise levels.
        whiteness: Correlation of what was removed with its neighbours one pixel away, minus that of the noise.
        structure: Correlation of what was removed with the structure of the result, at a scale of one pixel.
        kept: Share of the finest noise that is still in the result.
        brightness: Change of the mean brightness, relative to that above the dark.
        slope: Change of the range of brightness, of means over squares of 16 pixels: 0.04 for 4 % more.
        offset: Brightness that the result has in the dark beyond that of the image, in the units of the image.
        strengths: Largest deviation of each test of places and windows, relative to its limit.
        judged: Share of the pixels that were looked at.
    """

    sigma: float
    residual: float = 0.0
    whiteness: float = 0.0
    structure: float = 0.0
    kept: float = 0.0
    brightness: float = 0.0
    slope: float = 0.0
    offset: float = 0.0
    strengths: Mapping[str, float] = field(default_factory=dict)
    judged: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """The verdict on a result of one channel.

    Attributes:
        kind: The most important finding.
        sentence: The same in plain words.
        place: Position of its strongest evidence, an index for each axis of the array; None for the image as a whole.
        findings: All faults, the most important one first; empty if only noise was removed.
        evidence: The figures.
        name: Name of the channel; empty if there is only one.
    """

    kind: Kind
    sentence: str
    place: tuple[int, ...] | None
    findings: tuple[Finding, ...]
    evidence: Evidence
    name: str = ""

    @property
    def good(self) -> bool:
        """True if no fault was found."""
        return self.kind == Kind.GOOD


def judge_channel(
    noisy: NDArray[Any],
    result: NDArray[Any],
    noise: Noise | None = None,
    *,
    axes: str = "",
    name: str = "",
) -> Verdict:
    """Judge a result of one channel by the noisy image.

    Faults that are hidden in the noise cannot be found by anybody. Of many planes, eight are judged.

    Args:
        noisy: Values `(…, Y, X)`.
        result: The result, of the same shape.
        noise: Noise of the channel; measured if it is not given.
        axes: Letters of the axes, for the sentences.
        name: Name of the channel.

    Raises:
        ImageError: The shapes differ, or hardly any value is finite.
    """
    if noisy.shape != result.shape or noisy.ndim < 2:
        raise ImageError(
            f"the noisy image has the shape {noisy.shape}, its result {result.shape}; give two images of one shape, "
            "with the axes Y and X last"
        )
    if min(noisy.shape[-2:]) < MIN_SIDE:
        return _not_judged(
            f"The image is too small to tell what was removed: it takes {MIN_SIDE} × {MIN_SIDE} pixels.", name
        )
    shape = noisy.shape
    planes, restored = (a.reshape(-1, *shape[-2:]) for a in (noisy, result))
    chosen = spread(len(planes), _MAX_PLANES)
    step = 1.0 if result.dtype.kind in "ui" else 0.0
    planes, restored = planes[chosen], restored[chosen].astype(np.float64)
    valid = find_valid(planes[None]) & ~find_padding(planes[None]) & np.isfinite(restored)
    values = fill_invalid(planes[None], valid)[0] if not valid.all() else planes.astype(np.float64)
    if noise is None:
        noise = measure_noise(values, valid)
    if noise.sigma == 0:
        same = bool(np.array_equal(values[valid], restored[valid]))
        text = "nothing was removed" if same else "it cannot be told what was removed"
        return _not_judged(f"No noise was found in the image, and {text}.", name)
    values = values - measure_stripes(values, valid).offsets
    outliers = find_outliers(values, valid)
    values, valid = fill_outliers(values, outliers), valid & (outliers == 0)
    if count_saturated(values[valid]):
        valid &= ndimage.maximum_filter(values, (1, 3, 3)) < values[valid].max()
    restored = np.where(valid, restored, values)
    brightness = _measure_brightness(values, restored, valid, noise)
    steady = brightness.corrected(restored) if brightness.changed else restored
    kept = _measure_kept(values, restored, noise)
    levels = measure_levels(values, restored, valid, noise)
    looks = [(part, look_at(values[part], steady[part], valid[part], levels, step)) for part in _tiles(values.shape)]
    judged = sum(int(np.prod(_sides(part))) for part, _ in looks)
    # the largest of more deviations is larger
    slack = 2 * float(np.log(max(judged / _USUAL_SIZE, 1.0)))
    peaks = [
        replace(
            peak,
            value=peak.value / (1 + slack / LIMITS[peak.test] ** 2) ** 0.5,
            y=peak.y + part[1].start,
            x=peak.x + part[2].start,
            plane=int(chosen[part[0]]),
        )
        for part, look in looks
        for peak in look.peaks
    ]
    findings = [*brightness.findings(), *_describe_peaks(peaks, shape, axes), *_describe_kept(kept)]
    findings.sort(key=lambda finding: -finding.strength)
    first = findings[0] if findings else Finding(Kind.GOOD, "Only noise was removed.", 0.0)
    evidence = Evidence(
        sigma=noise.sigma,
        residual=float(np.mean([look.residual**2 for _, look in looks]) ** 0.5),
        whiteness=float(np.mean([look.whiteness for _, look in looks])) - noise.correlation,
        structure=float(np.mean([look.structure for _, look in looks])),
        kept=kept,
        brightness=brightness.mean,
        slope=brightness.slope,
        offset=brightness.offset,
        strengths={test: max(p.strength for p in peaks if p.test == test) for test in LIMITS},
        judged=judged / noisy.size,
    )
    return Verdict(first.kind, first.sentence, first.place, tuple(findings), evidence, name)


def _not_judged(sentence: str, name: str) -> Verdict:
    return Verdict(Kind.UNKNOWN, sentence, None, (), Evidence(0.0, judged=0.0), name)


def _tiles(shape: tuple[int, ...]) -> list[tuple[int, slice, slice]]:
    """Plane, rows and columns of the parts of planes `(planes, Y, X)` that are judged one by one."""
    edges = [np.linspace(0, n, -(-n // _TILE) + 1).astype(int).tolist() for n in shape[1:]]
    rows, columns = ([slice(*pair) for pair in itertools.pairwise(ends)] for ends in edges)
    tiles = list(itertools.product(range(shape[0]), rows, columns))
    return [tiles[number] for number in spread(len(tiles), _MAX_TILES)]


def _sides(part: tuple[int, slice, slice]) -> tuple[int, int]:
    return part[1].stop - part[1].start, part[2].stop - part[2].start


def _describe_peaks(peaks: Sequence[Peak], shape: tuple[int, ...], axes: str) -> Iterator[Finding]:
    """The strongest place of each kind that exceeds its limit, the stronger kind first."""
    strongest = [
        max(group, key=lambda peak: peak.strength)
        for kind in (Kind.REMOVED, Kind.ADDED)
        if (group := [p for p in peaks if p.kind is kind])
    ]
    for peak in sorted(strongest, key=lambda peak: peak.strength, reverse=True):
        if peak.strength <= 1:
            continue
        leading = tuple(int(n) for n in np.unravel_index(peak.plane, shape[:-2])) if len(shape) > 2 else ()
        names = [axis.lower() for axis in axes[:-2]] or [f"axis {number}" for number in range(len(leading))]
        where = ", ".join(
            [f"x = {peak.x}", f"y = {peak.y}", *(f"{n} = {i}" for n, i in zip(names, leading, strict=False))]
        )
        many = "in many places, most clearly " if peak.area > _MANY else ""
        if peak.kind is Kind.REMOVED:
            text = f"Structure was removed {many}near {where} (the result lost {peak.share:.0%} of the contrast there)."
        else:
            text = f"Structure was added {many}near {where}, which the noisy image does not show."
        yield Finding(peak.kind, text, peak.strength, (*leading, peak.y, peak.x))


# noise that remains, and brightness


def _measure_kept(noisy: Map, result: Map, noise: Noise) -> float:
    """Share of the finest noise that is still in the flattest parts of the result, 0 to 1."""
    level = np.sqrt(noise_variance(noisy, noise))
    shown, seen = (fourth_differences(np.asarray(a, np.float64)) / level for a in (result, noisy))
    powers = [
        ndimage.uniform_filter(a, (1, _CELL, _CELL))[:, _CELL // 2 :: _CELL, _CELL // 2 :: _CELL]
        for a in (shown**2, seen**2, shown * seen)
    ]
    own, all_noise, common = (power.ravel() for power in powers)
    flattest = np.argsort(own)[: max(int(_FLAT * own.size), min(own.size, 4))]
    return float(np.clip(common[flattest].sum() / max(all_noise[flattest].sum(), 1e-30), 0, 1))


def _describe_kept(kept: float) -> Iterator[Finding]:
    if kept > _KEPT:
        text = "all of it is" if kept > 0.99 else f"{kept:.0%} of it is"
        yield Finding(Kind.REMAINS, f"Noise remains: {text} still in the result.", kept / _KEPT)


@dataclass(frozen=True)
class _Brightness:
    """Brightness of squares of a result, relative to that of the noisy image.

    Attributes:
        mean, slope, offset: See `Evidence`.
        figure: The slope where it is clear and more than that of the mean, else the mean.
        strength: Strength of the evidence, see `Finding`.
        line: Slope and offset that turn the result's brightness into that of the image.
    """

    mean: float
    slope: float
    offset: float
    figure: float
    strength: float
    line: tuple[float, float]

    @property
    def changed(self) -> bool:
        return self.strength > 1

    def corrected(self, result: Map) -> Map:
        """The result with the brightness of the image."""
        return self.line[0] * result + self.line[1]

    def findings(self) -> Iterator[Finding]:
        if self.changed:
            same_mean = abs(self.mean) < _BRIGHTER
            text = f"Brightness was changed by {self.figure:+.1%}."
            if same_mean:
                text = f"Brightness was changed: the range from dark to bright by {self.figure:+.1%}."
            yield Finding(Kind.BRIGHTNESS, text, self.strength)


def _measure_brightness(noisy: Map, result: Map, valid: NDArray[np.bool_], noise: Noise) -> _Brightness:
    """Fit the brightness of squares of the noisy image as a line over that of the result, which has less noise."""
    rows, columns = (n // _CELL * _CELL for n in noisy.shape[1:])

    def means(values: Map) -> NDArray[np.float64]:
        cut = np.where(valid, values, 0)[:, :rows, :columns]
        return np.asarray(
            cut.reshape(len(cut), rows // _CELL, _CELL, columns // _CELL, _CELL).mean(axis=(2, 4)).ravel()
        )

    count = means(np.ones(noisy.shape))
    used = count > 0.5
    if used.sum() < 3:
        return _Brightness(0.0, 0.0, 0.0, 0.0, 0.0, (1.0, 0.0))
    y, f, variance = (means(a)[used] / count[used] for a in (noisy, result, noise_variance(noisy, noise)))
    weight = count[used] * _CELL**2 / (variance * noise.correlation_length**2)
    centre, level = np.average(f, weights=weight), np.average(y, weights=weight)
    spread_f = max(float((weight * (f - centre) ** 2).sum()), 1e-30)
    slope = float((weight * (f - centre) * (y - level)).sum()) / spread_f
    left = float((weight * (y - level - slope * (f - centre)) ** 2).mean())
    wider = max(left, 1.0) ** 0.5
    dark = noise.offset or float(np.quantile(ndimage.gaussian_filter(noisy, (0, 2.0, 2.0))[valid], _DARK))
    shift = float(np.average(f - y, weights=count[used]))
    error = float(np.sqrt((count[used] ** 2 / weight).sum())) / float(count[used].sum())
    mean = shift / max(float(np.average(y, weights=count[used])) - dark, 1e-30)
    steeper = 1 / slope - 1 if slope > 0 else 1.0
    clear = abs(slope - 1) * spread_f**0.5 / wider / _CLEAR
    strength = max(
        min(abs(mean) / _BRIGHTER, abs(shift) / (error * wider) / _CLEAR), min(abs(steeper) / _STEEPER, clear)
    )
    figure = steeper if clear > 1 and abs(steeper) > abs(mean) else mean
    line = (slope, float(level - slope * centre)) if spread_f**0.5 > _CLEAR * wider and slope > 0.5 else (1.0, -shift)
    return _Brightness(mean, steeper, float((dark - line[1]) / line[0] - dark), figure, strength, line)
