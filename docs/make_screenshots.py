"""Take the pictures of the panels: `xvfb-run -a -s "-screen 0 1600x1200x24" python -m docs.make_screenshots`.

Plays the session of tests/gui/session.py, writes pictures of the window after some of its steps to docs/pictures, and
all of them with a caption as docs/pictures/restore.gif.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import napari
import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageColor, ImageDraw, ImageFont
from qtpy.QtCore import QPoint, QRect
from qtpy.QtWidgets import QApplication, QDialog, QWidget
from tests.gui.session import Session, wait

PICTURES = Path(__file__).absolute().parent / "pictures"
STILLS = {
    "noise": "restore_noise.png",
    "preview": "restore_preview.png",
    "restored": "restore_done.png",
    "strength": "restore_strength.png",
    "side by side": "compare_panel.png",
    "batch done": "batch_panel.png",
    "result": "batch_result.png",
}
"""Files by the step after which the picture is taken."""
CAPTIONS = {
    "sample": ("A time-lapse with strong noise", 2.0),
    "noise": ("The Restore panel measures the noise, and how long each effort takes", 3.5),
    "effort": ("Choose the effort", 0.8),
    "preview": ("Preview: what you see, restored", 2.5),
    "restoring": ("Restore: all frames, both channels", 0.5),
    "restored": ("Only noise was removed: judged by the noisy image alone", 3.5),
    "noisy": ("Hold N: the noisy image", 1.5),
    "restored again": ("Release it: the result", 1.5),
    "compare": ("Compare: the same in figures", 2.5),
    "side by side": ("Truth, noisy, restored, and what was removed: nothing but noise", 4.0),
    "strength": ("Strength: mix in as much of the noise as you like", 1.5),
    "saved": ("Save the result, and the recipe that repeats it", 2.0),
    "batch": ("Do this to a folder…", 2.0),
    "batch done": ("All files restored in the same way", 2.5),
    "result": ("Double-click: a result", 2.5),
}
"""Caption of each step in the animation, and seconds for which its last picture is shown."""
PRESSED, PASSING = 1.0, 0.4
"""Seconds for which a picture is shown in which a button is about to be pressed, and others within a step."""
LEFT, TOP, BOTTOM = 332, 22, 778
"""The part of the window in the animation: the canvas and the panel."""
STRIP = 48
"""Height of the caption in pixels."""
MARK = "#E69F00"
COLOURS = 112


@dataclass
class Shot:
    """A picture of the window.

    Attributes:
        step: Name of the step.
        picture: The window.
        pressed: Outline of the widget that is about to be pressed, if there is one.
    """

    step: str
    picture: Image.Image
    pressed: QRect | None


def play() -> list[Shot]:
    """Play the session, and take pictures."""
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1280, 800)
    shots: list[Shot] = []

    def see(step: str, widget: QWidget | None) -> None:
        if step == "batch":  # the notification, which users see for some seconds
            close_notifications()
        wait(1 if step == "saved" else 0.2)  # until the notification is in its place
        picture = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
        pressed = QRect(widget.mapTo(widget.window(), QPoint(0, 0)), widget.size()) if widget is not None else None
        shots.append(Shot(step, picture, pressed))

    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):  # so that the pictures show short paths
        Session(viewer, Path(), see).play()
        viewer.close()
    return shots


def close_notifications() -> None:
    """Close all notifications; they would stay, as without a window manager no window is active."""
    for window in QApplication.topLevelWidgets():
        for notification in window.findChildren(QDialog):
            notification.close()


def save_stills(shots: list[Shot]) -> None:
    """Save the last picture of some steps; noise takes much space in all its colours."""
    last = {shot.step: shot.picture for shot in shots if shot.pressed is None}
    for step, name in STILLS.items():
        last[step].quantize(128, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)


def save_animation(shots: list[Shot]) -> None:
    """Save the part of the window with canvas and panel, with captions."""
    shots = [shot for shot in shots if shot.step in CAPTIONS]
    frames = [add_caption(shot) for shot in shots]
    seconds = [
        CAPTIONS[shot.step][1] if following.step != shot.step else PASSING if shot.pressed is None else PRESSED
        for shot, following in zip(shots, [*shots[1:], shots[0]], strict=True)
    ]
    palette = make_palette(frames)  # one for all, so that what does not change takes no space
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first.save(
        PICTURES / "restore.gif",
        save_all=True,
        append_images=others,
        duration=[1000 * time for time in seconds],
        loop=0,
    )
    print(f"{len(frames)} frames, {sum(seconds):.0f} s, {(PICTURES / 'restore.gif').stat().st_size / 1e6:.2f} MB")


def make_palette(frames: list[Image.Image]) -> Image.Image:
    """A palette in which rare colours, such as those of marks and curves, count more than by their number of pixels."""
    counts = Counter[Any]()
    for frame in frames:
        counts.update({colour: count for count, colour in frame.getcolors(frame.width * frame.height)})
    weighted = [colour for colour, count in counts.items() for _ in range(math.ceil(count**0.4))]
    weighted += [ImageColor.getrgb(MARK)] * (len(weighted) // COLOURS)
    return Image.fromarray(np.array([weighted], np.uint8)).quantize(COLOURS, dither=Image.Dither.NONE)


def add_caption(shot: Shot) -> Image.Image:
    """The canvas and the panel, with the caption above them, and a frame around what is about to be pressed."""
    window = shot.picture.copy()
    if shot.pressed is not None:
        left, top, right, bottom = shot.pressed.getCoords()
        ImageDraw.Draw(window).rounded_rectangle((left - 4, top - 4, right + 4, bottom + 4), 6, outline=MARK, width=3)
    part = window.crop((LEFT, TOP, window.width, BOTTOM))
    frame = Image.new("RGB", (part.width, part.height + STRIP), "#262930")
    frame.paste(part, (0, STRIP))
    font = ImageFont.truetype(findfont("DejaVu Sans"), 22)
    ImageDraw.Draw(frame).text((16, STRIP / 2), CAPTIONS[shot.step][0], "white", font, anchor="lm")
    return frame


if __name__ == "__main__":
    taken = play()
    save_stills(taken)
    save_animation(taken)
