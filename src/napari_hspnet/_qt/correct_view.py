"""The Correct section: grade, tool, and what is corrected at once."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.parts import Note, PrimaryButton, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.slots import slot
from napari_hspnet.classes import BACKGROUND, CLASSES, Palette

__all__ = ["CLICKS", "TOOLS", "CorrectView"]

TOOLS = {
    "region": ("Region", "Click on a region: what a click does is chosen below"),
    "paint": ("Brush", "Paint the grade; P, and E paints “none of the four”"),
    "fill": ("Fill", "Fill what is connected, in view; F"),
    "polygon": ("Polygon", "Click corners, double-click to close, and it gets the grade"),
}

CLICKS: dict[str, tuple[str, str, tuple[int, int, int] | None]] = {
    "grade": ("Set the grade of the region", "", None),
    "accept": ("Accept the region as it is", "", None),
    "grow": ("Grow the region", " µm", (1, 20, 500)),
    "shrink": ("Shrink the region", " µm", (1, 20, 500)),
    "holes": ("Fill its holes up to", " µm²", (1, 2000, 1_000_000)),
    "prediction": ("Take corrections in it back", "", None),
    "review": ("Add it to the review list", "", None),
}
"""What a click on a region does: words, unit, (least, usual, most) of its amount."""

_GRADES = {BACKGROUND: ("none", "None of the four")} | {c.value: (c.name, c.name) for c in CLASSES}


class CorrectView(QWidget):
    """Shows how one corrects now; says what is asked for through signals."""

    paint_asked = Signal(bool)
    zoom_asked = Signal()
    grade_chosen = Signal(int)
    tool_chosen = Signal(str)
    brush_changed = Signal(int)
    accept_view_asked = Signal()
    specks_asked = Signal(int)
    drawn_asked = Signal(str)
    undo_asked = Signal()
    redo_asked = Signal()
    cancel_asked = Signal()
    changes_toggled = Signal(bool)

    def __init__(self, keys: dict[str, str]) -> None:
        super().__init__()
        self._keys = keys
        self.paint = button("", "", "paint_here", PrimaryButton)
        self.paint.setCheckable(True)
        self.note = Note(name="correct_note")
        self.zoom = button("Zoom in", "To the widest view that one can paint in", "zoom_in")
        self.grades: dict[int, QPushButton] = {}
        self.grade_row = self._make_grades()
        self.tools: dict[str, QPushButton] = {}
        self.tool_row = self._make_tools()
        self.brush = QSlider(Qt.Orientation.Horizontal)
        self.brush.setObjectName("brush_size")
        self.brush.setRange(1, 400)
        self.brush.setToolTip("Width of the brush; [ and ] change it by 1 µm")
        self.brush.setAccessibleName("Brush width")
        self.brush_text = QLabel("")
        self.brush_text.setMinimumWidth(52)
        self.brush_row = row(QLabel("Brush"), self.brush, self.brush_text, stretch=1)
        self.click = QComboBox()
        self.click.setObjectName("click_does")
        self.click.setToolTip("What a click on a region of the overlay does")
        for name, (words, _, _) in CLICKS.items():
            self.click.addItem(words, name)
        self.amount = QSpinBox()
        self.amount.setObjectName("click_amount")
        self.amount.setToolTip("How much")
        self._amounts = {name: limits[1] for name, (_, _, limits) in CLICKS.items() if limits}
        _narrow(self.click)
        self.click_row = row(self.click, self.amount, stretch=0)
        self.accept = button(
            "Accept what I see",
            f"All of the overlay in view is right as it is ({keys['accept']})",
            "accept_view",
        )
        self.specks = button(
            "Drop specks", "Regions in view smaller than this become their surroundings", "specks"
        )
        self.specks_below = QSpinBox()
        self.specks_below.setObjectName("specks_below")
        self.specks_below.setRange(1, 100_000)
        self.specks_below.setValue(400)
        self.specks_below.setSuffix(" µm²")
        self.specks_below.setToolTip("Regions smaller than this are specks")
        self.drawn = QComboBox()
        self.drawn.setObjectName("drawn_does")
        self.drawn.setToolTip("What happens to all that lies inside the drawn regions")
        for name, words in (
            ("grade", "set the grade"),
            ("accept", "accept as it is"),
            ("prediction", "take corrections back"),
        ):
            self.drawn.addItem(words, name)
        _narrow(self.drawn)
        self.drawn_go = button(
            "Do", "In the selected drawn regions, or in all (section Segment: Draw)", "drawn_go"
        )
        self.undo = button("Undo", f"Take the last correction back ({keys['undo']})", "undo")
        self.redo = button("Redo", f"Do it again ({keys['redo']})", "redo")
        self.saved = QLabel("")
        self.saved.setObjectName("saved")
        self.bar = ProgressStrip()
        self.bar.setObjectName("correct_progress")
        self.stage = Note(name="correct_stage")
        self.cancel = button("Cancel", "Stop; nothing is changed", "correct_cancel")
        self.changes = QCheckBox("Show what was changed")
        self.changes.setObjectName("show_changes")
        self.changes.setToolTip("Outline where the overlay is not what the model said")
        self.changed = Note(name="changed", faint=True)
        self.error = Note(name="correct_error")
        self._lay_out()
        self._connect()
        self.show_painting(False)
        self.show_idle()
        self.show_brush(40)
        self.show_grade(3)
        self.show_tool("paint")

    def _make_grades(self) -> QWidget:
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(3)
        group = QButtonGroup(self)
        for column, (value, (short, words)) in enumerate(_GRADES.items()):
            made = button(short, f"{words} ({self._keys[f'grade_{value}']})", f"grade_{value}")
            made.setCheckable(True)
            made.clicked.connect(lambda _=False, v=value: self.grade_chosen.emit(v))
            group.addButton(made)
            self.grades[value] = made
            grid.addWidget(made, 0, column)
        return holder

    def _make_tools(self) -> QWidget:
        group = QButtonGroup(self)
        for name, (words, tip) in TOOLS.items():
            made = button(words, tip, f"tool_{name}")
            made.setCheckable(True)
            made.setStyleSheet("padding: 3px 4px;")
            made.clicked.connect(lambda _=False, n=name: self.tool_chosen.emit(n))
            group.addButton(made)
            self.tools[name] = made
        return row(*self.tools.values())

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        for widget in (
            self.paint,
            self.note,
            self.zoom,
            self.grade_row,
            self.tool_row,
            self.brush_row,
            self.click_row,
            row(self.accept, None),
            row(self.specks, QLabel("below"), self.specks_below, None),
            row(QLabel("In drawn"), self.drawn, self.drawn_go, stretch=1),
            row(self.undo, self.redo, None, self.saved),
            self.bar,
            row(self.stage, self.cancel, stretch=0),
            self.error,
            self.changes,
            self.changed,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.paint.clicked.connect(self.paint_asked)
        self.zoom.clicked.connect(lambda: self.zoom_asked.emit())
        self.brush.valueChanged.connect(self._brush_moved)
        self.click.currentIndexChanged.connect(self._click_chosen)
        self.amount.valueChanged.connect(self._amount_given)
        self.accept.clicked.connect(lambda: self.accept_view_asked.emit())
        self.specks.clicked.connect(lambda: self.specks_asked.emit(self.specks_below.value()))
        self.drawn_go.clicked.connect(lambda: self.drawn_asked.emit(self.drawn.currentData()))
        self.undo.clicked.connect(lambda: self.undo_asked.emit())
        self.redo.clicked.connect(lambda: self.redo_asked.emit())
        self.cancel.clicked.connect(lambda: self.cancel_asked.emit())
        self.changes.clicked.connect(self.changes_toggled)
        self._click_chosen()

    @property
    def click_does(self) -> tuple[str, int]:
        """What a click on a region does, one of `CLICKS`, and the amount."""
        return self.click.currentData(), self.amount.value()

    @slot
    def _brush_moved(self, width: int) -> None:
        self.brush_text.setText(f"{width} µm")
        self.brush_changed.emit(width)

    @slot
    def _click_chosen(self) -> None:
        name = self.click.currentData()
        _, unit, limits = CLICKS[name]
        self.amount.setVisible(limits is not None)
        if limits is not None:
            self.amount.blockSignals(True)
            self.amount.setRange(limits[0], limits[2])
            self.amount.setSuffix(unit)
            self.amount.setValue(self._amounts[name])
            self.amount.blockSignals(False)

    @slot
    def _amount_given(self, value: int) -> None:
        self._amounts[self.click.currentData()] = value

    def show_palette(self, palette: Palette) -> None:
        """Underline each grade with its colour."""
        for value, made in self.grades.items():
            rgb = palette.colours.get(value, (128, 128, 128))
            colour = f"rgb({rgb[0]}, {rgb[1]}, {rgb[2]})"
            made.setStyleSheet(
                f"QPushButton {{ padding: 3px 2px; border-bottom: 4px solid {colour}; }}"
                "QPushButton:checked { background-color: #1769c4; color: white;"
                f" font-weight: bold; border-bottom: 4px solid {colour}; }}"
            )

    def show_painting(self, on: bool) -> None:
        """Whether one corrects now."""
        key = self._keys["paint"]
        self.paint.setChecked(on)
        self.paint.setText(f"Done ({key})" if on else f"Correct here ({key})")
        if on:
            self.paint.setToolTip("Leave correcting; all is saved")
        for widget in (self.grade_row, self.tool_row):
            widget.setVisible(on)
        self._show_tool_rows()

    def allow(self, why_not: str, undo: bool, redo: bool, primary: bool) -> None:
        """Enable what can be done; say in tooltips why it cannot.

        Parameters
        ----------
        why_not : str
            Empty where one can correct.
        undo, redo : bool
            Whether there is something to undo, to redo.
        primary : bool
            Whether correcting is what one would do next.
        """
        self.paint.setEnabled(not why_not)
        self.paint.set_primary(primary and not why_not and not self.paint.isChecked())
        if why_not or not self.paint.isChecked():
            self.paint.setToolTip(why_not or "Paint and regrade on the slide where you look")
        for widget in (self.accept, self.specks, self.drawn_go):
            widget.setEnabled(not why_not)
        self.undo.setEnabled(undo and not why_not)
        self.redo.setEnabled(redo and not why_not)

    def show_too_wide(self, too_wide: bool) -> None:
        """Whether too much is in view to paint."""
        self.note.say(
            "Too wide a view to paint in; regions can be clicked." if too_wide else "", "warning"
        )
        self.zoom.setVisible(too_wide)

    def show_grade(self, value: int) -> None:
        """The grade that is painted."""
        if value in self.grades:
            self.grades[value].setChecked(True)

    def show_tool(self, name: str) -> None:
        """The tool that the mouse is."""
        if name in self.tools:
            self.tools[name].setChecked(True)
        self._show_tool_rows()

    def _show_tool_rows(self) -> None:
        on = self.paint.isChecked()
        self.brush_row.setVisible(on and self.tools["paint"].isChecked())
        self.click_row.setVisible(on and self.tools["region"].isChecked())

    def show_brush(self, width: int) -> None:
        """The brush's width in µm."""
        self.brush.blockSignals(True)
        self.brush.setMaximum(max(400, width))
        self.brush.setValue(width)
        self.brush.blockSignals(False)
        self.brush_text.setText(f"{width} µm")

    def show_progress(self, text: str, part: float) -> None:
        """How far an act is that takes its time."""
        self.bar.show_part(int(part * 100), 100)
        self.bar.show()
        self.cancel.show()
        self.stage.say(text)

    def show_idle(self) -> None:
        """Nothing is under way."""
        self.bar.hide()
        self.cancel.hide()
        self.stage.say("")


def _narrow(choice: QComboBox) -> None:
    """Let a choice be narrower than its longest entry."""
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    choice.setMinimumContentsLength(8)
