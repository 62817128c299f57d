"""Menu of the Restore panel: the result, recipes, code, and the same for other images."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QFileDialog, QMenu

from napari_pristine.errors import PristineError
from napari_pristine.gui.job_runner import LatestCall, report_error
from napari_pristine.gui.layers import image_from_layer
from napari_pristine.gui.origin import result_facts
from napari_pristine.gui.widgets import ask_save_path, copy_text
from napari_pristine.image.image import Image
from napari_pristine.io.registry import write
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_code import as_python, as_shell, methods_paragraph
from napari_pristine.recipe_file import load_recipe, save_recipe

if TYPE_CHECKING:
    from napari_pristine.gui.restore_panel import RestorePanel


class RecipeMenu(QMenu):  # type: ignore[misc]
    """Everything that can be done with the result and the settings of a Restore panel.

    Args:
        panel: The panel.
    """

    def __init__(self, panel: RestorePanel) -> None:
        super().__init__(panel)
        self._panel = weakref.ref(panel)
        self.saving = LatestCall()
        self.saving.returned.connect(self._on_saved)
        self.saving.errored.connect(self._on_not_saved)
        for text, action in (
            ("Save result…", self.ask_and_save_result), ("", None),
            ("Save recipe…", self.ask_and_save), ("Load recipe…", self.ask_and_load), ("", None),
            ("Copy as Python", self.copy_python), ("Copy as shell command", self.copy_command),
            ("Copy methods paragraph", self.copy_paragraph), ("", None),
            ("Restore the other selected layers the same way", panel.run_others),
            ("Do this to a folder…", self.ask_folder),
        ):  # fmt: skip
            if action is None:
                self.addSeparator()
            else:
                self.addAction(text, action)

    @property
    def panel(self) -> RestorePanel:
        """The panel, which lives as long as its menu."""
        panel = self._panel()
        assert panel is not None
        return panel

    def ask_and_save_result(self) -> None:
        """Ask for a path and save the result there, with its axes, pixel size and recipe."""
        selected, result = self.panel.viewer.layers.selection.active, self.panel.result
        shown = None if result is None else result.layer
        layer = next((each for each in (selected, shown) if each is not None and "recipe" in result_facts(each)), None)
        if layer is None:
            show_error("there is no result yet; press Restore first")
            return
        facts = result_facts(layer)
        name = f"{layer.name}.ome.tif".replace(" · ", " ").replace("/", "-")
        if path := ask_save_path(self.panel, "Save the result", name, "Images (*.zarr *.tif)"):
            image = image_from_layer(layer, facts["recipe"]["axes"])
            if result is not None and layer is shown and result.is_own and result.mixture is not None:
                # with what napari's layers do not know, such as the names of channels
                image = replace(result.mixture.image, data=image.data, name=image.name)
            self.saving.start(partial(_write, Path(path), image, facts))

    def save_recipe(self, path: str) -> bool:
        """Save the recipe to a file; errors are shown. Returns whether it was saved."""
        try:
            save_recipe(path, self._recipe(), overwrite=True)
        except PristineError as error:
            show_error(str(error))
            return False
        show_info(f"Saved {Path(path).name}")
        return True

    def ask_and_save(self) -> str:
        """Ask for a path and save the recipe there; returns the path, empty if it was not saved."""
        try:
            self._recipe()  # report errors before the user chooses a path
        except PristineError as error:
            show_error(str(error))
            return ""
        path = ask_save_path(self.panel, "Save the recipe", f"{self.panel.form.method.key}.yaml", "Recipes (*.yaml)")
        return path if path and self.save_recipe(path) else ""

    def load_recipe(self, path: str) -> None:
        """Show the settings of a recipe, a sidecar or a report; errors are shown."""
        try:
            self.panel.form.show_recipe(load_recipe(path))
        except PristineError as error:
            show_error(str(error))

    def ask_and_load(self) -> None:
        """Ask for a recipe, and show its settings."""
        types = "Recipes, sidecars and reports (*.yaml *.yml *.json *.html)"
        if path := QFileDialog.getOpenFileName(self.panel, "Load a recipe", "", types)[0]:
            self.load_recipe(path)

    def copy_python(self) -> None:
        """Copy Python code that does what the panel does."""
        file = self._file()
        copy_text(lambda: as_python(self._recipe(), file or self.panel.form.layer_select.image()), "Python code")

    def copy_command(self) -> None:
        """Copy a shell command that does what the panel does."""
        copy_text(lambda: as_shell(self._recipe(), self._file() or Path("IMAGE.tif")), "A command for the shell")

    def copy_paragraph(self) -> None:
        """Copy a paragraph on what the panel does for the methods section of a paper."""
        result = self.panel.result.layer if self.panel.result is not None else None
        known = result_facts(result) if result is not None else {}
        copy_text(
            lambda: methods_paragraph(known if "recipe" in known else self._recipe()),
            "A paragraph for the methods section",
        )

    def ask_folder(self) -> None:
        """Ask for a folder, and open Batch filled in to restore its images in the same way."""
        from napari_pristine.gui.batch_panel import open_batch_with  # here, as it imports all of the batch

        try:
            recipe = self._recipe()
        except PristineError as error:
            show_error(str(error))
            return
        if folder := QFileDialog.getExistingDirectory(self.panel, "Folder of images"):
            open_batch_with(self.panel.viewer, recipe, [folder])

    def _on_saved(self, path: Path) -> None:
        show_info(f"Saved {path.name}")

    def _on_not_saved(self, error: Exception) -> None:
        report_error(error, str(error))

    def _recipe(self) -> Recipe:
        """The recipe as code needs it, with the strength that is shown."""
        shown = self.panel.result
        strength = shown.recipe_strength if shown is not None and shown.can_mix else []
        return self.panel.form.recipe_for_files().model_copy(update={"strength": strength})

    def _file(self) -> Path | None:
        """The file of the chosen layer, if it has one."""
        layer = self.panel.form.layer_select.layer
        return Path(layer.source.path) if layer is not None and layer.source.path else None


def _write(path: Path, image: Image, facts: dict[str, Any]) -> Path:
    write(path, image, provenance=facts, overwrite=True)
    return path
