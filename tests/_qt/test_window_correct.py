"""Correcting by real clicks and strokes; what is checked is the case on the disk."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from correcting import ANN, SHAPE, done, entries, labels, middle, predicted, ready, show, stroke
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_hspnet.cases import Case, Selection, default_case_folder
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.slides import PixelBox, open_slide

pytestmark = pytest.mark.gui


def test_a_stroke_is_in_the_case_and_on_every_level(painting, viewer, canvas, qtbot, wait):
    dock = painting
    dock.painting.tools.choose_grade(3)
    overlay = dock.slides.active.layers.overlay
    thumbnail = overlay.thumbnail.copy()
    c = middle(canvas)
    stroke(qtbot, canvas, c - QPoint(150, 60), c + QPoint(150, 60))
    last = done(dock, wait, 3)[-1]
    assert (last.kind, last.reader, last.body["tool"]) == ("edit", ANN, "brush")
    said = labels(dock, "correction")
    assert set(np.unique(said)) == {3, 255}
    # Where the pointer went, a brush of 40 µm around it.
    for part in (-0.9, 0.0, 0.9):
        assert said[int(2000 + 60 * part), int(2000 + 150 * part)] == 3
    assert 300 * 40 < (said == 3).sum() < 400 * 60
    edit = dock.painting._edit
    box = edit.box
    np.testing.assert_array_equal(edit.layer.data, labels(dock)[box.y0 : box.y1, box.x0 : box.x1])
    wait(lambda: (np.asarray(overlay.data[-1][:]) % 10 == 3).any())
    wait(lambda: (overlay.thumbnail != thumbnail).any())
    dock.shut_down(viewer_stays=True)
    with Case.open(default_case_folder(open_slide(viewer.layers[0].source.path).info)) as case:
        np.testing.assert_array_equal(
            case.at(case.journal.last).read(0, 0, *SHAPE, what="correction"), said
        )
        assert not list(case.journal.verify())


def focused(dock, viewer, where):
    if where == "canvas":
        widget = viewer.window._qt_viewer.canvas.native
    elif where == "dock":
        widget = dock.correct_view.accept
    else:
        widget = viewer.window._qt_viewer.layers
    widget.setFocus()
    return widget


@pytest.mark.parametrize("where", ["canvas", "dock", "layer list"])
def test_keys_work_wherever_the_focus_is(painting, viewer, canvas, qtbot, wait, where):
    dock = painting
    widget = focused(dock, viewer, where)
    for key, grade in ((Qt.Key.Key_4, 4), (Qt.Key.Key_0, 0), (Qt.Key.Key_2, 2)):
        QTest.keyClick(widget, key)
        assert dock.painting.grade == grade
        assert dock.painting.layer.selected_label == grade
        assert dock.correct_view.grades[grade].isChecked()
    c = middle(canvas)
    QTest.keyClick(widget, Qt.Key.Key_4)
    stroke(qtbot, canvas, c, c + QPoint(40, 0))
    done(dock, wait, 3)
    focused(dock, viewer, where)
    QTest.keyClick(widget, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert done(dock, wait, 4)[-1].kind == "undo"
    both = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    QTest.keyClick(widget, Qt.Key.Key_Z, both)
    assert done(dock, wait, 5)[-1].kind == "redo"
    QTest.keyClick(widget, Qt.Key.Key_A)
    assert done(dock, wait, 6)[-1].body["tool"] == "accept"
    QTest.keyClick(widget, Qt.Key.Key_D)
    assert not dock.painting.on


def test_napari_has_its_keys_back_after_leaving(painting, viewer, canvas, qtbot):
    theirs = viewer.add_labels(np.zeros((50, 50), np.uint8), name="theirs")
    qtbot.waitUntil(lambda: not painting.painting.on)
    canvas.setFocus()
    QTest.keyClick(canvas, Qt.Key.Key_2)
    assert theirs.mode == "paint"
    theirs.data_setitem((np.array([3]), np.array([3])), 5)
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert theirs.data[3, 3] == 0
    assert len(entries(painting)) == 2


def test_a_field_keeps_the_keys_that_are_typed_in_it(painting, viewer):
    field = painting.slide_view.reader
    field.setFocus()
    grade = painting.painting.grade
    QTest.keyClicks(field, "a2D")
    assert field.text() == f"{ANN}a2D"
    assert painting.painting.on
    assert painting.painting.grade == grade


def test_the_edit_view_follows_and_undo_comes_back(painting, viewer, canvas, qtbot, wait):
    dock = painting
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    first = dock.painting._edit.box
    show(viewer, 2300, 5200)
    wait(lambda: dock.painting._edit.box != first)
    ready(dock, wait)
    dock.painting.tools.choose_grade(0)
    stroke(qtbot, canvas, c, c + QPoint(0, 50))
    done(dock, wait, 4)
    said = labels(dock, "correction")
    assert said[2320, 5200] == 0
    assert said[2000, 2030] == 3
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    done(dock, wait, 6)
    assert (labels(dock, "correction") == 255).all()
    # The second undo was elsewhere: one is shown where.
    wait(lambda: abs(viewer.scene.camera.center[-1] - 2030) < 60)
    ready(dock, wait)
    box = dock.painting._edit.box
    np.testing.assert_array_equal(
        dock.painting.layer.data, predicted()[box.y0 : box.y1, box.x0 : box.x1]
    )


def test_one_click_regrades_a_region_over_the_whole_slide(painting, viewer, canvas, qtbot, wait):
    dock = painting
    dock.correct_view.tools["region"].click()
    QTest.keyClick(canvas, Qt.Key.Key_3)
    c = middle(canvas)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=c)
    last = done(dock, wait, 3)[-1]
    wanted = predicted()
    band = wanted == 2
    assert last.body["tool"] == "regrade"
    assert last.body["changes"] == {"2>3": int(band.sum())}
    wanted[band] = 3
    np.testing.assert_array_equal(labels(dock), wanted)
    # A drag moves the slide and regrades nothing.
    stroke(qtbot, canvas, c, c + QPoint(80, 0))
    qtbot.wait(100)
    assert len(entries(dock)) == 3
    dock.correct_view.undo.click()
    done(dock, wait, 4)
    np.testing.assert_array_equal(labels(dock), predicted())


def test_too_wide_a_view_offers_to_zoom_in(painting, viewer, canvas, wait):
    dock = painting
    show(viewer, 2600, 3000, zoom=0.1)
    wait(lambda: "Too wide" in dock.correct_view.note.text())
    assert dock.painting.layer.mode == "pan_zoom"
    dock.correct_view.zoom.click()
    wait(lambda: not dock.correct_view.note.text())
    ready(dock, wait)
    assert dock.painting.layer.mode == "paint"


def test_an_empty_veil_is_not_drawn_while_correcting(painting, viewer, canvas, qtbot, wait):
    dock = painting
    veil = dock.slides.active.layers.veil
    wait(lambda: not veil.visible)
    # Now no run covers anything.
    dock.slides.active.session.case.set_active([])
    dock.slides.active.session.show_runs()
    dock.slides.results_changed.emit(dock.slides.active)
    wait(lambda: veil.visible)
    dock.painting.leave()
    assert veil.visible


def test_what_other_hands_change_is_noticed(painting, wait):
    dock = painting
    box = dock.painting._edit.box
    dock.painting.layer.data[10:20, 10:30] = 4
    last = done(dock, wait, 3)[-1]
    assert last.body["box"] == [box.y0 + 10, box.x0 + 10, box.y0 + 20, box.x0 + 30]


def test_every_tool_of_naparis_is_noticed(painting, viewer, canvas, qtbot, wait):
    dock = painting
    c = middle(canvas)
    canvas.setFocus()
    QTest.keyClick(canvas, Qt.Key.Key_E)
    assert dock.painting.layer.mode == "erase"
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    assert done(dock, wait, 3)[-1].body["tool"] == "eraser"
    assert labels(dock, "correction")[2000, 2030] == 0
    dock.correct_view.tools["fill"].click()
    QTest.keyClick(canvas, Qt.Key.Key_1)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=c + QPoint(30, 0))
    assert done(dock, wait, 4)[-1].body["tool"] == "fill"
    assert labels(dock, "correction")[2000, 2030] == 1
    dock.correct_view.tools["polygon"].click()
    QTest.keyClick(canvas, Qt.Key.Key_4)
    for corner in (QPoint(0, -150), QPoint(100, -150), QPoint(100, -60)):
        QTest.mouseMove(canvas, c + corner)
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=c + corner)
        qtbot.wait(30)
    QTest.mouseDClick(canvas, Qt.MouseButton.LeftButton, pos=c + QPoint(0, -60))
    last = done(dock, wait, 5)[-1]
    assert last.body["tool"] == "polygon"
    assert labels(dock, "correction")[1870, 2080] == 4


def test_our_keys_are_in_naparis_list_and_can_be_changed(painting, viewer, canvas, qtbot):
    from napari._qt.widgets.qt_keyboard_settings import ShortcutEditor
    from napari.utils.action_manager import action_manager

    editor = ShortcutEditor()
    qtbot.addWidget(editor)
    listed = {
        title: [action.description for action in actions.values()]
        for title, actions in editor.key_bindings_strs.items()
    }
    ours = [text for texts in listed.values() for text in texts if text.startswith("HSP-Net: ")]
    assert "HSP-Net: Grade: CIN2" in ours
    assert len(ours) == len(painting.edit_keys.keys)
    action_manager.unbind_shortcut("napari-hspnet:grade_3")
    action_manager.bind_shortcut("napari-hspnet:grade_3", "K")
    painting.painting.tools.choose_grade(1)
    canvas.setFocus()
    try:
        QTest.keyClick(canvas, Qt.Key.Key_K)
        assert painting.painting.grade == 3
    finally:
        action_manager.unbind_shortcut("napari-hspnet:grade_3")
        action_manager.bind_shortcut("napari-hspnet:grade_3", "3")


def test_a_layer_that_is_added_beside_does_not_end_correcting(painting, wait, canvas, qtbot):
    dock = painting
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    wait(dock.correct_view.changes.isVisible)
    left = []
    dock.painting.state_changed.connect(lambda: left.append(dock.painting.on))
    dock.correct_view.changes.click()
    qtbot.wait(50)
    assert dock.painting.on
    assert all(left)
    assert dock.painting.layer.mode == "paint"


def test_a_value_that_is_no_grade_is_not_taken(painting, wait, notified):
    layer = painting.painting.layer
    before = layer.data[5, 5]
    layer.data[5:9, 5:9] = 7
    wait(lambda: any("no grade" in text for text in notified()))
    assert layer.data[5, 5] == before
    assert len(entries(painting)) == 2


def test_a_stroke_that_never_ends_is_saved_so_far(painting, canvas, qtbot, wait):
    dock = painting
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(50, 0), release=False)
    done(dock, wait, 3)
    QTest.mouseMove(canvas, c + QPoint(50, 60))
    QTest.mouseMove(canvas, c + QPoint(50, 90))
    dock.shut_down()
    with Case.open(dock_folder(dock)) as case:
        acts = [e for e in case.journal.entries() if e.kind == "edit"]
        assert len(acts) == 2
        assert acts[1].body["continues"] is True
        said = case.composite().read(0, 0, *SHAPE, what="correction")
        assert said[2000, 2040] == 3
        assert said[2080, 2050] == 3


def dock_folder(dock):
    from pathlib import Path

    import platformdirs

    (found,) = (
        Path(platformdirs.user_data_dir("napari-hspnet", appauthor=False)) / "cases"
    ).iterdir()
    return found


def test_what_cannot_be_saved_stays_and_is_saved_later(
    painting, canvas, qtbot, wait, notified, monkeypatch
):
    dock = painting
    monkeypatch.setattr("napari_hspnet._qt.saver._TRY_AGAIN", 300)
    dock.saver._trying.setInterval(300)
    commit = CaseDatabase._commit

    def full(self):
        self._db.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(CaseDatabase, "_commit", full)
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    wait(lambda: dock.correct_view.saved.text() == "NOT SAVED")
    assert any("disk is full" in text for text in notified())
    box = dock.painting._edit.box
    assert dock.painting.layer.data[2000 - box.y0, 2030 - box.x0] == 3
    monkeypatch.setattr(CaseDatabase, "_commit", commit)
    done(dock, wait, 3)
    wait(lambda: dock.correct_view.saved.text() == "All saved")
    assert labels(dock, "correction")[2000, 2030] == 3


def test_a_region_signed_off_is_not_painted_over(painting, canvas, qtbot, wait, notified):
    dock = painting
    case = dock.slides.active.session.case
    (region,) = case.review.add(
        [Selection.of_box(PixelBox(1900, 1900, 2100, 2030), SHAPE)], "drawn", ANN
    )
    case.review.set_state([region.id], "signed off", "Dr. Bob")
    c = middle(canvas)
    stroke(qtbot, canvas, c - QPoint(50, 0), c + QPoint(80, 0))
    done(dock, wait, 5)
    assert any("signed off" in text and "Dr. Bob" in text for text in notified())
    said = labels(dock, "correction")
    assert (said[1900:2100, 1900:2030] == 255).all()
    assert said[2000, 2060] == 3
    box = dock.painting._edit.box
    # The edit view shows what is so, not what was painted.
    wait(lambda: dock.painting.layer.data[2000 - box.y0, 2000 - box.x0] == 2)


def test_nobody_corrects_without_a_name(wide_dock, viewer, wait):
    dock = wide_dock
    dock.slide_view.reader.setText("  ")
    dock.correct_view.paint.click()
    assert not dock.painting.on
    assert not dock.correct_view.paint.isChecked()
    assert "who corrects" in dock.correct_view.error.text()
    assert dock.slide_view.reader.hasFocus()


def test_drawn_regions_get_the_grade(wide_dock, wait):
    dock = wide_dock
    dock.segment_view.draw.click()
    regions = dock.slides.active.layers.regions
    corners = np.array([[1900.0, 1900], [1900, 2100], [2000, 2100], [2000, 1900]])
    regions.add(corners, shape_type="ellipse")
    dock.painting.tools.choose_grade(4)
    dock.correct_view.drawn_go.click()
    last = done(dock, wait, 3)[-1]
    assert last.body["tool"] == "shape"
    said = labels(dock, "correction")
    assert said[1950, 2000] == 4
    assert said[1905, 1905] == 255
    assert (said == 4).sum() == pytest.approx(np.pi * 50 * 100, rel=0.01)


def test_specks_go_and_what_is_seen_is_accepted(wide_dock, viewer, wait):
    dock = wide_dock
    show(viewer, 1730, 730)
    dock.correct_view.specks_below.setValue(5000)
    dock.correct_view.specks.click()
    assert done(dock, wait, 3)[-1].body["changes"] == {"4>2": 3600}
    dock.correct_view.accept.click()
    last = done(dock, wait, 4)[-1]
    assert last.body["tool"] == "accept"
    assert all(
        a == b or (a, b) == ("4", "2") for a, b in (p.split(">") for p in last.body["changes"])
    )
    wait(lambda: "CIN3 → CIN1" in dock.correct_view.changed.text())
    assert "accepted as it was" in dock.correct_view.changed.text()


def test_what_was_changed_is_outlined(painting, viewer, canvas, qtbot, wait, shot):
    dock = painting
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    dock.painting.leave()
    wait(lambda: dock.correct_view.changes.isVisible())
    before = shot()
    dock.correct_view.changes.click()
    assert (np.abs(shot().astype(int) - before).max(axis=2) > 25).sum() > 50
    dock.correct_view.changes.click()
    assert (np.abs(shot().astype(int) - before).max(axis=2) > 25).sum() == 0


def test_the_ruler_says_how_long_a_line_is(wide_dock, viewer, canvas, qtbot):
    dock = wide_dock
    dock.slide_view.ruler.click()
    c = middle(canvas)
    stroke(qtbot, canvas, c - QPoint(100, 0), c + QPoint(200, 0))
    (said,) = dock.ruler.texts
    assert abs(float(said.removesuffix(" µm")) - 300) <= 3
    dock.slide_view.ruler.click()
    assert viewer.layers.selection.active is dock.slides.active.layers.slide_layer
    dock.correct_view.paint.click()
    assert not dock.slide_view.ruler.isChecked()
