"""The whole window, with real mouse clicks, against a phantom's truth."""

from __future__ import annotations

import numpy as np
import pytest
from clicking import click
from qtpy.QtCore import QPoint, Qt, QTimer
from window_tools import OTHER, SPEC, BrokenNet, SlowNet, agrees, marked_slide, model_of, phantom

from napari_hspnet._qt import camera
from napari_hspnet._qt.slide_layer import slide_of
from napari_hspnet.classes import DEMO_BANNER, NOT_RUN
from napari_hspnet.phantom import ORACLE_COLOURS, ORACLE_GLASS, truth_block
from napari_hspnet.slides import LabelGrid, open_slide

from oracle import oracle_model
from slide_files import noise, write_generic_tiff

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def oracle_path(tmp_path_factory):
    return phantom(tmp_path_factory.mktemp("oracle"))


@pytest.fixture(scope="module")
def other_path(tmp_path_factory):
    return phantom(tmp_path_factory.mktemp("other"), OTHER, "another")


def open_here(viewer, path):
    (layer,) = viewer.open(str(path), plugin="napari-hspnet")
    return layer


def segment(qtbot, wait, dock):
    wait(dock.segment_view.segment.isEnabled)
    click(qtbot, dock.segment_view.segment)
    assert dock.control.running
    wait(lambda: not dock.control.running, 60)
    assert dock.segment_view.error.text() == ""


def shown_labels(dock):
    composite = dock.slides.active.session.composite
    return composite.read(0, 0, *composite.grid.shape)


def truth_of(spec):
    return truth_block(spec, 0, 0, *spec.label_shape)


# Opening


@pytest.mark.parametrize("first", ["slide", "dock"])
def test_slide_and_dock_in_any_order(viewer, add_dock, wait, oracle_path, first):
    if first == "slide":
        layer = open_here(viewer, oracle_path)
        dock = add_dock()
    else:
        dock = add_dock()
        assert dock.slide_view.empty.isVisible()
        assert not dock.segment_view.segment.isEnabled()
        assert "Open a slide" in dock.segment_view.segment.toolTip()
        layer = open_here(viewer, oracle_path)
    assert dock.slides.active.layers.slide_layer is layer
    assert "2,901 x 2,203 px" in dock.slide_view.details.text()
    assert "0.25 µm/px" in dock.slide_view.details.text()
    assert tuple(str(u) for u in layer.units) == ("micrometer", "micrometer")
    assert np.allclose(layer.translate, layer.scale / 2)
    assert viewer.canvas.overlays.scale_bar.visible
    wait(lambda: dock.slides.active.picture is not None)
    assert dock.models.loaded is None
    assert "Choose a model" in dock.segment_view.segment.toolTip()


def test_the_sample_opens_by_its_button(viewer, add_dock, wait, qtbot, shared_data):
    dock = add_dock()
    click(qtbot, dock.slide_view.sample_button)
    wait(lambda: len(viewer.layers) == 1)
    assert "2,220 x 2,967 px" in dock.slide_view.details.text()
    assert not dock.slide_view.sample_button.isVisible()


def test_napari_opens_a_slide_by_its_name_alone(viewer, add_dock, shared_data):
    from napari.settings import get_settings

    # Its own reader takes the ending too: what its dialog remembers when asked.
    get_settings().plugins.extension2reader = {"*.svs": "napari-hspnet"}
    dock = add_dock()
    viewer.open(str(shared_data / "CMU-1-Small-Region.svs"), plugin=None)
    assert dock.slides.active.session.slide.info.vendor == "aperio"


def test_the_phantom_sample_is_made_once_and_opens(viewer, add_dock, wait, tmp_path, monkeypatch):
    import napari_hspnet.phantom
    from napari_hspnet._qt import hooks
    from napari_hspnet.phantom import PhantomSpec

    path = tmp_path / "cache" / "phantom.tiff"
    monkeypatch.setattr(hooks, "phantom_path", lambda: path)
    monkeypatch.setattr(napari_hspnet.phantom, "sample_spec", lambda: PhantomSpec(700, 900, 3))
    dock = add_dock()
    beats = []
    beat = QTimer()
    beat.timeout.connect(lambda: beats.append(1))
    beat.start(10)
    assert len(viewer.open_sample("napari-hspnet", "phantom")) == 1
    assert len(beats) > 3, "the window stood still meanwhile"
    assert dock.slides.active.session.slide.info.phantom
    assert "synthetic slide" in dock.slide_view.details.text()
    viewer.open_sample("napari-hspnet", "phantom")
    assert len(dock.slides.open) == 2
    assert list(path.parent.iterdir()) == [path]


def test_the_demo_model_is_never_preselected(viewer, add_dock, wait, oracle_path):
    open_here(viewer, oracle_path)
    dock = add_dock()
    assert dock.models.loaded is None
    assert dock.model_view.choice.currentText() == "choose a model"
    assert DEMO_BANNER not in viewer.canvas.overlays.text.text


# Segmenting


def test_what_i_see_equals_the_truth(viewer, add_dock, wait, qtbot, oracle_path, shot):
    open_here(viewer, oracle_path)
    dock = add_dock()
    dock.models.take(oracle_model())
    viewer.scene.camera.zoom = 2.0
    viewer.scene.camera.center = (0, 300.0, 350.0)
    qtbot.wait(100)
    y0, _, _, x1 = camera.view_of(viewer)
    wait(lambda: "windows" in dock.segment_view.estimate.text())
    before = shot()
    segment(qtbot, wait, dock)
    found, truth = shown_labels(dock), truth_of(SPEC)
    correct, missed, _ = agrees(found, truth)
    assert correct > 0.999
    assert missed == 0
    rows, columns = np.nonzero(found != NOT_RUN)
    assert abs(rows.min() - max(0, y0)) <= 1
    assert abs(columns.max() + 1 - min(SPEC.label_shape[1], x1)) <= 1
    counted = {value: (found == value).sum() * 1e-6 for value in range(5)}
    wait(
        lambda: (
            (areas := dock.slides.active.session.areas) is not None
            and [areas.mm2.get(v, 0) for v in counted] == pytest.approx(list(counted.values()))
        )
    )
    assert DEMO_BANNER in viewer.canvas.overlays.text.text
    assert (np.abs(shot().astype(int) - before) > 30).any()
    # It is there again when the slide is opened the next time.
    viewer.layers.clear()
    wait(lambda: dock.slides.active is None)
    qtbot.wait(50)
    open_here(viewer, oracle_path)
    wait(lambda: dock.slides.active.session.reopened)
    assert np.array_equal(shown_labels(dock), found)
    assert "Re-opened" in dock.slide_view.case_note.text()


def test_a_preview_runs_fewer_windows_and_says_what_it_is(
    viewer, add_dock, wait, qtbot, oracle_path
):
    open_here(viewer, oracle_path)
    dock = add_dock()
    dock.models.take(oracle_model())
    choice = dock.model_view.mode
    wait(lambda: dock.model_view.mode_text.toolTip() != "")
    assert dock.model_view.mode_text.text() == ""

    def windows():
        wait(lambda: dock.segment_view.estimate.text()[:1].isdigit())
        return int(dock.segment_view.estimate.text().split(" windows")[0].replace(",", ""))

    exact = windows()
    choice.setFocus()
    qtbot.keyClick(choice, Qt.Key.Key_P)
    wait(lambda: dock.models.mode == "preview")
    assert "not for grading" in dock.model_view.mode_text.text()
    wait(lambda: windows() < exact)
    segment(qtbot, wait, dock)
    (run,) = dock.slides.active.session.runs
    assert run.record.mode == "preview"
    assert run.record.title.endswith("(preview)")
    assert "(preview)" in dock.slide_view.case_note.text()


@pytest.mark.parametrize("kind", ["rectangle", "ellipse"])
def test_a_drawn_shape_bounds_the_result(viewer, add_dock, wait, qtbot, oracle_path, kind):
    open_here(viewer, oracle_path)
    dock = add_dock()
    dock.models.take(oracle_model())
    click(qtbot, dock.segment_view.draw)
    layer = dock.slides.active.layers.regions
    assert viewer.layers.selection.active is layer
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    corners = np.array([[-90.0, -160], [-90, 160], [90, 160], [90, -160]]) @ turn.T + [280, 350]
    layer.add(corners, shape_type=kind)
    layer.selected_data = set()
    assert dock.segment_view.target == "shapes"
    segment(qtbot, wait, dock)
    found, truth = shown_labels(dock), truth_of(SPEC)
    ys, xs = np.mgrid[: found.shape[0], : found.shape[1]]
    place = (np.stack([ys, xs], axis=-1) + 0.5 - [280, 350]) @ turn
    inside = (
        (np.abs(place[..., 0]) < 90) & (np.abs(place[..., 1]) < 160)
        if kind == "rectangle"
        else (place[..., 0] / 90) ** 2 + (place[..., 1] / 160) ** 2 < 1
    )
    # The ellipse is a polygon of many sides: pixels along its border may differ.
    assert ((found != NOT_RUN) != inside).sum() < (5 if kind == "rectangle" else 60)
    assert agrees(found, truth)[0] > 0.999
    assert layer.mode == "pan_zoom"


def test_drawing_with_the_mouse(viewer, add_dock, wait, qtbot, oracle_path):
    open_here(viewer, oracle_path)
    dock = add_dock()
    click(qtbot, dock.segment_view.draw)
    canvas = viewer.window._qt_viewer.canvas.native
    y0, x0, _, _ = camera.view_of(viewer)
    zoom = viewer.scene.camera.zoom
    start, end = QPoint(250, 300), QPoint(420, 400)
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
    for step in range(1, 11):
        qtbot.mouseMove(canvas, start + (end - start) * step / 10)
        qtbot.wait(5)
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=end)
    layer = dock.slides.active.layers.regions
    wait(lambda: len(layer.data) == 1)
    (region,) = dock.segmenting.region().polygons
    drawn = np.asarray(region)
    wanted = [(y0 + p.y() / zoom, x0 + p.x() / zoom) for p in (start, end)]
    assert np.allclose([drawn.min(axis=0), drawn.max(axis=0)], wanted, atol=2 / zoom)


def test_cancel_leaves_nothing_and_the_window_alive(viewer, add_dock, wait, qtbot, oracle_path):
    import time

    open_here(viewer, oracle_path)
    dock = add_dock()
    dock.models.take(model_of(SlowNet()))
    wait(dock.segment_view.segment.isEnabled)
    click(qtbot, dock.segment_view.segment)
    wait(lambda: dock.slides.active.session.live is not None)
    assert not dock.segment_view.segment.isVisible()
    begun = time.monotonic()
    click(qtbot, dock.segment_view.cancel)
    wait(lambda: not dock.control.running)
    assert time.monotonic() - begun < 5
    session = dock.slides.active.session
    assert session.case.runs == ()
    assert dock.segment_view.segment.isVisible()
    assert list((session.case.folder / "runs").iterdir()) == []
    dock.models.take(oracle_model())
    segment(qtbot, wait, dock)
    assert len(session.case.runs) == 1


def test_a_fault_in_the_worker_is_told_and_nothing_stays(
    viewer, add_dock, wait, qtbot, oracle_path, notified
):
    open_here(viewer, oracle_path)
    dock = add_dock()
    dock.models.take(model_of(BrokenNet()))
    wait(dock.segment_view.segment.isEnabled)
    click(qtbot, dock.segment_view.segment)
    wait(lambda: not dock.control.running)
    assert "the network broke" in dock.segment_view.error.text()
    assert any("the network broke" in text for text in notified())
    assert dock.slides.active.session.case.runs == ()


def test_closing_the_window_ends_the_run(make_napari_viewer, qtbot, wait, oracle_path):
    import threading

    from napari_hspnet.cases import Case, default_case_folder

    viewer = make_napari_viewer(show=True)
    _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet")
    open_here(viewer, oracle_path)
    dock.models.take(model_of(SlowNet()))
    wait(dock.segment_view.segment.isEnabled)
    dock.control.segment("slide")
    wait(lambda: dock.slides.active.session.live is not None)
    session = dock.slides.active.session
    viewer.close()
    wait(lambda: session.case is None)
    wait(lambda: not any(t.name.startswith("hspnet") for t in threading.enumerate()))
    with open_slide(oracle_path) as slide:
        folder = default_case_folder(slide.info)
        # The lock is free, and what was half written is gone.
        with Case.open_or_create(folder, slide.info, LabelGrid.of(slide.info)) as case:
            assert case.runs == ()


# Alignment


@pytest.mark.parametrize("zoom", [0.3, 1.0, 3.0, 9.0])
def test_marks_in_the_far_corner_are_where_they_should_be(
    viewer, add_dock, wait, qtbot, tmp_path, zoom, shot
):
    height, width, mpp = 2967, 2219, 0.499
    mark = (2967 - 197, 2219 - 143, 100)
    base = marked_slide(height, width, mark)
    levels = [base, *(base[f // 2 :: f, f // 2 :: f] for f in (4, 16))]
    path = write_generic_tiff(tmp_path / "marked.tif", levels, mpp)
    open_here(viewer, path)
    dock = add_dock()
    y0, x0, side = (v * mpp for v in mark)
    viewer.scene.camera.zoom = zoom
    viewer.scene.camera.center = (0, y0 + side / 2, x0 + side / 2)
    bare = shot()
    # A level is sampled at whole pixels: its edge may lie half a displayed pixel off.
    reach = 1.5 + 0.5 * max(1.0, mpp * zoom)
    assert_square(bare, viewer, (y0, x0, side), ORACLE_COLOURS[4], ORACLE_GLASS, reach)
    dock.models.take(oracle_model())
    dock.segment_view.set_target("slide")
    segment(qtbot, wait, dock)
    dock.overlay.set_style(dock.overlay.style.shown((1, 2, 3, 4), True))
    dock.overlay_view.fill_toggled.emit(True)
    dock.overlay_view.veil_toggled.emit(False)
    painted = shot()
    changed = np.abs(painted.astype(int) - bare).sum(axis=2) > 40
    rows, columns = np.nonzero(changed)
    # Not the banner, the scale bar or the rim one label pixel outside.
    keep = (rows > 60) & (rows < changed.shape[0] - 60)
    top, left = to_canvas(viewer, y0, x0)
    size = side * zoom
    label = max(1.0, zoom)
    tolerance = 2.0 * label + reach
    assert rows[keep].min() == pytest.approx(top, abs=tolerance)
    assert rows[keep].max() + 1 == pytest.approx(top + size, abs=tolerance)
    assert columns[keep].min() == pytest.approx(left, abs=tolerance)
    assert columns[keep].max() + 1 == pytest.approx(left + size, abs=tolerance)


def to_canvas(viewer, y, x):
    top, left, _, _ = camera.view_of(viewer)
    return (y - top) * viewer.scene.camera.zoom, (x - left) * viewer.scene.camera.zoom


def assert_square(picture, viewer, square, inside, outside, reach):
    y0, x0, side = square
    top, left = to_canvas(viewer, y0, x0)
    size = side * viewer.scene.camera.zoom
    middle = size / 2
    for sign, colour in ((1, inside), (-1, outside)):
        step = sign * (reach + 0.5)
        for y, x in (
            (top + step, left + middle),
            (top + size - step, left + middle),
            (top + middle, left + step),
            (top + middle, left + size - step),
        ):
            row, column = int(np.floor(y)), int(np.floor(x))
            if 0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]:
                assert np.abs(picture[row, column].astype(int) - colour).max() < 12, (sign, y, x)


# Several slides


def test_two_slides_do_not_mix(viewer, add_dock, wait, qtbot, oracle_path, other_path):
    dock = add_dock()
    first = open_here(viewer, oracle_path)
    one = dock.slides.active
    second = open_here(viewer, other_path)
    two = dock.slides.active
    assert one is not two
    assert not first.visible
    assert second.visible
    assert dock.slide_view.choice.isVisible()
    qtbot.wait(50)
    dock.models.take(oracle_model())
    segment(qtbot, wait, dock)
    assert one.session.composite is None
    assert one.layers.overlay is None
    assert agrees(shown_labels(dock), truth_of(OTHER))[0] > 0.999
    viewer.layers.selection.active = first
    assert dock.slides.active is one
    assert first.visible
    assert not second.visible
    assert not two.layers.overlay.visible
    assert dock.overlay_view.empty.isVisible()
    qtbot.wait(50)
    segment(qtbot, wait, dock)
    assert agrees(shown_labels(dock), truth_of(SPEC))[0] > 0.999
    assert one.session.case.folder != two.session.case.folder
    viewer.layers.remove(first)
    assert dock.slides.active is two
    assert two.layers.overlay.visible
    qtbot.wait(50)
    assert one.session.closed
    assert one.layers.overlay is None


# Bad input


def test_a_slide_without_resolution_is_asked_for_it(
    viewer, add_dock, wait, qtbot, tmp_path, notified
):
    path = write_generic_tiff(
        tmp_path / "bare.tif", [marked_slide(900, 1000, (200, 300, 200))], None
    )
    layer = open_here(viewer, path)
    dock = add_dock()
    dock.models.take(oracle_model())
    assert dock.slide_view.mpp_row.isVisible()
    assert "µm per pixel" in dock.segment_view.segment.toolTip()
    assert not dock.segment_view.segment.isEnabled()
    qtbot.keyClicks(dock.slide_view.mpp_field, "400")
    click(qtbot, dock.slide_view.mpp_button)
    assert "cannot be right" in dock.slide_view.error.text()
    assert any("cannot be right" in text for text in notified())
    dock.slide_view.mpp_field.clear()
    qtbot.keyClicks(dock.slide_view.mpp_field, "half")
    click(qtbot, dock.slide_view.mpp_button)
    assert "no number" in dock.slide_view.error.text()
    dock.slide_view.mpp_field.clear()
    qtbot.keyClicks(dock.slide_view.mpp_field, "0,5")
    click(qtbot, dock.slide_view.mpp_button)
    assert not dock.slide_view.mpp_row.isVisible()
    assert np.allclose(layer.scale, 0.5)
    assert np.allclose(layer.translate, 0.25)
    assert slide_of(layer).info.mpp == (0.5, 0.5)
    segment(qtbot, wait, dock)
    found = shown_labels(dock)
    assert (found[102:198, 152:248] == 4).all()


def test_an_implausible_resolution_is_questioned(viewer, add_dock, shared_data):
    open_here(viewer, shared_data / "boxes_4_levels.tiff")
    dock = add_dock()
    assert dock.slide_view.mpp_row.isVisible()
    assert "352.8" in dock.slide_view.mpp_note.text()


def test_a_coarse_slide_is_viewed_but_not_segmented(viewer, add_dock, shared_data, shot):
    open_here(viewer, shared_data / "camelyon_overview_jpeg.dcm")
    dock = add_dock()
    dock.models.take(oracle_model())
    shot()
    assert not dock.segment_view.segment.isEnabled()
    assert "too coarse" in dock.segment_view.segment.toolTip()
    assert "too coarse" in dock.segment_view.estimate.text()


def test_a_broken_file_is_told_and_the_window_lives(
    viewer, add_dock, wait, qtbot, shared_data, notified, oracle_path
):
    dock = add_dock()
    dock.control.open_slide(shared_data / "bad" / "broken.svs")
    wait(lambda: dock.slide_view.error.text() != "")
    assert "broken.svs" in notified()[-1] or "broken.svs" in dock.slide_view.error.text()
    assert len(viewer.layers) == 0
    dock.control.open_slide(oracle_path)
    wait(lambda: len(viewer.layers) == 1)
    assert dock.slide_view.error.text() == ""


def test_an_unreadable_tile_is_a_gap_with_one_notification(
    viewer, add_dock, wait, qtbot, shared_data, notified, shot
):
    open_here(viewer, shared_data / "bad" / "unreadable.svs")
    dock = add_dock()
    wait(lambda: any("cannot be read" in text for text in notified()))
    shot()
    viewer.scene.camera.zoom *= 1.5
    qtbot.wait(200)
    assert sum("cannot be read" in text for text in notified()) == 1
    assert dock.isVisible()


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_a_bad_checkpoint_is_told(viewer, add_dock, wait, tmp_path, notified, content):
    dock = add_dock()
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    dock.control.choose_model(path)
    wait(lambda: dock.model_view.error.text() != "")
    assert "model.safetensors" in notified()[-1]
    assert dock.models.loaded is None
    assert dock.model_view.choice.currentText() == "choose a model"


def test_a_view_beside_the_slide_is_refused(viewer, add_dock, wait, qtbot, oracle_path):
    open_here(viewer, oracle_path)
    dock = add_dock()
    dock.models.take(oracle_model())
    viewer.scene.camera.center = (0, -50_000, -50_000)
    wait(lambda: "out of sight" in dock.segment_view.segment.toolTip())
    dock.segment_view.set_target("shapes")
    assert "No region is drawn" in dock.segment_view.segment.toolTip()


def test_glass_alone_is_no_tissue(viewer, add_dock, wait, qtbot, tmp_path):
    pixels = np.full((600, 700, 3), 246, np.uint8)
    open_here(viewer, write_generic_tiff(tmp_path / "glass.tif", [pixels], 0.5))
    dock = add_dock()
    dock.models.take(oracle_model())
    dock.segment_view.set_target("slide")
    wait(lambda: "No tissue" in dock.segment_view.estimate.text())
    segment(qtbot, wait, dock)
    found = shown_labels(dock)
    assert np.unique(found).tolist() == [253]
    wait(lambda: "no tissue found" in dock.overlay_view.not_analysed.text())


def test_noise_has_its_own_picture(viewer, add_dock, wait, tmp_path):
    path = write_generic_tiff(tmp_path / "noise.tif", [noise(500, 300)], (0.5, 1.0))
    open_here(viewer, path)
    dock = add_dock()
    wait(lambda: dock.slides.active.picture is not None)
    height, width = dock.slides.active.picture.shape[:2]
    # 250 µm high, 300 µm wide: the overview's pixels are square.
    assert width / height == pytest.approx(300 / 250, abs=0.02)
