"""`python -m benchmarks noise`: the measured noise level relative to the true one, on simulated scenes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_pristine.image.noise import measure_noise

Array = NDArray[np.float64]

TOLERANCE = 1.25
SIDES = (48, 64, 96, 128, 192, 256, 512, 1024)
_HOT_SHARES = (0.0, 0.001, 0.003, 0.01)
_BLURS = (0.0, 0.0, 0.5, 0.7)  # of the recorded image, as by interpolation: this correlates its noise


@dataclass(frozen=True)
class NoiseCase:
    """One simulated image and its measurement.

    Attributes:
        side: Pixels along Y and X.
        scene: Kinds of structure.
        photons: Photons of the brightest pixel; 0 for Gaussian noise.
        hot: Share of hot pixels, with exponentially distributed heights.
        blur: Standard deviation, in pixels, of the blur that correlates the noise.
        contrast: Range of the brightness in noise levels.
        ratio: Measured noise level, relative to the true one.
    """

    side: int
    scene: str
    photons: float
    hot: float
    blur: float
    contrast: float
    ratio: float

    @property
    def right(self) -> bool:
        """True if the level is right within the tolerance."""
        return 1 / TOLERANCE <= self.ratio <= TOLERANCE


def run_noise(count: int, seed: int, picture: Path | None) -> int:
    """Measure `count` simulated images; print the share that is right, and draw all ratios. Returns the exit code."""
    with ProcessPoolExecutor() as pool:
        cases = list(pool.map(partial(_measure, seed), range(count), chunksize=4))
    print(f"| {'images':24} | number | within a factor of {TOLERANCE} of the truth | median of measured / true |")
    print("| --- | --: | --: | --: |")
    rows: list[tuple[str, list[NoiseCase]]] = [("all", cases)]
    rows += [(f"{side} × {side} pixels", [c for c in cases if c.side == side]) for side in SIDES]
    rows += [(f"{hot:.1%} hot pixels", [c for c in cases if c.hot == hot]) for hot in _HOT_SHARES]
    rows += [(f"blurred by {blur:g} pixels", [c for c in cases if c.blur == blur]) for blur in sorted(set(_BLURS))]
    for name, group in rows:
        if group:
            right, median = np.mean([c.right for c in group]), np.median([c.ratio for c in group])
            print(f"| {name:24} | {len(group)} | {right:.1%} | {median:.2f} |")
    if picture:
        _draw(cases).save(picture)
    return 0


def _measure(seed: int, number: int) -> NoiseCase:
    """Simulate an image: a scene of one or two kinds of structure, photons or Gaussian noise, camera, hot pixels."""
    rng = np.random.default_rng([seed, number])
    side, scene, name = int(rng.choice(SIDES, p=(0.14, 0.16, 0.14, 0.14, 0.14, 0.14, 0.08, 0.06))), 0.0, []
    for kind in rng.choice(list(_SCENES), rng.integers(1, 3), replace=False):
        blurred = ndimage.gaussian_filter(_SCENES[kind](rng, side), rng.uniform(0.7, 2.5))
        scene = scene + blurred / max(np.quantile(blurred, 0.998), 1e-6) * rng.uniform(0.2, 1)
        name.append(str(kind))
    scene = np.clip(scene, 0, None) / max(float(np.max(scene)), 1e-6)
    photons, gain, offset = 10 ** rng.uniform(0.5, 2.7), 10 ** rng.uniform(-0.3, 1.3), float(rng.choice([0, 100]))
    expected, blur = 10 ** rng.uniform(-1, 1.3) + photons * scene, float(rng.choice(_BLURS))
    gaussian = rng.random() < 0.25
    if gaussian:
        recorded = expected * gain + rng.normal(0, photons * gain * 10 ** rng.uniform(-2, -0.3), scene.shape)
        photons = 0.0
    else:
        recorded = gain * rng.poisson(expected) + rng.normal(0, float(rng.choice([0, 1.5, 3])), scene.shape)
    truth = ndimage.gaussian_filter(expected * gain, blur) + offset
    noisy = ndimage.gaussian_filter(recorded, blur) + offset
    if rng.random() < 0.6:
        noisy = np.rint(noisy)
    level, share = float(np.sqrt(np.mean((noisy - truth) ** 2))), float(rng.choice(_HOT_SHARES))
    hot = rng.integers(0, side, (2, round(share * side**2)))
    noisy[tuple(hot)] += np.rint(rng.exponential(float(rng.choice([10, 40, 150])) * level, hot.shape[1]))
    found = measure_noise(noisy).sigma
    return NoiseCase(side, "+".join(name), photons, share, blur, float(np.ptp(truth)) / level, found / level)


def _random_field(rng: np.random.Generator, side: int, power: float) -> Array:
    """Random field whose amplitudes fall with the frequency to this power."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij"))
    frequency[0, 0] = 1 / side
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) * frequency**-power).real
    return np.asarray((field - field.mean()) / field.std())


def _filaments(rng: np.random.Generator, side: int) -> Array:
    scene, count, length = np.zeros((side, side)), max(2, int(rng.uniform(0.02, 0.4) * side)), 2 * side
    bends = ndimage.gaussian_filter1d(rng.normal(size=(count, length)), rng.uniform(8, 60), axis=1)
    angles = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(bends * rng.uniform(0.02, 0.25), axis=1)
    for start, angle in zip(rng.uniform(-0.1 * side, 1.1 * side, (count, 2)), angles, strict=True):
        path = np.rint(start + np.cumsum(0.5 * np.stack([np.sin(angle), np.cos(angle)], axis=1), axis=0)).astype(int)
        path = path[((path >= 0) & (path < side)).all(axis=1)]
        np.add.at(scene, tuple(path.T), rng.gamma(2, 0.5))
    return scene


def _spots(rng: np.random.Generator, side: int) -> Array:
    scene, count = np.zeros((side, side)), max(3, int(side**2 * 10 ** rng.uniform(-3.8, -1.8)))
    np.add.at(scene, tuple(rng.integers(0, side, (2, count))), rng.gamma(2, 1, count))
    return scene


def _nuclei(rng: np.random.Generator, side: int) -> Array:
    y, x = np.mgrid[:side, :side]
    scene, texture = np.zeros((side, side)), np.exp(rng.uniform(0, 0.7) * _random_field(rng, side, 1.2))
    for _ in range(max(2, int(side**2 / rng.uniform(600, 6000)))):
        (cy, cx), radius, ratio = rng.uniform(-10, side + 10, 2), rng.uniform(4, 30), rng.uniform(0.5, 2)
        inside = ((y - cy) ** 2 * ratio + (x - cx) ** 2 / ratio) < radius**2
        scene[inside] = np.maximum(scene, rng.gamma(3, 0.33) * texture)[inside]
    return scene


def _membranes(rng: np.random.Generator, side: int) -> Array:
    points = rng.uniform(0, side, (max(4, int(side**2 / rng.uniform(300, 4000))), 2))
    nearest = cKDTree(points).query(np.indices((side, side)).reshape(2, -1).T, k=2)[0]
    walls = np.exp(-(((nearest[:, 1] - nearest[:, 0]) / rng.uniform(0.8, 3)) ** 2)).reshape(side, side)
    return np.asarray(walls * np.exp(0.4 * _random_field(rng, side, 1.5)))


def _texture(rng: np.random.Generator, side: int) -> Array:
    return np.exp(rng.uniform(0.2, 1.2) * _random_field(rng, side, rng.uniform(1.0, 1.8)))


def _leaves(rng: np.random.Generator, side: int) -> Array:
    y, x = np.mgrid[:side, :side]
    scene = np.zeros((side, side))
    for _ in range(min(int(side**2 / rng.uniform(300, 2500)), 400)):
        (cy, cx), radius = rng.uniform(0, side, 2), min(2 / rng.uniform(0.02, 1) ** 0.8, 90)
        scene[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform()
    return scene


_SCENES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "filaments": _filaments, "spots": _spots, "nuclei": _nuclei, "membranes": _membranes, "texture": _texture,
    "leaves": _leaves,
}  # fmt: skip


def _draw(cases: list[NoiseCase]) -> Any:
    """Draw the ratio of each image, on a logarithmic scale, above its side."""
    width, height, left, bottom, reach = 900, 420, 70, 50, np.log(3.0)
    sheet = PIL.Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)

    def row(ratio: float) -> float:
        return 15 + (height - bottom - 15) * (1 - (float(np.clip(np.log(max(ratio, 1e-9)) / reach, -1, 1)) + 1) / 2)

    pen.rectangle([left, row(TOLERANCE), width - 15, row(1 / TOLERANCE)], fill="#e3efe3")
    for ratio in (0.33, 0.5, 1 / TOLERANCE, 1.0, TOLERANCE, 2.0, 3.0):
        pen.line([left, row(ratio), width - 15, row(ratio)], fill="#bbbbbb" if ratio != 1 else "#444444")
        pen.text((left - 8, row(ratio)), f"{ratio:.2g}" if ratio != TOLERANCE else "1.25", "black", font, anchor="rm")
    spread = np.random.default_rng(0)
    column = (width - 15 - left) / len(SIDES)
    for number, side in enumerate(SIDES):
        centre = left + (number + 0.5) * column
        pen.text((centre, height - bottom + 8), f"{side}", "black", font, anchor="ma")
        for case in (c for c in cases if c.side == side):
            x, y = centre + spread.uniform(-0.36, 0.36) * column, row(case.ratio)
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill="#2f6fb0" if case.blur == 0 else "#d98c2b")
    pen.text((left, height - 22), "side in pixels; blue: white noise, orange: correlated noise", "black", font)
    return sheet
