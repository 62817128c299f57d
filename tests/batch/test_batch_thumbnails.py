"""The small pictures of a report show what they say, and read no more than they need."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from napari_pristine.batch.thumbnails import draw_pictures, thumbnail
from napari_pristine.errors import ImageError
from napari_pristine.image.image import Image


def opened(png: bytes) -> NDArray[np.int64]:
    return np.asarray(PIL.Image.open(BytesIO(png))).astype(np.int64)


@pytest.mark.parametrize("axes", ["YX", "TYX", "CZYX", "YXS", "XY", "TZCYX"])
def test_thumbnails_show_the_middle_plane(axes: str) -> None:
    sizes = {"Y": 20, "X": 30, "S": 3, "T": 5, "Z": 4, "C": 2}
    data = np.zeros([sizes[axis] for axis in axes], np.uint16)
    ramp = np.add.outer(np.arange(20), 3 * np.arange(30)).astype(np.uint16)
    place: dict[str, Any] = {"T": 2, "Z": 2, "C": 0}
    part = data[tuple(place.get(axis, slice(None)) for axis in axes)]
    part[...] = ramp.T if axes == "XY" else ramp[..., None] if "S" in axes else ramp
    before, after, removed = (opened(png) for png in draw_pictures(Image(data, axes), Image(data, axes), 1.0))
    assert before.shape[:2] == (20, 30)
    assert (before == after).all()
    assert (before[0, 0] == 0).all()
    assert (before[-1, -1] == 255).all()
    assert np.ptp(removed) == 0
    assert abs(removed.mean() - 127.5) < 3


def test_white_is_three_noise_levels_removed() -> None:
    before = np.full((30, 30), 100, np.uint16)
    after = before.copy()
    after[:10], after[20:] = 100 - 3 * 7, 100 + 3 * 7  # below zero in unsigned integers
    removed = opened(draw_pictures(Image(before, "YX"), Image(after, "YX"), 7.0)[2])
    assert (removed[:10] == 255).all()
    assert (removed[20:] == 0).all()


class Watched:
    """Values that cannot all be in memory, and a count of those that were asked for."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype, self.ndim, self.count = shape, np.dtype(np.uint16), len(shape), 0

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.uint16]:
        sizes = [len(range(*part.indices(n))) for part, n in zip(index, self.shape, strict=True)]
        self.count += int(np.prod(sizes))
        return np.full(sizes, 7, np.uint16)


@pytest.mark.parametrize("finer", [1, 2])
def test_of_large_data_little_is_read(finer: int) -> None:
    source, result = Watched((1000, 50_000, 40_001)), Watched((1000, 50_000 * finer, 40_001 * finer))
    pictures = draw_pictures(Image(source, "TYX"), Image(result, "TYX"), 1.0)
    assert source.count < 2e6
    assert result.count < 2e6 * finer**2
    assert all(max(opened(png).shape) <= 160 for png in pictures)
    assert np.ptp(opened(pictures[2])) == 0


@pytest.mark.parametrize(("depth", "size"), [(2, 40), (1, 2600)])
def test_what_is_removed_by_a_finer_result_is_told_on_the_coarser_grid(depth: int, size: int) -> None:
    fine = np.random.default_rng(0).integers(0, 256, (2 * depth, 2 * size, 2 * size), np.uint8)
    coarse = fine.reshape(depth, 2, size, 2, size, 2).mean((1, 3, 5))
    _, after, removed = (opened(png) for png in draw_pictures(Image(coarse, "ZYX"), Image(fine, "ZYX"), 1.0))
    assert np.ptp(removed) <= 5  # rounding about the middle
    assert after.shape == ((80, 80) if size == 40 else (153, 153))


@pytest.mark.parametrize("values", [np.zeros((40, 50)), np.full((40, 50), np.nan), np.full((40, 50), np.inf)])
def test_nothing_to_see_is_no_error(values: NDArray[np.float64]) -> None:
    image = Image(values, "YX")
    before, after, removed = draw_pictures(image, image, 0.0)
    assert [opened(png).shape for png in (before, after)] == [(40, 50)] * 2
    assert removed == b""  # it has no scale
    assert opened(thumbnail(image)).shape == (40, 50)


def test_missing_and_extreme_values_do_not_hide_the_others() -> None:
    ramp = np.add.outer(np.arange(400.0), np.arange(400.0))
    ramp[::3, ::5], ramp[0, 1], ramp[2, 2] = np.nan, 1.7e308, -1.7e308
    after = np.nan_to_num(ramp, nan=0.0)
    before = opened(draw_pictures(Image(ramp, "YX"), Image(after, "YX"), 1.0)[0])
    assert (np.diff(before[5]) >= -8).all()
    assert before[5, 5] < before[100, 100] < before[-1, -1]


def test_a_few_bright_spots_are_seen() -> None:
    data = np.zeros((100, 100), np.uint16)
    data[50, 50] = 900
    assert opened(thumbnail(Image(data, "YX")))[50, 50] == 255


def test_a_result_of_another_image_is_refused() -> None:
    one, other = Image(np.zeros((40, 50)), "YX"), Image(np.zeros((40, 75)), "YX")
    with pytest.raises(ImageError, match="along X the result has 75"):
        draw_pictures(one, other, 1.0)
