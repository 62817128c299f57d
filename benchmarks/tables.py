"""Tables of measurements in Markdown, with the published results beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import Measurement, read_measurements
from benchmarks.published import PUBLISHED, PublishedResult, TableCell
from benchmarks.suites import SUITES
from napari_pristine.errors import FileError


def heading(width: int) -> str:
    """Heading above the lines of single measurements; `width` is that of the names of the images."""
    columns = "".join(f"{name:>8}" for name in ("PSNR", "affine", "SSIM", "s", "MiB"))
    return f"{'image':<{width}}level  {'method':<28}{columns}  published"


def line(m: Measurement, width: int) -> str:
    """Format one measurement, beside the published score of the same method on the same image."""
    setup = m.setup
    numbers = f"{m.psnr:8.2f}{m.psnr_affine:8.2f}{m.ssim:8.3f}{m.seconds:8.2f}{m.memory:8.0f}"
    kind = "" if SUITES[setup.suite].folders else f"  {setup.type}"
    learning = f"  (learned from {m.images} images in {m.learning:.0f} s)" if m.images else ""
    cell = TableCell(setup.level, setup.type, setup.image)
    scores = [p.text(cell) for p in PUBLISHED[setup.suite] if p.counterpart == setup.method]
    published = "; ".join(filter(None, scores))
    text = f"{setup.image:<{width}}{setup.level:>5}  {setup.label:<28}{numbers}{kind}  {published}{learning}"
    return text.rstrip()


def merge(files: Sequence[Path], suites: Sequence[str] = (), levels: Sequence[int] = ()) -> list[Measurement]:
    """Join the measurements of several files; later files replace measurements of earlier ones.

    Args:
        files: JSON files of `measure_all`.
        suites: Suites to take; empty for all.
        levels: Levels to take; empty for all.

    Raises:
        FileError: A file cannot be read, or no measurement is left.
    """
    found = {}
    for path in files:
        for m in read_measurements(path):
            s = m.setup
            if (not suites or s.suite in suites) and (not levels or s.level in levels):
                found[s.suite, s.level, s.type, s.image, s.label, s.crop, s.seed] = m
    if not found:
        names = ", ".join(map(str, files))
        raise FileError(f"there are no measurements of the chosen suites and levels in {names}")
    return list(found.values())


def markdown(measurements: Sequence[Measurement]) -> str:
    """Format the tables of each suite and crop: entries × types, single images, published means."""
    return "\n\n".join(
        table
        for suite, crop in dict.fromkeys((m.setup.suite, m.setup.crop) for m in measurements)
        for table in _tables(suite, [m for m in measurements if (m.setup.suite, m.setup.crop) == (suite, crop)])
    )


def _tables(name: str, measurements: Sequence[Measurement]) -> Iterator[str]:
    suite, published = SUITES[name], PUBLISHED[name]
    levels = list(dict.fromkeys(m.setup.level for m in measurements))
    types = list(dict.fromkeys(m.setup.type for m in measurements))
    if len(suite.default_levels) > 1:
        levels.append(0)  # all levels together
    for level in levels:
        of_level = [m for m in measurements if level in (0, m.setup.level)]
        yield f"{_title(of_level, level)}\n\n{_means(of_level)}"
    for kind in types:
        of_images = [p for p in published if any(cell.type == kind and cell.image for cell in p.scores)]
        if of_images:
            yield _images([m for m in measurements if m.setup.type == kind], of_images)
    cells = [TableCell(1, kind) for kind in types]
    head = [kind.replace("_", " ") for kind in types]
    if suite.mean_over_types:
        cells = [TableCell(level) for level in levels]
        head = [f"level {level}" if level else "all levels" for level in levels]
    body = [
        [p.method, *(p.text(cell) or "–" for cell in cells), p.source] for p in published if any(map(p.text, cells))
    ]
    if body:
        differs = f" {suite.differs}" if suite.differs else ""
        yield f"Published (PSNR, or PSNR / SSIM):{differs}\n\n{_grid(['published', *head, 'source'], body)}"


def _means(measurements: Sequence[Measurement]) -> str:
    """Format a table of entries × types: means over the images of each type, and over the types.

    The number of images is added where an entry lacks some; then there is no mean over the types, as it would be that
    of other images.
    """
    across = SUITES[measurements[0].setup.suite].mean_over_types
    groups: dict[tuple[str, str], list[Measurement]] = {}  # of each label and type
    for m in measurements:
        groups.setdefault((m.setup.label, m.setup.type), []).append(m)
    types = list(dict.fromkeys(kind for _, kind in groups))
    number = {
        kind: len({(m.setup.image, m.setup.level) for m in measurements if m.setup.type == kind}) for kind in types
    }
    body = []
    for label in dict.fromkeys(label for label, _ in groups):
        own = [m for m in measurements if m.setup.label == label]
        cells, means = [], []
        for kind in types:
            some = groups.get((label, kind), [])
            if not some:
                cells.append("–")
                continue
            psnr, affine, ssim = (_mean(getattr(m, name) for m in some) for name in ("psnr", "psnr_affine", "ssim"))
            missing = f" ({len(some)} of {number[kind]})" if len(some) < number[kind] else ""
            cells.append((f"{psnr:.2f} / {affine:.2f}" if across else f"{psnr:.2f} / {ssim:.3f}") + missing)
            if not missing:
                means.append((psnr, affine))
        if across:
            complete = len(means) == len(types)
            cells.append("{:.2f} / {:.2f}".format(*np.mean(means, axis=0)) if complete else "–")
            cells.append(f"{_mean(m.ssim for m in own):.3f}")
        learning = _mean(m.learning for m in own)
        seconds = f"{_mean(m.seconds for m in own):.2f}" + (f" + {learning:.0f}" if learning else "")
        body.append([label, *cells, seconds, f"{max(m.memory for m in own):.0f}"])
    head = [kind.replace("_", " ") for kind in types] + (["mean", "SSIM"] if across else [])
    return _grid(["method", *head, "s", "MiB"], body)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _images(measurements: Sequence[Measurement], published: Sequence[PublishedResult]) -> str:
    """Format a table of images × entries of one type, with the published results of our counterparts."""
    kind, published = measurements[0].setup.type, [p for p in published if p.counterpart]
    labels = list(dict.fromkeys(m.setup.label for m in measurements))
    found = {(m.setup.image, m.setup.label): f"{m.psnr:.2f} / {m.ssim:.3f}" for m in measurements}
    body = []
    for image in dict.fromkeys(m.setup.image for m in measurements):
        own = [found.get((image, label), "–") for label in labels]
        body.append([image, *own, *(p.text(TableCell(1, kind, image)) for p in published)])
    return _grid([kind, *labels, *(f"published: {p.method}" for p in published)], body)


def _title(measurements: Sequence[Measurement], level: int) -> str:
    """Describe images, device, date and protocol; level 0 stands for all levels."""
    setup = measurements[0].setup
    suite = SUITES[setup.suite]
    devices = {m.device for m in measurements}
    where = "; ".join(sorted(devices - {"cpu"} or devices))  # `cpu` alone is that of the baselines
    dates = sorted({m.date for m in measurements} - {""})
    when = f", {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "") if dates else ""
    size = "full images" if setup.crop is None else f"central {setup.crop} × {setup.crop} pixels"
    number = len({(m.setup.image, m.setup.level) for m in measurements})
    count = f"{number} images" if number > 1 else "1 image"
    scores = "PSNR in dB / SSIM;"
    levels = ""
    if suite.mean_over_types:
        scores = "PSNR in dB, plain / after the best gain and offset; SSIM,"
        levels = f"Level {level} (frames averaged), " if level else "All levels, "
    return (
        f"{levels}{count}, {size}, on {where}{when} (suite `{setup.suite}`). {suite.protocol.text} "
        f"{scores} seconds (+ of learning before) and the largest peak memory (MiB) per image."
    )


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
