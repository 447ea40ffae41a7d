"""What a file calls its parts, each with a choice of what that is on this slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QComboBox, QFrame, QGridLayout, QLabel, QScrollArea, QSizePolicy, QWidget

from napari_hspnet._qt.export_view import Choice, narrow
from napari_hspnet._qt.slots import slot
from napari_hspnet.classes import BACKGROUND, CLASSES
from napari_hspnet.exchange.incoming import LEFT

__all__ = ["Name", "NameList"]

_CHOICES: tuple[tuple[str, int], ...] = (
    *((c.name, c.value) for c in CLASSES),
    ("none of the four", BACKGROUND),
    ("leave out", LEFT),
)
_CHOICE_WIDTH = 150
_MOST_LINES = 6
"""Names that are seen at once; the others are scrolled to."""

_AT_ONCE = 20
"""Lines that are made before the window is let do other things."""


@dataclass(frozen=True)
class Name:
    """A line of the list.

    Attributes
    ----------
    key : str
        What the file calls it.
    words, tip : str
        For people, short and in full.
    count : str
        How much of it there is.
    grade : int or None
        What it is: 0 to 4, 255 for left out, None where that has to be asked.
    """

    key: str
    words: str
    tip: str
    count: str
    grade: int | None


class NameList(QScrollArea):
    """A line for each name, those that have to be answered first."""

    answered = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("import_names")
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.choices: dict[str, QComboBox] = {}
        self.labels: dict[str, QLabel] = {}
        self._names: list[Name] = []
        self._grid = QGridLayout()
        self._making = QTimer(self)
        self._making.setSingleShot(True)
        self._making.setInterval(0)
        self._making.timeout.connect(self._make_lines)

    @property
    def grades(self) -> dict[str, int]:
        """What each name is; those that are not answered are absent."""
        said = {name.key: name.grade for name in self._names}
        said |= {key: choice.currentData() for key, choice in self.choices.items()}
        return {key: grade for key, grade in said.items() if grade is not None}

    @property
    def unanswered(self) -> int:
        """How many names still have to be answered."""
        return len(self._names) - len(self.grades)

    def show_names(self, names: Sequence[Name]) -> None:
        """List these names and no others."""
        self._making.stop()
        self._names = sorted(names, key=_place)
        self.choices, self.labels = {}, {}
        holder = QWidget()
        self._grid = QGridLayout(holder)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(4)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(0, 1)
        self._grid.setRowStretch(len(names), 1)
        self._make_lines()
        self.setWidget(holder)
        self.setVisible(bool(names))
        if names:
            line = holder.sizeHint().height() / len(self.choices)
            # Half a line more says that there are others below.
            seen = len(names) if len(names) <= _MOST_LINES else _MOST_LINES + 0.5
            self.setFixedHeight(int(line * seen) + 2)

    @slot
    def _make_lines(self) -> None:
        begun = len(self.choices)
        for line, name in enumerate(self._names[begun : begun + _AT_ONCE], start=begun):
            self._make_line(line, name)
        self._mark()
        if len(self.choices) < len(self._names):
            self._making.start()

    def _make_line(self, line: int, name: Name) -> None:
        label = _Elided(name.words)
        label.setToolTip(name.tip)
        count = QLabel(name.count)
        count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        choice = Choice()
        choice.setObjectName(f"import_grade_{name.key}")
        choice.setToolTip(f"{name.tip}: what it is on this slide")
        if name.grade is None:
            choice.addItem("choose…", None)
        for words, grade in _CHOICES:
            choice.addItem(words, grade)
        if name.grade is not None:
            choice.setCurrentIndex(choice.findData(name.grade))
        narrow(choice)
        choice.setMinimumWidth(_CHOICE_WIDTH)
        choice.activated.connect(self._chosen)
        for column, widget in enumerate((label, count, choice)):
            self._grid.addWidget(widget, line, column)
        self.choices[name.key], self.labels[name.key] = choice, label

    @slot
    def _chosen(self) -> None:
        self._mark()
        self.answered.emit()

    def _mark(self) -> None:
        """Let what has to be answered stand out."""
        for key, label in self.labels.items():
            kind = "warning" if self.choices[key].currentData() is None else ""
            if kind != (label.property("kind") or ""):
                label.setProperty("kind", kind)
                label.style().unpolish(label)
                label.style().polish(label)


class _Elided(QLabel):
    """A line that is cut in its middle where it does not fit."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._full = text
        self.setTextFormat(Qt.TextFormat.PlainText)
        # A strange name must not push what stands beside it out of sight.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setText(text)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self.setText(
            self.fontMetrics().elidedText(self._full, Qt.TextElideMode.ElideMiddle, self.width())
        )


def _place(name: Name) -> tuple[bool, int, str]:
    """What has to be answered first; numbers by size, words by the alphabet."""
    number = int(name.key) if name.key.lstrip("-").isdecimal() else 0
    return name.grade is not None, number, name.words.casefold()
