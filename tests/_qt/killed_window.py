"""A window in which somebody paints until it is killed; run by test_window_killed.py.

Writes a line to stdout whenever all that was painted so far is said to be saved.
"""

from __future__ import annotations

import math
import os
import sys
import time

os.environ.setdefault("QT_API", "pyqt6")

from napari_hspnet.jobs.threads import let_threads_sleep

let_threads_sleep()


def main(path: str) -> None:
    import napari
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1280, 800)
    viewer.open(path, plugin="napari-hspnet")
    _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet")

    def wait(seconds: float, until=lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            QApplication.processEvents()
            time.sleep(0.002)

    wait(20, lambda: dock.slides.active.session.areas is not None)
    dock.slide_view.reader.setText("Dr. Ann")
    viewer.scene.camera.zoom = 1.0
    viewer.scene.camera.center = (0, 2000, 2000)
    wait(0.3)
    dock.painting.enter()
    wait(20, lambda: dock.painting.on and dock.painting._asked is None)
    canvas = viewer.window._qt_viewer.canvas.native
    centre = QPoint(canvas.width() // 2, canvas.height() // 2)
    journal = dock.slides.active.session.case.journal
    dock.acts.waiting_changed.connect(
        lambda: dock.acts.waiting == 0 and print(journal.last, flush=True)
    )
    # One stroke without an end: it is saved once a second.
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=centre)
    for n in range(10**6):
        turn = n / 25
        QTest.mouseMove(
            canvas,
            centre + QPoint(round(150 * math.cos(turn)), round(100 * math.sin(turn * 0.7))),
        )
        wait(0.02)


if __name__ == "__main__":
    main(sys.argv[1])
