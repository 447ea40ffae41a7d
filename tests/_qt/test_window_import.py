"""Importing from the window: asked about, looked at on the canvas, done as one act, taken back."""

from __future__ import annotations

import numpy as np
import pytest
from clicking import choose, click, cut_off, open_section
from correcting import ANN, SHAPE, done, entries, labels, middle, predicted, stroke
from exchanging import held, outline, write_outlines
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog

from napari_hspnet._qt import import_control
from napari_hspnet._qt.import_preview import NAME, NONE, STRIPE, PreviewLevel
from napari_hspnet._qt.slots import RECORDER
from napari_hspnet.cases import Case, Selection
from napari_hspnet.classes import NOT_RUN
from napari_hspnet.slides import PixelBox

pytestmark = pytest.mark.gui

BOX = PixelBox(1900, 1900, 2100, 2200)
NORMAL = PixelBox(2300, 2000, 2400, 2100)


def sides(box):
    return box.y0, box.x0, box.y1, box.x1


def inside(values, box):
    return values[box.y0 : box.y1, box.x0 : box.x1]


@pytest.fixture
def file(tmp_path):
    """A CIN3 and a normal region, named so that both are understood."""
    return write_outlines(
        tmp_path / "expert.geojson",
        outline(*sides(BOX), "CIN 3"),
        outline(*sides(NORMAL), "Normal"),
    )


@pytest.fixture
def chosen(monkeypatch):
    """Sets what is chosen in the dialog."""

    def choose_file(path):
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(path), ""))

    return choose_file


@pytest.fixture
def take(qtbot, wait, chosen):
    """Opens a file by the button, and waits for what comes of it."""

    def opened(dock, path, planned=True):
        open_section(dock)
        chosen(path)
        click(qtbot, dock.import_view.open)
        wait(lambda: dock.import_view.panel.isVisible() or dock.import_view.error.text())
        if planned:
            wait(lambda: dock.importing.planned is not None)
        return dock.import_view

    return opened


def previews(viewer):
    return [layer for layer in viewer.layers if layer.name == NAME]


def test_a_file_is_looked_at_imported_and_taken_back(
    wide_dock, viewer, qtbot, wait, take, file, shot
):
    dock = wide_dock
    view = dock.import_view
    before = shot()
    take(dock, file)
    assert "expert.geojson" in view.file.text()
    assert set(view.names.grades.items()) == {("CIN 3", 4), ("Normal", 1)}
    assert view.go.isEnabled()
    assert "CIN1 → CIN3 0.060 mm²" in view.planned.text()
    assert "CIN1 → normal 0.010 mm²" in view.planned.text()
    (layer,) = previews(viewer)
    np.testing.assert_array_equal(layer.scale, [1, 1])
    np.testing.assert_array_equal(layer.translate, [0.5, 0.5])
    assert not layer.editable
    assert viewer.layers.selection.active is not layer
    np.testing.assert_array_equal(labels(dock), predicted())
    y, x = 2000 - viewer.scene.camera.center[-2], 2100 - viewer.scene.camera.center[-1]
    after = shot()
    at = int(after.shape[0] / 2 + y) + np.arange(-20, 20), int(after.shape[1] / 2 + x)
    changed = np.abs(after[at].astype(int) - before[at]).max(axis=1)
    assert (changed > 20).any()
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text())
    assert previews(viewer) == []
    assert not view.panel.isVisible()
    wanted = predicted()
    inside(wanted, BOX)[:] = 4
    inside(wanted, NORMAL)[:] = 1
    np.testing.assert_array_equal(labels(dock), wanted)
    last = entries(dock)[-1]
    assert (last.kind, last.reader, last.body["tool"]) == ("edit", ANN, "import")
    assert last.body["file"] == "expert.geojson"
    assert "CIN1 → CIN3 0.060 mm²" in view.told.text()
    open_section(dock, "correct")
    click(qtbot, dock.correct_view.undo)
    done(dock, wait, 4)
    np.testing.assert_array_equal(labels(dock), predicted())


def test_names_that_are_not_understood_are_asked(wide_dock, viewer, qtbot, wait, take, tmp_path):
    path = write_outlines(
        tmp_path / "qupath.geojson",
        outline(1900, 1900, 2000, 2000, "CIN1"),
        outline(1900, 2100, 2000, 2200, "HSIL"),
        outline(2100, 2100, 2200, 2200, "HSIL"),
        outline(2100, 1900, 2200, 2000, "Stroma <b>"),
        outline(2300, 1900, 2350, 1950, None),
    )
    view = take(wide_dock, path, planned=False)
    # Those that have to be answered are at the top, and marked.
    assert list(view.names.choices) == ["HSIL", "Stroma <b>", "", "CIN1"]
    marked = [label.property("kind") == "warning" for label in view.names.labels.values()]
    assert marked == [True, True, True, False]
    assert "these 3" in view.asked.text()
    assert not view.go.isEnabled()
    assert "what each name is" in view.go.toolTip()
    assert previews(viewer) == []
    choose(qtbot, view.names.choices["HSIL"], 3)
    choose(qtbot, view.names.choices["Stroma <b>"], 0)
    assert "this is" in view.asked.text()
    assert not view.go.isEnabled()
    choose(qtbot, view.names.choices[""], 255)
    wait(view.go.isEnabled)
    assert not view.asked.isVisible()
    assert len(previews(viewer)) == 1
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text())
    wanted = predicted()
    wanted[1900:2000, 2100:2200] = wanted[2100:2200, 2100:2200] = 3
    wanted[2100:2200, 1900:2000] = 0
    np.testing.assert_array_equal(labels(wide_dock), wanted)
    # What agrees was not accepted.
    assert (labels(wide_dock, "correction")[1900:2000, 1900:2000] == NOT_RUN).all()


def test_what_agrees_and_the_rest_can_be_taken_too(wide_dock, qtbot, wait, take, tmp_path):
    path = write_outlines(tmp_path / "a.geojson", outline(1900, 1900, 2000, 2000, "CIN1"))
    view = take(wide_dock, path)
    assert "Nothing would change" in view.planned.text()
    assert not view.go.isEnabled()
    assert "Nothing would change" in view.go.toolTip()
    click(qtbot, view.agreeing)
    wait(view.go.isEnabled)
    assert view.planned.text() == "Would change:\naccepted as it is 0.010 mm²"
    choose(qtbot, view.rest, "none")
    wait(lambda: view.go.isEnabled() and "→" in view.planned.text())
    assert "normal → none of the four" in view.planned.text()
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text(), 60)
    found = labels(wide_dock)
    assert (found[1900:2000, 1900:2000] == 2).all()
    assert (found == 2).sum() == 10_000
    assert (labels(wide_dock, "correction")[1900:2000, 1900:2000] == 2).all()


def test_signed_off_regions_stay_and_that_is_said(wide_dock, viewer, qtbot, wait, take, file):
    dock = wide_dock
    case = dock.slides.active.session.case
    locked = PixelBox(1850, 1850, 2000, 2000)
    case.review.add([Selection.of_box(locked, SHAPE)], "drawn", ANN)
    (region,) = case.review.regions
    case.review.set_state([region.id], "signed off", ANN)
    view = take(dock, file)
    assert "signed off" in view.warning.text()
    assert "0.010 mm²" in view.warning.text()
    assert "CIN1 → CIN3 0.050 mm²" in view.planned.text()
    level = dock.importing.planned.levels[0]
    assert (level[1900:2000, 1900:2000] == NOT_RUN).all()
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text())
    wanted = predicted()
    inside(wanted, BOX)[:] = 4
    inside(wanted, NORMAL)[:] = 1
    inside(wanted, locked)[:] = 2
    np.testing.assert_array_equal(labels(dock), wanted)
    assert entries(dock)[-1].body["left_locked"] == [region.id]


def test_all_signed_off_cannot_be_imported(wide_dock, wait, take, file):
    case = wide_dock.slides.active.session.case
    case.review.add([Selection.of_box(PixelBox(1800, 1800, 2500, 2500), SHAPE)], "drawn", ANN)
    case.review.set_state([1], "signed off", ANN)
    view = take(wide_dock, file)
    assert not view.go.isEnabled()
    assert "unlock it first" in view.go.toolTip()


def test_cancelling_changes_nothing(wide_dock, viewer, qtbot, take, file):
    view = take(wide_dock, file)
    assert previews(viewer)
    assert not wide_dock.export_view.export.isVisible()
    click(qtbot, view.close_it)
    assert previews(viewer) == []
    assert view.open.isVisible()
    assert not view.panel.isVisible()
    assert wide_dock.export_view.export.isVisible()
    assert len(entries(wide_dock)) == 2


def test_an_import_can_be_stopped(wide_dock, viewer, qtbot, wait, take, file, monkeypatch):
    view = take(wide_dock, file)
    begun, _ = held(import_control, "import_plan", monkeypatch)
    click(qtbot, view.go)
    wait(begun.is_set)
    assert not view.panel.isEnabled()
    click(qtbot, view.stop)
    wait(lambda: "Stopped" in view.told.text())
    assert view.panel.isEnabled()
    np.testing.assert_array_equal(labels(wide_dock), predicted())
    wait(view.go.isEnabled)


def test_an_import_can_be_stopped_before_its_turn(wide_dock, qtbot, wait, take, file):
    import threading

    dock = wide_dock
    view = take(dock, file)
    go = threading.Event()
    cancelled = []

    def slow(act):
        go.wait(20)
        cancelled.append(act.cancel.is_set())

    dock.acts.do("Slow", dock.slides.active, slow)
    click(qtbot, view.go)
    click(qtbot, view.stop)
    go.set()
    wait(lambda: "Stopped" in view.told.text())
    # What is before it goes on.
    assert cancelled == [False]
    assert len(entries(dock)) == 2


def test_show_where_zooms_there(wide_dock, viewer, qtbot, take, file):
    viewer.scene.camera.center = (0, 300, 300)
    view = take(wide_dock, file)
    click(qtbot, view.where)
    y, x = viewer.scene.camera.center[-2:]
    assert (y, x) == pytest.approx((2150, 2050))
    height, width = (size / viewer.scene.camera.zoom for size in viewer.canvas.size)
    assert height > 500
    assert width > 300


@pytest.mark.parametrize("how", ["switch", "remove", "close"])
def test_the_preview_goes_with_what_it_is_of(
    wide_dock, viewer, qtbot, wait, take, file, how, tmp_path
):
    dock = wide_dock
    take(dock, file)
    assert len(previews(viewer)) == 1
    if how == "switch":
        from window_tools import OTHER, phantom

        viewer.open(str(phantom(tmp_path, OTHER, "other")), plugin="napari-hspnet")
        assert dock.slides.active.session.slide.info.name == "other.tiff"
    elif how == "remove":
        viewer.layers.remove(dock.slides.active.layers.slide_layer)
    else:
        dock.shut_down(viewer_stays=True)
    assert previews(viewer) == []
    if how != "close":
        assert not dock.import_view.panel.isVisible()
        assert dock.import_view.open.isVisible()


def test_hiding_the_overlay_hides_the_preview(wide_dock, viewer, canvas, qtbot, take, file):
    take(wide_dock, file)
    (layer,) = previews(viewer)
    canvas.setFocus()
    qtbot.keyPress(canvas, Qt.Key.Key_H)
    assert not layer.visible
    qtbot.keyRelease(canvas, Qt.Key.Key_H)
    qtbot.waitUntil(lambda: layer.visible, timeout=3000)


def test_a_mask_of_another_size_says_what_is_missing(
    wide_dock, viewer, qtbot, wait, take, tmp_path, notified
):
    values = np.zeros((100, 150), np.uint8)
    values[20:50, 30:90] = 4
    Image.fromarray(values).save(tmp_path / "part.png")
    view = take(wide_dock, tmp_path / "part.png", planned=False)
    assert "µm per pixel" in view.error.text()
    assert view.error.property("kind") == "error"
    assert any("µm per pixel" in text for text in notified())
    assert view.mpp.isVisible()
    assert not view.go.isVisible()
    for field, text in ((view.mpp, "2"), (view.at[0], "2000"), (view.at[1], "1800")):
        field.setFocus()
        field.selectAll()
        qtbot.keyClicks(field.lineEdit(), text)
    click(qtbot, view.again)
    wait(lambda: wide_dock.importing.planned is not None)
    assert not view.error.isVisible()
    assert "1,800 pixels" in view.names.choices["4"].toolTip()
    assert list(view.names.choices) == ["4"]
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text())
    wanted = predicted()
    wanted[1840:1900, 2060:2180] = 4
    np.testing.assert_array_equal(labels(wide_dock), wanted)


def test_our_own_png_comes_back_as_it_was(
    painting, canvas, qtbot, wait, take, tmp_path, monkeypatch
):
    dock = painting
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    dock.painting.leave()
    painted = labels(dock)
    open_section(dock)
    dock.export_view.choose(("png",))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path))
    click(qtbot, dock.export_view.export)
    wait(lambda: "Written" in dock.export_view.told.text())
    dock.correcting.undo()
    done(dock, wait, 4)
    view = take(dock, tmp_path / "wide.png")
    assert view.names.unanswered == 0
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text(), 60)
    np.testing.assert_array_equal(labels(dock), painted)


def test_what_is_no_mask_is_refused(wide_dock, take, tmp_path, notified):
    path = tmp_path / "notes.txt"
    path.write_text("no mask at all")
    view = take(wide_dock, path, planned=False)
    assert "neither GeoJSON nor PNG nor TIFF" in view.error.text()
    assert notified()
    assert view.open.isVisible()
    assert not view.panel.isVisible()


def test_a_case_that_another_holds_cannot_be_imported_into(
    viewer, add_dock, wait, wide_path, wide_case
):
    with Case.open(wide_case, read_only=False):
        viewer.open(str(wide_path), plugin="napari-hspnet")
        dock = add_dock()
        wait(lambda: dock.slides.active.session.areas is not None)
        assert not dock.import_view.open.isEnabled()
        assert "being worked on by" in dock.import_view.open.toolTip()


def test_whoever_imports_says_who_it_is(wide_dock, qtbot, wait, take, file):
    dock = wide_dock
    dock.slide_view.reader.setText("")
    view = take(dock, file)
    click(qtbot, view.go)
    assert "Say who imports" in view.error.text()
    assert len(entries(dock)) == 2
    dock.slide_view.reader.setText("Dr. Bea")
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text())
    assert entries(dock)[-1].reader == "Dr. Bea"


def test_a_slide_without_a_case_gets_one(dock_on, wide_path, qtbot, wait, take, file):
    dock = dock_on(wide_path, results=False)
    qtbot.wait(100)
    assert dock.slides.active.session.case is None
    view = take(dock, file)
    assert "not run → CIN3 0.060 mm²" in view.planned.text()
    assert dock.slides.active.session.case is None
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text())
    found = labels(dock)
    assert (inside(found, BOX) == 4).all()
    assert (found != NOT_RUN).sum() == 70_000


def test_what_is_painted_meanwhile_counts(wide_dock, canvas, qtbot, wait, take, file):
    dock = wide_dock
    view = take(dock, file)
    first = dock.importing.planned
    dock.correct_view.paint.click()
    wait(lambda: dock.painting.on and dock.painting._edit.box.height > 0)
    dock.painting.tools.choose_grade(4)
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    wait(lambda: dock.importing.planned not in (None, first))
    painted = int((labels(dock) == 4).sum() - (predicted() == 4).sum())
    assert painted > 1000
    assert dock.importing.planned.pixels == 70_000 - painted
    dock.painting.leave()
    open_section(dock)
    click(qtbot, view.go)
    wait(lambda: "Imported" in view.told.text())
    assert (inside(labels(dock), BOX) == 4).all()


def test_where_outlines_count_from_can_be_said(wide_dock, qtbot, wait, take, file, monkeypatch):
    monkeypatch.setattr(import_control, "_has_offset", lambda entry: True)
    view = take(wide_dock, file)
    assert view.origin.isVisible()
    assert not view.mpp.isVisible()
    choose(qtbot, view.origin, "level0")
    wait(
        lambda: (
            wide_dock.importing.planned is not None
            and wide_dock.importing.planned.said["origin"] == "level0"
        )
    )


def test_the_preview_draws_all_that_changes():
    values = np.full((64, 64), NOT_RUN, np.uint8)
    values[8:40, 8:40] = 3
    values[44:60, 44:60] = 0
    drawn = np.asarray(PreviewLevel(values))
    whole = drawn[30:34, 14:30]
    assert set(np.unique(whole)) <= {3, 3 + STRIPE}
    assert len(np.unique(whole)) == 2
    assert (drawn[8:40, 8:40] > 0).all()
    assert set(np.unique(drawn[48:56, 48:56])) == {NONE, NONE + STRIPE}
    assert (drawn[:6] == 0).all()
    for y, x in ((0, 0), (5, 17), (33, 40)):
        part = PreviewLevel(values)[y : y + 20, x : x + 20]
        np.testing.assert_array_equal(part, drawn[y : y + 20, x : x + 20])


def test_many_names_are_all_asked(wide_dock, qtbot, wait, take, tmp_path):
    path = write_outlines(
        tmp_path / "many.geojson",
        *(outline(1600 + 9 * n, 1900, 1605 + 9 * n, 1990, f"lesion {n:02}") for n in range(50)),
    )
    view = take(wide_dock, path, planned=False)
    assert view.names.unanswered == 50
    assert "these 50" in view.asked.text()
    wait(lambda: len(view.names.choices) == 50)
    for choice in view.names.choices.values():
        choose(qtbot, choice, 3)
    wait(view.go.isEnabled)
    assert wide_dock.importing.planned.pixels == 50 * 5 * 90


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off_at_320_pixels(wide_dock, viewer, qtbot, take, tmp_path, theme, wait):
    viewer.theme = theme
    path = write_outlines(
        tmp_path / "a-file-with-quite-a-long-name-from-another-program.geojson",
        *(
            outline(100 + 100 * n, 100, 150 + 100 * n, 150, f"class number {n} of many")
            for n in range(12)
        ),
    )
    wide_dock.setFixedWidth(320)
    view = take(wide_dock, path, planned=False)
    section = wide_dock.sections["export"]
    view.origin_row.show()
    view.mask_row.show()
    qtbot.wait(100)
    assert section.minimumSizeHint().width() <= 316
    for choice in view.names.choices.values():
        choice.setCurrentIndex(choice.findData(0))
    view.names._chosen()
    wait(lambda: wide_dock.importing.planned is not None)
    qtbot.wait(100)
    for choice in view.names.choices.values():
        assert choice.width() >= choice.fontMetrics().horizontalAdvance("none of the four") + 30
        right = choice.mapTo(view.names.viewport(), QPoint(choice.width(), 0)).x()
        assert right <= view.names.viewport().width()
    texts = {label for label in cut_off(section) if not label.startswith("class")}
    assert texts == set()
    # Twelve names do not push the button out of sight.
    assert view.panel.height() < 700


def test_our_slots_are_short(wide_dock, qtbot, wait, take, file):
    RECORDER.clear()
    RECORDER.on = True
    try:
        view = take(wide_dock, file)
        click(qtbot, view.go)
        wait(lambda: "Imported" in view.told.text())
    finally:
        RECORDER.on = False
    names = {t.name for t in RECORDER.times}
    assert any("answer: import plan done" in name for name in names)
    RECORDER.clear()
