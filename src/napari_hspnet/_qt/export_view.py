"""The Export section: the overlay as files."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_hspnet._qt.parts import Note, PrimaryButton, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip

__all__ = ["FORMATS", "ExportView"]

FORMATS = {
    "ome-tiff": ("OME-TIFF", "Class values, pyramidal, with µm per pixel", ".ome.tif"),
    "png": ("PNG", "Class values as an indexed picture, for other programs", ".png"),
    "geojson": ("GeoJSON", "Outlines with names and colours; QuPath opens it", ".geojson"),
}


class ExportView(QWidget):
    """Formats, a button, what came of it."""

    export_asked = Signal()
    cancel_asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.boxes: dict[str, QCheckBox] = {}
        for key, (title, tip, _) in FORMATS.items():
            box = QCheckBox(title)
            box.setObjectName(f"format_{key}")
            box.setToolTip(tip)
            box.setChecked(key != "png")
            self.boxes[key] = box
        self.overwrite = QCheckBox("Replace files that are there")
        self.overwrite.setObjectName("overwrite")
        self.overwrite.setToolTip("Otherwise an existing file is an error")
        self.export = button("Export…", "", "export", PrimaryButton)
        self.cancel = button("Cancel", "Stop; no file is left of it", "export_cancel")
        self.bar = ProgressStrip()
        self.told = Note(name="export_told")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        layout.addWidget(row(*self.boxes.values(), None))
        for widget in (self.overwrite, self.export, self.bar, self.cancel, self.told):
            layout.addWidget(widget)
        self.export.clicked.connect(lambda: self.export_asked.emit())
        self.cancel.clicked.connect(lambda: self.cancel_asked.emit())
        self.show_running(False)

    @property
    def formats(self) -> tuple[str, ...]:
        """The chosen ones."""
        return tuple(key for key, box in self.boxes.items() if box.isChecked())

    def allow(self, why_not: str) -> None:
        """Enable the button, or say in its tooltip why it cannot be pressed."""
        self.export.setEnabled(not why_not)
        self.export.setToolTip(why_not or "Choose a folder; the files are named after the slide")

    def show_running(self, running: bool) -> None:
        """Whether files are being written."""
        self.export.setVisible(not running)
        for widget in (self.bar, self.cancel):
            widget.setVisible(running)
