"""The Slide section: which slide, how fine, where one is."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.overview import Overview
from napari_hspnet._qt.parts import Note, PrimaryButton, bring_to_sight, button, row
from napari_hspnet._qt.reading_view import ReadingView
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.words import OBJECTIVES

__all__ = ["SlideView"]


class SlideView(QWidget):
    """Shows one slide; says what the user asks for through signals."""

    open_asked = Signal()
    sample_asked = Signal()
    slide_chosen = Signal(int)
    mpp_given = Signal(str)
    objective_asked = Signal(int)
    fit_asked = Signal()
    reader_given = Signal(str)
    label_asked = Signal()
    attach_asked = Signal()
    ruler_toggled = Signal(bool)

    def __init__(self, keys: dict[int, str]) -> None:
        super().__init__()
        self.empty = Note(
            "No slide is open. Drop a slide file onto the window, use File > Open, or begin here.",
            "slide_empty",
        )
        self.open_button = button(
            "Open slide…",
            "Choose a slide file (svs, ndpi, mrxs, tiff, dcm, …)",
            "open_slide",
            PrimaryButton,
        )
        self.sample_button = button(
            "Open the sample", "A small real slide (H&E of skin, CC0)", "open_sample"
        )
        self.starters = row(self.open_button, self.sample_button)
        self.choice = QComboBox()
        self.choice.setObjectName("slide_choice")
        self.choice.setToolTip("Which of the open slides this is about")
        self.choice.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.name = Note(name="slide_name")
        self.details = Note(name="slide_details", faint=True)
        self.label = button("Show label…", "", "show_label")
        self.label.setStyleSheet("padding: 2px 6px;")
        self.ruler = button("Ruler", "Drag lines that say how long they are", "ruler")
        self.ruler.setCheckable(True)
        self.ruler.setStyleSheet("padding: 2px 6px;")
        self.name_row = row(self.name, self.ruler, self.label, stretch=0)
        self.overview = Overview()
        self.zoom_text = QLabel("")
        self.zoom_text.setObjectName("zoom_text")
        self.zoom_text.setToolTip(
            "Magnification on this screen as objective equivalent: x10 is 1 µm per screen pixel"
        )
        self._objectives = []
        for power in OBJECTIVES:
            small = button(
                f"x{power}", f"View as with objective x{power} ({keys[power]})", f"x{power}"
            )
            small.setMinimumWidth(30)
            small.setStyleSheet("padding: 2px 3px;")
            small.clicked.connect(lambda _=False, p=power: self.objective_asked.emit(p))
            self._objectives.append(small)
        fit = button("fit", "Show the whole slide (Ctrl+0)", "fit")
        fit.setMinimumWidth(28)
        fit.setStyleSheet("padding: 2px 3px;")
        fit.clicked.connect(lambda: self.fit_asked.emit())
        self.zoom_row = row(self.zoom_text, None, *self._objectives, fit)
        self.mpp_note = Note(name="mpp_note")
        self.mpp_field = QLineEdit()
        self.mpp_field.setObjectName("mpp_field")
        self.mpp_field.setPlaceholderText("0.25")
        self.mpp_field.setMaximumWidth(80)
        self.mpp_field.setToolTip("µm per pixel of the slide's finest level (x40: about 0.25)")
        self.mpp_field.setAccessibleName("µm per pixel")
        self.mpp_button = button(
            "Use", "Take this resolution for the slide", "mpp_use", PrimaryButton
        )
        self.mpp_row = row(QLabel("µm per pixel"), self.mpp_field, self.mpp_button, None)
        self.reader = QLineEdit()
        self.reader.setObjectName("reader")
        self.reader.setPlaceholderText("who corrects, e.g. Dr. A. Ito")
        self.reader.setToolTip("Your name: it stands beside all that you correct and sign off")
        self.reader.setAccessibleName("Reader")
        self.reader_row = row(QLabel("Reader"), self.reader, stretch=1)
        self.readings = ReadingView()
        self.case_note = Note(name="case_note", faint=True)
        self.attach_note = Note(name="attach_note")
        self.attach = button(
            "Attach that case", "Go on with its runs and corrections on this file", "attach"
        )
        self.attach_row = row(self.attach, None)
        self.error = Note(name="slide_error")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        for widget in (
            self.empty,
            self.starters,
            self.choice,
            self.name_row,
            self.details,
            self.overview,
            self.zoom_row,
            self.mpp_note,
            self.mpp_row,
            self.reader_row,
            self.readings,
            self.case_note,
            self.attach_note,
            self.attach_row,
            self.error,
        ):
            layout.addWidget(widget)
        self.open_button.clicked.connect(lambda: self.open_asked.emit())
        self.sample_button.clicked.connect(lambda: self.sample_asked.emit())
        self.label.clicked.connect(lambda: self.label_asked.emit())
        self.ruler.toggled.connect(self.ruler_toggled)
        self.attach.clicked.connect(lambda: self.attach_asked.emit())
        self.choice.activated.connect(self.slide_chosen)
        self.mpp_button.clicked.connect(self._give_mpp)
        self.mpp_field.returnPressed.connect(self._give_mpp)
        self.reader.textChanged.connect(self.reader_given)
        self.show_empty()

    @property
    def objective_buttons(self) -> list[QPushButton]:
        """Those of x2 to x40."""
        return self._objectives

    def show_empty(self) -> None:
        """No slide is open."""
        self._show(False)
        self.choice.hide()
        for note in (self.name, self.details, self.mpp_note, self.case_note):
            note.say("")
        self.mpp_row.hide()
        self.offer_case("")
        self.empty.show()
        self.starters.show()
        self.open_button.set_primary(True)

    def show_slide(self, name: str, details: str) -> None:
        """A slide is open."""
        self._show(True)
        self.empty.hide()
        self.starters.hide()
        self.name.say(name)
        self.name.setStyleSheet("font-weight: bold;")
        self.details.say(details)

    def show_choices(self, names: list[str], chosen: int) -> None:
        """Let the user choose, where several slides are open."""
        self.choice.blockSignals(True)
        self.choice.clear()
        self.choice.addItems(names)
        self.choice.setCurrentIndex(chosen)
        self.choice.blockSignals(False)
        self.choice.setVisible(len(names) > 1)

    def show_ruler(self, on: bool) -> None:
        """Whether the mouse measures."""
        self.ruler.blockSignals(True)
        self.ruler.setChecked(on)
        self.ruler.blockSignals(False)

    def offer_case(self, text: str) -> None:
        """Offer the case of an earlier file of the slide; hide that where `text` is empty."""
        self.attach_note.say(text, "warning" if text else "")
        self.attach_row.setVisible(bool(text))

    def ask_mpp(self, why: str) -> None:
        """Show the field for µm per pixel; hide it where `why` is empty."""
        self.mpp_note.say(why, "warning" if why else "")
        self.mpp_row.setVisible(bool(why))
        self.mpp_button.set_primary(bool(why))
        if not why:
            self.mpp_field.clear()

    def _show(self, shown: bool) -> None:
        shown_with = (self.name_row, self.overview, self.zoom_row, self.reader_row, self.readings)
        for widget in shown_with:
            widget.setVisible(shown)

    def allow_label(self, why_not: str) -> None:
        """Enable the button for the label, or say in its tooltip why there is none."""
        self.label.setEnabled(not why_not)
        self.label.setToolTip(
            why_not or "The slide's label, to check the patient; it is never shown by itself"
        )

    def ask_for_reader(self) -> None:
        """Take the user to the field for the name."""
        bring_to_sight(self.reader)
        self.reader.setFocus()

    @slot
    def _give_mpp(self) -> None:
        self.mpp_given.emit(self.mpp_field.text())

    def keyPressEvent(self, event: object) -> None:
        # Enter in the field must not also reach napari's keys.
        if getattr(event, "key", lambda: None)() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            return
        super().keyPressEvent(event)
