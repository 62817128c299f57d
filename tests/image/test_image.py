"""Images check their axes, spacing and units; images that cannot be restored are refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_pristine.errors import AxesError, ImageError
from napari_pristine.image.image import MIN_SIDE, Image, check_restorable


class Unread:
    """Something lazy: reading its pixels fails."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype, self.ndim = shape, np.dtype(dtype), len(shape)

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("the pixels were read")


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f2", "f4", "f8", ">u2"])
def test_all_usual_types_can_be_restored_without_reading_them(dtype: str) -> None:
    check_restorable(Image(Unread((5, MIN_SIDE, MIN_SIDE), dtype), "TYX"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Unread((64, 64), "c8"), ["complex64", "magnitude"]),
        (Unread((64, 64), "?"), ["bool", "mask"]),
        (Unread((64, 64), "O"), ["object"]),
        (Unread((64, 64), "U3"), ["<U3"]),
        (Unread((0, 64), "u1"), ["empty", "(0, 64)"]),
        (Unread((MIN_SIDE - 1, 64), "u1"), [f"{MIN_SIDE - 1} × 64", f"{MIN_SIDE} × {MIN_SIDE}", "axes 'YX'"]),
        (Unread((64, MIN_SIDE - 1), "u1"), [f"64 × {MIN_SIDE - 1}", "axes 'YX'"]),
    ],
    ids=["complex", "bool", "object", "text", "empty", "flat", "narrow"],
)
def test_images_that_cannot_be_restored_are_refused_with_a_reason(data: Unread, words: list[str]) -> None:
    with pytest.raises(ImageError) as caught:
        check_restorable(Image(data, "YX", name="cells"))
    text = str(caught.value)
    assert text.startswith("'cells'")
    assert "\n" not in text
    assert [word for word in words if word not in text] == []


def test_an_empty_stack_is_refused() -> None:
    with pytest.raises(ImageError, match="empty"):
        check_restorable(Image(Unread((0, 64, 64), "u1"), "TYX"))


def test_the_least_size_is_that_of_y_and_x() -> None:
    check_restorable(Image(Unread((2, MIN_SIDE, MIN_SIDE), "u1"), "ZYX"))
    with pytest.raises(ImageError, match="64 × 2"):  # a stack whose axes were taken for another's
        check_restorable(Image(Unread((64, 64, 2), "u1"), "TYX"))


def test_spacing_that_is_not_known_is_one_pixel() -> None:
    image = Image(np.zeros((2, 4, 5), np.uint8), "TYX")
    assert (image.scale, image.translate, image.units) == ((1.0,) * 3, (0.0,) * 3, ("pixel",) * 3)
    assert (image.shape, image.dtype, image.size("Y"), image.size("Z")) == ((2, 4, 5), np.dtype("u1"), 4, 1)


@pytest.mark.parametrize("values", [{"scale": (1.0,)}, {"units": ("pixel",) * 3}, {"translate": (0.0,) * 4}])
def test_there_is_one_spacing_for_each_axis(values: dict[str, Any]) -> None:
    with pytest.raises(AxesError, match=rf"{next(iter(values))} has \d values? but the image has 2 axes \(YX\)"):
        Image(np.zeros((4, 5)), "YX", **values)


def test_axes_are_checked_when_an_image_is_made() -> None:
    with pytest.raises(AxesError, match="'YX' name 2 dimensions but the image has 3"):
        Image(np.zeros((2, 4, 5)), "YX")
