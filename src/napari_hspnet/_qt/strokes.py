"""Strokes and clicks on the edit view, told apart while the mouse is down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_hspnet._qt.slots import slot

__all__ = ["Strokes"]

_PART = 1.0
"""Seconds after which a stroke that goes on is saved so far."""

_CLICK_PIXELS = 4

_TOOL_NAMES = {"paint": "brush", "erase": "eraser", "fill": "fill", "polygon": "polygon"}


class Strokes(QObject):
    """Watches the mouse on one layer.

    Parameters
    ----------
    clicks : callable () -> bool
        Whether clicks are meant now, and not strokes.
    """

    ended = Signal()
    clicked = Signal(float, float)
    """(y, x) in world units of a press and release in one place."""

    def __init__(self, clicks: Callable[[], bool], parent: QObject) -> None:
        super().__init__(parent)
        self._clicks = clicks
        self._tool: str | None = None
        self._saved = 0.0
        self._parts = 0

    @property
    def under_way(self) -> bool:
        """Whether a stroke is under way."""
        return self._tool is not None

    def tool(self, layer: Any) -> str:
        """What the layer is edited with, as the log names it."""
        return self._tool or _TOOL_NAMES.get(str(layer.mode), "edit")

    def part_due(self) -> bool:
        """Whether a stroke goes on for so long that it should be saved so far."""
        if time.monotonic() - self._saved < _PART:
            return False
        self._saved = time.monotonic()
        return True

    def next_part(self) -> bool:
        """Count a part that is saved; whether it continues the one before."""
        self._parts += 1
        return self.under_way and self._parts > 1

    def stop(self) -> None:
        """Forget a stroke, however it may end."""
        self._tool = None

    def watch(self, layer: Any, event: Any) -> Iterator[None]:
        """For the layer's ``mouse_drag_callbacks``."""
        if event.button != 1:
            return
        mode = str(layer.mode)
        if mode in ("pan_zoom", "pick"):
            yield from self._watch_click(event)
            return
        self._tool, self._parts, self._saved = _TOOL_NAMES.get(mode, "edit"), 0, time.monotonic()
        yield
        while event.type == "mouse_move":
            yield
        # napari's own tool may still have the release to come.
        QTimer.singleShot(0, self._end)

    def _watch_click(self, event: Any) -> Iterator[None]:
        if not self._clicks() or event.modifiers:
            return
        start, moved = np.array(event.pos), False
        place = tuple(event.position)[-2:]
        yield
        while event.type == "mouse_move":
            moved = moved or bool(np.abs(np.array(event.pos) - start).max() > _CLICK_PIXELS)
            yield
        if not moved:
            self.clicked.emit(*place)

    @slot
    def _end(self) -> None:
        # Its last part is saved as a part of it.
        self.ended.emit()
        self._tool = None
