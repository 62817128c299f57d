"""What a batch is to do: the upper part of the Batch panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_pristine.errors import PristineError, SettingError
from napari_pristine.gui.batch_inputs import InputList
from napari_pristine.gui.batch_job import Asked, Options
from napari_pristine.gui.file_field import FileField
from napari_pristine.gui.form import Form, label_for, sheet_in
from napari_pristine.io.registry import SUFFIXES
from napari_pristine.methods import find_method
from napari_pristine.recipe_file import SUFFIXES as RECIPES
from napari_pristine.recipe_file import load_recipe
from napari_pristine.settings import make


class BatchForm(QWidget):  # type: ignore[misc]
    """Recipe, inputs, folder of the results and options; `changed` is emitted whenever one of them is another.

    Args:
        viewer: The napari viewer.
        panels: The panels of methods that are open: their names, and what saves the recipe of each and names its file.
    """

    changed = Signal()

    def __init__(self, viewer: Any, panels: Callable[[], dict[str, Callable[[], str]]]) -> None:
        super().__init__()
        self.viewer = viewer
        self.panels = panels
        tip = "What is done to each image: a file that 'Save recipe…' in the panel of a method has written."
        self.recipe = FileField(_recipe, tip, "choose a recipe")
        self.of_panel = QPushButton("From panel…")
        self.of_panel.setToolTip("Save what is set in the open panel of a method to a recipe, and take that.")
        self.about = wrapped()
        self.inputs = InputList()
        self.files, self.folder, self.remove = (QPushButton(t) for t in ("Add files…", "Add folder…", "Remove"))
        self.files.setToolTip("Images to restore. They can also be dropped into the list.")
        self.folder.setToolTip("All images in a folder, and in the folders in it.")
        self.remove.setToolTip("Leave the selected ones out. The files stay.")
        self.output = FileField(_folder, "Folder for the results and the report.", "choose a folder")
        self.options = Form(Options)
        self._lay_out()
        self._connect()
        self._describe()

    def asked(self) -> Asked:
        """What is to be done.

        Raises:
            SettingError: Something is missing.
        """
        for given, what in (
            (self.recipe.name(), "choose a recipe: 'Save recipe…' in the panel of a method writes one"),
            (self.inputs.names(), "add images, or folders of images, to restore"),
            (self.output.name(), "choose a folder for the results"),
        ):
            if not given:
                raise SettingError(what)
        self._describe()  # the file may be another by now
        options = make(Options, self.options.values())
        output = Path(self.output.name()).expanduser().absolute()
        return Asked(Path(self.recipe.name()).expanduser(), tuple(self.inputs.names()), output, options)

    def enable(self, idle: bool) -> None:
        """Nothing is changed while a batch is under way."""
        parts = (self.recipe, self.of_panel, self.inputs, self.files, self.folder, self.output, self.options)
        for part in parts:
            part.setEnabled(idle)
        self.remove.setEnabled(idle and bool(self.inputs.selectedItems()))

    def _describe(self) -> None:
        """Say what the recipe does, or what is wrong with it."""
        name, warning = self.recipe.name(), False
        text = ""
        if name:
            try:
                recipe = load_recipe(Path(name).expanduser())
                method = find_method(recipe.method).title
                parts = [method, recipe.preset, recipe.axes, f"model {Path(recipe.model).name}" if recipe.model else ""]
                text = " · ".join(filter(None, parts))
            except PristineError as error:
                text, warning = str(error), True
        self.about.setText(text)
        self.about.setVisible(bool(text))
        self.about.setStyleSheet(f"color: {get_theme(self.viewer.theme).warning.as_hex()}" if warning else "")
        self.changed.emit()

    def _offer_panels(self) -> None:
        found = self.panels()
        if not found:
            show_error("no panel of a method is open; open one from Plugins → Pristine, or choose a file")
            return
        menu = QMenu(self)
        for title, save in found.items():
            menu.addAction(title, lambda save=save: self._take(save()))
        menu.exec(self.of_panel.mapToGlobal(self.of_panel.rect().bottomLeft()))

    def _take(self, name: str) -> None:
        if name:
            self.recipe.set_name(name)
            self._describe()  # the name may be that of before, and what is in it another

    def _ask_for_files(self) -> None:
        kinds = " ".join(f"*{suffix}" for suffix in SUFFIXES if suffix != ".zarr")
        names, _ = QFileDialog.getOpenFileNames(self, "Images to restore", "", f"Images ({kinds});;All files (*)")
        self.inputs.add(names)

    def _ask_for_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder of images to restore, or an OME-Zarr")
        self.inputs.add([name] if name else [])

    def _connect(self) -> None:
        self.recipe.changed.connect(self._describe)
        self.of_panel.clicked.connect(self._offer_panels)
        self.files.clicked.connect(self._ask_for_files)
        self.folder.clicked.connect(self._ask_for_folder)
        self.remove.clicked.connect(self.inputs.remove_selected)
        self.inputs.itemSelectionChanged.connect(self.changed)
        for part in (self.inputs, self.output, self.options):
            part.changed.connect(self.changed)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        top = QWidget()
        sheet = sheet_in(top)
        sheet.addRow(label_for(self.recipe, "Recipe"), _line(self.recipe, self.of_panel))
        sheet.addRow(self.about)
        sheet.addRow(label_for(self.inputs, "Images"), self.inputs)
        sheet.addRow(label_for(self.files, ""), _line(self.files, self.folder, self.remove))
        sheet.addRow(label_for(self.output, "Results to"), self.output)
        layout.addWidget(top)
        layout.addWidget(self.options)


def wrapped() -> QLabel:
    """A label of many words, which do not make the panel wider, however long they are."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    policy = label.sizePolicy()
    policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
    label.setSizePolicy(policy)
    return label


def _line(*widgets: QWidget) -> QWidget:
    """Widgets side by side."""
    line = QWidget()
    layout = QHBoxLayout(line)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget, stretch=int(isinstance(widget, FileField) or not isinstance(widgets[0], FileField)))
    return line


def _recipe(parent: QWidget, name: str) -> str:
    kinds = f"Recipes ({' '.join(f'*{suffix}' for suffix in RECIPES)})"
    return str(QFileDialog.getOpenFileName(parent, "Open a recipe", name, kinds)[0])


def _folder(parent: QWidget, name: str) -> str:
    return str(QFileDialog.getExistingDirectory(parent, "Folder for the results", name))
