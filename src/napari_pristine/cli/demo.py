"""`pristine demo`: restore a simulated time-lapse with known truth, and show how much better it became."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

from napari_pristine.errors import FileError
from napari_pristine.events import Event
from napari_pristine.image.image import Image
from napari_pristine.image.quality import compare
from napari_pristine.io.atomic import atomic_write
from napari_pristine.io.registry import write
from napari_pristine.jobs.restore import restore
from napari_pristine.samples import simulate_timelapse
from napari_pristine.text import duration

_ZOOM = 2
_GAP, _TITLE_HEIGHT = 8, 30  # pixels between images, and for the text above them
_BACKGROUND, _TEXT = 255, 20  # grey values


def run_demo(
    folder: Path,
    on_event: Callable[[Event], None],
    *,
    side: int = 256,
    frames: int = 3,
    settings: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write the noisy and the restored time-lapse, and a montage of both, to a folder.

    Args:
        folder: Created if it does not exist; files of an earlier demo are replaced.
        on_event: Called with each event of the job.
        side: Pixels along Y and X.
        frames: Number of frames.
        settings: Settings of the method that differ from its default preset.

    Returns:
        Lines of text: quality before and after, time taken, files written.

    Raises:
        FileError: The folder cannot be created or written to.
    """
    noisy, truth = simulate_timelapse((side, side), frames=frames)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder '{folder}': {error.strerror}; choose another with -o") from error
    write(folder / "noisy.ome.tif", noisy, overwrite=True)
    result = restore(noisy, settings=settings, on_event=on_event)
    write(folder / "restored.ome.tif", result.image, provenance=result.provenance(), overwrite=True)
    montage = draw_montage(noisy, result.image, truth)
    with atomic_write(folder / "before_after_residual.png", overwrite=True) as part:
        PIL.Image.fromarray(montage).save(part, "png")
    names = ("noisy.ome.tif", "restored.ome.tif", "before_after_residual.png")
    return [
        *_figures(noisy, result.image, truth),
        f"restored {frames} × {noisy.size('C')} images of {side} × {side} pixels in {duration(result.seconds)} "
        f"on {result.device}",
        *(f"wrote {folder / name}" for name in names),
    ]


def _figures(noisy: Image, restored: Image, truth: Image) -> list[str]:
    """Table of PSNR and SSIM of each channel before and after; their data range is that of the truth."""
    lines = [f"{'channel':16}{'PSNR before':>13}{'after':>10}{'SSIM before':>15}{'after':>8}"]
    for index, name in enumerate(noisy.channels):
        reference = truth.data[:, index]
        data_range = float(np.ptp(reference))
        before, after = (compare(image.data[:, index], reference, data_range) for image in (noisy, restored))
        lines.append(
            f"{name:16}{before.psnr:10.2f} dB{after.psnr:7.2f} dB{before.ssim_gaussian:15.3f}{after.ssim_gaussian:8.3f}"
        )
    return lines


def draw_montage(noisy: Image, restored: Image, truth: Image) -> NDArray[np.uint8]:
    """Draw the last frame of each channel: noisy, restored, removed (noisy minus restored) and truth.

    All have the same contrast; zero of what was removed is mid-grey.

    Returns:
        Grey values `(Y, X)`.
    """
    rows = []
    for channel, name in enumerate(noisy.channels):
        before, after, real = (image.data[-1, channel].astype(float) for image in (noisy, restored, truth))
        low, high = float(real.min()), float(np.quantile(real, 0.998))
        removed = before - after + (low + high) / 2
        titles = (f"{name}: noisy", "restored", "removed", "truth")
        panels = [_grey(values, low, high) for values in (before, after, removed, real)]
        rows.append(np.hstack([_titled(panel, title) for panel, title in zip(panels, titles, strict=True)]))
    return np.pad(np.vstack(rows), ((0, _GAP), (_GAP, 0)), constant_values=_BACKGROUND)


def _grey(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Convert values to grey values between `low` and `high`, enlarged."""
    grey = np.clip((values - low) / (high - low), 0, 1) ** 0.8 * 255
    return np.rint(grey).astype(np.uint8).repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)


def _titled(panel: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    """Add a title above an image, and a gap to its right."""
    sheet = np.pad(panel, ((_TITLE_HEIGHT, 0), (0, _GAP)), constant_values=_BACKGROUND)
    canvas = PIL.Image.fromarray(sheet)
    ImageDraw.Draw(canvas).text((0, 6), title, fill=_TEXT, font=ImageFont.load_default(size=16))
    return np.asarray(canvas)
