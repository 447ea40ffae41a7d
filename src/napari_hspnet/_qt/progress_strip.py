"""A progress bar that never paints out of turn."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QRectF, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["ProgressStrip"]

_TRACK = QColor(128, 128, 140, 70)
_CHUNK = QColor(23, 105, 196)


class ProgressStrip(QWidget):
    """How much is done; a running light while that is not known.

    Qt's own QProgressBar repaints at once whenever its value changes, and with it
    all that waits to be painted in the window: a new view of a slide, drawn within
    our slot.
    """

    def __init__(self, height: int = 8) -> None:
        super().__init__()
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Progress")
        self._value, self._maximum, self._phase = 0, 0, 0.0
        self._light = QTimer(self)
        self._light.setInterval(80)
        self._light.timeout.connect(self._move_light)

    def sizeHint(self) -> QSize:
        return QSize(120, self.height())

    def value(self) -> int:
        """What is done."""
        return self._value

    def maximum(self) -> int:
        """What there is to do; 0 while that is not known."""
        return self._maximum

    def show_part(self, value: int, maximum: int) -> None:
        """Show `value` of `maximum`."""
        self._value, self._maximum = value, maximum
        self._follow()
        self.update()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._follow()

    def hideEvent(self, event: Any) -> None:
        super().hideEvent(event)
        self._light.stop()

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        room = QRectF(self.rect())
        painter.setBrush(_TRACK)
        painter.drawRoundedRect(room, 3, 3)
        if self._maximum > 0:
            part = min(1.0, self._value / self._maximum)
            chunk = QRectF(room.left(), room.top(), room.width() * part, room.height())
        else:
            width = room.width() / 4
            left = room.left() + (room.width() - width) * self._phase
            chunk = QRectF(left, room.top(), width, room.height())
        painter.setBrush(_CHUNK)
        painter.drawRoundedRect(chunk, 3, 3)
        painter.end()

    def _follow(self) -> None:
        if self.isVisible() and self._maximum == 0:
            self._light.start()
        else:
            self._light.stop()

    def _move_light(self) -> None:
        self._phase = (self._phase + 0.05) % 1.0
        self.update()
