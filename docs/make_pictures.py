"""Draws the pictures of the documentation that need no window: `python docs/make_pictures.py [METHOD…]`.

docs/pictures/METHOD_before_after.png: simulated channels as noisy, restored, removed and truth; for linr the picture of
a retina that comes with scikit-image, out of focus.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from scipy.ndimage import gaussian_filter
from skimage import data

from napari_pristine.cli.demo import draw_montage
from napari_pristine.image.image import Image
from napari_pristine.jobs.restore import restore
from napari_pristine.methods import METHODS
from napari_pristine.samples import simulate_timelapse

PICTURES = Path(__file__).parent / "pictures"


def main(methods: Sequence[str]) -> None:
    PICTURES.mkdir(exist_ok=True)
    for method in methods:
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


if __name__ == "__main__":
    main(sys.argv[1:] or list(METHODS))
