"""Whose reading of the slide this is, and the beginning of a second one."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.parts import Note, PrimaryButton, button, row
from napari_hspnet._qt.slots import slot

__all__ = ["ReadingView"]


class ReadingView(QWidget):
    """The readings of one slide; says what is asked for through signals."""

    chosen = Signal(int)
    begin_asked = Signal(str, bool, bool)
    """(reader, whether the model's answer is shown, whether regions are taken over)"""

    def __init__(self) -> None:
        super().__init__()
        self.choice = QComboBox()
        self.choice.setObjectName("reading_choice")
        self.choice.setAccessibleName("Reading")
        self.choice.setToolTip("Whose reading of the slide is open; each has a case of its own")
        self.choice.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.add = button("", "", "second_reader")
        self.add.setStyleSheet("padding: 2px 6px;")
        self.name = QLineEdit()
        self.name.setObjectName("second_name")
        self.name.setPlaceholderText("who reads it too, e.g. Dr. B. Cho")
        self.name.setToolTip("That reader alone can correct and review there")
        self.name.setAccessibleName("Second reader")
        self.model = QCheckBox("with what the model said")
        self.model.setObjectName("second_model")
        self.model.setChecked(True)
        self.model.setToolTip("Else the second reader begins with the bare slide")
        self.regions = QCheckBox("with your drawn regions and tiles")
        self.regions.setObjectName("second_regions")
        self.regions.setToolTip(
            "So that both go through the same places; without states, tags and comments. "
            "Parts of the overlay are not taken over: their shape shows your grades."
        )
        self.begin = button("Begin", "Make the second reading", "second_begin", PrimaryButton)
        self.back = button("Not now", "Make none", "second_back")
        self.note = Note(name="reading_note")
        asked = QLabel("The second reader sees nothing of what you did.")
        asked.setWordWrap(True)
        self._ask = QWidget()
        inner = QVBoxLayout(self._ask)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(3)
        for widget in (asked, self.name, self.model, self.regions):
            inner.addWidget(widget)
        inner.addWidget(row(None, self.begin, self.back))
        self._ask.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._title = QLabel("Reading")
        self._space = QWidget()
        self._row = row(self._title, self.choice, self._space, self.add)
        self._row.layout().setStretchFactor(self.choice, 1)
        self._row.layout().setStretchFactor(self._space, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self._row, self._ask, self.note):
            layout.addWidget(widget)
        self.choice.activated.connect(self.chosen)
        self.add.clicked.connect(lambda: self.ask(True))
        self.back.clicked.connect(lambda: self.ask(False))
        self.begin.clicked.connect(self._begin)
        self.name.returnPressed.connect(self._begin)
        self.name.textChanged.connect(lambda text: self._allow_begin())
        self.allow("Open a slide first.")
        self.show_readings((), -1)

    def ask(self, on: bool) -> None:
        """Unfold the question who reads second, or fold it."""
        self._ask.setVisible(on)
        self.name.clear()
        self._allow_begin()
        if on:
            self.name.setFocus()

    def show_readings(self, names: Sequence[str], current: int) -> None:
        """Which readings there are, the first one first; none hides all of it."""
        self._row.setVisible(bool(names))
        if not names:
            self.ask(False)
        self.choice.blockSignals(True)
        self.choice.clear()
        self.choice.addItems(list(names))
        self.choice.setCurrentIndex(current)
        self.choice.blockSignals(False)
        several = len(names) > 1
        for widget in (self._title, self.choice):
            widget.setVisible(several)
        self._space.setVisible(not several)
        # Beside the choice there is no room for more.
        self.add.setText("Add…" if several else "Second reader…")

    def allow(self, why_not: str) -> None:
        """Enable beginning another reading, or say in the tooltip why it cannot be."""
        self.add.setEnabled(not why_not)
        self.add.setToolTip(
            why_not or "Let somebody else read the slide without seeing what you did"
        )
        if why_not:
            self.ask(False)

    @slot
    def _allow_begin(self) -> None:
        named = bool(self.name.text().strip())
        self.begin.setEnabled(named)
        self.begin.set_primary(named)
        self.begin.setToolTip("Make the second reading" if named else "Say who reads it too.")

    @slot
    def _begin(self) -> None:
        name = " ".join(self.name.text().split())
        if name:
            self.begin_asked.emit(name, self.model.isChecked(), self.regions.isChecked())
