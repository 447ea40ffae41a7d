"""A wide slide with yesterday's case, and a dock in which one corrects it."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_hspnet.cases import Case, default_case_folder
from napari_hspnet.phantom import PhantomSpec
from napari_hspnet.slides import LabelGrid, open_slide

from cases.case_tools import block, run_record

ANN = "Dr. Ann"
SHAPE = (5200, 6100)
WIDE = PhantomSpec(*SHAPE, seed=2, mpp=1.0, style="oracle")
"""On the label grid as large: several edit views, four levels."""


def predicted():
    """CIN1 in a band over the whole slide, normal below it, a CIN3 spot."""
    classes = np.zeros(SHAPE, np.uint8)
    classes[1500:2600] = 2
    classes[2600:3000] = 1
    classes[1700:1760, 700:760] = 4
    return classes


def yesterdays_case(slide_path):
    """A case with one run; returns its folder."""
    with open_slide(slide_path) as slide:
        info = slide.info
    path = default_case_folder(info)
    with Case.open_or_create(path, info, LabelGrid.of(info)) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, predicted()))
        run.finish(1.0)
    return path


def show(viewer, y, x, zoom=1.0):
    viewer.scene.camera.zoom = zoom
    viewer.scene.camera.center = (0, y, x)


def ready(dock, wait):
    """Until the edit view covers what is seen and all is saved."""
    wait(lambda: dock.painting.on and dock.painting._asked is None)
    wait(lambda: dock.painting._edit.box.height > 0 and not dock.acts.waiting)


def middle(canvas):
    return QPoint(canvas.width() // 2, canvas.height() // 2)


def stroke(qtbot, canvas, start, stop, release=True):
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
    for n in range(1, 9):
        QTest.mouseMove(canvas, start + (stop - start) * n / 8)
        qtbot.wait(15)
    if release:
        QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=stop)


def entries(dock):
    return list(dock.slides.active.session.case.journal.entries())


def done(dock, wait, count):
    """Until the journal has so many entries and all is shown."""
    wait(lambda: len(entries(dock)) >= count and not dock.acts.waiting)
    return entries(dock)


def labels(dock, what="classes"):
    return dock.slides.active.session.composite.read(0, 0, 5200, 6100, what=what)
