"""Simulated scenes of fluorescence microscopy, as the optics show them and before any noise.

Each scene is a mixture of up to three kinds of structure, blurred, with haze and uneven illumination. No image of
anybody is involved: a scene is a function of its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

SIDE = 384
"""Height and width of a scene, in pixels."""


def make_scene(number: int) -> NDArray[np.float16]:
    """Make the scene with this number, `(SIDE, SIDE)`: 0 is dark, 1 the brightness that a thousandth exceeds."""
    rng = np.random.default_rng(number)
    scene = np.zeros((SIDE, SIDE))
    for _ in range(rng.integers(1, 4)):
        structure = list(KINDS)[rng.choice(len(KINDS), p=list(KINDS.values()))](rng)
        structure = ndimage.gaussian_filter(structure, 10 ** rng.uniform(-0.6, 0.45))
        if rng.random() < 0.15:  # an object that leaves the focus
            out_of_focus = ndimage.gaussian_filter(structure, rng.uniform(2, 6))
            focus = 0.5 + 0.5 * np.tanh(2 * _random_field(rng, 2.5))
            structure = focus * structure + (1 - focus) * out_of_focus
        scene += structure / max(np.quantile(structure, 0.998), 1e-6) * rng.uniform(0.2, 1)
    if rng.random() < 0.6:
        haze = ndimage.gaussian_filter(scene, rng.uniform(4, 20))
        scene = 0.7 * scene + 0.3 * rng.uniform(0.3, 2) * haze
    if rng.random() < 0.3:
        illumination = ndimage.gaussian_filter(rng.normal(size=scene.shape), 40, mode="wrap")
        scene *= np.exp(rng.uniform(0.2, 0.8) * illumination / illumination.std())
    return np.asarray((np.clip(scene, 0, None) / max(np.quantile(scene, 0.999), 1e-6)).astype(np.float16))


def make_scenes(numbers: range, processes: int = 0) -> Iterator[NDArray[np.float16]]:
    """Make scenes in order, in processes of their own if there are any."""
    if not processes:
        yield from map(make_scene, numbers)
        return
    # new interpreters: forks of a process that computes in threads may wait forever
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        remaining = iter(numbers)
        ahead = [pool.submit(make_scene, number) for number in islice(remaining, 4 * processes)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(make_scene, number) for number in islice(remaining, 1)]


def filaments(rng: Generator) -> Array:
    """Long threads: microtubules, stress fibres, neurites."""
    count, points = int(rng.integers(5, 150)), int(rng.integers(200, 1600))
    starts = rng.uniform(-20, SIDE + 20, (count, 2))
    if rng.random() < 0.4:
        starts = _around_centres(rng, count, max(1, count // 25), 0.0)
    headings = rng.uniform(0, 2 * np.pi, count)
    if rng.random() < 0.35:
        headings = rng.normal(rng.uniform(0, 6), 0.15, count)
    return _threads(rng, starts, headings, points, rng.uniform(8, 60), rng.uniform(0.02, 0.25))


def mitochondria(rng: Generator) -> Array:
    """Short, bent threads that crowd around nuclei."""
    count = int(rng.integers(50, 1200))
    starts = _around_centres(rng, count, int(rng.integers(1, 12)), rng.uniform(15, 60))
    headings = rng.uniform(0, 2 * np.pi, count)
    threads = _threads(rng, starts, headings, int(rng.integers(10, 80)), rng.uniform(4, 20), rng.uniform(0.05, 0.4))
    return np.asarray(ndimage.gaussian_filter(threads, rng.uniform(0.3, 1.6)))


def puncta(rng: Generator) -> Array:
    """Spots: single molecules, vesicles, transcripts."""
    count = int(10 ** rng.uniform(1, 3.6))
    places = rng.uniform(0, SIDE, (count, 2))
    if rng.random() < 0.5:
        places = _around_centres(rng, count, int(rng.integers(3, 30)), rng.uniform(5, 40))
    image = np.zeros((SIDE, SIDE))
    _add_points(image, places, rng.gamma(rng.uniform(0.5, 4), 1, count))
    return np.asarray(ndimage.gaussian_filter(image, rng.uniform(0, 1.5)))


def nuclei(rng: Generator) -> Array:
    """Round bodies with a texture, sharp or soft at the edge, some of them hollow."""
    image = np.zeros((SIDE, SIDE))
    texture = np.exp(rng.uniform(0, 0.7) * _random_field(rng, rng.uniform(0.5, 1.6)))
    overlap, hollow = rng.random() < 0.4, rng.random()
    smallest, largest = sorted(rng.uniform(3, 45, 2))
    for _ in range(int(min(rng.integers(3, 120), 6e4 / largest**2 + 3))):
        radius = rng.uniform(smallest, largest)
        window, along, across = _window(rng, 2 * radius)
        if window is None:
            continue
        squeeze = rng.uniform(0.5, 1) ** 0.5
        angle = np.arctan2(along, across)
        edge = radius * (1 + sum(rng.normal(0, 0.06) * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 6)))
        distance = np.hypot(along / squeeze, across * squeeze)
        body = _below(distance, edge, rng.uniform(0.4, 2))
        if rng.random() < 0.2 or hollow < 0.1:
            body = 1.5 * body * (1 - _below(distance, 0.8 * edge, 1.0))
        body = rng.gamma(3, 0.33) * body * texture[window]
        image[window] = image[window] + body if overlap else np.maximum(image[window], body)
    return image


def membranes(rng: Generator) -> Array:
    """Thin sheets cut by the plane of focus: level lines of a random field."""
    field = _random_field(rng, rng.uniform(1.2, 2.5), rng.uniform(0.003, 0.03))
    width = rng.uniform(0.02, 0.15)
    lines = sum(np.exp(-(((field - level) / width) ** 2)) for level in rng.normal(0, 0.8, rng.integers(1, 4)))
    return np.asarray(lines * np.exp(0.4 * _random_field(rng, 1.5)))


def tissue(rng: Generator) -> Array:
    """Cells side by side: bright borders, or bodies of different brightness."""
    centres = rng.uniform(0, SIDE, (int(rng.integers(20, 400)), 2))
    grid = np.moveaxis(np.mgrid[:SIDE, :SIDE], 0, -1).reshape(-1, 2)
    distances, cells = cKDTree(centres).query(grid + rng.uniform(0, 3) * _bend(rng), k=2)
    border = np.exp(-(((distances[:, 1] - distances[:, 0]) / rng.uniform(0.8, 3)) ** 2))
    brightness = rng.gamma(2, 0.5, len(centres))[cells[:, 0]]
    share = rng.choice([0.0, 1.0, rng.random()])
    image = (share * border + (1 - share) * brightness * (1 - border)).reshape(SIDE, SIDE)
    return np.asarray(image * np.exp(0.4 * _random_field(rng, 1.5)))


def texture(rng: Generator) -> Array:
    """Random textures: cytoplasm, background, neuropil."""
    field = _random_field(rng, rng.uniform(0.3, 1.8), rng.uniform(0, 0.05))
    kind = rng.integers(3)
    return np.exp(rng.uniform(0.2, 1.2) * field) if kind == 0 else np.maximum(field, 0) if kind == 1 else np.abs(field)


def dead_leaves(rng: Generator) -> Array:
    """Discs, boxes and bars that cover each other: the statistics of edges in any picture."""
    image, grain = np.zeros((SIDE, SIDE)), _random_field(rng, rng.uniform(0.6, 1.4))
    for _ in range(rng.integers(60, 500)):
        radius = min(2 / rng.uniform(0.02, 1) ** 0.8, 90.0)
        window, along, across = _window(rng, 1.5 * radius)
        if window is None:
            continue
        if rng.random() < 1 / 3:
            inside = np.hypot(along, across) < radius
        else:
            inside = (np.abs(along) < radius) & (np.abs(across) < radius * rng.uniform(0.05, 1))
        leaf = rng.uniform() * (1 + rng.uniform(0, 0.25) * grain[window])
        image[window] = np.where(inside, leaf, image[window])
    return np.maximum(image, 0)


KINDS: dict[Callable[[Generator], Array], float] = {
    filaments: 0.18,
    mitochondria: 0.12,
    puncta: 0.13,
    nuclei: 0.19,
    membranes: 0.08,
    tissue: 0.06,
    texture: 0.11,
    dead_leaves: 0.13,
}
"""How often each kind of structure occurs."""


def _add_points(image: Array, places: Array, brightness: Array) -> None:
    """Add points to an image, each shared among the four pixels around it."""
    low = np.floor(places).astype(int)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        pixels = low + corner
        light = np.prod(1 - np.abs(places - pixels), axis=-1) * brightness
        inside = ((pixels >= 0) & (pixels < SIDE)).all(-1)
        index = pixels[inside] @ (SIDE, 1)
        image += np.bincount(index, light[inside], SIDE**2).reshape(SIDE, SIDE)


def _threads(rng: Generator, starts: Array, headings: Array, points: int, straight: float, bend: float) -> Array:
    """Draw curves of so many half pixels, whose direction changes by about `bend` radians within `straight` points."""
    count = len(starts)
    turns = ndimage.gaussian_filter1d(rng.normal(0, 1, (count, points)), straight, axis=1) * bend
    angles = headings[:, None] + np.cumsum(turns, axis=1)
    curves = starts[:, None] + np.cumsum(0.5 * np.stack([np.sin(angles), np.cos(angles)], -1), axis=1)
    brightness = np.repeat(rng.gamma(2, 0.5, (count, 1)), points, axis=1)
    if rng.random() < 0.3:
        brightness = brightness * (1 + 0.8 * np.sin(np.arange(points) / rng.uniform(2, 15)))
    image = np.zeros((SIDE, SIDE))
    _add_points(image, curves.reshape(-1, 2), brightness.ravel())
    return image


def _around_centres(rng: Generator, count: int, centres: int, distance: float) -> Array:
    """Places `(count, 2)` around random centres."""
    chosen = rng.uniform(0, SIDE, (centres, 2))[rng.integers(centres, size=count)]
    return np.asarray(chosen + rng.normal(0, 1, (count, 2)) * distance)


def _random_field(rng: Generator, decay: float, lowest: float = 0.0) -> Array:
    """Gaussian field of unit variance, whose amplitude falls with this power of the frequency, flat below `lowest`."""
    axis = np.fft.fftfreq(SIDE)
    frequency = np.hypot(axis[:, None], axis)
    frequency[0, 0] = 1 / SIDE
    spectrum = np.fft.fft2(rng.normal(size=(SIDE, SIDE))) * np.maximum(frequency, lowest) ** -decay
    field = np.fft.ifft2(spectrum).real
    return np.asarray((field - field.mean()) / field.std())


def _bend(rng: Generator) -> Array:
    """Smooth random displacements of the pixels, `(pixels, 2)`."""
    return np.stack([_random_field(rng, 2.5).ravel() for _ in range(2)], -1)


def _window(rng: Generator, reach: float) -> tuple[Any, Array, Array]:
    """A random place: its window, and the coordinates along and across a random direction; None outside the scene."""
    centre = rng.uniform(-10, SIDE + 10, 2)
    low = np.maximum(centre - reach, 0).astype(int)
    high = np.minimum(centre + reach + 1, SIDE).astype(int)
    if (high <= low).any():
        return None, centre, centre
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[low[0] : high[0], low[1] : high[1]] - centre[:, None, None]
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    return (slice(low[0], high[0]), slice(low[1], high[1])), along, across


def _below(distance: Array, edge: Array | float, softness: float) -> Array:
    """1 inside of an edge, 0 outside, with a soft step."""
    return np.asarray(1 / (1 + np.exp(np.clip((distance - edge) / softness, -30, 30))))
