"""The manifest of the plugin follows from the lists of methods and formats."""

from __future__ import annotations

import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from npe2 import PluginManifest
from qtpy.QtWidgets import QLabel

import napari_pristine
from napari_pristine.gui.preferences import Preferences
from napari_pristine.gui.widgets import DockPanel
from napari_pristine.io.registry import SUFFIXES
from napari_pristine.io.vendors import KINDS
from napari_pristine.methods import METHODS
from napari_pristine.settings import settings_of

pytestmark = pytest.mark.gui

MANIFEST = Path(napari_pristine.__file__).parent / "napari.yaml"
SCRIPT = Path(__file__).parents[2] / "tools" / "write_manifest.py"


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(MANIFEST)


def test_the_manifest_follows_from_the_methods():
    suffixes = [suffix for kind in KINDS for suffix in kind.suffixes]
    expected = runpy.run_path(str(SCRIPT))["manifest"](METHODS, suffixes, settings_of(Preferences))
    assert MANIFEST.read_text(encoding="utf-8") == expected, "run 'python tools/write_manifest.py' and commit the file"


def test_there_is_one_widget_per_method_in_the_filter_menu_and_one_for_many_files(manifest):
    widgets = {widget.command: widget.display_name for widget in manifest.contributions.widgets}
    filters = {item.command for item in manifest.contributions.menus["napari/layers/filter"]}
    assert widgets.pop("napari-pristine.batch") == "Batch"
    assert widgets.pop("napari-pristine.compare") == "Compare"
    titles = {key: "Restore" if key == "auto" else f"Restore with {each.title}" for key, each in METHODS.items()}
    assert widgets == {f"napari-pristine.{key}": title for key, title in titles.items()}
    assert next(iter(widgets)) == "napari-pristine.auto"
    assert filters == set(widgets)


def test_every_command_can_be_imported_and_is_used(manifest):
    parts = manifest.contributions
    used = {part.command for part in (*parts.widgets, *parts.sample_data, *parts.readers)}
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name))
        assert command.id in used


@pytest.mark.usefixtures("napari_readers")
def test_napari_reads_itself_what_it_can(manifest, npe2pm, tmp_path):
    """With two readers for one suffix, napari asks for one of them."""
    ours = [
        pattern.removeprefix("*") for reader in manifest.contributions.readers for pattern in reader.filename_patterns
    ]
    for suffix in SUFFIXES:
        others = list(npe2pm.iter_compatible_readers([str(tmp_path / f"cells{suffix}")]))
        assert (suffix in ours) == (not others), suffix


def test_the_manifest_is_read_by_old_versions_of_npe2():
    """Fields that came with npe2 0.10 make older versions refuse the whole plugin."""
    for widget in yaml.safe_load(MANIFEST.read_text())["contributions"]["widgets"]:
        assert set(widget) <= {"command", "display_name", "autogenerate"}


@pytest.mark.parametrize("method", ["linr"])
def test_the_menu_opens_the_panel_with_its_method(make_napari_viewer, method):
    viewer = make_napari_viewer()
    dock, panel = viewer.window.add_plugin_dock_widget("napari-pristine", f"Restore with {METHODS[method].title}")
    assert panel.form.method is METHODS[method]
    assert panel.viewer is viewer
    panel.form.set_method("inr")
    assert "Restore" in [label.text() for label in dock.titleBarWidget().findChildren(QLabel)]
    panel.form.set_method(method)
    _, batch = viewer.window.add_plugin_dock_widget("napari-pristine", "Batch")
    assert batch.form.open_panels().keys() == {METHODS[method].title}


def test_a_panel_opens_as_a_tab_beside_the_others_of_its_side(qtbot, make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    first, second = (
        viewer.window.add_plugin_dock_widget("napari-pristine", name)[0] for name in ("Restore", "Compare")
    )
    window = first.parentWidget()
    qtbot.wait(50)
    assert window.tabifiedDockWidgets(second) == [first]
    assert first.visibleRegion().isEmpty()  # the new one is in front
    below = viewer.window.add_dock_widget(DockPanel(viewer), name="c", area="bottom")
    qtbot.wait(50)
    assert window.tabifiedDockWidgets(below) == []


def test_the_manifest_is_valid():
    done = subprocess.run([sys.executable, "-m", "npe2", "validate", str(MANIFEST)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid" in done.stdout


def test_a_name_that_is_no_method_is_no_command():
    panel = import_module("napari_pristine.gui.restore_panel")
    with pytest.raises(AttributeError, match="open_magic"):
        _ = panel.open_magic
