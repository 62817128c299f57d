"""Results that others published: the tables of `published.yaml`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

LEVELS = (1, 2, 4, 8, 16)  # noise levels of the FMD data set: the number of frames that were averaged
FMD_IMAGES = 48  # images in the mixed test set of FMD (Zhang et al. 2019): 12 types × 4 captures


class TableCell(NamedTuple):
    """The subject of a published score.

    A score belongs to one image; to the mean of a type (no image); to the mean of all types (neither); or to the mean
    of all types and levels (level 0).
    """

    level: int = 1
    type: str = ""
    image: str = ""


class Score(NamedTuple):
    """PSNR in dB, and SSIM where it was published."""

    psnr: float
    ssim: float | None = None

    def __str__(self) -> str:
        return f"{self.psnr:.2f}" if self.ssim is None else f"{self.psnr:.2f} / {self.ssim:.3f}"


@dataclass(frozen=True)
class PublishedResult:
    """One method in one published table."""

    method: str  # its name in the publication
    source: str  # the publication and table
    scores: Mapping[TableCell, Score]
    counterpart: str  # our method or baseline that does the same; empty if there is none

    def text(self, cell: TableCell) -> str:
        """Format the score of a cell; empty if none was published."""
        return str(self.scores[cell]) if cell in self.scores else ""


def _results(table: Mapping[str, Any]) -> Iterator[PublishedResult]:
    """Read the results of all methods in a table."""
    names, rows = table["columns"], {name: str(text).split() for name, text in table["rows"].items()}
    if "type" in table:
        cells = [TableCell(1, table["type"], "" if image == "mean" else image) for image in rows]
        rows = dict(zip(names, zip(*rows.values(), strict=True), strict=True))
    else:
        cells = [TableCell(name) if isinstance(name, int) else TableCell(1, name) for name in names]
    for name, texts in rows.items():
        method, _, counterpart = name.partition("=")
        yield PublishedResult(method, table["source"], dict(_scores(cells, texts)), counterpart)


def _scores(cells: Iterable[TableCell], texts: Iterable[str]) -> Iterator[tuple[TableCell, Score]]:
    """Read scores such as `30.73/0.916`; `-` stands for none, as do scores that are missing at the end."""
    for cell, text in zip(cells, texts, strict=False):
        if text != "-":
            psnr, _, ssim = text.partition("/")
            yield cell, Score(float(psnr), float(ssim) if ssim else None)


_DATA = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text("utf-8"))

FMD_NOISY = {kind: tuple(map(float, str(text).split())) for kind, text in _DATA["noisy"].items()}
"""PSNR in dB of the noisy images of FMD: mean of the four captures of a type, one value per level where published."""
PUBLISHED = {
    suite: [result for table in tables for result in _results(table)] for suite, tables in _DATA["suites"].items()
}
"""Published results of each suite. PSNR in dB, by the protocol of the suite as far as the source states one."""
