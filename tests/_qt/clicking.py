"""What a person does at the window: real clicks and keys, and a look whether text fits."""

from __future__ import annotations

from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QLabel, QScrollArea


def click(qtbot, widget):
    """A real click, on a widget that is scrolled into sight."""
    widget.window().activateWindow()
    area = widget.parentWidget()
    while area is not None:
        if isinstance(area, QScrollArea):
            area.ensureWidgetVisible(widget)
        area = area.parentWidget()
    qtbot.wait(20)
    assert widget.isVisible()
    assert widget.isEnabled(), widget.toolTip()
    # The box itself, not the empty space behind its text.
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=QPoint(8, widget.height() // 2))


def choose(qtbot, combo, data):
    """Choose with the keyboard, as whoever goes through many does."""
    combo.setFocus()
    wanted = combo.findData(data)
    assert wanted >= 0
    while combo.currentIndex() != wanted:
        key = Qt.Key.Key_Down if combo.currentIndex() < wanted else Qt.Key.Key_Up
        before = combo.currentIndex()
        QTest.keyClick(combo, key)
        assert combo.currentIndex() != before


def open_section(dock, name="export"):
    """Fold all others, so that one looks at this alone."""
    for other, section in dock.sections.items():
        section.set_open(other == name)


def cut_off(part):
    """Names of labels and buttons whose text does not fit, or that reach beyond the part."""
    found = []
    for kind in (QLabel, QAbstractButton):
        for widget in part.findChildren(kind):
            if not widget.isVisible() or widget.objectName().startswith("qt_"):
                continue
            right = widget.mapTo(part, QPoint(widget.width(), 0)).x()
            wraps = isinstance(widget, QLabel) and widget.wordWrap()
            short = not wraps and widget.width() < widget.sizeHint().width() - 1
            if right > part.width() or short:
                found.append(widget.objectName() or widget.text())
    return found
