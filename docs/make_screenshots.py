"""Writes docs/images/*.png: the window as it really is, on the real sample slide.

    python docs/make_screenshots.py        (make screenshots brings a display along)

Cases go into a temporary folder, so that nothing of the user's is shown or touched.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_API", "pyqt6")
IMAGES = Path(__file__).resolve().parent / "images"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            os.environ[name] = folder
        return _make()


def _make() -> int:
    import napari
    import numpy as np

    from napari_hspnet.jobs.samples import sample_slide_path

    IMAGES.mkdir(exist_ok=True)
    viewer = napari.Viewer(show=True)
    window = viewer.window._qt_window
    window.resize(1280, 800)
    _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet")
    _wait(1.0)
    _save(window, "window-empty")
    viewer.open(str(sample_slide_path()), plugin="napari-hspnet")
    dock.control.choose_demo_model()
    _wait(60, lambda: dock.control.model is not None)
    _wait(60, lambda: " · about" in dock.segment_view.estimate.text())
    dock.slides.fit()
    _wait(2.0)
    _save(window, "window-ready")
    _click(dock.segment_view.segment)
    _wait(60, lambda: dock.control.running)
    _wait(
        120, lambda: dock.segment_view.bar.value() > 0.4 * max(1, dock.segment_view.bar.maximum())
    )
    _save(window, "window-running")
    _wait(600, lambda: not dock.control.running)
    _wait(1.5)
    _save(window, "window-overlay")
    _save(dock, "dock")
    for part in ("slide", "model", "segment", "overlay", "export"):
        _save(dock.sections[part], f"section-{part}")
    # A rotated rectangle, as one draws and turns it with napari's tools.
    dock.slides.active.session.case.set_active([])
    dock.slides.active.session.show_runs()
    dock.overlay.refresh(dock.slides.active)
    dock.segment_view.draw.click()
    turn = np.array([[0.83, -0.56], [0.56, 0.83]])
    corners = np.array([[-330.0, -150], [-330, 150], [330, 150], [330, -150]]) @ turn.T
    regions = dock.slides.active.layers.regions
    corners += 640
    regions.add(corners, shape_type="rectangle", edge_width=4)
    regions.selected_data = set()
    _wait(60, lambda: "window" in dock.segment_view.estimate.text())
    _click(dock.segment_view.targets["shapes"])
    _wait(60, lambda: dock.segment_view.segment.isEnabled())
    _click(dock.segment_view.segment)
    _wait(60, lambda: dock.control.running)
    _wait(600, lambda: not dock.control.running)
    dock.overlay_view.fill_toggled.emit(True)
    dock.overlay_view.palette_chosen.emit("ordinal")
    _wait(1.5)
    _save(window, "window-region")
    viewer.close()
    return 0


def _wait(seconds: float, until=None) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
        if until is not None and until():
            return
    if until is not None:
        raise SystemExit("The window did not come so far in time")


def _click(widget) -> None:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=QPoint(8, widget.height() // 2))


def _save(widget, name: str) -> None:
    path = IMAGES / f"{name}.png"
    widget.grab().save(str(path))
    print(path.relative_to(IMAGES.parent.parent), flush=True)


if __name__ == "__main__":
    sys.exit(main())
