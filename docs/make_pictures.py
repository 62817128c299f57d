"""Draws the pictures of the documentation that need no window: `python docs/make_pictures.py [METHOD… | trust]`.

docs/pictures/METHOD_before_after.png: simulated channels as noisy, restored, removed and truth; for linr the picture of
a retina that comes with scikit-image, out of focus. docs/pictures/trust.png: a good result, and faults planted into it.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from skimage import data

from napari_pristine.cli.demo import draw_montage
from napari_pristine.image.image import Image
from napari_pristine.image.verdict import judge_channel
from napari_pristine.jobs.restore import restore
from napari_pristine.methods import METHODS
from napari_pristine.samples import simulate_timelapse

PICTURES = Path(__file__).parent / "pictures"
TRUST = "trust"


def main(methods: Sequence[str]) -> None:
    PICTURES.mkdir(exist_ok=True)
    for method in methods:
        if method == TRUST:
            trust().save(PICTURES / "trust.png", optimize=True)
            continue
        before, after, truth = sharpened_retina() if method == "linr" else simulated(method)
        montage = draw_montage(before, after, truth)
        PIL.Image.fromarray(montage).save(PICTURES / f"{method}_before_after.png", optimize=True)


def simulated(method: str) -> tuple[Image, Image, Image]:
    """A simulated frame of two channels as noisy, restored and true."""
    noisy, truth = simulate_timelapse((192, 192), frames=1)
    return noisy, restore(noisy, method).image, truth


def sharpened_retina() -> tuple[Image, Image, Image]:
    """A real retina, green light alone: blurred and with the noise of photons, restored, and as it was recorded."""
    truth = data.retina()[560:816, 760:1016, 1].astype(np.float32)
    noisy = np.random.default_rng(0).poisson(gaussian_filter(truth, 2) * 4) / 4
    sharp = restore(noisy.astype(np.float32), "linr", settings={"blur": "gaussian", "blur_width": 2}).data
    before, after, real = (
        Image(picture[None, None], "TCYX", channels=("retina",)) for picture in (noisy, sharp, truth)
    )
    return before, after, real


def trust() -> PIL.Image.Image:
    """A good result of simulated filaments and faults planted into it: the result, what was removed, the verdict."""
    noisy = simulate_timelapse((192, 192), frames=1, photons=20)[0].data[0, 1].astype(np.float32)
    good = restore(noisy, "auto", preset="fast").data
    rows, columns = np.indices(good.shape)
    fine = gaussian_filter(good, 1) - gaussian_filter(good, 4)
    inner = fine[16:-16, 16:-16]
    y, x = (int(n) + 16 for n in np.unravel_index(inner.argmax(), inner.shape))
    hole = np.exp(-((np.hypot(rows - y, columns - x) / 5) ** 4))
    texture = gaussian_filter(np.random.default_rng(3).normal(size=good.shape), 1.5)
    level = float(np.std(noisy - good))
    disc = np.exp(-((np.hypot(rows - 60, columns - 130) / 30) ** 6))
    cases = {
        "a good result": good,
        "smoothed too much": gaussian_filter(good, 2.5),
        "a spot erased": good - hole * (good - np.median(good[max(y - 9, 0) : y + 9, max(x - 9, 0) : x + 9])),
        "texture invented": good + 1.2 * level * disc * texture / texture.std(),
        "noise left": good + 0.4 * (noisy - good),
        "4 % brighter": 100 + 1.04 * (good - 100),
    }
    side, gap, text = 2 * 192, 8, 84
    low, high = np.quantile(good, [0.01, 0.998])
    sheet = PIL.Image.new("L", (gap + 3 * (side + gap), len(cases) * (side + text)), 255)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=17)
    for number, (name, result) in enumerate(cases.items()):
        top = number * (side + text)
        removed = (noisy - result) / (6 * level) + 0.5
        panels = [(values - low) / (high - low) for values in (noisy, result)] + [removed]
        titles = ("noisy", f"result: {name}", "removed")
        for column, (panel, title) in enumerate(zip(panels, titles, strict=True)):
            grey = np.rint(np.clip(panel, 0, 1) * 255).astype(np.uint8).repeat(2, 0).repeat(2, 1)
            left = gap + column * (side + gap)
            sheet.paste(PIL.Image.fromarray(grey), (left, top + 28))
            pen.text((left, top + 4), title, 20, font)
        verdict = judge_channel(noisy, result.astype(np.float32)).sentence
        pen.text((gap, top + 32 + side), "\n".join(textwrap.wrap(f"Verdict: {verdict}", 130)), 20, font)
    return sheet


if __name__ == "__main__":
    main(sys.argv[1:] or [*METHODS, TRUST])
