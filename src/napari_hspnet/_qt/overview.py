"""The whole slide at a glance, with a box for the view that one can drag."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_hspnet._qt.camera import View
from napari_hspnet._qt.slots import slot

__all__ = ["Overview"]

_HEIGHT = 124


class Overview(QWidget):
    """Click or drag to go there; arrow keys move the view."""

    moved = Signal(float, float)
    """(y, x) in world units that was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("overview")
        self.setMinimumHeight(80)
        self.setMaximumHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setToolTip("Click or drag to go there; arrow keys move the view")
        self.setAccessibleName("Overview of the slide")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._picture: QPixmap | None = None
        self._overlay: QPixmap | None = None
        self._extent = (1.0, 1.0)
        self._view: View | None = None

    def sizeHint(self) -> QSize:
        return QSize(280, _HEIGHT)

    def set_slide(self, extent: tuple[float, float]) -> None:
        """Begin with an empty frame of a slide of (height, width) world units."""
        self._extent, self._picture, self._overlay = extent, None, None
        self.update()

    def set_picture(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Show the slide, (h, w, 3)."""
        self._picture = _pixmap(rgb, QImage.Format.Format_RGB888)
        self.update()

    def set_overlay(self, rgba: npt.NDArray[np.uint8] | None) -> None:
        """Lay colours over the slide, (h, w, 4); they cover its whole extent."""
        self._overlay = None if rgba is None else _pixmap(rgba, QImage.Format.Format_RGBA8888)
        self.update()

    def set_view(self, view: View) -> None:
        """Show where the canvas is."""
        self._view = view
        self.update()

    def place(self, position: QPointF) -> tuple[float, float]:
        """World (y, x) under a point of this widget."""
        frame = self._frame()
        return (
            (position.y() - frame.top()) / max(frame.height(), 1e-9) * self._extent[0],
            (position.x() - frame.left()) / max(frame.width(), 1e-9) * self._extent[1],
        )

    def point(self, y: float, x: float) -> QPointF:
        """The point of this widget at world (y, x)."""
        frame = self._frame()
        return QPointF(
            frame.left() + x / self._extent[1] * frame.width(),
            frame.top() + y / self._extent[0] * frame.height(),
        )

    @slot
    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        frame = self._frame()
        painter.fillRect(frame, QColor(240, 240, 240))
        if self._picture is not None:
            painter.drawPixmap(frame, self._picture, QRectF(self._picture.rect()))
        if self._overlay is not None:
            painter.drawPixmap(frame, self._overlay, QRectF(self._overlay.rect()))
        painter.setPen(QPen(QColor(120, 120, 130), 1))
        painter.drawRect(frame)
        if self._view is not None:
            self._paint_view(painter, frame)
        if self.hasFocus():
            painter.setPen(QPen(QColor(23, 105, 196), 1, Qt.PenStyle.DotLine))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.end()

    def mousePressEvent(self, event: Any) -> None:
        self._go(event)

    def mouseMoveEvent(self, event: Any) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._go(event)

    @slot
    def keyPressEvent(self, event: Any) -> None:
        steps = {
            Qt.Key.Key_Left: (0, -1),
            Qt.Key.Key_Right: (0, 1),
            Qt.Key.Key_Up: (-1, 0),
            Qt.Key.Key_Down: (1, 0),
        }
        if self._view is None or event.key() not in steps:
            super().keyPressEvent(event)
            return
        y0, x0, y1, x1 = self._view
        dy, dx = steps[event.key()]
        self.moved.emit(
            (y0 + y1) / 2 + dy * (y1 - y0) / 4,
            (x0 + x1) / 2 + dx * (x1 - x0) / 4,
        )

    @slot
    def _go(self, event: Any) -> None:
        y, x = self.place(event.position())
        self.moved.emit(min(max(y, 0.0), self._extent[0]), min(max(x, 0.0), self._extent[1]))

    def _frame(self) -> QRectF:
        room = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        scale = min(room.width() / self._extent[1], room.height() / self._extent[0])
        width, height = self._extent[1] * scale, self._extent[0] * scale
        return QRectF(
            room.left() + (room.width() - width) / 2,
            room.top() + (room.height() - height) / 2,
            width,
            height,
        )

    def _paint_view(self, painter: QPainter, frame: QRectF) -> None:
        assert self._view is not None
        y0, x0, y1, x1 = self._view
        box = QRectF(self.point(y0, x0), self.point(y1, x1)).intersected(frame)
        # A view of a few µm on a slide of centimetres stays visible.
        grow_x, grow_y = max(0.0, 5 - box.width()) / 2, max(0.0, 5 - box.height()) / 2
        box = box.adjusted(-grow_x, -grow_y, grow_x, grow_y)
        painter.setPen(QPen(QColor(255, 255, 255), 3))
        painter.drawRect(box)
        painter.setPen(QPen(QColor(200, 30, 30), 1.5))
        painter.drawRect(box)


def _pixmap(pixels: npt.NDArray[np.uint8], kind: Any) -> QPixmap:
    pixels = np.ascontiguousarray(pixels)
    height, width, channels = pixels.shape
    image = QImage(pixels.data, width, height, width * channels, kind)
    return QPixmap.fromImage(image.copy())
