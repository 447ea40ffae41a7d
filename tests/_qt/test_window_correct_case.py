"""The case while one corrects: whose it is, where it is, what becomes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from correcting import ANN, SHAPE, done, entries, labels, middle, predicted, ready, stroke
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_hspnet.cases import Case, Selection
from napari_hspnet.errors import OutputError
from napari_hspnet.slides import PixelBox

from cases.case_tools import block, run_record

pytestmark = pytest.mark.gui


def test_a_case_that_another_holds_can_be_looked_at(viewer, add_dock, wait, wide_path, wide_case):
    with Case.open(wide_case, read_only=False) as theirs:
        assert theirs is not None
        viewer.open(str(wide_path), plugin="napari-hspnet")
        dock = add_dock()
        wait(lambda: dock.slides.active.session.areas is not None)
        dock.slide_view.reader.setText(ANN)
        assert not dock.correct_view.paint.isEnabled()
        assert "being worked on by" in dock.correct_view.paint.toolTip()
        assert "Read-only" in dock.slide_view.case_note.text()
        dock.painting.toggle()
        assert not dock.painting.on


def test_removing_the_slide_closes_the_case_after_the_last_stroke(
    painting, viewer, canvas, qtbot, wait, wide_case
):
    dock = painting
    session = dock.slides.active.session
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    viewer.layers.remove(dock.slides.active.layers.slide_layer)
    wait(lambda: session.closed)
    with Case.open(wide_case, read_only=False) as case:
        # On a busy machine a stroke is saved in parts.
        acts = [e.kind for e in case.journal.entries() if not e.body.get("continues")]
        assert acts == ["begin", "runs", "edit"]
    assert not any("Correcting" in layer.name for layer in viewer.layers)


def test_a_slide_saved_anew_can_go_on_with_its_case(
    viewer, add_dock, wait, wide_path, wide_case, tmp_path
):
    anew = tmp_path / wide_path.name
    anew.write_bytes(wide_path.read_bytes() + b"\0")
    viewer.open(str(anew), plugin="napari-hspnet")
    dock = add_dock()
    view = dock.slide_view
    wait(view.attach.isVisible)
    assert wide_case.name in view.attach_note.text()
    dock.slide_view.reader.setText(ANN)
    view.attach.click()
    wait(lambda: dock.slides.active.session.areas is not None)
    assert not view.attach.isVisible()
    last = entries(dock)[-1]
    assert (last.kind, last.reader) == ("slide", ANN)
    assert last.body["to"]["fingerprint"] == dock.slides.active.session.slide.info.fingerprint


def test_a_slide_moved_and_renamed_finds_its_case(
    viewer, add_dock, wait, wide_path, wide_case, tmp_path
):
    moved = tmp_path / "renamed.tiff"
    moved.write_bytes(wide_path.read_bytes())
    viewer.open(str(moved), plugin="napari-hspnet")
    dock = add_dock()
    wait(lambda: dock.slides.active.session.areas is not None)
    assert dock.slides.active.session.case.folder == wide_case


def test_a_slide_without_a_run_can_be_corrected(dock_on, wide_path, canvas, qtbot, wait):
    dock = dock_on(wide_path, results=False)
    dock.correct_view.paint.click()
    wait(lambda: dock.painting._edit is not None and dock.painting._edit.box.height > 0)
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    wait(lambda: dock.slides.active.session.areas is not None)
    assert [e.kind for e in entries(dock)] == ["begin", "edit"]
    assert labels(dock)[2000, 2030] == 3
    assert dock.slides.active.session.areas.mm2[3] > 0
    wait(lambda: "not run → CIN2" in dock.correct_view.changed.text())


def test_a_case_that_cannot_be_written_can_be_looked_at(dock_on, wide_path, wide_case, monkeypatch):
    def refuse(*_):
        raise OutputError("Writing is not permitted there", advice="Choose another folder")

    # As root nothing is read-only, so the lock file stands for the folder.
    monkeypatch.setattr("napari_hspnet.cases.case.CaseLock", refuse)
    dock = dock_on(wide_path)
    assert "Writing is not permitted" in dock.correct_view.paint.toolTip()
    np.testing.assert_array_equal(labels(dock), predicted())


def test_a_run_goes_under_what_was_corrected(painting, canvas, qtbot, wait):
    dock = painting
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    said = labels(dock, "correction")
    session = dock.slides.active.session
    run = session.case.start_run(run_record(started="2026-11-24T10:00:00+00:00"))
    run.write(block(0, 0, np.full(SHAPE, 1)))
    run.finish(1.0)
    session.show_runs()
    dock.slides.results_changed.emit(dock.slides.active)
    ready(dock, wait)
    np.testing.assert_array_equal(labels(dock), np.where(said == 255, 1, said))
    box = dock.painting._edit.box
    wait(lambda: (dock.painting.layer.data[:100] == 1).all())
    np.testing.assert_array_equal(
        dock.painting.layer.data, labels(dock)[box.y0 : box.y1, box.x0 : box.x1]
    )


def test_holding_the_key_hides_what_is_painted_in(painting, canvas, qtbot):
    layer = painting.painting.layer
    canvas.setFocus()
    qtbot.keyPress(canvas, Qt.Key.Key_H)
    assert layer.opacity == 0
    assert layer.mode == "paint"
    qtbot.keyRelease(canvas, Qt.Key.Key_H)
    qtbot.waitUntil(lambda: layer.opacity > 0, timeout=3000)


def test_what_is_exported_is_corrected_and_names_the_reader(
    painting, canvas, qtbot, wait, tmp_path
):
    dock = painting
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    for name, box in dock.export_view.boxes.items():
        box.setChecked(name == "geojson")
    wait(lambda: not dock.exporting.why_not())
    dock.exporting.export(tmp_path)
    path = tmp_path / "wide.geojson"
    wait(lambda: path.exists() and "Written" in dock.export_view.told.text())
    text = path.read_text()
    assert ANN in text
    named = {f["properties"]["classification"]["name"] for f in json.loads(text)["features"]}
    assert "CIN2" in named


def test_a_run_that_opens_the_case_first_keeps_it_writable(wide_dock):
    session = wide_dock.slides.active.session
    first = session.case
    assert session.existing_case().case is first
    assert session.writable_case().case is first
    assert not first.read_only


def test_the_reader_is_remembered(wide_dock):
    from napari_hspnet._qt.memory import Memory

    wide_dock.slide_view.reader.setText("Dr. Bea")
    wide_dock.shut_down(viewer_stays=True)
    assert Memory().get("reader", "") == "Dr. Bea"


def test_keys_of_regions(wide_dock, viewer, canvas, qtbot, wait):
    dock = wide_dock
    case = dock.slides.active.session.case
    case.review.add(
        [Selection.of_box(PixelBox(y, 1900, y + 90, 2100), SHAPE) for y in (1600, 2000)],
        "drawn",
        ANN,
    )
    dock.reviewing.refresh(dock.slides.active)
    wait(lambda: dock.review_view.table.regions.rowCount() == 2)
    canvas.setFocus()
    QTest.keyClick(canvas, Qt.Key.Key_Period)
    (first,) = dock.reviewing.chosen
    QTest.keyClick(canvas, Qt.Key.Key_Period)
    (second,) = dock.reviewing.chosen
    QTest.keyClick(canvas, Qt.Key.Key_Comma)
    assert dock.reviewing.chosen == (first,) != (second,)
    QTest.keyClick(canvas, Qt.Key.Key_T)
    wait(lambda: case.review.region(first).tag == "uncertain")
    QTest.keyClick(canvas, Qt.Key.Key_S)
    wait(lambda: case.review.region(first).state == "signed off")
    assert case.review.region(second).state == "to do"


def test_the_key_regrades_what_is_under_the_pointer(painting, canvas, qtbot, wait):
    canvas.setFocus()
    QTest.mouseMove(canvas, middle(canvas) + QPoint(5, 5))
    QTest.keyClick(canvas, Qt.Key.Key_4)
    QTest.keyClick(canvas, Qt.Key.Key_R)
    last = done(painting, wait, 3)[-1]
    assert last.body["tool"] == "regrade"
    assert last.body["changes"] == {"2>4": int((predicted() == 2).sum())}
