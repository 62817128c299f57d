"""Apply while scrolling: a layer whose slices are restored when they are looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import noisy, wait_until_idle

from napari_pristine import read, write
from napari_pristine.image.image import Image, ranges

pytestmark = pytest.mark.gui


class Counted:
    """An array that remembers which frames were read."""

    def __init__(self, data: Any) -> None:
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.frames: set[int] = set()

    def __getitem__(self, index: Any) -> Any:
        first = ranges(index, self.shape)[0]
        self.frames |= {first} if isinstance(first, int) else set(first)
        return self.data[index]


@pytest.fixture
def learned(qtbot: Any, viewer: Any, open_panel: Any) -> Any:
    """A panel with a network that has learned, from an image that is gone."""
    first = viewer.add_image(noisy((64, 64)), name="first")
    panel = open_panel(viewer, "blind2unblind")
    assert not panel.form.model_select.scroll_button.isEnabled()
    panel.train()
    wait_until_idle(qtbot, panel)
    viewer.layers.remove(first)
    assert not panel.form.model_select.scroll_button.isEnabled()
    return panel


@pytest.mark.filterwarnings("ignore::UserWarning")  # the network has learned next to nothing
def test_each_slice_is_restored_when_it_is_shown(qtbot, viewer, learned, tmp_path):
    values = noisy((30, 64, 48))
    write(tmp_path / "cells.zarr", Image(values, "TYX"))
    counted = Counted(read(tmp_path / "cells.zarr", lazy=True).data)
    layer = viewer.add_image(
        counted, name="cells", scale=(2, 0.5, 0.5), units=("second", "micrometer", "micrometer"), colormap="green",
        axis_labels=("t", "y", "x"), contrast_limits=(10, 120),
    )  # fmt: skip
    viewer.dims.set_current_step(0, 0)
    learned.form.layer_select.ranges["T"].value = "0:25"
    counted.frames.clear()
    learned.form.model_select.scroll_button.click()
    result = viewer.layers[-1]
    assert result.name == "cells · Blind2Unblind, while scrolling"
    assert (result.data.shape, result.data.dtype) == ((25, 64, 48), values.dtype)
    assert tuple(result.scale) == tuple(layer.scale)
    assert (result.units, result.colormap.name) == (layer.units, "green")
    assert result.metadata["pristine"]["recipe"]["method"] == "blind2unblind"
    measured = set(counted.frames)
    assert len(measured) <= 9
    layer.visible = False
    unseen = next(frame for frame in range(24) if frame not in measured)
    viewer.dims.set_current_step(0, unseen)
    assert counted.frames == measured | {unseen}

    seen = [result.get_value((unseen, y, 24)) for y in range(64)]
    learned.run()
    wait_until_idle(qtbot, learned)
    expected = viewer.layers[-1].data
    np.testing.assert_allclose(seen, expected[unseen, :, 24].astype(int), atol=1)


def test_why_it_cannot_be_done_is_told(viewer, learned, notifications):
    viewer.add_image(noisy((2, 64, 64)))
    assert learned.form.model_select.scroll_button.isEnabled()
    learned.form.model_select.adapt.value = True
    learned.form.model_select.scroll_button.click()
    assert "leave adapt out" in notifications[0].message
    assert len(viewer.layers) == 1


def test_it_is_offered_where_networks_learn_and_nowhere_else(viewer, open_panel):
    for method, offered in (("inr", False), ("iddp", True)):
        panel = open_panel(viewer, method)
        assert panel.form.model_select.scroll_button.isVisibleTo(panel) == offered
