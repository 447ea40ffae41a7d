"""Importing masks and outlines: what the file calls things, what would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFrame,
    QGridLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.export_view import Choice, narrow, number_field
from napari_hspnet._qt.import_names import Name, NameList
from napari_hspnet._qt.parts import Note, PrimaryButton, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.words import elided
from napari_hspnet.exchange.geojson import Origin

__all__ = ["ImportView", "Placing"]


@dataclass(frozen=True)
class Placing:
    """How a file lies on the slide; all None where it says so itself.

    Attributes
    ----------
    origin : {"bounds", "level0"} or None
        Of outlines.
    mpp : float or None
        µm per pixel of a mask.
    at : tuple of float or None
        (y, x) in µm of a mask's first pixel.
    """

    origin: Origin | None = None
    mpp: float | None = None
    at: tuple[float, float] | None = None


class ImportView(QWidget):
    """A button, and once a file is read what it holds and what would change."""

    file_asked = Signal()
    stop_asked = Signal()
    placed = Signal()
    """The file is to be read again, as `placing` says."""

    answered = Signal()
    show_asked = Signal()
    import_asked = Signal()
    close_asked = Signal()
    opened = Signal(bool)
    """Whether a file is being looked at, which needs room."""

    def __init__(self) -> None:
        super().__init__()
        self.open = button("Import…", "", "import_open")
        self.bar = ProgressStrip()
        self.bar.setObjectName("import_progress")
        self.stage = Note(name="import_stage")
        self.stop = button("Cancel", "Stop; nothing is changed", "import_stop")
        self.stop_row = row(self.stage, self.stop, stretch=0)
        self.error = Note(name="import_error")
        self.told = Note(name="import_told")
        self.file = Note(name="import_file")
        self.notes = Note(name="import_notes", faint=True)
        for note in (self.error, self.told, self.file, self.notes):
            # What stands in a file is no markup.
            note.setTextFormat(Qt.TextFormat.PlainText)
        self._make_placing()
        self.asked = Note(name="import_asked")
        self.names = NameList()
        self.rest = Choice()
        self.rest.setObjectName("import_rest")
        self.rest.addItem("stays as it is", "leave")
        self.rest.addItem("none of the four", "none")
        self.rest.setToolTip(
            "What becomes of the places that the file says nothing of; with outlines, only "
            "where a grade is shown now"
        )
        narrow(self.rest)
        self.agreeing = QCheckBox("Also accept what agrees")
        self.agreeing.setObjectName("import_agreeing")
        self.agreeing.setToolTip(
            "Where the file says what is shown already, count it as looked at and right"
        )
        self.planning = ProgressStrip(4)
        self.planned = Note(name="import_planned")
        self.warning = Note(name="import_warning")
        self.where = button("Show where", "Zoom to all that would change", "import_where")
        self.go = button("Import", "", "import_go", PrimaryButton)
        self.close_it = button("Cancel", "Change nothing", "import_close")
        self.panel = self._make_panel()
        self._lay_out()
        self._connect()
        self.show_idle()

    def _make_placing(self) -> None:
        self.origin = Choice()
        self.origin.setObjectName("import_origin")
        self.origin.addItem("as the file says", None)
        self.origin.addItem("scanned area (QuPath)", "bounds")
        self.origin.addItem("the slide's corner", "level0")
        self.origin.setToolTip(
            "Where the file's outlines count from: QuPath begins at the corner of the scanned "
            "area, others at that of the whole image"
        )
        narrow(self.origin)
        self.origin_row = row(QLabel("(0, 0) is"), self.origin, stretch=1)
        self.mpp = number_field(
            "import_mpp", " µm/px", "as the file says", "µm per pixel of the mask", 1000.0
        )
        self.at = tuple(
            number_field(f"import_{axis}", " µm", "", tip, 1e6)
            for axis, tip in (
                ("x", "How far right of the slide's left edge the mask begins"),
                ("y", "How far below the slide's upper edge the mask begins"),
            )
        )
        for field in self.at:
            field.setRange(-1e6, 1e6)
            field.setDecimals(1)
            field.setSingleStep(10)
            field.setValue(0.0)
        self.again = button(
            "Read again", "Lay the mask onto the slide as it is said here", "import_again"
        )
        self.mask_row = QWidget()
        grid = QGridLayout(self.mask_row)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(3)
        grid.setColumnStretch(1, 1)
        for line, (words, field) in enumerate(
            (
                ("The mask has", self.mpp),
                ("It begins right by", self.at[0]),
                ("and down by", self.at[1]),
            )
        ):
            grid.addWidget(QLabel(words), line, 0)
            grid.addWidget(field, line, 1)
        grid.addWidget(self.again, 3, 1)

    def _make_panel(self) -> QFrame:
        self.answers = QWidget()
        inner = QVBoxLayout(self.answers)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(4)
        self.rest_label = QLabel("")
        for widget in (
            self.notes,
            self.asked,
            self.names,
            row(self.rest_label, self.rest, stretch=1),
            self.agreeing,
            self.planning,
            self.planned,
            self.warning,
            row(self.where, None),
        ):
            inner.addWidget(widget)
        panel = QFrame()
        panel.setObjectName("import_panel")
        panel.setFrameShape(QFrame.Shape.StyledPanel)
        layout = QVBoxLayout(panel)
        layout.setContentsMargins(3, 4, 3, 6)
        layout.setSpacing(4)
        for widget in (
            self.file,
            self.origin_row,
            self.mask_row,
            self.answers,
            row(self.go, self.close_it, None),
        ):
            layout.addWidget(widget)
        return panel

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        for widget in (self.open, self.panel, self.bar, self.stop_row, self.error, self.told):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.open.clicked.connect(lambda: self.file_asked.emit())
        self.stop.clicked.connect(lambda: self.stop_asked.emit())
        self.again.clicked.connect(lambda: self.placed.emit())
        self.origin.activated.connect(lambda _: self.placed.emit())
        self.names.answered.connect(self._answered)
        self.rest.activated.connect(lambda _: self.answered.emit())
        self.agreeing.clicked.connect(lambda: self.answered.emit())
        self.where.clicked.connect(lambda: self.show_asked.emit())
        self.go.clicked.connect(lambda: self.import_asked.emit())
        self.close_it.clicked.connect(lambda: self.close_asked.emit())

    # What is said

    @property
    def placing(self) -> Placing:
        """How the file is to lie on the slide."""
        x, y = (field.value() for field in self.at)
        return Placing(
            self.origin.currentData(), self.mpp.value() or None, (y, x) if x or y else None
        )

    @property
    def rest_becomes(self) -> Literal["leave", "none"]:
        """What the file does not cover."""
        return "none" if self.rest.currentData() == "none" else "leave"

    # Showing

    def allow(self, why_not: str) -> None:
        """Enable the button, or say in its tooltip why it cannot be pressed."""
        self.open.setEnabled(not why_not)
        self.open.setToolTip(
            why_not
            or "Outlines (GeoJSON) or a mask (PNG, TIFF) of this slide; nothing is changed "
            "before you have seen it"
        )

    def show_progress(self, text: str, part: float | None) -> None:
        """What is being done; `part` is None while it is not known how far it is."""
        self.bar.show_part(0 if part is None else int(part * 1000), 0 if part is None else 1000)
        self.stage.say(text)
        self.stop.setEnabled(True)
        self.bar.show()
        self.stop_row.show()
        self.open.hide()

    def show_stopping(self) -> None:
        """Cancelling takes a moment."""
        self.stop.setEnabled(False)
        self.stage.say("Stopping")

    def hide_progress(self) -> None:
        """Nothing is being done."""
        self.bar.hide()
        self.stop_row.hide()

    def show_idle(self) -> None:
        """No file is open."""
        self.hide_progress()
        self.panel.hide()
        self.open.show()
        self.names.show_names(())
        self.opened.emit(False)

    def reset_placing(self) -> None:
        """Another file lies as it says itself."""
        self.origin.setCurrentIndex(0)
        for field in (self.mpp, *self.at):
            field.setValue(0.0)

    def show_placing(self, name: str, mask: bool, origin: bool) -> None:
        """Which file it is, and how one can say where it lies on the slide.

        Parameters
        ----------
        name : str
            The file's.
        mask : bool
            Whether µm per pixel and a place can be given.
        origin : bool
            Whether the point of origin can be chosen.
        """
        self.hide_progress()
        self.open.hide()
        self.file.say(f"Import of {elided(name, 36)}")
        self.mask_row.setVisible(mask)
        self.origin_row.setVisible(origin)
        self.answers.hide()
        self.go.hide()
        self.panel.show()
        self.opened.emit(True)

    def show_content(
        self, notes: Sequence[str], names: Sequence[Name], rest: str, rest_is_none: bool
    ) -> None:
        """What a file holds.

        Parameters
        ----------
        notes : sequence of str
            What the user should know of it.
        names : sequence of Name
            What occurs in it.
        rest : str
            What its rest is called.
        rest_is_none : bool
            Whether its rest says "none of the four".
        """
        self.notes.say("\n".join(f"{note}." for note in notes))
        self.names.show_names(names)
        self._show_asked()
        self.rest_label.setText(rest)
        self.rest.setCurrentIndex(int(rest_is_none))
        self.answers.show()
        self.go.show()

    def _show_asked(self) -> None:
        count = self.names.unanswered
        self.asked.say(
            f"Say what {'this is' if count == 1 else f'these {count} are'}:" if count else "",
            "warning",
        )

    @slot
    def _answered(self) -> None:
        self._show_asked()
        self.answered.emit()

    def show_planning(self, part: float | None) -> None:
        """It is being found out what would change; None while it is not known how far."""
        self.planning.show_part(
            0 if part is None else int(part * 1000), 0 if part is None else 1000
        )
        self.planning.show()

    def show_planned(self, text: str, warning: str, somewhere: bool) -> None:
        """What would change, in words, and whether there is a place to go to."""
        self.planning.hide()
        self.planned.say(text)
        self.warning.say(warning, "warning")
        self.where.setEnabled(somewhere)
        self.where.setVisible(somewhere)

    def allow_import(self, why_not: str) -> None:
        """Enable the button, or say in its tooltip why it cannot be pressed."""
        self.go.setEnabled(not why_not)
        self.go.set_primary(not why_not)
        self.go.setToolTip(why_not or "Change the overlay; one undo takes it all back")

    def show_importing(self, importing: bool) -> None:
        """Whether it is being done, when nothing can be said any more."""
        self.panel.setEnabled(not importing)
