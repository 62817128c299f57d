"""Rows as lines and means for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.printed import PSF
from benchmarks.published import PUBLISHED
from benchmarks.rows import Row
from benchmarks.suites import SUITES

_COLUMNS = ("PSNR", "affine", "SSIM", "s", "MiB")
_LABEL = 28
_IMAGE = 22


@dataclass(frozen=True)
class Summary:
    """One entry at one level (0: all levels together): means over its rows of each type, and over the types.

    `count` is how many images of each type it has, and how many there are. `seconds` has what learning took apart.
    """

    label: str
    suite: str
    level: int
    psnr: dict[str, float]
    psnr_affine: dict[str, float]
    ssim_of: dict[str, float]
    count: dict[str, tuple[int, int]]
    ssim: float
    seconds: float
    learning: float
    memory: float

    @property
    def complete(self) -> bool:
        """Whether it has all images that any entry has."""
        return all(mine == everyone for mine, everyone in self.count.values())

    @property
    def mean(self) -> str:
        """Mean over the types, plain / affine; a dash if images are missing, as means of other images mislead."""
        return f"{_mean(self.psnr.values()):.2f} / {_mean(self.psnr_affine.values()):.2f}" if self.complete else "–"

    @property
    def time(self) -> str:
        """Seconds of an image, and of the learning before."""
        return f"{self.seconds:.2f}" + (f" + {self.learning:.0f}" if self.learning else "")

    def figure(self, kind: str) -> str:
        """PSNR / SSIM of a type, and of how many images if some are missing."""
        if kind not in self.psnr:
            return "–"
        mine, everyone = self.count[kind]
        return f"{self.psnr[kind]:.2f} / {self.ssim_of[kind]:.3f}" + (
            f" ({mine} of {everyone})" if mine < everyone else ""
        )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary for each suite, level and label, in the order in which they first occur, then those of all levels."""
    places = dict.fromkeys((row.job.suite, row.job.level, row.job.label) for row in rows)
    overall = dict.fromkeys((suite, 0, label) for suite, _, label in places if len(SUITES[suite].usual) > 1)
    return [_summary(rows, *place) for place in [*places, *overall]]


def _summary(rows: Sequence[Row], suite: str, level: int, label: str) -> Summary:
    everyone = [r for r in rows if r.job.suite == suite and level in (0, r.job.level)]
    mine = [r for r in everyone if r.job.label == label]
    types = dict.fromkeys(r.job.type for r in everyone)

    def each(of: Callable[[Row], float]) -> dict[str, float]:
        found = {t: [of(r) for r in mine if r.job.type == t] for t in types}
        return {t: _mean(values) for t, values in found.items() if values}

    def images(some: Sequence[Row], kind: str) -> int:
        return len({(r.job.image, r.job.level) for r in some if r.job.type == kind})

    return Summary(
        label=label,
        suite=suite,
        level=level,
        psnr=each(lambda r: r.psnr),
        psnr_affine=each(lambda r: r.psnr_affine),
        ssim_of=each(lambda r: r.ssim),
        count={t: (images(mine, t), images(everyone, t)) for t in types},
        ssim=_mean(r.ssim for r in mine),
        seconds=_mean(r.seconds for r in mine),
        learning=_mean(r.learning for r in mine),
        memory=max(r.memory for r in mine),
    )


def width_of(names: Iterable[str]) -> int:
    """Width of the column that holds these names."""
    return max(_IMAGE, *(len(name) + 1 for name in names))


def heading(width: int = _IMAGE) -> str:
    """The heading over lines of single images."""
    columns = "".join(f"{name:>8}" for name in _COLUMNS)
    return f"{'image':<{width}}{'level':>5}  {'method':<{_LABEL}}{columns}  published"


def line(row: Row, width: int = _IMAGE) -> str:
    """One image and entry, with what is published of it beside."""
    job = row.job
    figures = f"{row.psnr:8.2f}{row.psnr_affine:8.2f}{row.ssim:8.3f}{row.seconds:8.2f}{row.memory:8.0f}"
    kind = "" if SUITES[job.suite].folders else f"  {job.type}"
    learning = f"  (learned from {row.images} images in {row.learning:.0f} s)" if row.images else ""
    beside = counterparts(job.suite, job.label, PSF(job.level, job.type, job.image), with_source=False)
    return f"{job.image:<{width}}{job.level:>5}  {job.label:<{_LABEL}}{figures}{kind}  {beside}{learning}".rstrip()


def means(rows: Sequence[Row]) -> str:
    """Means of each entry at each level, or of each type, with the published figures beside them."""
    lines = []
    for suite in dict.fromkeys(row.job.suite for row in rows):
        mine, across = [row for row in rows if row.job.suite == suite], SUITES[suite].across
        kinds = [] if across else list(dict.fromkeys(row.job.type for row in mine))
        what = f"{'plain / affine':>20}{'SSIM':>8}" if across else f"{'PSNR / SSIM':>28}"
        lines.append(f"{'mean':<16}{'method':<{_LABEL}}{what}{'s':>12}{'MiB':>8}  published")
        if across:
            lines += map(_across, summarise(mine))
        for kind in kinds:
            lines += [_of_type(s, kind) for s in summarise([row for row in mine if row.job.type == kind])]
        lines += _others(summarise(mine))
    return "\n".join(lines)


def _across(s: Summary) -> str:
    where = f"level {s.level}" if s.level else "all levels"
    beside = counterparts(s.suite, s.label, PSF(s.level))
    return f"{where:<16}{s.label:<{_LABEL}}{s.mean:>20}{s.ssim:8.3f}{s.time:>12}{s.memory:8.0f}  {beside}".rstrip()


def _of_type(s: Summary, kind: str) -> str:
    beside = counterparts(s.suite, s.label, PSF(1, kind))
    return f"{kind:<16}{s.label:<{_LABEL}}{s.figure(kind):>28}{s.time:>12}{s.memory:8.0f}  {beside}".rstrip()


def spots(summaries: Sequence[Summary]) -> list[PSF]:
    """What means are published of: of each level, or of each type."""
    if summaries and SUITES[summaries[0].suite].across:
        return [PSF(level) for level in dict.fromkeys(s.level for s in summaries)]
    return [PSF(1, kind) for kind in dict.fromkeys(t for s in summaries for t in s.psnr)]


def _others(summaries: Sequence[Summary]) -> Iterable[str]:
    """What is published of methods that we have no counterpart of."""
    for spot in spots(summaries):
        others = [p for p in PUBLISHED[summaries[0].suite] if not p.label and p.at(spot)]
        where = spot.type or (f"level {spot.level}" if spot.level else "all levels")
        if others:
            yield f"published, {where}: " + "; ".join(f"{p.name} {p.at(spot)} ({p.source})" for p in others)


def counterparts(suite: str, label: str, spot: PSF, *, with_source: bool = True) -> str:
    """What is published of the method that a label belongs to."""
    method = label.split()[0].split(":")[0].split("@")[0]
    found = [p for p in PUBLISHED[suite] if p.label == method and p.at(spot)]
    return "; ".join(f"{p.name} {p.at(spot)} ({p.source})" if with_source else p.at(spot) for p in found)
