"""Draws the pictures of the documentation that need no window: `python docs/make_pictures.py [METHOD…]`.

docs/pictures/METHOD_before_after.png: simulated channels as noisy, restored, removed and truth.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import PIL.Image

from napari_pristine.demo import draw_montage
from napari_pristine.methods import METHODS
from napari_pristine.restoration import restore
from napari_pristine.samples import simulate_timelapse

PICTURES = Path(__file__).parent / "pictures"


def main(methods: Sequence[str]) -> None:
    PICTURES.mkdir(exist_ok=True)
    noisy, truth = simulate_timelapse((192, 192), frames=1)
    for method in methods:
        montage = draw_montage(noisy, restore(noisy, method).image, truth)
        PIL.Image.fromarray(montage).save(PICTURES / f"{method}_before_after.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(METHODS))
