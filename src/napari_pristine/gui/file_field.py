"""Names of files: a field for one, with a button to look for it, and asking for one to save to."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


class FileField(QWidget):  # type: ignore[misc]
    """A line with a name and a button beside it; `changed` is emitted whenever the name is another."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setClearButtonEnabled(True)
        self.line.setPlaceholderText("none")
        self.button = QPushButton("…")
        self.button.setFixedWidth(30)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, stretch=1)
        layout.addWidget(self.button)
        self.line.textChanged.connect(self.changed)
        self.button.clicked.connect(self._look)

    def name(self) -> str:
        """The name that stands in the line."""
        return str(self.line.text()).strip()

    def set_name(self, name: str) -> None:
        """Put a name into the line."""
        self.line.setText(name)

    def _look(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open a file", self.name())
        if name:
            self.set_name(name)


def name_to_save(parent: QWidget, title: str, proposed: str, kinds: str) -> str:
    """Ask under which name to save a file; `kinds` are such as `"Models (*.safetensors)"`. Empty if cancelled."""
    dialog = QFileDialog(parent, title, "", kinds)
    dialog.selectFile(proposed)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(kinds.rpartition(".")[2].rstrip(")"))
    return str(dialog.selectedFiles()[0]) if dialog.exec() else ""
