"""Rows as Markdown for the documentation, and `python -m benchmarks table`: rows of several runs in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.printed import PSF, Published
from benchmarks.published import PUBLISHED
from benchmarks.records import read_rows
from benchmarks.rows import Row
from benchmarks.suites import SUITES
from benchmarks.table import Summary, spots, summarise
from napari_pristine.errors import FileError


def merge(files: Sequence[Path], suites: Sequence[str] = (), levels: Sequence[int] = ()) -> list[Row]:
    """The rows of several files, of some suites and levels (empty: all); later files replace rows of earlier ones.

    Raises:
        FileError: A file cannot be read, or nothing is left.
    """
    rows = {}
    for path in files:
        for row in read_rows(path):
            job = row.job
            if (not suites or job.suite in suites) and (not levels or job.level in levels):
                rows[job.suite, job.level, job.type, job.image, job.label, job.crop, job.seed] = row
    if not rows:
        raise FileError(f"there are no rows of the chosen suites and levels in {', '.join(map(str, files))}")
    return list(rows.values())


def markdown(rows: Sequence[Row]) -> str:
    """For each suite and size of the crop, tables of entries × types and one of what is published."""
    groups = dict.fromkeys((row.job.suite, row.job.crop) for row in rows)
    parts = []
    for suite, crop in groups:
        mine = [r for r in rows if (r.job.suite, r.job.crop) == (suite, crop)]
        parts += _by_level(mine) if SUITES[suite].across else _by_type(mine)
    return "\n\n".join(parts) + "\n"


def _by_level(rows: Sequence[Row]) -> list[str]:
    summaries = summarise(rows)
    parts = []
    for level in dict.fromkeys(s.level for s in summaries):
        some = [s for s in summaries if s.level == level]
        types = sorted({t for s in some for t in s.psnr})
        head = ["method", *(t.replace("_", " ") for t in types), "mean", "SSIM", "s", "MiB"]
        body = [
            [s.label, *(_cell(s, t) for t in types), s.mean, f"{s.ssim:.3f}", s.time, f"{s.memory:.0f}"] for s in some
        ]
        parts.append(f"{_title([r for r in rows if level in (0, r.job.level)], level)}\n\n{_grid(head, body)}")
    return [*parts, _published(summaries)]


def _by_type(rows: Sequence[Row]) -> list[str]:
    summaries = summarise(rows)
    kinds = list(dict.fromkeys(r.job.type for r in rows))
    head = ["method", *(kind.replace("_", " ") for kind in kinds), "s", "MiB"]
    body = [[s.label, *map(s.figure, kinds), s.time, f"{s.memory:.0f}"] for s in summaries]
    parts = [f"{_title(rows, 1)}\n\n{_grid(head, body)}"]
    parts += [_images(rows, kind) for kind in kinds if _printed(rows[0].job.suite, kind)]
    return [*parts, *([_published(summaries)] if any(map(_known, PUBLISHED[rows[0].job.suite])) else [])]


def _known(published: Published) -> bool:
    return any(not spot.image for spot in published.figures)


def _printed(suite: str, kind: str) -> list[Published]:
    """What is published of single images of a type."""
    return [p for p in PUBLISHED[suite] if any(s.type == kind and s.image for s in p.figures)]


def _images(rows: Sequence[Row], kind: str) -> str:
    """Images × entries of one type, and the published figures of ours beside them."""
    some = [r for r in rows if r.job.type == kind]
    labels = list(dict.fromkeys(r.job.label for r in some))
    printed = [p for p in _printed(rows[0].job.suite, kind) if p.label]
    found = {(r.job.image, r.job.label): f"{r.psnr:.2f} / {r.ssim:.3f}" for r in some}
    body = [
        [image, *(found.get((image, label), "–") for label in labels), *(p.at(PSF(1, kind, image)) for p in printed)]
        for image in dict.fromkeys(r.job.image for r in some)
    ]
    return _grid([kind, *labels, *(f"published: {p.name}" for p in printed)], body)


def _title(rows: Sequence[Row], level: int) -> str:
    suite, crop = rows[0].job.suite, rows[0].job.crop
    devices = {row.device for row in rows}
    where = "; ".join(sorted(devices - {"cpu"} or devices))  # the classical methods' own says least
    dates = sorted({row.date for row in rows} - {""})
    when = f", {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "") if dates else ""
    size = "full frames" if crop is None else f"central {crop} × {crop} pixels"
    images = len({(row.job.image, row.job.level) for row in rows})
    count = f"{images} images" if images > 1 else "1 image"
    part = "PSNR in dB, plain / after the best gain and offset; SSIM," if SUITES[suite].across else "PSNR in dB / SSIM;"
    of_level = (f"Level {level} (frames averaged), " if level else "All levels, ") if SUITES[suite].across else ""
    return (
        f"{of_level}{count}, {size}, on {where}{when} (suite `{suite}`). {SUITES[suite].protocol.text} "
        f"{part} seconds (+ of learning before) and the largest peak memory (MiB) per image."
    )


def _cell(summary: Summary, kind: str) -> str:
    return f"{summary.psnr[kind]:.2f} / {summary.psnr_affine[kind]:.2f}" if kind in summary.psnr else "–"


def _published(summaries: Sequence[Summary]) -> str:
    suite, where = summaries[0].suite, spots(summaries)
    names = [spot.type.replace("_", " ") or (f"level {spot.level}" if spot.level else "all levels") for spot in where]
    body = [
        [p.name, *(p.at(spot) or "–" for spot in where), p.source] for p in PUBLISHED[suite] if any(map(p.at, where))
    ]
    differs = f" {SUITES[suite].differs}" if SUITES[suite].differs else ""
    return f"Published (PSNR, or PSNR / SSIM):{differs}\n\n{_grid(['published', *names, 'source'], body)}"


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
