"""Looking at the overlay: legend, colours, keys, pointer, export."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from clicking import click
from qtpy.QtCore import QPoint, Qt
from window_tools import phantom

from napari_hspnet._qt.slots import RECORDER
from napari_hspnet.classes import DEMO_BANNER

from oracle import oracle_model

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def oracle_path(tmp_path_factory):
    return phantom(tmp_path_factory.mktemp("oracle"))


@pytest.fixture
def dock(viewer, add_dock, wait, oracle_path, qtbot):
    """A dock with a segmented slide."""
    viewer.open(str(oracle_path), plugin="napari-hspnet")
    made = add_dock()
    made.models.take(oracle_model())
    wait(made.segment_view.segment.isEnabled)
    made.control.segment("slide")
    wait(lambda: not made.control.running, 60)
    wait(lambda: made.slides.active.session.areas is not None)
    qtbot.wait(100)
    return made


def differs(a, b):
    return int((np.abs(a.astype(int) - b).max(axis=2) > 25).sum())


def test_every_control_of_the_legend_changes_the_canvas(dock, viewer, qtbot, shot):
    view = dock.overlay_view
    seen = shot()
    for values in ((1,), (2,), (3,), (4,)):
        click(qtbot, view.class_boxes[values])
        now = shot()
        assert differs(seen, now) > 50, f"hiding {values} changed nothing"
        click(qtbot, view.class_boxes[values])
        assert differs(seen, shot()) == 0
    for change in (
        lambda: view.palette_chosen.emit("ordinal"),
        lambda: view.fill_toggled.emit(True),
        lambda: view.tiers_toggled.emit(True),
        lambda: view.opacity.setValue(40),
    ):
        change()
        now = shot()
        assert differs(seen, now) > 50
        seen = now
    assert list(view.class_boxes) == [(1,), (2,), (3, 4)]
    click(qtbot, view.visible)
    assert not dock.slides.active.layers.overlay.visible


def test_the_legend_counts_square_millimetres(dock):
    view, areas = dock.overlay_view, dock.slides.active.session.areas
    for values, label in view._areas.items():
        shown = label.text()
        wanted = areas.of(values)
        if wanted >= 0.005 and shown[0].isdigit():
            assert float(shown.removesuffix(" mm²")) == pytest.approx(wanted, abs=0.005)
    assert "%" in view.not_analysed.text() or "All of the slide" in view.not_analysed.text()


def test_holding_the_key_hides_the_overlay(dock, viewer, qtbot, shot):
    layers = dock.slides.active.layers
    canvas = viewer.window._qt_viewer.canvas.native
    shown = shot()
    qtbot.keyPress(canvas, Qt.Key.Key_H)
    assert not layers.overlay.visible
    assert not layers.veil.visible
    assert differs(shown, shot()) > 50
    qtbot.keyRelease(canvas, Qt.Key.Key_H)
    # napari waits a moment, since a held key repeats.
    qtbot.waitUntil(lambda: layers.overlay.visible, timeout=3000)
    assert differs(shown, shot()) == 0


def test_keys_go_to_objectives_and_are_given_back(dock, viewer, qtbot):
    canvas = viewer.window._qt_viewer.canvas.native
    for key, zoom in ((Qt.Key.Key_1, 0.2), (Qt.Key.Key_3, 1.0), (Qt.Key.Key_5, 4.0)):
        qtbot.keyClick(canvas, key, Qt.KeyboardModifier.ControlModifier)
        assert viewer.scene.camera.zoom == pytest.approx(zoom)
    qtbot.waitUntil(lambda: dock.slide_view.zoom_text.text() == "x40")
    assert len(dock.keys.bound) == 7
    before = len(viewer.keymap)
    dock.shut_down(viewer_stays=True)
    assert len(viewer.keymap) == before - 7
    assert [layer.name for layer in viewer.layers] == ["oracle.tiff"]
    assert DEMO_BANNER not in viewer.canvas.overlays.text.text


def test_the_key_segments_what_i_see(dock, viewer, qtbot, wait):
    canvas = viewer.window._qt_viewer.canvas.native
    runs = len(dock.slides.active.session.case.runs)
    dock.segment_view.set_target("slide")
    qtbot.keyClick(canvas, Qt.Key.Key_G)
    assert dock.control.running
    assert dock.segment_view.target == "view"
    wait(lambda: not dock.control.running, 60)
    assert len(dock.slides.active.session.case.runs) == runs + 1


def test_the_status_bar_says_what_is_under_the_pointer(dock, viewer, qtbot, wait):
    labels = dock.slides.active.session.composite.read(0, 0, 551, 726)
    inside = np.zeros_like(labels, bool)
    inside[20:-20, 20:-20] = labels[20:-20, 20:-20] == 4
    y, x = np.argwhere(inside)[inside.sum() // 2] + 0.5
    viewer.scene.camera.center = (0, y, x)
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.wait(50)
    # A pointer that only a test moves never enters the window.
    viewer.mouse_over_canvas = True
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    qtbot.mouseMove(canvas, middle + QPoint(3, 3))
    qtbot.mouseMove(canvas, middle)
    # napari's status thread runs in an active window only, and without a window
    # manager none is: what it would say is said for it.
    viewer.status = {**viewer.status, "coordinates": "here"}
    assert "CIN3" in viewer.status["coordinates"]
    assert "model score 1.00, not calibrated" in viewer.status["coordinates"]
    assert "oracle" in viewer.status["coordinates"]


def test_clicking_the_overview_goes_there(dock, viewer, qtbot):
    overview = dock.slide_view.overview
    viewer.scene.camera.zoom = 4
    point = overview.point(400.0, 500.0).toPoint()
    qtbot.mouseClick(overview, Qt.MouseButton.LeftButton, pos=point)
    assert viewer.scene.camera.center[-2:] == pytest.approx((400, 500), abs=6)
    qtbot.mousePress(overview, Qt.MouseButton.LeftButton, pos=point)
    qtbot.mouseMove(overview, overview.point(200.0, 300.0).toPoint())
    qtbot.mouseRelease(overview, Qt.MouseButton.LeftButton)
    assert viewer.scene.camera.center[-2:] == pytest.approx((200, 300), abs=6)


def test_export_writes_what_is_shown(dock, qtbot, wait, tmp_path):
    dock.export_view.choose(("ome-tiff", "png", "geojson"))
    dock.exporting.export(tmp_path)
    wait(lambda: "Written" in dock.export_view.told.text(), 60)
    composite = dock.slides.active.session.composite
    written = tifffile.imread(tmp_path / "oracle.ome.tif", level=0)
    assert np.array_equal(written, composite.read(0, 0, *composite.grid.shape))
    told = json.loads((tmp_path / "oracle.geojson").read_text())
    assert DEMO_BANNER in told["hspnet"]["notice"]
    assert (tmp_path / "oracle.png").is_file()
    dock.exporting.export(tmp_path)
    wait(lambda: "exist" in dock.export_view.told.text())
    assert written.size == tifffile.imread(tmp_path / "oracle.ome.tif", level=0).size


def test_export_into_a_folder_that_is_not_there(dock, wait, tmp_path):
    dock.exporting.export(tmp_path / "missing")
    wait(lambda: "Written" in dock.export_view.told.text(), 60)
    assert (tmp_path / "missing" / "oracle.geojson").is_file()


def test_everything_can_be_reached_with_the_keyboard_and_explains_itself(dock):
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QSlider

    controls = [
        widget
        for kind in (QAbstractButton, QComboBox, QLineEdit, QSlider)
        for widget in dock.findChildren(kind)
        if not widget.objectName().startswith("qt_")
    ]
    assert len(controls) > 25
    for widget in controls:
        assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus, widget.objectName()
        assert widget.toolTip(), widget.objectName()


def test_the_dock_fits_320_pixels(dock, qtbot):
    for name, part in dock.sections.items():
        assert part.minimumSizeHint().width() <= 316, name
    dock.sections["overlay"].toggle.click()
    assert not dock.overlay_view.isVisible()
    dock.sections["overlay"].toggle.click()
    assert dock.overlay_view.isVisible()


def test_slots_are_recorded_when_asked(dock, qtbot, wait):
    RECORDER.clear()
    RECORDER.on = True
    try:
        dock.control.segment("slide")
        wait(lambda: not dock.control.running, 60)
    finally:
        RECORDER.on = False
    names = {t.name for t in RECORDER.times}
    assert any("answer: segment report" in name for name in names)
    RECORDER.clear()
