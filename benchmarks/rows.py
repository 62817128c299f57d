"""A measurement: what decides it, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """All that decides a row; two rows with equal jobs are the same measurement."""

    label: str
    method: str
    settings: Mapping[str, Any]
    image: str
    type: str
    level: int
    crop: int | None
    device: str
    seed: int
    suite: str = "fmd"
    learns: str = ""


@dataclass(frozen=True)
class Row:
    """A finished measurement.

    Attributes:
        job: What was measured.
        psnr: In dB, by the protocol of the suite.
        psnr_affine: After the gain and offset that fit best.
        ssim: In the form of the protocol; `ssim_gaussian` in that of Wang et al. 2004.
        seconds: Wall time of the restoration, without reading the file and importing the software.
        memory: Peak in MiB: resident memory of the whole process, or what torch allocated on a GPU.
        memory_of: `process` or `cuda`.
        device: Where it ran, in words.
        notes: What the method said.
        date: When, in UTC.
        learning: Seconds that the network learned before, from many images.
        images: How many images it learned from.
    """

    job: Job
    psnr: float
    psnr_affine: float
    ssim: float
    ssim_gaussian: float
    seconds: float
    memory: float
    memory_estimate: str
    device: str
    notes: tuple[str, ...] = ()
    date: str = ""
    learning: float = 0.0
    images: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Row:
        """The row that `dataclasses.asdict` made these values of."""
        return cls(**{**values, "job": Job(**values["job"]), "notes": tuple(values["notes"])})
