"""The Model section: which model, on which device."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_hspnet._qt.parts import Note, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.slots import slot

__all__ = ["ModelView"]

CHOOSE = "choose a model"
OPEN_FILE = "open a file…"
MODES = ("exact", "balanced", "preview")


class ModelView(QWidget):
    """A list of models and the chosen one's card."""

    chosen = Signal(int)
    """Index into the models that `show_models` got."""

    file_asked = Signal()
    none_chosen = Signal()
    device_chosen = Signal(str)
    mode_chosen = Signal(str)
    use_asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.choice = QComboBox()
        self.choice.setObjectName("model_choice")
        self.choice.setToolTip("The model that segments")
        self.choice.setAccessibleName("Model")
        self.choice.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.choice.setMinimumContentsLength(12)
        self.hint = Note(name="model_hint", faint=True)
        self.card = Note(name="model_card", faint=True)
        self.story = Note(name="model_story", faint=True)
        for note in (self.card, self.story):
            note.setTextFormat(Qt.TextFormat.PlainText)
        self.use = button(
            "Use from now on",
            "Let windows choose this model when they open; the registry keeps who said so",
            "use_model",
        )
        self.use.hide()
        self.busy = ProgressStrip(6)
        self.busy.hide()
        self.device = QComboBox()
        self.device.setObjectName("device_choice")
        self.device.setToolTip("What computes: auto takes the fastest that is there")
        self.device.setAccessibleName("Device")
        self.device.addItem("auto")
        self.device_text = Note(name="device_text", faint=True)
        self.device_row = row(QLabel("Device"), self.device, self.device_text, stretch=2)
        self.mode = QComboBox()
        self.mode.setObjectName("mode_choice")
        self.mode.setToolTip(
            "How carefully: exact is the paper's way; the others run fewer windows"
        )
        self.mode.setAccessibleName("Mode")
        self.mode.addItems(MODES)
        self.mode_row = row(QLabel("Mode"), self.mode, None)
        self.mode_text = Note(name="mode_text", faint=True)
        self.error = Note(name="model_error")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        for widget in (
            self.choice,
            self.busy,
            self.hint,
            self.card,
            self.story,
            self.use,
            self.device_row,
            self.mode_row,
            self.mode_text,
            self.error,
        ):
            layout.addWidget(widget)
        self._count = 0
        self.choice.activated.connect(self._picked)
        self.device.textActivated.connect(self.device_chosen)
        self.mode.textActivated.connect(self.mode_chosen)
        self.use.clicked.connect(lambda: self.use_asked.emit())
        self.show_models([], -1)

    def show_models(self, lines: Sequence[str], chosen: int, tips: Sequence[str] = ()) -> None:
        """List the models, each with a tip where there are tips; `chosen` is -1 for none."""
        self._count = len(lines)
        self.choice.blockSignals(True)
        self.choice.clear()
        self.choice.addItem(CHOOSE)
        for line in lines:
            self.choice.addItem(line)
        for index, tip in enumerate(tips):
            self.choice.setItemData(index + 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.choice.insertSeparator(self.choice.count())
        self.choice.addItem(OPEN_FILE)
        self.choice.setCurrentIndex(chosen + 1)
        self.choice.blockSignals(False)
        # The list itself may be wider than the dock: a model's state is at the line's end.
        view = self.choice.view()
        view.setMinimumWidth(view.sizeHintForColumn(0) + view.verticalScrollBar().width())

    def show_card(self, card: str, tip: str, story: str, refused: bool, can_use: bool) -> None:
        """Show the chosen model's card and what was done with it; empty for none.

        Parameters
        ----------
        card, tip : str
            In short, and all of it.
        story : str
            Who accepted or refused it.
        refused : bool
            Whether that is a warning.
        can_use : bool
            Whether the registry could be told to use it.
        """
        self.card.say(card)
        self.card.setToolTip(tip)
        self.story.say(story, "warning" if refused else "")
        self.use.setVisible(can_use)

    def show_devices(self, names: list[str], chosen: str) -> None:
        """List the devices."""
        self.device.blockSignals(True)
        self.device.clear()
        self.device.addItems(names)
        self.device.setCurrentText(chosen)
        self.device.blockSignals(False)

    def show_mode(self, chosen: str, worth: str, tip: str) -> None:
        """Show the mode, what it is worth, and what that was measured on."""
        self.mode.setCurrentText(chosen)
        self.mode_text.say(worth)
        self.mode_text.setToolTip(tip)

    @slot
    def _picked(self, index: int) -> None:
        if index == 0:
            self.none_chosen.emit()
        elif index <= self._count:
            self.chosen.emit(index - 1)
        elif self.choice.itemText(index) == OPEN_FILE:
            self.file_asked.emit()
