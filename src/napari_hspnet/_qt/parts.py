"""Small widgets that all sections share."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPixmap
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

__all__ = [
    "FoldingSection",
    "Note",
    "PrimaryButton",
    "bring_to_sight",
    "button",
    "notes_stylesheet",
    "row",
    "swatch",
]

_COLOURS = {
    "dark": {"error": "#ff7a7d", "warning": "#f0a530"},
    "light": {"error": "#b3161b", "warning": "#8a5200"},
}


def notes_stylesheet(dark: bool) -> str:
    """Colours of notes that are legible on napari's dark or light themes."""
    colours = _COLOURS["dark" if dark else "light"]
    return "".join(
        f'QLabel[kind="{kind}"] {{ color: {colour}; }}' for kind, colour in colours.items()
    )


class Note(QLabel):
    """A wrapped line of text that takes no room while it is empty."""

    def __init__(self, text: str = "", name: str = "", faint: bool = False) -> None:
        super().__init__(text)
        self.setObjectName(name)
        self.setWordWrap(True)
        # Wrapping can only break at spaces; a long word must not widen the dock.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        if faint:
            self.setStyleSheet("font-size: 11px;")
        self.say(text)

    def say(self, text: str, kind: str = "") -> None:
        """Show a text; `kind` is "", "error" or "warning"."""
        if kind != self.property("kind"):
            self.setProperty("kind", kind)
            # Qt looks at a property in a style sheet only when it is polished anew.
            self.style().unpolish(self)
            self.style().polish(self)
        self.setText(text)
        self.setVisible(bool(text))


class PrimaryButton(QPushButton):
    """A button that can be the one to press now."""

    def set_primary(self, primary: bool) -> None:
        """Let it stand out, or not."""
        self.setStyleSheet(
            "QPushButton:enabled { background-color: #1769c4; color: white; font-weight: bold; }"
            "QPushButton:enabled:hover { background-color: #2b7fdb; }"
            "QPushButton:focus { border: 1px solid white; }"
            if primary
            else ""
        )


def button(text: str, tip: str, name: str, kind: type[QPushButton] = QPushButton) -> Any:
    """A button that the keyboard reaches."""
    made = kind(text)
    made.setToolTip(tip)
    made.setObjectName(name)
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return made


def row(*widgets: QWidget | None, stretch: int | None = None) -> QWidget:
    """Widgets side by side; None is a stretch."""
    holder = QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    for index, widget in enumerate(widgets):
        if widget is None:
            layout.addStretch(1)
        else:
            layout.addWidget(widget, 1 if index == stretch else 0)
    return holder


def bring_to_sight(widget: QWidget) -> None:
    """Scroll the dock until a widget can be seen."""
    area = widget.parentWidget()
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parentWidget()
    if area is not None:
        area.ensureWidgetVisible(widget)


class FoldingSection(QWidget):
    """A title that folds what is under it.

    superqt's QCollapsible pins the height that its content had when it was
    unfolded; ours come and go all the time.
    """

    def __init__(self, title: str, content: QWidget, name: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.content = content
        self.toggle = QToolButton()
        self.toggle.setObjectName(f"{name}_toggle")
        self.toggle.setText(title)
        self.toggle.setCheckable(True)
        self.toggle.setChecked(True)
        self.toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.toggle.setArrowType(Qt.ArrowType.DownArrow)
        self.toggle.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.toggle.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.toggle.setToolTip(f"Fold or unfold: {title}")
        self.toggle.setStyleSheet(
            "QToolButton { font-weight: bold; border: none; padding: 3px; text-align: left;"
            " background: rgba(128, 128, 140, 45); border-radius: 2px; }"
            "QToolButton:hover { background: rgba(128, 128, 140, 80); }"
            "QToolButton:focus { border: 1px solid #2b7fdb; }"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.toggle)
        layout.addWidget(content)
        self.toggle.toggled.connect(self.set_open)

    @property
    def is_open(self) -> bool:
        """Whether it is unfolded."""
        return self.toggle.isChecked()

    def set_open(self, opened: bool) -> None:
        """Fold or unfold."""
        self.toggle.setChecked(opened)
        arrow = Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow
        self.toggle.setArrowType(arrow)
        self.content.setVisible(opened)


def swatch(rgb: tuple[int, int, int], width: int, filled: bool) -> QPixmap:
    """A sample of a class as the overlay draws it, on the colours of tissue."""
    size = QSize(26, 14)
    picture = QPixmap(size)
    picture.fill(QColor(232, 190, 214))
    painter = QPainter(picture)
    colour = QColor(*rgb)
    if filled:
        inside = QColor(colour)
        inside.setAlphaF(0.45)
        painter.fillRect(1, 1, 24, 12, inside)
    pen = painter.pen()
    pen.setColor(colour)
    pen.setWidth(min(width, 3))
    pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
    painter.setPen(pen)
    inset = 1 + min(width, 3) // 2
    painter.drawRect(inset, inset, 25 - 2 * inset, 13 - 2 * inset)
    pen.setColor(QColor(20, 20, 30))
    pen.setWidth(1)
    painter.setPen(pen)
    painter.drawRect(0, 0, 25, 13)
    painter.end()
    return picture
