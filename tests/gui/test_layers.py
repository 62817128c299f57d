from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import Dims
from napari.layers import Image as ImageLayer

from napari_pristine.errors import AxesError
from napari_pristine.gui.layers import _widen, image_from_layer, layer_arguments, layer_axes, visible_ranges

pytestmark = pytest.mark.gui

SAME = ("units", "axis_labels", "blending", "opacity", "gamma", "colormap", "contrast_limits", "rgb")


def in_plane(matrix: np.ndarray, ndim: int) -> np.ndarray:
    """A transform of Y and X that leaves the other axes alone: all that napari shows as it is."""
    whole = np.eye(ndim)
    whole[-2:, -2:] = matrix
    return whole


def tilted(data: Any, **settings: Any) -> ImageLayer:
    """A layer with everything that a user may have set."""
    ndim = data.ndim
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = in_plane(np.array([[1.2, 0.3], [-0.1, 0.9]]), ndim)
    affine[:-1, -1] = np.arange(ndim) - 7.5
    usual = {
        "scale": np.linspace(0.5, 2, ndim), "translate": np.arange(ndim) + 3.5,
        "rotate": in_plane(np.array([[0.8, -0.6], [0.6, 0.8]]), ndim),
        "shear": in_plane(np.array([[1, 0.2], [0, 1]]), ndim),
        "affine": affine, "units": ["second", *["micrometer"] * (ndim - 1)], "axis_labels": tuple("tcyx"[-ndim:]),
        "blending": "additive", "opacity": 0.7, "gamma": 1.3, "colormap": "green", "contrast_limits": (3, 40),
    }  # fmt: skip
    return ImageLayer(data, **(usual | settings))


def world_of(layer: ImageLayer) -> np.ndarray:
    """Where the corners of a layer are."""
    return np.array([layer.data_to_world(corner) for corner in ([0] * layer.ndim, np.array(layer.data.shape) - 1)])


@pytest.mark.parametrize(
    ("shape", "labels", "rgb", "axes"),
    [
        ((64, 64), None, False, "YX"),
        ((5, 64, 64), None, False, "TYX"),
        ((5, 64, 64), ("z", "y", "x"), False, "ZYX"),
        ((5, 2, 64, 64), ("Time", "channel", "Y", "X"), False, "TCYX"),
        ((5, 2, 64, 64), ("a thing", "b", "c", "d"), False, "TCYX"),
        ((2, 64, 64), ("y", "y", "x"), False, "TYX"),
        ((64, 64, 3), None, True, "YXS"),
        ((7, 64, 64, 4), None, True, "TYXS"),
        ((7, 64, 64, 3), ("z", "y", "x"), True, "ZYXS"),
    ],
)
def test_axes_come_from_labels_where_they_are_real_else_from_the_shape(shape, labels, rgb, axes):
    assert layer_axes(ImageLayer(np.zeros(shape, np.uint8), axis_labels=labels, rgb=rgb)) == axes


def test_a_layer_becomes_an_image_without_being_read():
    data = da.from_array(np.ones((4, 64, 64)), chunks=(1, 64, 64))
    image = image_from_layer(tilted(data), "TYX")
    assert image.data is data
    assert image.scale == (0.5, 1.25, 2.0)
    assert image.units == ("second", "micrometer", "micrometer")
    assert image.translate == (3.5, 4.5, 5.5)


def test_of_a_multiscale_layer_the_full_resolution_is_taken():
    pyramid = [np.zeros((128, 128)), np.zeros((64, 64))]
    assert image_from_layer(ImageLayer(pyramid, multiscale=True), "YX").shape == (128, 128)


def test_axes_that_do_not_fit_are_refused():
    with pytest.raises(AxesError, match="name 2 dimensions but the image has 3"):
        image_from_layer(ImageLayer(np.zeros((3, 64, 64))), "YX")


def test_a_new_layer_takes_over_everything():
    layer = tilted(np.zeros((4, 64, 64), np.uint16), metadata={"microscope": "M1"})
    image = image_from_layer(layer, "TYX")
    new = ImageLayer(image.data, **layer_arguments(layer, image, image))
    for name in (*SAME, "metadata"):
        assert getattr(new, name) == getattr(layer, name), name
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(new, name), getattr(layer, name), atol=1e-9)
    np.testing.assert_allclose(new.affine.affine_matrix, layer.affine.affine_matrix)
    assert new.metadata is not layer.metadata


@pytest.mark.parametrize("select", [{}, {"T": "2"}, {"T": "1:4:2", "Y": "10:40", "X": "5:30"}, {"Y": "3:60:3"}])
def test_a_part_lies_where_it_was_cut_from_however_the_layer_is_turned(select):
    layer = tilted(np.zeros((4, 64, 64), np.uint16))
    image = image_from_layer(layer, "TYX")
    part = image.select(select)
    new = ImageLayer(part.data, **layer_arguments(layer, image, part))
    slices = [image.select({axis: select[axis]}) if axis in select else image for axis in "TYX"]
    first = [round((s.translate[i] - image.translate[i]) / image.scale[i]) for i, s in enumerate(slices)]
    step = [s.scale[i] / image.scale[i] for i, s in enumerate(slices)]
    last = np.array(first) + np.array(step) * (np.array(part.shape) - 1)
    np.testing.assert_allclose(world_of(new), [layer.data_to_world(first), layer.data_to_world(last)], atol=1e-9)


def test_rgb_stays_rgb():
    layer = ImageLayer(np.zeros((64, 64, 3), np.uint8), rgb=True, scale=(2, 3), translate=(1, 1))
    image = image_from_layer(layer, "YXS")
    part = image.select({"Y": "10:40"})
    new = ImageLayer(part.data, **layer_arguments(layer, image, part))
    assert new.rgb
    assert tuple(new.translate) == (21, 1)


@pytest.mark.parametrize(
    ("together", "ndisplay", "ranges"),
    [
        ("", 2, {"T": "7:8", "C": "1:2", "Y": "100:201", "X": "69:133"}),
        ("CYX", 2, {"T": "7:8", "C": "0:2", "Y": "100:201", "X": "69:133"}),
        ("TYX", 2, {"T": "3:12", "C": "1:2", "Y": "100:201", "X": "69:133"}),
        ("", 3, {"T": "7:8", "C": "1:2", "Y": "0:256", "X": "0:256"}),
    ],
)
def test_what_can_be_seen_is_a_piece_of_one_slice(together, ndisplay, ranges):
    layer = ImageLayer(np.zeros((20, 2, 256, 256), np.uint8), scale=(3, 1, 0.5, 0.5))
    layer.corner_pixels = np.array([[0, 0, 100, 90], [0, 0, 200, 110]])
    across = (0, 127, 0.5)
    dims = Dims(ndim=4, ndisplay=ndisplay, range=((0, 57, 3), (0, 1, 1), across, across), point=(21, 1, 0, 0))
    assert visible_ranges(layer, image_from_layer(layer, "TCYX"), together, dims) == ranges


def test_what_can_be_seen_of_a_pyramid_is_counted_in_its_finest_pixels():
    layer = ImageLayer([np.zeros((512, 512)), np.zeros((256, 256))], multiscale=True)
    layer.data_level = 1
    layer.corner_pixels = np.array([[50, 60], [149, 159]])
    dims = Dims(ndim=2, range=((0, 511, 1), (0, 511, 1)))
    assert visible_ranges(layer, image_from_layer(layer, "YX"), "", dims) == {"Y": "100:300", "X": "120:320"}


def test_a_layer_with_fewer_axes_than_the_viewer_is_seen_all_the_same():
    layer = ImageLayer(np.zeros((256, 256)))
    layer.corner_pixels = np.array([[0, 10], [99, 109]])
    dims = Dims(ndim=3, range=((0, 4, 1), (0, 255, 1), (0, 255, 1)), point=(2, 0, 0))
    assert visible_ranges(layer, image_from_layer(layer, "YX"), "", dims) == {"Y": "0:100", "X": "10:110"}


@given(size=st.integers(1, 300), least=st.integers(1, 80), ends=st.tuples(st.integers(-20, 320), st.integers(-20, 320)))
def test_a_view_is_widened_within_the_image(size, least, ends):
    low, high = min(ends), max(ends)
    start, stop = _widen(low, high, size, least)
    assert 0 <= start < stop <= size
    assert stop - start >= min(least, size)
    assert start <= max(0, min(low, size)) or high <= low
    assert stop >= min(high, size)
