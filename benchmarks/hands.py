"""What a script does in the window that a person would: wait until something shows, click."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait(seconds: float, until: Callable[[], bool] | None = None) -> None:
    """Let Qt work until something is true; for all of the time, if nothing is named.

    Raises
    ------
    SystemExit
        If it is not true by then.
    """
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
        if until is not None and until():
            return
    if until is not None:
        raise SystemExit("The window did not come so far in time")


def click(widget: Any) -> None:
    """A click at the left end: on a box itself, not on the empty space behind its text."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=QPoint(8, widget.height() // 2))
