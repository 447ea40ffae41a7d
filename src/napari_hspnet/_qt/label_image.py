"""The slide's label, shown on request: checking the patient is a safety step.

It names a patient, so it is never read unasked, and neither kept nor written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QDialog, QLabel, QVBoxLayout, QWidget

from napari_hspnet._qt.parts import Note, button, row
from napari_hspnet._qt.slide_view import SlideView
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.words import elided
from napari_hspnet._qt.work import Jobs

__all__ = ["LabelControl", "LabelDialog"]

LABEL = "label"
_LONGEST = 560


class LabelDialog(QDialog):
    """Shows a label until it is closed.

    Parameters
    ----------
    parent : QWidget
        The dock.
    name : str
        The slide's.
    """

    def __init__(self, parent: QWidget, name: str) -> None:
        super().__init__(parent)
        self.setObjectName("label_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Patient data: label of {name}")
        self.warning = Note(
            "Patient data. For checking that this is the right slide; close it before you share "
            "the screen or take a picture of it.",
            "label_warning",
        )
        self.warning.say(self.warning.text(), "warning")
        self.picture = QLabel("Reading…")
        self.picture.setObjectName("label_picture")
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.picture.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
        self.picture.setMinimumSize(240, 160)
        self.closing = button("Close", "Close the label; nothing of it is kept", "label_close")
        self.closing.setDefault(True)
        self.closing.clicked.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(self.warning)
        layout.addWidget(self.picture, 1)
        layout.addWidget(row(None, self.closing))

    def show_picture(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Show the label, (h, w, 3)."""
        pixels = np.ascontiguousarray(rgb)
        height, width = pixels.shape[:2]
        image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        picture = QPixmap.fromImage(image.copy())
        if max(height, width) > _LONGEST:
            picture = picture.scaled(
                _LONGEST,
                _LONGEST,
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        self.picture.setPixmap(picture)
        self.adjustSize()

    def closeEvent(self, event: Any) -> None:
        self.picture.clear()
        super().closeEvent(event)


class LabelControl(QObject):
    """Reads the label in a worker when it is asked for."""

    def __init__(self, view: SlideView, jobs: Jobs, slides: SlidesControl, parent: QObject) -> None:
        super().__init__(parent)
        self._view, self._jobs, self._slides = view, jobs, slides
        self.dialog: LabelDialog | None = None
        view.label_asked.connect(self.show)
        slides.active_changed.connect(self._slide_changed)
        slides.removed.connect(self._slide_removed)
        self._slide_changed()

    @slot
    def _slide_changed(self) -> None:
        self.close()
        entry = self._slides.active
        there = entry is not None and LABEL in entry.session.slide.info.associated
        self._view.allow_label("" if there else "The slide's file holds no picture of a label.")

    @slot
    def _slide_removed(self, entry: OpenSlide) -> None:
        self.close()

    @slot
    def show(self) -> None:
        """Open the dialog, and read the label."""
        entry = self._slides.active
        if entry is None or LABEL not in entry.session.slide.info.associated:
            return
        self.close()
        slide = entry.session.slide
        dialog = LabelDialog(self._view, elided(slide.info.name, 40))
        self.dialog = dialog
        dialog.destroyed.connect(lambda: self._gone(dialog))

        def failed(error: Exception) -> None:
            self.close()
            self._view.error.say(notify(error), "error")

        self._jobs.start(
            "label", lambda job: slide.read_associated(LABEL), done=self._read, error=failed
        )
        dialog.show()

    @slot
    def _read(self, rgb: npt.NDArray[np.uint8]) -> None:
        if self.dialog is not None:
            self.dialog.show_picture(rgb)

    def _gone(self, dialog: LabelDialog) -> None:
        if self.dialog is dialog:
            self.dialog = None
            self._jobs.cancel("label")

    @slot
    def close(self) -> None:
        """Close the dialog."""
        dialog, self.dialog = self.dialog, None
        self._jobs.cancel("label")
        if dialog is not None:
            dialog.close()
