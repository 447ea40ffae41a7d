"""The Segment section: where, how long it will take, how far it is."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QRadioButton, QVBoxLayout, QWidget

from napari_hspnet._qt.parts import Note, PrimaryButton, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.slots import slot

__all__ = ["TARGETS", "SegmentView"]

TARGETS = ("view", "shapes", "slide")

_TARGET_TEXTS = {
    "view": ("What I see", "The part of the slide that the window shows"),
    "shapes": ("Drawn regions", "The selected regions, or all that are drawn"),
    "slide": ("Whole slide", "All of the slide; windows without tissue are left out"),
}


class SegmentView(QWidget):
    """Target, estimate, buttons, progress."""

    target_changed = Signal(str)
    draw_asked = Signal(bool)
    segment_asked = Signal()
    cancel_asked = Signal()

    def __init__(self, segment_key: str) -> None:
        super().__init__()
        self.targets: dict[str, QRadioButton] = {}
        self._group = QButtonGroup(self)
        for target in TARGETS:
            text, tip = _TARGET_TEXTS[target]
            radio = QRadioButton(text)
            radio.setToolTip(tip)
            radio.setObjectName(f"target_{target}")
            radio.toggled.connect(lambda on, t=target: on and self.target_changed.emit(t))
            self._group.addButton(radio)
            self.targets[target] = radio
        self._key = segment_key
        self.draw = button(
            "Draw", "Draw rectangles on the slide; napari's tools give other shapes", "draw"
        )
        self.draw.setCheckable(True)
        self.estimate = Note(name="estimate")
        self.segment = button("Segment", "", "segment", PrimaryButton)
        self.cancel = button("Cancel", "Stop within a second; nothing of the run stays", "cancel")
        self.bar = ProgressStrip()
        self.bar.setObjectName("progress")
        self.stage = Note(name="stage")
        self.error = Note(name="segment_error")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        layout.addWidget(self.targets["view"])
        layout.addWidget(row(self.targets["shapes"], None, self.draw))
        layout.addWidget(self.targets["slide"])
        for widget in (self.estimate, self.segment, self.bar, self.stage, self.cancel, self.error):
            layout.addWidget(widget)
        self.targets["view"].setChecked(True)
        self.draw.toggled.connect(self.draw_asked)
        self.segment.clicked.connect(lambda: self.segment_asked.emit())
        self.cancel.clicked.connect(lambda: self.cancel_asked.emit())
        self.show_idle()

    @property
    def target(self) -> str:
        """ "view", "shapes" or "slide"."""
        return next(t for t in TARGETS if self.targets[t].isChecked())

    def set_target(self, target: str) -> None:
        """Choose what to segment."""
        self.targets[target].setChecked(True)

    def set_drawing(self, drawing: bool) -> None:
        """Show whether the drawing tool is on."""
        self.draw.blockSignals(True)
        self.draw.setChecked(drawing)
        self.draw.setText("Done" if drawing else "Draw")
        self.draw.blockSignals(False)

    def allow(self, why_not: str, primary: bool = True) -> None:
        """Enable the button, or say in its tooltip why it cannot be pressed.

        Parameters
        ----------
        why_not : str
            Empty where it can be pressed.
        primary : bool
            Whether it is what one would press next.
        """
        self.segment.setEnabled(not why_not)
        self.segment.set_primary(primary and not why_not)
        self.segment.setToolTip(why_not or f"Start; what I see: {self._key}")

    def show_idle(self) -> None:
        """No job runs."""
        self.segment.show()
        self.estimate.setVisible(bool(self.estimate.text()))
        for widget in (self.bar, self.cancel):
            widget.hide()
        self.stage.say("")

    def show_running(self) -> None:
        """A job runs."""
        self.segment.hide()
        self.estimate.hide()
        self.error.say("")
        self.bar.show_part(0, 0)
        self.bar.show()
        self.cancel.setEnabled(True)
        self.cancel.show()

    @slot
    def show_progress(self, text: str, done: int, total: int) -> None:
        """How far the job is."""
        self.bar.show_part(done, total)
        self.stage.say(text)
