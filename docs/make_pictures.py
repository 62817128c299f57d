"""Draws the pictures of the documentation that need no window: `python docs/make_pictures.py`.

docs/pictures/inr_before_after.png: simulated channels as noisy, restored, removed and truth.
"""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from napari_pristine.demo import draw_montage
from napari_pristine.restoration import restore
from napari_pristine.samples import simulate_timelapse

PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    noisy, truth = simulate_timelapse((192, 192), frames=1)
    montage = draw_montage(noisy, restore(noisy, "inr").image, truth)
    PIL.Image.fromarray(montage).save(PICTURES / "inr_before_after.png", optimize=True)


if __name__ == "__main__":
    main()
