from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from npe2 import PluginManifest

import napari_pristine
from napari_pristine.methods import METHODS

INSIDE = Path(napari_pristine.__file__).parent / "napari.yaml"
ABOVE = Path(__file__).parents[2] / "napari.yaml"


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(INSIDE)


def test_both_manifests_read_the_same():
    assert yaml.safe_load(ABOVE.read_text()) == yaml.safe_load(INSIDE.read_text())


def test_there_is_one_widget_per_method_in_the_filter_menu_and_one_for_many_files(manifest):
    widgets = {widget.command: widget.display_name for widget in manifest.contributions.widgets}
    filters = {item.command for item in manifest.contributions.menus["napari/layers/filter"]}
    assert widgets.pop("napari-pristine.batch") == "Batch"
    assert widgets == {f"napari-pristine.{key}": method.title for key, method in METHODS.items()}
    assert filters == set(widgets)


def test_every_command_can_be_imported_and_is_used(manifest):
    used = {w.command for w in manifest.contributions.widgets} | {s.command for s in manifest.contributions.sample_data}
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name))
        assert command.id in used


def test_the_manifest_needs_no_newest_npe2():
    """Fields that came with npe2 0.10 make older versions refuse the whole plugin."""
    for widget in yaml.safe_load(INSIDE.read_text())["contributions"]["widgets"]:
        assert set(widget) <= {"command", "display_name", "autogenerate"}
