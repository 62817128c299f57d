"""Rows as tables, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.measure import Row
from benchmarks.published import PUBLISHED

_COLUMNS = ("PSNR", "affine", "SSIM", "s", "MiB")
_LABEL = 24


@dataclass(frozen=True)
class Summary:
    """One entry at one level: means over its rows of each type, and over the types."""

    label: str
    level: int
    psnr: dict[str, float]
    psnr_affine: dict[str, float]
    ssim: float
    seconds: float
    memory: float
    complete: bool

    @property
    def mean(self) -> str:
        """Mean over the types, plain / affine; a dash if images are missing, as means of other images mislead."""
        return f"{_mean(self.psnr.values()):.2f} / {_mean(self.psnr_affine.values()):.2f}" if self.complete else "–"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary for each level and label, in the order in which they first occur."""
    summaries = []
    for level, label in dict.fromkeys((row.job.level, row.job.label) for row in rows):
        mine = [row for row in rows if (row.job.level, row.job.label) == (level, label)]
        types = dict.fromkeys(row.job.type for row in mine)
        images = {row.job.image for row in rows if row.job.level == level}
        summaries.append(
            Summary(
                label=label,
                level=level,
                psnr={t: _mean(r.psnr for r in mine if r.job.type == t) for t in types},
                psnr_affine={t: _mean(r.psnr_affine for r in mine if r.job.type == t) for t in types},
                ssim=_mean(row.ssim for row in mine),
                seconds=_mean(row.seconds for row in mine),
                memory=max(row.memory for row in mine),
                complete={row.job.image for row in mine} == images,
            )
        )
    return summaries


def heading() -> str:
    """The heading over lines of single images."""
    return f"{'image':<22}{'level':>5}  {'method':<{_LABEL}}" + "".join(f"{name:>8}" for name in _COLUMNS)


def line(row: Row) -> str:
    """One image and entry."""
    job = row.job
    figures = f"{row.psnr:8.2f}{row.psnr_affine:8.2f}{row.ssim:8.3f}{row.seconds:8.2f}{row.memory:8.0f}"
    return f"{job.image:<22}{job.level:>5}  {job.label:<{_LABEL}}{figures}"


def means(rows: Sequence[Row]) -> str:
    """Means of each entry at each level, with the published figures beside them, for the terminal."""
    lines = [f"{'mean':<10}{'method':<{_LABEL}}{'plain / affine':>16}{'SSIM':>8}{'s':>8}{'MiB':>8}  published"]
    for s in summarise(rows):
        lines.append(
            f"level {s.level:<4}{s.label:<{_LABEL}}{s.mean:>16}{s.ssim:8.3f}{s.seconds:8.2f}{s.memory:8.0f}"
            f"  {_counterpart(s.label, s.level)}"
        )
    for level in dict.fromkeys(row.job.level for row in rows):
        others = [f"{p.name} {p.at(level)} ({p.source})" for p in PUBLISHED if p.at(level) and not p.label]
        lines.append(f"published at level {level}: " + "; ".join(others))
    return "\n".join(lines)


def _counterpart(label: str, level: int) -> str:
    return "; ".join(f"{p.at(level)} ({p.source})" for p in PUBLISHED if p.label == label and p.at(level))


def markdown(rows: Sequence[Row]) -> str:
    """A table of entries × types for each level, and one of what is published."""
    parts = []
    summaries = summarise(rows)
    for level in dict.fromkeys(s.level for s in summaries):
        parts.append(_by_type([s for s in summaries if s.level == level], [r for r in rows if r.job.level == level]))
    parts.append(_published(sorted({s.level for s in summaries})))
    return "\n\n".join(parts) + "\n"


def _by_type(summaries: Sequence[Summary], rows: Sequence[Row]) -> str:
    types = sorted({row.job.type for row in rows})
    devices = {row.device for row in rows}
    where = "; ".join(sorted(devices - {"cpu"} or devices))  # the baselines' own says least
    sides = sorted({row.job.crop for row in rows}, key=lambda crop: crop or 0)
    crop = ", ".join("full frames" if side is None else f"central {side} × {side} pixels" for side in sides)
    images = len({row.job.image for row in rows})
    title = (
        f"Level {summaries[0].level} (frames averaged), {images} images, {crop}, on {where}. PSNR in dB, plain / after "
        "the best gain and offset; SSIM, seconds and the largest peak memory (MiB) per image."
    )
    head = ["method", *(t.replace("_", " ") for t in types), "mean", "SSIM", "s", "MiB"]
    body = [
        [s.label, *(_cell(s, t) for t in types), s.mean, f"{s.ssim:.3f}", f"{s.seconds:.2f}", f"{s.memory:.0f}"]
        for s in summaries
    ]
    return f"{title}\n\n{_grid(head, body)}"


def _cell(summary: Summary, kind: str) -> str:
    return f"{summary.psnr[kind]:.2f} / {summary.psnr_affine[kind]:.2f}" if kind in summary.psnr else "–"


def _published(levels: Sequence[int]) -> str:
    head = ["published", *(f"level {level}" for level in levels), "source"]
    body = [[p.name, *(p.at(level) or "–" for level in levels), p.source] for p in PUBLISHED if any(map(p.at, levels))]
    return f"Published (PSNR, or PSNR / SSIM):\n\n{_grid(head, body)}"


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
