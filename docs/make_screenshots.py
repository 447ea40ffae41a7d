"""Writes docs/images/*.png: the window as it really is, on the real sample slide.

    python docs/make_screenshots.py        (make screenshots brings a display along)

Cases go into a temporary folder, so that nothing of the user's is shown or touched.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from hands import click, wait

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
    wait(1.0)
    _save(window, "window-empty")
    viewer.open(str(sample_slide_path()), plugin="napari-hspnet")
    dock.control.choose_demo_model()
    wait(60, lambda: dock.control.model is not None)
    wait(60, lambda: " · about" in dock.segment_view.estimate.text())
    dock.slides.fit()
    wait(2.0)
    _save(window, "window-ready")
    click(dock.segment_view.segment)
    wait(60, lambda: dock.control.running)
    wait(120, lambda: dock.segment_view.bar.value() > 0.4 * max(1, dock.segment_view.bar.maximum()))
    _save(window, "window-running")
    wait(600, lambda: not dock.control.running)
    wait(1.5)
    _save(window, "window-overlay")
    _save(dock, "dock")
    for part in ("slide", "model", "segment", "overlay", "export"):
        _save(dock.sections[part], f"section-{part}")
    _import(dock, window)
    _correct(viewer, dock, window)
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
    wait(60, lambda: "window" in dock.segment_view.estimate.text())
    click(dock.segment_view.targets["shapes"])
    wait(60, lambda: dock.segment_view.segment.isEnabled())
    click(dock.segment_view.segment)
    wait(60, lambda: dock.control.running)
    wait(600, lambda: not dock.control.running)
    dock.overlay_view.fill_toggled.emit(True)
    dock.overlay_view.palette_chosen.emit("ordinal")
    wait(1.5)
    _save(window, "window-region")
    _in_napari_ome_zarr(dock)
    viewer.close()
    return 0


def _export(dock, folder: Path, *formats: str) -> dict[str, Path]:
    from napari_hspnet.jobs.export import ExportOptions, export_case

    session = dock.slides.active.session
    options = ExportOptions(folder, formats, name="biopsy")
    return dict(export_case(session.case, options, session.slide).outputs)


def _import(dock, window) -> None:
    """What a colleague sends back: outlines of which one has a class that must be asked."""
    with tempfile.TemporaryDirectory() as folder:
        path = _export(dock, Path(folder), "geojson")["geojson"]
        document = json.loads(path.read_text(encoding="utf-8"))
        largest = sorted(
            document["features"], key=lambda f: -f["properties"]["measurements"]["Area µm^2"]
        )
        for feature, name in zip(largest, ("CIN 2", "HSIL", "CIN III"), strict=False):
            feature["properties"]["classification"] = {"name": name, "color": [120, 0, 120]}
        path.write_text(json.dumps(document), encoding="utf-8")
        for name in ("model", "segment", "overlay", "correct", "review"):
            dock.sections[name].set_open(False)
        dock.importing.open_path(path)
        wait(30, lambda: dock.import_view.panel.isVisible())
        dock._area.ensureWidgetVisible(dock.import_view.panel)
        wait(30, lambda: "HSIL" in dock.import_view.names.choices)
        choice = dock.import_view.names.choices["HSIL"]
        choice.setCurrentIndex(choice.findData(4))
        choice.activated.emit(choice.currentIndex())
        wait(60, lambda: dock.importing.planned is not None)
        wait(2.0)
        dock._area.ensureWidgetVisible(dock.import_view.go)
        wait(1.0)
        _save(window, "window-import")
        dock.importing.end()
        for name in ("model", "segment", "overlay", "correct", "review"):
            dock.sections[name].set_open(True)
        wait(1.0)


def _crop(dock) -> None:
    """An image and its mask, side by side."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        made = _export(dock, Path(folder), "training")["training"]
        mask = max((made / "masks").iterdir(), key=lambda p: p.stat().st_size)
        pair = [Image.open(made / part / mask.name) for part in ("images", "masks")]
        width, height = pair[0].size
        side = Image.new("RGB", (2 * width + 12, height), "white")
        for number, picture in enumerate(pair):
            side.paste(picture.convert("RGB"), (number * (width + 12), 0))
        side.save(IMAGES / "training-crop.png")
        print("docs/images/training-crop.png", flush=True)


def _in_napari_ome_zarr(dock) -> None:
    """The exported folder in a window of its own, through the reader of others."""
    import napari

    with tempfile.TemporaryDirectory() as folder:
        made = _export(dock, Path(folder), "ome-zarr")["ome-zarr"]
        other = napari.Viewer(show=True)
        other.window._qt_window.resize(1280, 800)
        other.open(str(made), plugin="napari-ome-zarr")
        for layer in other.layers:
            layer.visible = layer._type_string == "labels"
        other.reset_view()
        wait(2.0)
        _save(other.window._qt_window, "window-ome-zarr")
        other.close()


def _correct(viewer, dock, window) -> None:
    """Paint, regrade a region by a click, go through a list; by real mouse events."""
    import numpy as np
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    from napari_hspnet.cases.components import components

    canvas = viewer.window._qt_viewer.canvas.native
    window.activateWindow()
    dock.slide_view.reader.setText("Dr. A. Ito")
    composite = dock.slides.active.session.composite
    largest = max(components(composite, 2000, values=(2, 3)), key=lambda c: c.pixels)
    inside = np.argwhere(largest.selection.read(largest.box))
    y, x = inside[len(inside) // 2] + (largest.box.y0 + 0.5, largest.box.x0 + 0.5)
    viewer.scene.camera.zoom = 1.0
    viewer.scene.camera.center = (0, y, x)
    wait(0.5)
    click(dock.correct_view.paint)
    wait(20, lambda: dock.painting.on and dock.painting._asked is None)
    dock.correct_view.brush.setValue(60)
    click(dock.correct_view.grades[4])
    c = QPoint(canvas.width() // 2, canvas.height() // 2)
    start, stop = c + QPoint(-170, 150), c + QPoint(150, 190)
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
    for n in range(1, 25):
        QTest.mouseMove(canvas, start + (stop - start) * n / 24)
        wait(0.02)
    _save(window, "window-correcting")
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=stop)
    wait(20, lambda: dock.correct_view.saved.text() == "All saved")
    click(dock.correct_view.tools["region"])
    click(dock.correct_view.grades[3 if largest.value == 2 else 2])
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=c)
    wait(20, lambda: dock.slides.active.session.case.journal.last >= 4)
    wait(20, lambda: dock.correct_view.changes.isVisible())
    click(dock.correct_view.changes)
    wait(1.5)
    _save(window, "window-regraded")
    _save(dock.sections["correct"], "section-correct")
    click(dock.correct_view.changes)
    dock.painting.leave()
    dock.review_view.sources["parts"].trigger()
    dock.review_view.amount.setValue(2000)
    dock.review_view.go.click()
    wait(60, lambda: len(dock.slides.active.session.case.review.regions) > 2)
    wait(1.0)
    dock.sections["model"].set_open(False)
    dock.sections["segment"].set_open(False)
    dock._area.ensureWidgetVisible(dock.review_view.comment_row)
    dock.reviewing.next_region()
    dock.reviewing.next_region()
    wait(1.0)
    dock.reviewing.set_state("reviewed")
    dock.reviewing.say("Maturation up to the surface")
    wait(1.0)
    dock.reviewing.previous_region()
    wait(0.5)
    dock.reviewing.sign_off()
    wait(1.5)
    dock._area.ensureWidgetVisible(dock.review_view.comments)
    wait(0.5)
    _save(window, "window-review")
    _save(dock.sections["review"], "section-review")
    _crop(dock)
    for name in ("model", "segment"):
        dock.sections[name].set_open(True)
    dock.reviewing.unlock()
    wait(1.0)
    _second_reader(dock, window)
    while dock.slides.active.session.case.editing.can_undo:
        last = dock.slides.active.session.case.journal.last
        dock.correcting.undo()
        wait(20, lambda seq=last: dock.slides.active.session.case.journal.last > seq)
    dock.slides.fit()
    wait(1.0)


def _second_reader(dock, window) -> None:
    """Begin a second reading, regrade a part there, go back and compare."""
    import numpy as np
    from qtpy.QtTest import QTest

    from napari_hspnet.cases import Patch

    readings, compare = dock.slide_view.readings, dock.review_view.compare

    def go_to(number: int) -> None:
        before = dock.slides.active
        dock.readings.go_to(number)
        wait(60, lambda: dock.slides.active not in (None, before))
        wait(60, lambda: dock.slides.active.session.areas is not None)
        wait(1.0)

    dock._area.verticalScrollBar().setValue(0)
    click(readings.add)
    QTest.keyClicks(readings.name, "Dr. B. Cho")
    click(readings.regions)
    wait(0.5)
    _save(dock.sections["slide"], "section-second-reader")
    click(readings.begin)
    wait(60, lambda: readings.choice.count() == 2)
    region = dock.slides.active.session.case.review.regions[0].box
    go_to(1)
    dock.slide_view.reader.setText("Dr. B. Cho")
    wait(1.0)
    _save(window, "window-second-reading")
    case = dock.slides.active.session.case
    composite = case.composite()
    values = composite.read(region.y0, region.x0, region.height, region.width)
    worse = Patch(region.y0, region.x0, np.full_like(values, 4), (values >= 2) & (values <= 3))
    case.editing.correct([worse], "Dr. B. Cho", "brush")
    dock.slide_view.reader.setText("Dr. A. Ito")
    go_to(0)
    click(compare.go)
    wait(60, compare.head.text)
    wait(1.0)
    _save(compare, "section-compare")
    dock._area.verticalScrollBar().setValue(0)


def _save(widget, name: str) -> None:
    path = IMAGES / f"{name}.png"
    widget.grab().save(str(path))
    print(path.relative_to(IMAGES.parent.parent), flush=True)


if __name__ == "__main__":
    sys.exit(main())
