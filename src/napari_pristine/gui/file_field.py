"""Names of files: a field for one, with a button to look for it, and asking for one to save to."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Signal
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


class _Line(QLineEdit):  # type: ignore[misc]
    """A line in which a file that is dropped takes the place of what there was, under its plain name."""

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        names = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if names:
            self.setText(names[0])
            event.acceptProposedAction()
        else:
            super().dropEvent(event)


class FileField(QWidget):  # type: ignore[misc]
    """A line with a name and a button beside it; `changed` is emitted whenever the name is another.

    Args:
        ask: Asks for a name, given what to belong to and the name there is; empty if cancelled.
        tip: What is named.
        none: What stands in the line while it is empty.
    """

    changed = Signal()

    def __init__(self, ask: Callable[[QWidget, str], str] | None = None, tip: str = "", none: str = "none") -> None:
        super().__init__()
        self._ask = ask or _file_to_open
        self.line = _Line()
        self.line.setClearButtonEnabled(True)
        self.line.setPlaceholderText(none)
        self.button = QPushButton("…")
        self.button.setFixedWidth(30)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, stretch=1)
        layout.addWidget(self.button)
        self.setToolTip(tip)
        self.setFocusProxy(self.line)
        self.line.textChanged.connect(self.changed)
        self.button.clicked.connect(self._look)

    def name(self) -> str:
        """The name that stands in the line."""
        return str(self.line.text()).strip()

    def set_name(self, name: str) -> None:
        """Put a name into the line."""
        self.line.setText(name)

    def _look(self) -> None:
        name = self._ask(self, self.name())
        if name:
            self.set_name(name)


def _file_to_open(parent: QWidget, name: str) -> str:
    return str(QFileDialog.getOpenFileName(parent, "Open a file", name)[0])


def name_to_save(parent: QWidget, title: str, proposed: str, kinds: str) -> str:
    """Ask under which name to save a file; `kinds` are such as `"Models (*.safetensors)"`. Empty if cancelled."""
    dialog = QFileDialog(parent, title, "", kinds)
    dialog.selectFile(proposed)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(kinds.rpartition(".")[2].rstrip(")"))
    return str(dialog.selectedFiles()[0]) if dialog.exec() else ""
