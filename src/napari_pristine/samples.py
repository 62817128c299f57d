"""Simulated fluorescence microscopy with known truth: nothing to download, the same on every machine.

Cells have textured nuclei in one channel, filaments and vesicles in the other. They drift, rotate and bleach; the
optics blur them, and a camera counts their photons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import SettingError
from napari_pristine.image.image import Image

Array = NDArray[np.float64]

OFFSET = 100.0
"""Grey value of the camera without light."""
GAIN = 2.0
"""Grey values per photon."""
READ = 3.0
"""Standard deviation of the read noise of the camera, in grey values."""
CHANNELS = ("nuclei", "microtubules")

_PIXEL = 0.2  # micrometers
_INTERVAL = 30.0  # seconds between frames
_BLUR = 1.2  # pixels, standard deviation of the optics
_HAZE = (0.15, 10.0)  # fraction of the light that comes from out of focus, and the standard deviation of its blur
_BACKGROUND = 1.0  # photons everywhere
_BLEACHING = 0.03  # fraction of the light that is lost from frame to frame
_CELL_DISTANCE = 55.0  # pixels between neighbouring cells
_NUCLEUS_REACH = 32.0  # pixels from the centre of a nucleus beyond which it ends


@dataclass(frozen=True, eq=False)
class _Cell:
    """One cell; lengths in pixels, angles in radians, speeds per frame.

    Attributes:
        centre: Y and X of the nucleus in the first frame.
        radii: Half axes of the nucleus.
        angle: Angle of the nucleus in the first frame.
        brightness: Brightness of the nucleus, at most 1.
        lobes: Deviation of its outline from an ellipse: amplitude and phase of the second to fifth harmonic, `(2, 4)`.
        texture: Y and X of its chromatin in the common random texture.
        nucleoli: Y, X and radius of the dark spots in the nucleus, in units of its half axes, `(spots, 3)`.
        filaments: Points along each filament, from the centrosome outwards, `(filaments, points, 2)`.
        vesicles: Y, X, brightness, and speed along Y and X of each, relative to the centre, `(vesicles, 5)`.
        velocity: Speed along Y and X.
        spin: Rotation per frame.
    """

    centre: Array
    radii: Array
    angle: float
    brightness: float
    lobes: Array
    texture: Array
    nucleoli: Array
    filaments: Array
    vesicles: Array
    velocity: Array
    spin: float


def simulate_timelapse(
    shape: tuple[int, int] = (256, 256), *, frames: int = 5, seed: int = 0, photons: float = 30.0
) -> tuple[Image, Image]:
    """Simulate a noisy two-channel time-lapse and its ground truth.

    A shorter time-lapse with the same seed is the beginning of a longer one.

    Args:
        shape: Pixels along Y and X, at least 16.
        frames: Number of frames.
        seed: Seed of the scene and of the noise.
        photons: Photons per pixel in the brightest structures of each channel.

    Returns:
        The noisy image (uint16) and the truth (float32) in the same units, both with axes `TCYX`.
    """
    rng = np.random.default_rng(seed)
    cells = _draw_cells(rng, shape)
    texture = _draw_texture(rng)
    light = np.stack([[_nuclei(cells, texture, shape, t), _cytoskeletons(cells, shape, t)] for t in range(frames)])
    light = _through_optics(light)
    light /= np.maximum(np.quantile(light[0], 0.998, axis=(-2, -1)), 1e-9)[:, None, None]
    bleached = (1 - _BLEACHING) ** np.arange(frames)[:, None, None, None]
    expected = _BACKGROUND + max(photons - _BACKGROUND, 0.0) * light * bleached
    scale, units = (_INTERVAL, 1.0, _PIXEL, _PIXEL), ("second", "pixel", "micrometer", "micrometer")
    image = partial(Image, axes="TCYX", scale=scale, units=units, channels=CHANNELS)
    noisy = np.stack([_expose(frame, np.random.default_rng((seed, t))) for t, frame in enumerate(expected)])
    truth = (OFFSET + GAIN * expected).astype(np.float32)
    return image(noisy, name="simulated time-lapse"), image(truth, name="simulated time-lapse, truth")


def simulate_image(
    shape: tuple[int, int] = (256, 256), *, channel: str = "microtubules", seed: int = 0, photons: float = 30.0
) -> tuple[Image, Image]:
    """Simulate one frame of a channel, one of `CHANNELS`; other arguments as of `simulate_timelapse`.

    Returns:
        The noisy image (uint16) and the truth (float32), both with axes `YX`.

    Raises:
        SettingError: There is no such channel.
    """
    if channel not in CHANNELS:
        raise SettingError(f"there is no channel '{channel}'; the channels are {', '.join(CHANNELS)}")
    noisy, truth = simulate_timelapse(shape, frames=1, seed=seed, photons=photons)

    def frame(image: Image) -> Image:
        return Image(
            image.data[0, CHANNELS.index(channel)],
            "YX",
            scale=image.scale[2:],
            units=image.units[2:],
            name=image.name.replace("time-lapse", channel),
        )

    return frame(noisy), frame(truth)


def simulate_blurred(
    shape: tuple[int, int] = (256, 256), *, width: float = 2.0, seed: int = 2, photons: float = 200.0
) -> tuple[Image, Image, Image]:
    """Simulate an image out of focus, the image of a bead that was blurred in the same way, and the truth.

    Args:
        shape: Pixels along Y and X, at least 16.
        width: Standard deviation of the blur, in pixels.
        seed: Seed of the scene and of the noise.
        photons: Photons per pixel in the brightest structures, before the blur.

    Returns:
        The blurred image (uint16), its point spread function (float32, 1 in the middle) and the truth (float32).
    """
    _, truth = simulate_image(shape, channel="nuclei", seed=seed, photons=photons)
    light = ndimage.gaussian_filter((truth.data.astype(np.float64) - OFFSET) / GAIN, width)
    blurred = _expose(light, np.random.default_rng(seed))
    half = math.ceil(4 * width)
    squares = np.arange(-half, half + 1) ** 2
    spot = np.exp(-(squares[:, None] + squares) / (2 * width**2)).astype(np.float32)
    return (
        replace(truth, data=blurred, name="simulated nuclei, blurred"),
        replace(truth, data=spot, name="simulated point spread function"),
        truth,
    )


def _expose(photons: Array, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Record an image with the expected photons of each pixel: shot noise, read noise, 16 bits."""
    values = OFFSET + GAIN * rng.poisson(photons) + rng.normal(0.0, READ, photons.shape)
    return np.clip(np.rint(values), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _through_optics(light: Array) -> Array:
    """Blur light `(..., Y, X)` in focus, and a fraction of it far out of focus."""
    fraction, haze = _HAZE
    blur = partial(ndimage.gaussian_filter, axes=(-2, -1))
    return np.asarray((1 - fraction) * blur(light, _BLUR) + fraction * blur(light, haze))


def _draw_texture(rng: np.random.Generator, side: int = 256) -> Array:
    """Draw the texture of chromatin: random at several scales, positive, periodic, `(side, side)`."""
    white = rng.normal(size=(3, side, side))
    layers = [ndimage.gaussian_filter(w, sigma, mode="wrap") for w, sigma in zip(white, (1.5, 3.5, 8.0), strict=True)]
    return np.asarray(np.exp(sum(0.27 * layer / layer.std() for layer in layers)))


def _draw_cells(rng: np.random.Generator, shape: tuple[int, int]) -> list[_Cell]:
    """Draw cells on a jittered hexagonal lattice that covers the image and a little beyond."""
    rows = np.arange(-0.3, shape[0] / _CELL_DISTANCE + 0.5)
    columns = np.arange(-0.3, shape[1] / _CELL_DISTANCE + 0.5)
    places = [(y, x + 0.5 * (i % 2)) for i, y in enumerate(rows) for x in columns]
    jitter = rng.uniform(-0.22, 0.22, (len(places), 2))
    return [
        _draw_cell(rng, _CELL_DISTANCE * (np.array(place) + shift)) for place, shift in zip(places, jitter, strict=True)
    ]


def _draw_cell(rng: np.random.Generator, centre: Array) -> _Cell:
    radius, ellipticity = rng.uniform(13, 18), rng.uniform(1.0, 1.35)
    return _Cell(
        centre=centre,
        radii=radius * np.array([ellipticity**0.5, ellipticity**-0.5]),
        angle=rng.uniform(0, np.pi),
        brightness=rng.uniform(0.45, 1.0),
        lobes=np.stack([rng.normal(0, 0.03, 4), rng.uniform(0, 2 * np.pi, 4)]),
        texture=rng.uniform(0, 256, 2),
        nucleoli=np.column_stack([rng.uniform(-0.5, 0.5, (3, 2)), rng.uniform(0.14, 0.26, 3)]),
        filaments=_draw_filaments(rng, radius),
        vesicles=_draw_vesicles(rng, radius),
        velocity=rng.normal(0, 0.9, 2),
        spin=rng.normal(0, 0.012),
    )


def _draw_filaments(rng: np.random.Generator, radius: float, count: int = 26, points: int = 260) -> Array:
    """Draw curves that leave the centrosome beside the nucleus and bend at random, a point every quarter of a pixel."""
    start = radius * 1.1 * _direction(rng.uniform(0, 2 * np.pi))
    heading = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.normal(0, 0.3, count)
    bend = ndimage.gaussian_filter1d(rng.normal(0, 1, (count, points)), 25, axis=1)
    angle = heading[:, None] + np.cumsum(0.1 * bend, axis=1)
    curves = start + np.cumsum(0.25 * np.moveaxis(_direction(angle), 0, -1), axis=1)
    lengths = rng.uniform(0.35, 1.0, count) * points
    return np.where(np.arange(points)[:, None] < lengths[:, None, None], curves, np.nan)


def _draw_vesicles(rng: np.random.Generator, radius: float, count: int = 16) -> Array:
    distance = radius * rng.uniform(1.0, 2.3, count)
    place = distance * _direction(rng.uniform(0, 2 * np.pi, count))
    return np.column_stack([*place, rng.gamma(2.0, 1.0, count), rng.normal(0, 1.2, (count, 2))])


def _direction(angle: Any) -> Array:
    return np.stack([np.sin(angle), np.cos(angle)])


def _nuclei(cells: list[_Cell], texture: Array, shape: tuple[int, int], t: int) -> Array:
    """Render the first channel at time `t`, before the optics."""
    light = np.zeros(shape)
    grid = np.moveaxis(np.indices(shape), 0, -1)
    for cell in cells:
        centre = _centre(cell, t)
        low = np.maximum(centre - _NUCLEUS_REACH, 0).astype(int)
        part = tuple(slice(a, max(a, b)) for a, b in zip(low, (centre + _NUCLEUS_REACH).astype(int), strict=True))
        # where two nuclei of a flat culture meet, the brighter one is visible
        light[part] = np.maximum(light[part], _nucleus(cell, texture, grid[part] - centre, t))
    return light


def _nucleus(cell: _Cell, texture: Array, offsets: Array, t: int) -> Array:
    """Render a nucleus at `offsets` from its centre, `(Y, X, 2)`."""
    rotated = offsets @ _rotation(cell.angle + cell.spin * t)
    u = rotated / cell.radii
    polar_angle = np.arctan2(u[..., 0], u[..., 1])
    harmonics = np.arange(2, 6)
    outline = 1 + (cell.lobes[0] * np.cos(harmonics * polar_angle[..., None] + cell.lobes[1])).sum(axis=-1)
    inside = 1 / (1 + np.exp(np.clip((np.hypot(u[..., 0], u[..., 1]) - outline) * 14, -50, 50)))
    spots = [np.exp(-((((u - spot[:2]) ** 2).sum(axis=-1) / spot[2] ** 2) ** 2)) for spot in cell.nucleoli]
    positions = np.moveaxis(rotated + cell.texture, -1, 0)
    chromatin = ndimage.map_coordinates(texture, positions, order=1, mode="grid-wrap")
    return np.asarray(cell.brightness * inside * chromatin * (1 - 0.7 * np.clip(sum(spots), 0, 1)))


def _cytoskeletons(cells: list[_Cell], shape: tuple[int, int], t: int) -> Array:
    """Render the second channel at time `t`, before the optics: filaments and vesicles."""
    light = np.zeros(shape)
    for cell in cells:
        centre, rotation = _centre(cell, t), _rotation(cell.angle + cell.spin * t).T
        wave = 0.7 * np.sin(0.9 * t + np.linspace(0, 6, cell.filaments.shape[1]))[:, None]
        curves = (cell.filaments + wave) @ rotation + centre
        _splat(light, curves.reshape(-1, 2), np.full(curves.shape[:2], 0.25).ravel())
        places = (cell.vesicles[:, :2] + cell.vesicles[:, 3:] * t) @ rotation + centre
        _splat(light, places, 3.0 * cell.vesicles[:, 2])
    return light


def _splat(light: Array, places: Array, brightness: Array) -> None:
    """Add points between pixels to the four pixels around them, by bilinear weights."""
    finite = np.isfinite(places).all(axis=-1)
    places, brightness = places[finite], brightness[finite]
    low = np.floor(places).astype(int)
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corner = low + step
        weighted = np.prod(1 - np.abs(places - corner), axis=-1) * brightness
        visible = ((corner >= 0) & (corner < light.shape)).all(axis=-1)
        np.add.at(light, tuple(corner[visible].T), weighted[visible])


def _centre(cell: _Cell, t: int) -> Array:
    return np.asarray(cell.centre + cell.velocity * t)


def _rotation(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
