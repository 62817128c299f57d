"""Small Qt widgets and layouts that all panels use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from magicgui.widgets import ComboBox
from napari import Viewer
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QDropEvent, QGuiApplication, QShowEvent, QValidator
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QDockWidget,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMainWindow,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QWidget,
)
from superqt import QCollapsible

from napari_pristine.errors import PristineError
from napari_pristine.text import singular

P = TypeVar("P", bound=QWidget)

_DECIMALS = 12
"""Decimal places that a number keeps: enough for a float32 image with values of about 1e-6."""
_NUMBER_CHARACTERS = set("0123456789.-+eE")


class FloatBox(QDoubleSpinBox):  # type: ignore[misc]
    """Number field that shows 0.0001 as 0.0001, not as 0.00 or 0.000100000000, in any locale."""

    def __init__(self, minimum: float, maximum: float) -> None:
        super().__init__()
        self.setDecimals(_DECIMALS)
        self.setRange(minimum, maximum)
        self.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)

    def textFromValue(self, value: float) -> str:  # noqa: N802
        return f"{value:.10g}"

    def valueFromText(self, text: str) -> float:  # noqa: N802
        return float(self._without_suffix(text))

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        try:
            accepted = self.minimum() <= self.valueFromText(text) <= self.maximum()
        except ValueError:
            incomplete = set(self._without_suffix(text)) <= _NUMBER_CHARACTERS
            return (QValidator.State.Intermediate if incomplete else QValidator.State.Invalid), text, position
        return (QValidator.State.Acceptable if accepted else QValidator.State.Intermediate), text, position

    def _without_suffix(self, text: str) -> str:
        return text.removesuffix(self.suffix()).strip().replace(",", ".")


def show_unit(box: QSpinBox | QDoubleSpinBox, unit: str) -> None:
    """Show the unit behind the number, in the singular behind a 1.

    Args:
        box: Number field; it reports a number that is typed when that is complete, so that the unit never changes
            while somebody types.
        unit: Unit in the plural.
    """

    def update(value: float) -> None:
        box.setSuffix(f" {singular(unit) if value == 1 else unit}")

    box.setKeyboardTracking(False)
    box.valueChanged.connect(update)
    update(box.value())


class _DropLine(QLineEdit):  # type: ignore[misc]
    """Line edit in which the path of a dropped file replaces the text."""

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            self.setText(paths[0])
            event.acceptProposedAction()
        else:
            super().dropEvent(event)


class FileField(QWidget):  # type: ignore[misc]
    """Line edit for a path, with a button that opens a dialog; `changed` is emitted when the path changes.

    Args:
        ask: Opens the dialog, given its parent and the current path; returns the chosen path, empty if cancelled.
        tooltip: Explains the file.
        placeholder: Shown while the line is empty.
    """

    changed = Signal()

    def __init__(
        self, ask: Callable[[QWidget, str], str] | None = None, tooltip: str = "", placeholder: str = "none"
    ) -> None:
        super().__init__()
        self._ask = ask or _ask_file
        self.line = _DropLine()
        self.line.setClearButtonEnabled(True)
        self.line.setPlaceholderText(placeholder)
        self.line.textChanged.connect(self.changed)
        browse = button("…", "Browse", self._browse)
        browse.setFixedWidth(30)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, stretch=1)
        layout.addWidget(browse)
        self.setToolTip(tooltip)
        self.setFocusProxy(self.line)

    def path(self) -> str:
        """The path in the line."""
        return str(self.line.text()).strip()

    def set_path(self, path: str) -> None:
        """Show a path."""
        self.line.setText(path)

    def _browse(self) -> None:
        if path := self._ask(self, self.path()):
            self.set_path(path)


def _ask_file(parent: QWidget, path: str) -> str:
    return str(QFileDialog.getOpenFileName(parent, "Open a file", path)[0])


def ask_save_path(parent: QWidget, title: str, name: str, file_types: str) -> str:
    """Ask where to save a file.

    Args:
        parent: Parent of the dialog.
        title: Title of the dialog.
        name: Proposed file name.
        file_types: File types in Qt's notation, such as `"Models (*.safetensors)"`; the last one is the default.

    Returns:
        The chosen path; empty if the dialog was cancelled.
    """
    dialog = QFileDialog(parent, title, "", file_types)
    dialog.selectFile(name)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(file_types.rpartition(".")[2].rstrip(")"))
    return str(dialog.selectedFiles()[0]) if dialog.exec() else ""


def ask(parent: QWidget, question: str, yes: str, no: str) -> bool:
    """Ask a question with two answers; returns whether the first was chosen."""
    box = QMessageBox(QMessageBox.Icon.Question, "Pristine", question, parent=parent)
    accept = box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
    box.addButton(no, QMessageBox.ButtonRole.RejectRole)
    box.exec()
    return box.clickedButton() is accept


def button(text: str, tooltip: str, clicked: Callable[[], object]) -> QPushButton:
    """Make a push button; `clicked` is a method without arguments (Qt keeps no reference to the owner of a method)."""
    push_button = QPushButton(text)
    push_button.setToolTip(tooltip)
    push_button.clicked.connect(clicked)
    return push_button


def copy_text(write: Callable[[], str], what: str) -> None:
    """Copy a text to the clipboard and say so; errors are shown.

    Args:
        write: Writes the text.
        what: Name of it at the beginning of a sentence.
    """
    try:
        text = write()
    except PristineError as error:
        show_error(str(error))
        return
    QGuiApplication.clipboard().setText(text)
    show_info(f"{what} is on the clipboard.")


def set_enabled(widget: QWidget, reason: str = "") -> None:
    """Enable a widget, or disable it and put the reason before its tooltip.

    Args:
        widget: The widget.
        reason: Reason why it cannot be used now, as a sentence; empty if it can.
    """
    text = widget.property("tooltip")
    if text is None:
        text = widget.toolTip()
        widget.setProperty("tooltip", text)
    widget.setEnabled(not reason)
    widget.setToolTip("\n".join(filter(None, (reason, text))))


def find_panel(viewer: Viewer, kind: type[P]) -> P | None:
    """The panel of a kind that is docked in the window of a viewer, if there is one."""
    docked = getattr(viewer.window, "dock_widgets", {})  # new in napari 0.6.2
    return next((widget for widget in docked.values() if isinstance(widget, kind)), None)


class DockPanel(QWidget):  # type: ignore[misc]
    """Base class of dock panels: when one is opened, it is a tab beside the others on its side, in front.

    Args:
        viewer: The napari viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self._opened = False

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Become a tab the first time; later, the panel stays where the user has put it."""
        super().showEvent(event)
        if not self._opened:
            self._opened = True
            _put_in_tab(self)


def _put_in_tab(panel: QWidget) -> None:
    dock = panel.parentWidget()
    while dock is not None and not isinstance(dock, QDockWidget):
        dock = dock.parentWidget()
    if dock is None or dock.isFloating():
        return
    window = dock.parentWidget()
    if not isinstance(window, QMainWindow) or window.tabifiedDockWidgets(dock):
        return
    area = window.dockWidgetArea(dock)
    others = [
        other
        for other in window.findChildren(QDockWidget, options=Qt.FindChildOption.FindDirectChildrenOnly)
        if other is not dock
        and not other.isHidden()
        and not other.isFloating()
        and window.dockWidgetArea(other) == area
    ]
    if others:
        window.tabifyDockWidget(others[-1], dock)
        dock.raise_()


def form_layout(parent: QWidget) -> QFormLayout:
    """Give a widget an empty form layout: labels on the left, fields as wide as the panel allows."""
    layout = QFormLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return layout


class _FormLabel(QLabel):  # type: ignore[misc]
    """Label that is as wide as the longest ones, in the font that the window gives it."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        wide = self.fontMetrics().horizontalAdvance("Refractive index    ")
        return super().minimumSizeHint().expandedTo(QSize(wide, 0))

    def sizeHint(self) -> QSize:  # noqa: N802
        return super().sizeHint().expandedTo(self.minimumSizeHint())


def label_for(field: QWidget, text: str) -> QLabel:
    """Make the label of a field; all labels are equally wide, so that the fields of all forms are aligned."""
    label = _FormLabel(text)
    label.setBuddy(field)  # screen readers name the field by it
    label.setToolTip(field.toolTip())
    return label


def wrapped_label() -> QLabel:
    """Make a label that wraps its text and never widens the panel."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, label.sizePolicy().verticalPolicy())
    return label


def side_by_side(*widgets: QWidget) -> QWidget:
    """Put widgets in one line; fields take the remaining width, and buttons share it if there are only buttons."""
    line = QWidget()
    layout = QHBoxLayout(line)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget, stretch=int(not isinstance(widget, (QLabel, QAbstractButton))))
    return line


def collapsible(title: str, content: QWidget, indent: int = 0) -> QCollapsible:
    """Make a section that is collapsed until its title is clicked."""
    section = QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")
    for part in (section, section.content()):
        part.layout().setContentsMargins(indent, 4, 0, 0)
    section.addWidget(content)
    return section


def limit_width(box: ComboBox) -> None:
    """Keep long entries of a combo box from widening the panel."""
    box.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.native.setMinimumContentsLength(12)
