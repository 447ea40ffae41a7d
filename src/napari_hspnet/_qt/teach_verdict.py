"""Whether the new model is better, in words, figures and pictures, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_hspnet._qt.parts import Note, PrimaryButton, button, row
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.teach_words import VerdictRow, verdict_rows
from napari_hspnet.classes import RESEARCH_USE_ONLY

__all__ = ["VerdictTable", "VerdictView", "read_picture"]

_PICTURE = 268, 160
_HEADS = ("", "before", "after", "change, 95 %")
_KINDS = {"worse": "error"}


class VerdictTable(QWidget):
    """Measures before and after, a line each."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(5)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(0, 1)
        self.rows: tuple[VerdictRow, ...] = ()

    def show_rows(self, title: str, rows: tuple[VerdictRow, ...]) -> None:
        """Show a set's figures; nothing where there are none."""
        self.rows = rows
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        for column, head in enumerate((title, *_HEADS[1:])):
            self._put(0, column, head, "", "font-size: 11px; font-weight: bold;")
        for line, one in enumerate(rows, 1):
            mark = {"better": "\u2009▲", "worse": "\u2009▼"}.get(one.decision, "")
            for column, text in enumerate((one.name, one.before, one.after, one.change + mark)):
                self._put(line, column, text, one.tip, "font-size: 11px;", one.decision)
        self.setVisible(bool(rows))

    def _put(
        self, line: int, column: int, text: str, tip: str, style: str, decision: str = ""
    ) -> None:
        cell = QLabel(text)
        cell.setToolTip(tip)
        cell.setStyleSheet(style)
        cell.setProperty("kind", _KINDS.get(decision, ""))
        side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
        self._grid.addWidget(cell, line, column, side | Qt.AlignmentFlag.AlignBottom)


class VerdictView(QWidget):
    """The verdict, Accept and Refuse; afterwards what can be done next."""

    accept_asked = Signal()
    refuse_asked = Signal()
    again_asked = Signal()
    back_asked = Signal()
    picture_asked = Signal(str)
    """The user wants to see a picture large."""

    picture_wanted = Signal(str)
    """A picture is to be read, and handed to `show_picture`."""

    changed = Signal()
    """A verdict is shown, decided or gone."""

    def __init__(self) -> None:
        super().__init__()
        self._pictures: tuple[tuple[str, str], ...] = ()
        self._at = 0
        self.title = Note(name="teach_verdict_title")
        self.title.setStyleSheet("font-weight: bold;")
        self.text = Note(name="teach_verdict")
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.held = VerdictTable("teach_held_back")
        self.reference = VerdictTable("teach_reference_set")
        self.picture = QToolButton()
        self.picture.setObjectName("teach_picture")
        self.picture.setToolTip("Where the overlay would change; click to see it large")
        self.picture.setStyleSheet("border: none; padding: 0;")
        self.caption = Note(name="teach_caption", faint=True)
        self.caption.setTextFormat(Qt.TextFormat.PlainText)
        self.earlier = button("<", "The picture before this one", "teach_picture_before")
        self.later = button(">", "The next picture", "teach_picture_next")
        for step in (self.earlier, self.later):
            step.setFixedWidth(28)
        self.accept = button(
            "Accept", "The new model is used from now on", "teach_accept", PrimaryButton
        )
        self.refuse = button(
            "Refuse", "Keep the model of now; the registry keeps this decision", "teach_refuse"
        )
        self.again = button(
            "Segment again",
            "Run the new model where the last run was; corrections stay on top",
            "teach_again",
            PrimaryButton,
        )
        self.back = button("Go back", "Use the model before this one again", "teach_back")
        self.told = Note(name="teach_decided")
        self.told.setTextFormat(Qt.TextFormat.PlainText)
        # Where its widest part is wider than the dock, Qt would ask how high the text is
        # at that width, and give it too little.
        self.setMinimumWidth(1)
        self._lay_out()
        self._connect()
        self.clear()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self._picture_row = row(self.earlier, self.caption, self.later, stretch=1)
        self.decide_row = row(self.accept, self.refuse, None)
        self.after_row = row(self.again, self.back, None)
        for widget in (
            self.title,
            self.text,
            self.held,
            self.reference,
            self.picture,
            self._picture_row,
            self.decide_row,
            self.told,
            self.after_row,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.accept.clicked.connect(lambda: self.accept_asked.emit())
        self.refuse.clicked.connect(lambda: self.refuse_asked.emit())
        self.again.clicked.connect(lambda: self.again_asked.emit())
        self.back.clicked.connect(lambda: self.back_asked.emit())
        self.earlier.clicked.connect(lambda: self._turn(-1))
        self.later.clicked.connect(lambda: self._turn(1))
        self.picture.clicked.connect(self._ask_for_picture)

    def clear(self) -> None:
        """Nothing was taught."""
        self._pictures = ()
        self.told.say("")
        self.hide()
        self.changed.emit()

    @property
    def waits(self) -> bool:
        """Whether a verdict is shown that nobody has decided on."""
        return not self.isHidden() and not self.decide_row.isHidden()

    def show_verdict(
        self,
        title: str,
        text: str,
        verdict: Mapping[str, Any],
        pictures: Sequence[Sequence[str]],
        advised: bool,
    ) -> None:
        """Show what was found.

        Parameters
        ----------
        title : str
            The decision in a few words.
        text : str
            All of it for people.
        verdict : mapping
            See `Verdict.to_json`.
        pictures : sequence of (path, caption)
            Where the overlay would change.
        advised : bool
            Whether accepting is what the figures say.
        """
        self.title.say(title)
        self.text.say(f"{text}\n{RESEARCH_USE_ONLY}.")
        self.held.show_rows("Held back", verdict_rows(verdict["held_back"]))
        reference = verdict["reference"]
        if reference is None:
            self.reference.show_rows("", ())
        else:
            # In one line it would not fit beside the figures.
            name = "Synthetic\nreference" if reference["synthetic"] else "Reference set"
            self.reference.show_rows(name, verdict_rows(reference))
        self._pictures, self._at = tuple((str(p), str(c)) for p, c in pictures), 0
        self._show_caption()
        self.accept.set_primary(advised)
        self.accept.setToolTip(
            "Use the new model from now on; one click goes back"
            if advised
            else "Use the new model from now on, though the figures do not say that it is better"
        )
        self.allow_decision(True)
        self.told.say("")
        self.decide_row.show()
        self.after_row.hide()
        self.show()
        self.changed.emit()

    def allow_decision(self, allowed: bool) -> None:
        """Whether it can be accepted or refused just now."""
        self.accept.setEnabled(allowed)
        self.refuse.setEnabled(allowed)

    def show_decided(self, text: str, kind: str = "") -> None:
        """It was decided."""
        self.decide_row.hide()
        self.told.say(text, kind)
        self.changed.emit()

    def show_after(self, back_to: str) -> None:
        """Offer what comes after a model was accepted; "" where one went back already."""
        self.back.setText("Go back")
        self.back.setToolTip(f"Use {back_to} again; the new model stays in the list")
        self.back.setVisible(bool(back_to))
        self.after_row.show()

    def allow_again(self, why_not: str, what: str) -> None:
        """Let one segment again, or say in the tooltip why not."""
        self.again.setEnabled(not why_not)
        self.again.set_primary(not why_not)
        self.again.setToolTip(why_not or f"{what}; corrections stay on top")

    def _turn(self, by: int) -> None:
        self._at = (self._at + by) % max(1, len(self._pictures))
        self._show_caption()

    def _show_caption(self) -> None:
        self.picture.hide()
        if self._pictures:
            path, caption = self._pictures[self._at]
            count = f"{self._at + 1} of {len(self._pictures)}: "
            self.caption.say((count if len(self._pictures) > 1 else "") + caption)
            self.picture_wanted.emit(path)
        self._picture_row.setVisible(bool(self._pictures))
        for step in (self.earlier, self.later):
            step.setVisible(len(self._pictures) > 1)

    def show_picture(self, path: str, picture: QImage) -> None:
        """Show a picture that was read, if it is still the one that is looked at."""
        if picture.isNull() or not self._pictures or self._pictures[self._at][0] != path:
            return
        self.picture.setIconSize(picture.size())
        self.picture.setIcon(QIcon(QPixmap.fromImage(picture)))
        self.picture.show()

    @slot
    def _ask_for_picture(self) -> None:
        if self._pictures:
            self.picture_asked.emit(self._pictures[self._at][0])


def read_picture(path: str) -> QImage:
    """A picture as large as the dock shows it; null where there is none. A worker calls it."""
    read = QImage(path)
    if read.isNull():
        return read
    return read.scaled(
        *_PICTURE,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
