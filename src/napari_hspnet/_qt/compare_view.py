"""How two readings agree, and where they do not."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QLabel,
    QListWidget,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.parts import Note, bring_to_sight, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.slots import slot

__all__ = ["CompareView"]

_MOST_PLACES = 7


class CompareView(QWidget):
    """Another reading beside the open one; says what is asked for through signals."""

    asked = Signal(int)
    """Compare with the reading of this number in the list."""

    cancel_asked = Signal()
    place_asked = Signal(int)
    list_asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._warning = ""
        self.choice = QComboBox()
        self.choice.setObjectName("compare_choice")
        self.choice.setAccessibleName("Reading to compare with")
        self.choice.setToolTip("Which reading of this slide to compare the open one with")
        self.choice.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.go = button("Compare", "", "compare_go")
        self.warning = Note(name="compare_warning")
        self.sure = button("Show it", "Compare, and see what the other reader said", "compare_sure")
        self.back = button("Not now", "Stay blind", "compare_back")
        self._ask = row(None, self.sure, self.back)
        self.bar = ProgressStrip()
        self.bar.setObjectName("compare_progress")
        self.stage = Note(name="compare_stage")
        self.cancel = button("Cancel", "Stop comparing", "compare_cancel")
        self._running = row(self.stage, self.cancel, stretch=0)
        self.head = Note(name="compare_head")
        # A name is no markup.
        self.head.setTextFormat(Qt.TextFormat.PlainText)
        self.figures = Note(name="compare_figures", faint=True)
        self.figures.setToolTip(
            "Same CIN2+: on the same side of CIN2. Corrected: what both corrected or accepted. "
            "Reviewed: what lies in regions that both reviewed or signed off. Analysed: all that "
            "has a grade. Worst: the worst grade of each region that both reviewed. "
            "Kappa is 1 for always the same, 0 for as often as chance has it; weighted, two "
            "grades apart count four times one."
        )
        self.tail = Note(name="compare_tail")
        self.places = QListWidget()
        self.places.setObjectName("compare_places")
        self.places.setToolTip("Double-click a place to go there")
        self.places.setAccessibleName("Places where the two readings differ")
        self.places.setStyleSheet("font-size: 11px;")
        self.places.setUniformItemSizes(True)
        self.places.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.places.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.listing = button("Add to the list", "", "compare_list")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (
            row(self.go, QLabel("with"), self.choice, stretch=2),
            self.warning,
            self._ask,
            self.bar,
            self._running,
            self.head,
            self.figures,
            self.tail,
            self.places,
            self.listing,
        ):
            layout.addWidget(widget)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.go.clicked.connect(self._go)
        self.sure.clicked.connect(self._sure)
        self.back.clicked.connect(lambda: self._warn(False))
        self.cancel.clicked.connect(lambda: self.cancel_asked.emit())
        self.listing.clicked.connect(lambda: self.list_asked.emit())
        self.choice.activated.connect(lambda number: self._warn(False))
        self.places.itemDoubleClicked.connect(
            lambda item: self.place_asked.emit(self.places.row(item))
        )
        self.show_idle()
        self.show_result("", (), "", ())
        self.allow_listing("")
        self.offer((), "")

    def offer(self, names: Sequence[str], warning: str) -> None:
        """Which readings the open one can be compared with; none hides all of it.

        Parameters
        ----------
        names : sequence of str
            Of the other readings.
        warning : str
            What one has to know before one looks; empty if nothing.
        """
        self.setVisible(bool(names))
        chosen = self.choice.currentText()
        if names != [self.choice.itemText(n) for n in range(self.choice.count())]:
            self.choice.clear()
            self.choice.addItems(list(names))
            self.choice.setCurrentIndex(max(0, self.choice.findText(chosen)))
        self._warning = warning
        self._warn(False)
        self.go.setToolTip("Say how well the two agree, and list where they do not")

    @slot
    def _go(self) -> None:
        if self._warning:
            self._warn(True)
        else:
            self.asked.emit(self.choice.currentIndex())

    @slot
    def _sure(self) -> None:
        self._warn(False)
        self.asked.emit(self.choice.currentIndex())

    def _warn(self, on: bool) -> None:
        self.warning.say(self._warning if on else "", "warning")
        self._ask.setVisible(on)

    def allow_listing(self, why_not: str) -> None:
        """Enable taking the places into the list, or say in the tooltip why it cannot be."""
        self.listing.setEnabled(not why_not)
        self.listing.setToolTip(
            why_not or "Review these places as regions; a comment on each says who said what"
        )

    def show_progress(self, text: str, part: float) -> None:
        """The two are being compared."""
        self.go.setEnabled(False)
        self.bar.show_part(int(part * 100), 100)
        self.bar.show()
        self._running.show()
        self.stage.say(text)

    def show_idle(self) -> None:
        """Nothing is under way."""
        self.go.setEnabled(True)
        self.bar.hide()
        self._running.hide()

    def show_result(
        self, head: str, rows: Sequence[Sequence[str]], tail: str, places: Sequence[str]
    ) -> None:
        """Say how they agree, and list where they differ.

        Parameters
        ----------
        head : str
            Whose readings; empty hides all of it.
        rows : sequence of sequence of str
            A table, the headings first.
        tail : str
            What is to be known of the figures.
        places : sequence of str
            Where they differ.
        """
        self.head.say(head)
        self.figures.say(_table(rows) if rows else "")
        self.tail.say(tail)
        self.places.clear()
        self.places.addItems(list(places))
        self.places.setFixedHeight(8 + 15 * min(max(len(places), 2), _MOST_PLACES))
        self.places.setVisible(bool(places))
        self.listing.setVisible(bool(places))

    def come_to_sight(self) -> None:
        """Let the dock scroll here, once there is room made for what is shown."""
        QTimer.singleShot(0, self._come_to_sight)

    @slot
    def _come_to_sight(self) -> None:
        bring_to_sight(self)

    def show_error(self, text: str) -> None:
        """It could not be done."""
        self.show_result("", (), "", ())
        self.head.say(text, "error")


def _table(rows: Sequence[Sequence[str]]) -> str:
    """As Qt's rich text; our own words alone."""
    lines = []
    for number, each in enumerate(rows):
        kind = "td" if number else "th"
        cells = [
            f'<{kind} align="{"right" if n else "left"}">{t}</{kind}>' for n, t in enumerate(each)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table cellspacing="0" cellpadding="2" width="100%">{"".join(lines)}</table>'
