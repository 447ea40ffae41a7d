"""The Export section: which labels, as which files, and what came of it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.parts import FoldingSection, Note, PrimaryButton, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.slots import slot
from napari_hspnet.exchange import Origin, What
from napari_hspnet.jobs.formats import FORMATS

__all__ = ["GROUPS", "WHATS", "Choice", "ExportView", "narrow", "number_field"]

WHATS: dict[What, tuple[str, str]] = {
    "composite": (
        "Overlay as shown",
        "The corrections where there are some, else the model; classes that are hidden in the "
        "legend are in it too",
    ),
    "prediction": ("Model alone", "What the model said, without corrections"),
    "correction": ("Corrections alone", "What readers said; nothing where they said nothing"),
    "difference": ("Changes", "What readers said where the model had said something else"),
}
"""What can be written: words and explanation."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Masks": ("ome-tiff", "ome-zarr", "png"),
    "Outlines": ("geojson",),
    "Tables": ("csv", "parquet", "json"),
    "To look at": ("picture", "report"),
    "For training": ("training",),
}
"""Formats by what one wants them for."""

_SHORT = {"geojson": "GeoJSON (QuPath)", "training": "Image and mask crops"}
_COLUMNS = 2


class Choice(QComboBox):
    """A choice that the wheel does not change while one scrolls past it."""

    def wheelEvent(self, event: Any) -> None:
        event.ignore()


class _Number(QDoubleSpinBox):
    def wheelEvent(self, event: Any) -> None:
        event.ignore()


class ExportView(QWidget):
    """What to write, a button, how far it is, where the files are."""

    export_asked = Signal()
    cancel_asked = Signal()
    folder_asked = Signal()
    changed = Signal()
    """Something else is chosen to be written."""

    def __init__(self) -> None:
        super().__init__()
        self._running = self._room_needed = False
        self.what = Choice()
        self.what.setObjectName("export_what")
        for key, (words, tip) in WHATS.items():
            self.what.addItem(words, key)
            self.what.setItemData(self.what.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        narrow(self.what)
        self.boxes: dict[str, QCheckBox] = {}
        self.formats_part = self._make_formats()
        self._make_options()
        self.options = FoldingSection("Options", self._options_part(), "export_options")
        self.options.toggle.setToolTip("Resolution, names, comments, replacing files")
        self.options.set_open(False)
        self.export = button("Export…", "", "export", PrimaryButton)
        self.note = Note(name="export_note", faint=True)
        self.bar = ProgressStrip()
        self.bar.setObjectName("export_progress")
        self.stage = Note(name="export_stage")
        self.cancel = button(
            "Cancel", "Stop within a second; no half-written file is left", "export_cancel"
        )
        self.told = Note(name="export_told")
        self.told.setTextFormat(Qt.TextFormat.PlainText)
        self.folder = button("Open folder", "Show the files in the file manager", "export_folder")
        self._lay_out()
        self._connect()
        self.show_idle()
        self.folder_row.hide()
        self._follow()

    def _make_formats(self) -> QWidget:
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(_COLUMNS, 1)
        line = 0
        for words, keys in GROUPS.items():
            grid.addWidget(QLabel(words), line, 0)
            wide = len(keys) == 1
            for number, key in enumerate(keys):
                box = QCheckBox(_SHORT.get(key, FORMATS[key].title))
                box.setObjectName(f"format_{key}")
                box.setToolTip(FORMATS[key].tip)
                self.boxes[key] = box
                place = line + number // _COLUMNS, 1 + number % _COLUMNS
                grid.addWidget(box, *place, 1, _COLUMNS if wide else 1)
            line += -(-len(keys) // _COLUMNS)
        return holder

    def _make_options(self) -> None:
        self.name = QLineEdit()
        self.name.setObjectName("export_name")
        self.name.setPlaceholderText("as the slide's file")
        self.name.setToolTip("What the files are named; a slide's file name can name a patient")
        self.name.setAccessibleName("Name of the files")
        self.png_mpp = number_field(
            "export_png_mpp", " µm/px", "as the overlay", "µm per pixel of the PNG", 100.0
        )
        self.picture_mpp = number_field(
            "export_picture_mpp", " µm/px", "fits a screen", "µm per pixel of the picture", 1000.0
        )
        self.training_mpp = number_field(
            "export_training_mpp",
            " µm/px",
            "as the overlay",
            "µm per pixel of the crops to train on",
            100.0,
        )
        self.simplify = number_field(
            "export_simplify",
            " µm",
            "off",
            "How far a point of an outline in the GeoJSON may move, for smaller files",
            100.0,
        )
        self.simplify.setDecimals(1)
        self.simplify.setSingleStep(0.5)
        self.origin = Choice()
        self.origin.setObjectName("export_origin")
        self.origin.addItem("as in QuPath", "bounds")
        self.origin.addItem("the slide's corner", "level0")
        self.origin.setToolTip(
            "Where the outlines of the GeoJSON count from: QuPath begins at the corner of the "
            "scanned area, others at that of the whole image"
        )
        narrow(self.origin)
        self.review_regions = _box(
            "Review regions as outlines too",
            "export_review_regions",
            "In the GeoJSON, without a class, named by number and state",
        )
        self.name_slide = _box(
            "Say the slide's file name in the files",
            "export_name_slide",
            "Off as it can name a patient; the slide's fingerprint is in them always",
        )
        self.comments = _box(
            "Comments on regions",
            "export_comments",
            "Off as free text can name a patient; for outlines, tables and report",
        )
        self.overwrite = _box(
            "Replace files that are there", "overwrite", "Otherwise an existing file is an error"
        )

    def _options_part(self) -> QWidget:
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(8, 0, 0, 2)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(3)
        grid.setColumnStretch(1, 1)
        self._option_rows: dict[QWidget, tuple[QLabel, str]] = {}
        for line, (words, field, key) in enumerate(
            (
                ("Files are named", self.name, ""),
                ("PNG at", self.png_mpp, "png"),
                ("Simplify outlines", self.simplify, "geojson"),
                ("(0, 0) is", self.origin, "geojson"),
                ("Picture at", self.picture_mpp, "picture"),
                ("Crops at", self.training_mpp, "training"),
            )
        ):
            label = QLabel(words)
            grid.addWidget(label, line, 0)
            grid.addWidget(field, line, 1)
            if key:
                self._option_rows[field] = (label, key)
        last = grid.rowCount()
        for number, box in enumerate(
            (self.review_regions, self.name_slide, self.comments, self.overwrite)
        ):
            grid.addWidget(box, last + number, 0, 1, 2)
        return holder

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        what_row = row(QLabel("Write"), self.what, stretch=1)
        layout.addWidget(what_row)
        self._choices = (what_row, self.formats_part, self.options)
        self.folder_row = row(self.folder, None)
        self.cancel_row = row(self.stage, self.cancel, stretch=0)
        for widget in (
            self.formats_part,
            self.options,
            self.export,
            self.bar,
            self.cancel_row,
            self.note,
            self.told,
            self.folder_row,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.export.clicked.connect(lambda: self.export_asked.emit())
        self.cancel.clicked.connect(lambda: self.cancel_asked.emit())
        self.folder.clicked.connect(lambda: self.folder_asked.emit())
        self.what.currentIndexChanged.connect(self._follow)
        for box in self.boxes.values():
            box.toggled.connect(self._follow)

    @property
    def formats(self) -> tuple[str, ...]:
        """The chosen ones."""
        return tuple(key for key in FORMATS if self.boxes[key].isChecked())

    def choose(self, formats: tuple[str, ...]) -> None:
        """Choose these formats and no others."""
        for key, box in self.boxes.items():
            box.setChecked(key in formats)

    def said(self) -> dict[str, Any]:
        """What is chosen, as fields of `ExportOptions`."""
        origin: Origin = self.origin.currentData()
        return {
            "formats": self.formats,
            "what": self.what.currentData(),
            "name": self.name.text().strip() or None,
            "png_mpp": self.png_mpp.value() or None,
            "picture_mpp": self.picture_mpp.value() or None,
            "training_mpp": self.training_mpp.value() or None,
            "origin": origin,
            "simplify_um": self.simplify.value(),
            "review_regions": self.review_regions.isChecked(),
            "name_slide": self.name_slide.isChecked(),
            "comments": self.comments.isChecked(),
            "overwrite": self.overwrite.isChecked(),
        }

    @slot
    def _follow(self) -> None:
        """Show the options that what is chosen has."""
        self.what.setToolTip(WHATS[self.what.currentData()][1])
        for field, (label, key) in self._option_rows.items():
            for widget in (field, label):
                widget.setVisible(self.boxes[key].isChecked())
        self.changed.emit()

    def allow(self, why_not: str) -> None:
        """Enable the button, or say in its tooltip why it cannot be pressed."""
        self.export.setEnabled(not why_not)
        self.export.setToolTip(
            why_not or "Choose a folder to write into; one can go on correcting meanwhile"
        )

    def show_progress(self, text: str, part: float | None) -> None:
        """What is being done, and which part of all is done; None while that is not known."""
        self.bar.show_part(0 if part is None else int(part * 1000), 0 if part is None else 1000)
        self.stage.say(text)

    def show_running(self) -> None:
        """Files are being written."""
        self._running = True
        self._show_button()
        self.folder_row.hide()
        self.told.say("")
        self.cancel.setEnabled(True)
        self.bar.show()
        self.cancel_row.show()

    @slot
    def make_room(self, needed: bool) -> None:
        """Hide what one does not need while something is imported."""
        self._room_needed = needed
        for widget in self._choices:
            widget.setVisible(not needed)
        self._show_button()

    def _show_button(self) -> None:
        self.export.setVisible(not self._running and not self._room_needed)

    def show_idle(self) -> None:
        """No files are being written."""
        self._running = False
        self._show_button()
        self.bar.hide()
        self.cancel_row.hide()

    def show_outcome(self, text: str, kind: str = "", files: bool = False) -> None:
        """What came of it, and whether there are files to look at."""
        self.told.say(text, kind)
        self.folder_row.setVisible(files)


def _box(words: str, name: str, tip: str) -> QCheckBox:
    made = QCheckBox(words)
    made.setObjectName(name)
    made.setToolTip(tip)
    return made


def number_field(name: str, unit: str, unset: str, tip: str, most: float) -> QDoubleSpinBox:
    """A number above zero, or a word for none (its value is then 0)."""
    made = _Number()
    made.setObjectName(name)
    made.setRange(0.0, most)
    made.setDecimals(3)
    made.setSingleStep(0.25)
    made.setSuffix(unit)
    made.setSpecialValueText(unset)
    made.setToolTip(tip)
    made.setAccessibleName(tip)
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return made


def narrow(choice: QComboBox) -> None:
    """Let a choice be narrower than its longest entry."""
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    choice.setMinimumContentsLength(8)
