"""The Teach section: what to learn from, how, how far it is, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_hspnet._qt.parts import FoldingSection, Note, PrimaryButton, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.teach_curves import TeachCurves
from napari_hspnet._qt.teach_options import TeachOptions
from napari_hspnet._qt.teach_verdict import VerdictView
from napari_hspnet._qt.teach_words import Account, AccountRow, count_text, joined
from napari_hspnet._qt.words import elided

__all__ = ["SourceRow", "SourceTable", "TeachView"]

_INTRO = (
    "A model learns from reviewed and signed-off regions: what was corrected there, and what was "
    "left as it was. A part is held back to judge it by."
)
_SMALL = "font-size: 11px;"


@dataclass(frozen=True)
class SourceRow:
    """An open slide that one can learn from.

    Attributes
    ----------
    key : int
        Of the slide in this window.
    name : str
    regions : int
        Reviewed or signed off, without a tag.
    """

    key: int
    name: str
    regions: int


@dataclass
class _Line:
    box: QCheckBox
    count: QLabel
    patient: QLineEdit


class SourceTable(QWidget):
    """Slides to tick, with their regions and whose they are."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("teach_sources")
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(0, 1)
        self.lines: dict[int, _Line] = {}
        self._rows: tuple[SourceRow, ...] = ()

    def show_rows(self, rows: tuple[SourceRow, ...]) -> None:
        """List slides; what was ticked and said of those that were there stays."""
        if rows == self._rows:
            return
        self._rows = rows
        keys = {one.key for one in rows}
        for gone in self.lines.keys() - keys:
            line = self.lines.pop(gone)
            for widget in (line.box, line.count, line.patient):
                widget.hide()
                self._grid.removeWidget(widget)
                widget.deleteLater()
        for place, one in enumerate(rows):
            line = self.lines.get(one.key) or self._add(one)
            line.count.setText(count_text(one.regions, "region"))
            for column, widget in enumerate((line.box, line.count, line.patient)):
                self._grid.addWidget(widget, place, column)
        self.setVisible(bool(rows))

    def _add(self, one: SourceRow) -> _Line:
        box = QCheckBox(elided(one.name, 18))
        box.setObjectName(f"teach_source_{one.key}")
        box.setToolTip(one.name)
        box.setChecked(True)
        patient = QLineEdit()
        patient.setObjectName(f"teach_patient_{one.key}")
        patient.setPlaceholderText("patient")
        patient.setFixedWidth(70)
        patient.setToolTip(
            "Whose slide it is, where two slides are of one patient: any name that you choose. "
            "Without one it counts as a patient of its own"
        )
        patient.setAccessibleName(f"Patient of {one.name}")
        line = self.lines[one.key] = _Line(box, QLabel(), patient)
        box.toggled.connect(lambda: self.changed.emit())
        patient.textEdited.connect(lambda: self.changed.emit())
        return line

    @property
    def ticked(self) -> tuple[tuple[int, str], ...]:
        """(key, patient) of the slides to learn from, in their order."""
        return tuple(
            (one.key, " ".join(self.lines[one.key].patient.text().split()))
            for one in self._rows
            if self.lines[one.key].box.isChecked()
        )


class _AccountTable(QWidget):
    """mm² by class: learned as corrected, learned as the model had it, held back."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("teach_account")
        self.setToolTip("Accepted: reviewed, and left as the model had it")
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(0, 1)
        self._rows: tuple[AccountRow, ...] = ()

    def show_rows(self, rows: tuple[AccountRow, ...]) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        lines = [("mm²", "corrected", "accepted", "held back")]
        lines += [(one.name, one.corrected, one.accepted, one.held) for one in rows]
        for place, line in enumerate(lines):
            for column, text in enumerate(line):
                cell = QLabel(text)
                cell.setStyleSheet(_SMALL if place else f"{_SMALL} font-weight: bold;")
                side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
                self._grid.addWidget(cell, place, column, side)


class TeachView(QWidget):
    """From reviewed regions to a model that learned from them."""

    plan_asked = Signal()
    teach_asked = Signal()
    go_on_asked = Signal()
    cancel_asked = Signal()
    look_asked = Signal()
    """The user wants to see the verdict that waits."""

    opened = Signal()
    """The section is seen, after it was not."""

    changed = Signal()
    """Something else is chosen to learn from, or another way to do it."""

    def __init__(self) -> None:
        super().__init__()
        # As in `VerdictView`.
        self.setMinimumWidth(1)
        self.intro = Note(_INTRO, name="teach_intro", faint=True)
        self.waiting = Note(name="teach_waiting")
        self.look = button(
            "Look at it", "Show the verdict again, to accept or refuse the model", "teach_look"
        )
        self.sources = SourceTable()
        self.plan = button("Look what it would learn", "", "teach_plan")
        self.planning = ProgressStrip(6)
        self.learns = Note(name="teach_learns", faint=True)
        self.account = _AccountTable()
        self.holds = Note(name="teach_holds", faint=True)
        self.remarks = Note(name="teach_remarks", faint=True)
        self.remarks.setTextFormat(Qt.TextFormat.PlainText)
        self.options = TeachOptions()
        self.details = FoldingSection("Details", self.options, "teach_details")
        self.details.set_open(False)
        self.details.setMinimumWidth(1)
        self.teach = button("Fine-tune", "", "teach", PrimaryButton)
        self.go_on = button(
            "Go on", "Go on with the fine-tuning that was broken off, where it was", "teach_go_on"
        )
        self.note = Note(name="teach_note", faint=True)
        self.stage = Note(name="teach_stage")
        self.cancel = button(
            "Cancel",
            "Stop within two seconds; the model stays as it is, and one can go on later",
            "teach_cancel",
        )
        self.bar = ProgressStrip()
        self.bar.setObjectName("teach_progress")
        self.curves = TeachCurves()
        self.told = Note(name="teach_told")
        self.told.setTextFormat(Qt.TextFormat.PlainText)
        self.verdict = VerdictView()
        self._lay_out()
        self._connect()
        self.sources.hide()
        self.curves.hide()
        self.planning.hide()
        self.account.hide()
        self._runs = False
        self.offer_to_go_on("")
        self.show_waiting("")
        self.show_idle()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        self.cancel_row = row(self.stage, self.cancel, stretch=0)
        self.start_row = row(self.teach, self.go_on, stretch=0)
        self.waiting_row = row(self.waiting, self.look, stretch=0)
        for widget in (
            self.intro,
            self.waiting_row,
            self.sources,
            self.plan,
            self.planning,
            self.learns,
            self.account,
            self.holds,
            self.remarks,
            self.details,
            self.start_row,
            self.note,
            self.bar,
            self.cancel_row,
            self.curves,
            self.told,
            self.verdict,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.plan.clicked.connect(lambda: self.plan_asked.emit())
        self.teach.clicked.connect(lambda: self.teach_asked.emit())
        self.go_on.clicked.connect(lambda: self.go_on_asked.emit())
        self.cancel.clicked.connect(lambda: self.cancel_asked.emit())
        self.sources.changed.connect(self._follow)
        self.options.changed.connect(self._follow)
        self.look.clicked.connect(lambda: self.look_asked.emit())
        self.verdict.changed.connect(self._offer_waiting)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        if not event.spontaneous():
            self.opened.emit()

    @slot
    def _follow(self) -> None:
        self.changed.emit()

    def allow(self, why_not: str, primary: bool) -> None:
        """Enable what begins something, or say why it cannot be pressed.

        Parameters
        ----------
        why_not : str
            Empty where it can be pressed.
        primary : bool
            Whether to fine-tune is what one would do next.
        """
        for widget in (self.plan, self.teach):
            widget.setEnabled(not why_not)
        self.teach.set_primary(primary and not why_not)
        self.teach.setToolTip(
            why_not or "Begin; one can go on reviewing meanwhile. The model of now stays as it is"
        )
        self.plan.setToolTip(
            why_not or "Count patches, areas and what is held back; nothing is learned yet"
        )
        self.note.say(why_not)

    def offer_to_go_on(self, tip: str) -> None:
        """Offer to go on with what was broken off; "" where there is nothing."""
        self.go_on.setVisible(bool(tip))
        if tip:
            self.go_on.setToolTip(tip)

    def show_waiting(self, text: str) -> None:
        """Say which verdict waits for a decision; "" where none does."""
        self.waiting.say(text)
        self._offer_waiting()

    @slot
    def _offer_waiting(self) -> None:
        # One thing to decide at a time.
        offered = self.waiting.text() and not self._runs and not self.verdict.waits
        self.waiting_row.setVisible(bool(offered))

    def show_planning(self, on: bool) -> None:
        """What it would learn is being counted, or no more."""
        self.planning.show_part(0, 0)
        self.planning.setVisible(on)
        self.plan.setText("Looking…" if on else "Look what it would learn")

    def show_account(self, account: Account | None, stale: bool = False) -> None:
        """Say what it would learn from; None says nothing.

        Parameters
        ----------
        account : Account or None
        stale : bool
            Whether something was corrected or chosen since.
        """
        there = account is not None
        self.account.setVisible(there)
        if account is None:
            for note in (self.learns, self.holds, self.remarks):
                note.say("")
            return
        self.account.show_rows(account.rows)
        self.learns.say(account.learns)
        self.learns.setToolTip(account.whole)
        self.holds.say(account.holds)
        since = "Something changed since; look again." if stale else ""
        self.remarks.say(joined((*account.notes, since)))

    def show_running(self, rounds: int) -> None:
        """It learns, for so many rounds."""
        self._runs = True
        self.start_row.hide()
        self.plan.hide()
        self.details.hide()
        self.note.say("")
        self.told.say("")
        self.verdict.clear()
        self.cancel.setEnabled(True)
        self.bar.show()
        self.cancel_row.show()
        self.curves.begin(rounds)
        self.curves.show()

    def show_progress(self, text: str, part: float | None) -> None:
        """What is being done, and which part of it is done; None while that is not known."""
        self.bar.show_part(0 if part is None else int(part * 1000), 0 if part is None else 1000)
        self.stage.say(text)

    def show_idle(self) -> None:
        """Nothing learns."""
        self._runs = False
        self._offer_waiting()
        self.bar.hide()
        self.cancel_row.hide()
        self.start_row.show()
        self.plan.show()
        self.details.show()
