"""Upper part of the Batch panel: recipe, images, folder for the results, settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from napari import Viewer
from napari.utils.notifications import show_error
from napari.utils.theme import get_theme
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent, QKeyEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QLineEdit, QListWidget, QMenu, QVBoxLayout, QWidget

from napari_pristine.errors import PristineError, SettingError
from napari_pristine.gui.batch_job import BatchRequest, BatchSettings
from napari_pristine.gui.effort import effort_title
from napari_pristine.gui.settings_form import SettingsForm
from napari_pristine.gui.widgets import FileField, button, form_layout, label_for, side_by_side, wrapped_label
from napari_pristine.io.registry import SUFFIXES
from napari_pristine.methods import find_method
from napari_pristine.recipe import Recipe, with_absolute_paths
from napari_pristine.recipe_file import SUFFIXES as RECIPE_SUFFIXES
from napari_pristine.recipe_file import load_recipe
from napari_pristine.settings import make

_LIST_LINES = 4
"""Lines of the list of images that are visible."""


class InputList(QListWidget):  # type: ignore[misc]
    """List of files and folders into which files can be dropped; `changed` is emitted when it changes."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTabKeyNavigation(False)
        self.setToolTip("Images and folders to restore. Drop files here; Delete removes the selected ones.")

    def paths(self) -> list[str]:
        """All files and folders in the list."""
        return [self.item(row).text() for row in range(self.count())]

    def add(self, paths: Iterable[str]) -> None:
        """Add files and folders that are not in the list yet."""
        known = set(self.paths())
        new = [path for path in dict.fromkeys(map(os.path.normpath, paths)) if path not in known]
        for path in new:
            self.addItem(path)
            self.item(self.count() - 1).setToolTip(path)
        if new:
            self.changed.emit()
            self.viewport().update()

    def remove_selected(self) -> None:
        """Remove the selected files and folders from the list."""
        for item in self.selectedItems():
            self.takeItem(self.row(item))
        self.changed.emit()
        self.viewport().update()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(super().sizeHint().width(), _LIST_LINES * self.fontMetrics().lineSpacing() + 16)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(120, self.sizeHint().height())

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.remove_selected()
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        self.dragMoveEvent(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:  # noqa: N802
        if event.mimeData().hasUrls():
            event.acceptProposedAction()
        else:
            event.ignore()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        self.add(url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile())
        event.acceptProposedAction()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        super().paintEvent(event)
        if not self.count():
            paint_hint(self, "Drop images and folders here")


class BatchForm(QWidget):  # type: ignore[misc]
    """Everything that can be chosen for a batch; `changed` is emitted when any of it changes.

    Args:
        viewer: The napari viewer.
        open_panels: Returns the open restore panels: the title of each, and a function that returns its recipe.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, open_panels: Callable[[], dict[str, Callable[[], Recipe]]]) -> None:
        super().__init__()
        self.viewer = viewer
        self.open_panels = open_panels
        self.recipe = FileField(
            _ask_recipe,
            "Method and settings for all images: a recipe, the file NAME.json beside a result, or report.html.",
            "choose a recipe",
        )
        self.given_recipe: Recipe | None = None
        self.from_panel_button = button(
            "From panel…", "Use the settings of an open Restore panel as they are now.", self._ask_panel
        )
        self.recipe_summary = wrapped_label()
        self.inputs = InputList()
        self.add_files_button = button(
            "Add files…", "Images to restore. They can also be dropped into the list.", self._ask_files
        )
        self.add_folder_button = button(
            "Add folder…", "All images in a folder and its subfolders.", self._ask_input_folder
        )
        self.remove_button = button(
            "Remove", "Remove the selected entries from the list; the files are kept.", self.inputs.remove_selected
        )
        self.axes = QLineEdit()
        self.axes.setPlaceholderText("as the files say")
        self.axes.setClearButtonEnabled(True)
        self.axes.setToolTip(
            "Axes, if the files do not say them: one letter for each dimension, such as ZYX or TCYX.\n"
            "They apply to the files with as many dimensions; the others keep their own. 'Plan' shows them."
        )
        self.output = FileField(_ask_folder, "Folder for the results and the report.", "choose a folder")
        self.settings = SettingsForm(BatchSettings)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        top = QWidget()
        rows = form_layout(top)
        rows.addRow(label_for(self.recipe, "Recipe"), side_by_side(self.recipe, self.from_panel_button))
        rows.addRow(self.recipe_summary)
        rows.addRow(label_for(self.inputs, "Images"), self.inputs)
        rows.addRow(
            label_for(self.add_files_button, ""),
            side_by_side(self.add_files_button, self.add_folder_button, self.remove_button),
        )
        rows.addRow(label_for(self.axes, "Axes"), self.axes)
        rows.addRow(label_for(self.output, "Results to"), self.output)
        layout.addWidget(top)
        layout.addWidget(self.settings)
        self.recipe.changed.connect(self._summarise_recipe)
        self.inputs.itemSelectionChanged.connect(self.changed)
        for part in (self.inputs, self.output, self.settings):
            part.changed.connect(self.changed)
        self.axes.textChanged.connect(lambda _: self.changed.emit())
        self._summarise_recipe()

    def request(self) -> BatchRequest:
        """The input as it is now.

        Raises:
            SettingError: Something is missing.
        """
        recipe = Path(self.recipe.path()).expanduser() if self.recipe.path() else self.given_recipe
        for value, advice in (
            (recipe, "choose a recipe: a file, or the settings of an open panel ('From panel…')"),
            (self.inputs.paths(), "add images, or folders of images, to restore"),
            (self.output.path(), "choose a folder for the results"),
        ):
            if not value:
                raise SettingError(advice)
        self._summarise_recipe()  # the file may have changed
        settings = make(BatchSettings, self.settings.values())
        output = Path(self.output.path()).expanduser().absolute()
        assert recipe is not None
        return BatchRequest(recipe, tuple(self.inputs.paths()), output, settings, self.axes.text().strip())

    def use_recipe(self, recipe: Recipe) -> None:
        """Take a recipe that is in no file; a file that is chosen later takes its place."""
        self.given_recipe = with_absolute_paths(recipe)
        self.recipe.set_path("")
        self.recipe.line.setPlaceholderText("from the panel")
        self._summarise_recipe()

    def enable(self, enabled: bool) -> None:
        """Enable or disable all fields and buttons."""
        for part in (
            self.recipe, self.from_panel_button, self.inputs, self.add_files_button, self.add_folder_button,
            self.axes, self.output, self.settings,
        ):  # fmt: skip
            part.setEnabled(enabled)
        self.remove_button.setEnabled(enabled and bool(self.inputs.selectedItems()))

    def _summarise_recipe(self) -> None:
        """Show the method of the recipe, or what is wrong with it."""
        text, style = "", ""
        path = self.recipe.path()
        try:
            recipe = load_recipe(Path(path).expanduser()) if path else self.given_recipe
            text = _describe_recipe(recipe) if recipe else ""
        except PristineError as error:
            text, style = str(error), f"color: {get_theme(self.viewer.theme).warning.as_hex()}"
        self.recipe_summary.setText(text)
        self.recipe_summary.setVisible(bool(text))
        self.recipe_summary.setStyleSheet(style)
        self.changed.emit()

    def _ask_panel(self) -> None:
        panels = self.open_panels()
        if not panels:
            show_error("no Restore panel is open; open one from Plugins → Pristine, or choose a file")
            return
        menu = QMenu(self)
        for title, recipe in panels.items():
            menu.addAction(title).triggered.connect(partial(self._use_panel, recipe))
        menu.exec(self.from_panel_button.mapToGlobal(self.from_panel_button.rect().bottomLeft()))

    def _use_panel(self, recipe: Callable[[], Recipe], _: bool = False) -> None:
        try:
            self.use_recipe(recipe())
        except PristineError as error:
            show_error(str(error))

    def _ask_files(self) -> None:
        suffixes = " ".join(f"*{suffix}" for suffix in SUFFIXES if suffix != ".zarr")
        paths, _ = QFileDialog.getOpenFileNames(self, "Images to restore", "", f"Images ({suffixes});;All files (*)")
        self.inputs.add(paths)

    def _ask_input_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of images to restore, or an OME-Zarr")
        self.inputs.add([path] if path else [])


def _describe_recipe(recipe: Recipe) -> str:
    """The most important parts of a recipe on one line."""
    parts = [
        find_method(recipe.method).title,
        effort_title(recipe.preset).lower() if recipe.preset else "",
        recipe.axes,
    ]
    parts += [f"{axis} {part}" for axis, part in recipe.select.items()]
    parts += (
        [f"strength {' and '.join(f'{100 * share:.0f} %' for share in recipe.strength)}"] if recipe.strength else []
    )
    parts += [f"{name} {Path(file).name}" for name, file in (("model", recipe.model), ("mask", recipe.mask)) if file]
    return " · ".join(filter(None, parts))


def paint_hint(view: QAbstractItemView, text: str) -> None:
    """Write a hint in the centre of an empty list or table."""
    painter = QPainter(view.viewport())
    painter.setOpacity(0.6)
    painter.drawText(view.viewport().rect(), Qt.AlignmentFlag.AlignCenter, text)
    painter.end()


def _ask_recipe(parent: QWidget, path: str) -> str:
    file_types = f"Recipes ({' '.join(f'*{suffix}' for suffix in RECIPE_SUFFIXES)})"
    return str(QFileDialog.getOpenFileName(parent, "Open a recipe", path, file_types)[0])


def _ask_folder(parent: QWidget, path: str) -> str:
    return str(QFileDialog.getExistingDirectory(parent, "Folder for the results", path))
