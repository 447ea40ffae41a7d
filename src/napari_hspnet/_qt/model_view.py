"""The Model section: which model, on which device."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_hspnet._qt.parts import Note, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.slots import slot

__all__ = ["ModelView"]

CHOOSE = "choose a model"
OPEN_FILE = "open a file…"


class ModelView(QWidget):
    """A list of models and the chosen one's card."""

    chosen = Signal(int)
    """Index into the models that `show_models` got."""

    file_asked = Signal()
    none_chosen = Signal()
    device_chosen = Signal(str)

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
        self.busy = ProgressStrip(6)
        self.busy.hide()
        self.device = QComboBox()
        self.device.setObjectName("device_choice")
        self.device.setToolTip("What computes: auto takes the fastest that is there")
        self.device.setAccessibleName("Device")
        self.device.addItem("auto")
        self.device_text = Note(name="device_text", faint=True)
        self.device_row = row(QLabel("Device"), self.device, self.device_text, stretch=2)
        self.error = Note(name="model_error")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        for widget in (
            self.choice,
            self.busy,
            self.hint,
            self.card,
            self.device_row,
            self.error,
        ):
            layout.addWidget(widget)
        self._titles: list[str] = []
        self.choice.activated.connect(self._picked)
        self.device.textActivated.connect(self.device_chosen)
        self.show_models([], -1)

    def show_models(
        self, titles: list[str], chosen: int, problems: list[str] | None = None
    ) -> None:
        """List the models; `chosen` is -1 for none."""
        self._titles = list(titles)
        self.choice.blockSignals(True)
        self.choice.clear()
        self.choice.addItem(CHOOSE)
        for title in titles:
            self.choice.addItem(title)
        self.choice.insertSeparator(self.choice.count())
        self.choice.addItem(OPEN_FILE)
        self.choice.setCurrentIndex(chosen + 1)
        self.choice.blockSignals(False)

    def show_devices(self, names: list[str], chosen: str) -> None:
        """List the devices."""
        self.device.blockSignals(True)
        self.device.clear()
        self.device.addItems(names)
        self.device.setCurrentText(chosen)
        self.device.blockSignals(False)

    @slot
    def _picked(self, index: int) -> None:
        if index == 0:
            self.none_chosen.emit()
        elif index <= len(self._titles):
            self.chosen.emit(index - 1)
        elif self.choice.itemText(index) == OPEN_FILE:
            self.file_asked.emit()
