"""A short session in a real window, in a process of its own: `QT_API=pyside6 python tests/gui/session.py`.

Opens a sample and a panel, types into a form, and previews; prints the binding, and exits with an error if an exception
was raised anywhere, such as in a slot, of which Qt says nothing but a traceback.
"""

from __future__ import annotations

import sys
import time
import traceback
from types import TracebackType
from typing import Any

import napari
import qtpy
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QSpinBox

from napari_pristine.gui.settings_form import SettingsForm
from napari_pristine.methods import METHODS

raised: list[BaseException] = []


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that nobody caught, and remember it."""
    raised.append(error)
    traceback.print_exception(kind, error, trace)


def wait(seconds: float, until: Any = lambda: False) -> bool:
    """Process events of the window until a condition holds, at most that long; returns whether it holds."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    return bool(until())


def type_into_forms() -> None:
    """Type a number into the form of each method, and switch everything once."""
    for method in METHODS.values():
        form = SettingsForm(method.params)
        form.show()
        changes: list[int] = []
        form.changed.connect(lambda seen=changes: seen.append(1))
        for box in form.findChildren(QSpinBox):
            box.stepUp()
            box.selectAll()
            QTest.keyClicks(box, "70")
            QTest.keyClick(box, Qt.Key.Key_Tab)
        for preset in method.presets:
            form.set_values(method.settings(preset).model_dump())
        assert changes, f"the form of {method.key} never said that a value changed"
        form.close()


def main() -> None:
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-pristine", "microtubules")
    type_into_forms()
    names = "Restore", METHODS["linr"].title
    panels = [viewer.window.add_plugin_dock_widget("napari-pristine", name)[1] for name in names]
    wait(0.5)
    docks = [panel.parentWidget() for panel in panels]
    before = len(viewer.layers)
    panel = panels[0]
    panel.run_preview()
    assert wait(120, lambda: not panel.runner.running), "the preview did not end"
    assert len(viewer.layers) > before, "the preview added no layer"
    assert all(dock is not None for dock in docks)
    viewer.close()
    assert wait(60, lambda: QThreadPool.globalInstance().activeThreadCount() == 0), (
        "a thread goes on without its window"
    )


if __name__ == "__main__":
    sys.excepthook = report
    main()
    sys.stdout.write(f"{qtpy.API_NAME} napari {napari.__version__}\n")
    sys.exit(bool(raised))
