"""Learning in the panel, saving what was learned, and restoring with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from quick import ENDLESS, noisy

from napari_pristine.jobs.restore import restore
from napari_pristine.methods import METHODS
from napari_pristine.model import load_model

LEARNERS = [key for key, method in METHODS.items() if method.learn]

pytestmark = [pytest.mark.gui, pytest.mark.parametrize("method", LEARNERS)]


def finish(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(lambda: not panel.job.running, timeout=20_000)


def test_what_was_learned_is_saved_opened_and_restores_as_in_python(qtbot, viewer, open_panel, method, tmp_path):
    viewer.add_image(noisy((2, 64, 64)), name="cells")
    panel = open_panel(viewer, method)
    assert not panel.models.save.enabled
    panel.models.learn.native.click()
    assert panel.cancel.enabled
    finish(qtbot, panel)
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert "learned from 1 image (2 blocks)" in panel.models.about.text()
    assert panel.models.save.enabled
    assert panel.models.model.fingerprint in panel.question.recipe({}).model
    path = tmp_path / "cells.safetensors"
    panel.models.save_file(str(path))
    assert load_model(path).facts.images == ("cells",)
    assert panel.models.start.value == "cells"

    other = open_panel(viewer, method)
    other.models.open_file(str(path))
    assert other.models.start.value == "cells"
    other.run_all()
    finish(qtbot, other)
    result = viewer.layers[-1]
    recipe = result.metadata["pristine"]["recipe"]
    assert recipe["model"] == str(path)
    expected = restore(noisy((2, 64, 64)), axes="TYX", model=path, settings=recipe["settings"])
    np.testing.assert_allclose(result.data.astype(int), expected.data.astype(int), atol=1)


def test_a_model_brings_its_settings_and_scratch_needs_none(viewer, open_panel, method, tmp_path, qtbot):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.learn()
    finish(qtbot, panel)
    learned = panel.models.model
    assert learned is not None
    panel.preset.value = "fast"
    assert panel.form.values() != learned.recipe.settings
    panel.models.take(learned, "again")
    assert panel.form.values() == learned.recipe.settings
    assert panel.preset.value == learned.recipe.preset
    panel.models.adapt.value = True
    assert panel.question.recipe({}).adapt
    panel.models.start.value = ""
    assert panel.models.model is None
    assert not panel.question.recipe({}).adapt
    assert not panel.models.adapt.enabled


def test_all_selected_layers_are_learned_from(qtbot, viewer, open_panel, method):
    layers = [viewer.add_image(noisy((64, 64), seed), name=f"cells {seed}") for seed in range(3)]
    viewer.add_labels(np.zeros((64, 64), int))
    panel = open_panel(viewer, method)
    viewer.layers.selection = {layers[0], layers[2]}
    panel.models.source.value = "all selected layers"
    panel.learn()
    finish(qtbot, panel)
    assert sorted(panel.models.model.facts.images) == ["cells 0", "cells 2"]


def test_learning_can_be_kept_and_cancelled(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method, **ENDLESS)
    panel.learn()
    qtbot.waitUntil(lambda: panel.watch.curve.points[-1:] > [(1, 0.0)], timeout=20_000)
    panel.cancel.native.click()
    finish(qtbot, panel)
    assert panel.models.model is None
    assert panel.watch.text.text() == "Cancelled"
    panel.learn()
    qtbot.waitUntil(lambda: panel.watch.curve.points[-1:] > [(1, 0.0)], timeout=20_000)
    panel.keep.native.click()
    finish(qtbot, panel)
    assert "kept after" in panel.models.about.text()
    assert "Learned in" in panel.watch.text.text()


def test_with_a_model_learning_goes_on_from_it(qtbot, viewer, open_panel, method):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.learn()
    finish(qtbot, panel)
    first = panel.models.model
    panel.learn()
    finish(qtbot, panel)
    assert panel.models.model.facts.start == first.fingerprint


def test_a_second_model_does_not_throw_away_the_first(qtbot, viewer, open_panel, method, tmp_path):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    learned = []
    for _ in range(2):
        panel.models.start.value = ""
        panel.learn()
        finish(qtbot, panel)
        learned.append(panel.models.model)
    assert [known.model for known in panel.models.known.values()] == learned
    assert panel.models.start.value == "unsaved model 2"
    panel.models.start.value = "unsaved model"
    assert panel.models.model is learned[0]


def test_a_file_that_is_no_model_is_refused_in_the_words_of_the_core(viewer, open_panel, heard, method, tmp_path):
    panel = open_panel(viewer, method)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x80\x04 a pickle")
    panel.models.open_file(str(path))
    assert "is a pickle" in heard[0].message
    assert panel.models.model is None


def test_a_model_of_another_method_is_refused(qtbot, viewer, open_panel, heard, method, tmp_path):
    viewer.add_image(noisy((64, 64)))
    panel = open_panel(viewer, method)
    panel.learn()
    finish(qtbot, panel)
    path = str(tmp_path / "model.safetensors")
    panel.models.save_file(path)
    other = open_panel(viewer, next(key for key in LEARNERS if key != method))
    other.models.open_file(path)
    assert f"has learned by {method}" in heard[0].message
    assert other.models.model is None


def test_only_methods_that_learn_have_the_part(viewer, open_panel, method):
    assert not open_panel(viewer, method).models.isHidden()
    assert open_panel(viewer, "inr").models.isHidden()
