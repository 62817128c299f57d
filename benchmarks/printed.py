"""How a published table is written down here: as it is printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

LEVELS = (1, 2, 4, 8, 16)
"""How many frames of FMD were averaged."""


class PSF(NamedTuple):
    """What a figure is of: one image, or the mean of a type (no image), of all types (neither), of all levels (0)."""

    level: int = 1
    type: str = ""
    image: str = ""


class Figure(NamedTuple):
    """PSNR in dB, and SSIM where it is known."""

    psnr: float
    ssim: float | None = None

    def __str__(self) -> str:
        return f"{self.psnr:.2f}" if self.ssim is None else f"{self.psnr:.2f} / {self.ssim:.3f}"


@dataclass(frozen=True)
class Published:
    """One method in one table. `label` is the method or baseline of ours that it is the counterpart of, if any."""

    name: str
    source: str
    figures: Mapping[PSF, Figure]
    label: str = ""

    def at(self, spot: PSF) -> str:
        """The figure in words; empty where nothing is known."""
        return str(self.figures[spot]) if spot in self.figures else ""


def figure(text: str) -> Figure:
    psnr, _, ssim = text.partition("/")
    return Figure(float(psnr), float(ssim) if ssim else None)


def _spots(text: str, spots: Iterable[PSF]) -> dict[PSF, Figure]:
    return {spot: figure(word) for spot, word in zip(spots, text.split(), strict=False) if word != "-"}


def by_level(name: str, source: str, text: str, label: str = "") -> Published:
    """A line of figures, one for each level of FMD."""
    return Published(name, source, _spots(text, (PSF(level) for level in LEVELS)), label)


def by_type(name: str, source: str, types: Iterable[str], text: str, label: str = "") -> Published:
    """A line of figures, one for each type."""
    return Published(name, source, _spots(text, (PSF(1, of_type) for of_type in types)), label)


def by_image(source: str, type: str, columns: Mapping[str, str], text: str) -> tuple[Published, ...]:  # noqa: A002
    """A table of images × methods; `columns` are their names and our labels; the row `mean` is that of all images."""
    rows = [line.split() for line in text.strip().splitlines()]
    spots = [PSF(1, type, "" if row[0] == "mean" else row[0]) for row in rows]
    return tuple(
        Published(name, source, {spot: figure(row[i]) for spot, row in zip(spots, rows, strict=True)}, label)
        for i, (name, label) in enumerate(columns.items(), start=1)
    )
