"""A second reader at the window: blind, alone in the own reading, and back at the same place."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from clicking import click, cut_off
from correcting import ANN, done, entries, labels, middle, predicted, ready, show, stroke
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtTest import QTest

from napari_hspnet._qt.session import SlideSession
from napari_hspnet.cases import Case, Patch, Selection, begin_reading, reading_folder
from napari_hspnet.slides import PixelBox, open_slide

pytestmark = pytest.mark.gui

BEN = "Dr. Ben"


@pytest.fixture
def corrected(wide_case):
    """Dr. Ann has painted, drawn a region and said something of it."""
    with Case.open(wide_case, read_only=False) as case:
        spot = np.full((200, 200), 4, np.uint8)
        case.editing.correct([Patch(1900, 1900, spot, spot > 0)], ANN, "brush")
        where = Selection.of_box(PixelBox(1800, 1800, 2200, 2200), case.grid.shape)
        case.review.add([where], "drawn", ANN)
        case.review.comment(1, "clearly CIN3", ANN)
    return wide_case


def settled(dock, wait, folder):
    """Until this case is open and shown."""

    def shown():
        session = dock.slides.active and dock.slides.active.session
        return session and session.areas and session.case and session.case.folder == folder

    wait(shown)


def words(rich):
    """What is read of a rich text."""
    document = QTextDocument()
    document.setHtml(rich)
    return " ".join(document.toPlainText().split())


def to_reading(dock, qtbot, wait, number, folder):
    """Choose a reading with the keyboard."""
    choice = dock.slide_view.readings.choice
    choice.setFocus()
    key = Qt.Key.Key_Down if number > choice.currentIndex() else Qt.Key.Key_Up
    for _ in range(abs(number - choice.currentIndex())):
        QTest.keyClick(choice, key)
    settled(dock, wait, folder)


def test_a_second_reading_is_begun_and_read_blind(
    corrected, dock_on, wide_path, viewer, canvas, qtbot, wait
):
    dock = dock_on(wide_path)
    view = dock.slide_view.readings
    assert not view.choice.isVisible()
    click(qtbot, view.add)
    assert not view.begin.isEnabled()
    QTest.keyClicks(view.name, BEN)
    click(qtbot, view.regions)
    assert cut_off(dock.slide_view) == []
    click(qtbot, view.begin)
    wait(lambda: view.choice.count() == 2)
    assert "ready" in view.note.text()
    assert not view.begin.isVisible()
    folder = reading_folder(corrected, BEN)
    show(viewer, 2100, 1700, zoom=0.8)

    to_reading(dock, qtbot, wait, 1, folder)
    assert [layer.name for layer in viewer.layers if "[" in layer.name] == []
    np.testing.assert_array_equal(labels(dock), predicted())
    assert tuple(viewer.scene.camera.center)[-2:] == pytest.approx((2100, 1700))
    assert viewer.scene.camera.zoom == pytest.approx(0.8)
    assert view.choice.currentText() == BEN
    (region,) = dock.slides.active.session.case.review.regions
    assert (region.state, region.comments) == ("to do", ())
    # Dr. Ann is still named: nothing can be done in her name here.
    assert "only Dr. Ben corrects" in view.note.text()
    assert not dock.correct_view.paint.isEnabled()
    assert "second reading of Dr. Ben" in dock.correct_view.paint.toolTip()
    dock.slide_view.reader.setText(BEN)
    assert dock.correct_view.paint.isEnabled()
    assert "alone" in view.note.text()
    assert not view.add.isEnabled()

    click(qtbot, dock.correct_view.paint)
    ready(dock, wait)
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    said = done(dock, wait, 4)
    assert (said[-1].kind, said[-1].reader) == ("edit", BEN)
    with Case.open(corrected) as first:
        assert {e.reader for e in first.journal.entries()} == {"", ANN}


def test_the_last_stroke_is_kept_when_one_goes_to_another_reading(
    corrected, dock_on, wide_path, canvas, qtbot, wait
):
    folder = begin_reading(corrected, BEN)
    dock = dock_on(wide_path)
    assert BEN in [dock.slide_view.readings.choice.itemText(n) for n in range(2)]
    click(qtbot, dock.correct_view.paint)
    ready(dock, wait)
    before = len(entries(dock))
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    to_reading(dock, qtbot, wait, 1, folder)
    assert not dock.painting.on
    to_reading(dock, qtbot, wait, 0, corrected)
    # On a busy machine a stroke is saved in parts.
    said = [e for e in entries(dock)[before:] if not e.body.get("continues")]
    assert [e.kind for e in said] == ["edit"]
    assert not dock.slides.active.session.read_only_because


def test_a_reader_gets_the_own_reading_on_opening(corrected, viewer, add_dock, wide_path, wait):
    from napari_hspnet._qt.memory import Memory

    folder = begin_reading(corrected, BEN)
    Memory().keep("reader", "dr.  ben")
    viewer.open(str(wide_path), plugin="napari-hspnet")
    dock = add_dock()
    settled(dock, wait, folder)
    np.testing.assert_array_equal(labels(dock), predicted())
    assert "Second reading, by Dr. Ben alone" in dock.slide_view.readings.note.text()


def test_who_is_named_later_is_told_of_the_own_reading(corrected, dock_on, wide_path):
    begin_reading(corrected, BEN)
    dock = dock_on(wide_path)
    note = dock.slide_view.readings.note
    assert note.text() == ""
    dock.slide_view.reader.setText(BEN)
    assert "should not look at this one before" in note.text()
    dock.slide_view.reader.setText(ANN)
    assert note.text() == ""


def test_a_reading_that_came_alone_can_be_found(corrected, dock_on, wide_path, qtbot, wait):
    folder = begin_reading(corrected, BEN)
    shutil.rmtree(corrected)
    dock = dock_on(wide_path, results=False)
    view = dock.slide_view.readings
    wait(lambda: view.choice.count() == 2)
    to_reading(dock, qtbot, wait, 1, folder)
    np.testing.assert_array_equal(labels(dock), predicted())


def test_a_reading_that_has_gone_is_not_made_anew_as_a_plain_case(corrected, wide_path):
    folder = begin_reading(corrected, BEN)
    shutil.rmtree(folder)
    session = SlideSession(open_slide(wide_path), "", folder)
    try:
        assert session.existing_case() is None
        with session.writable_case().case as case:
            assert case.folder == corrected
        assert not folder.exists()
    finally:
        session.close()


def test_mistakes_are_said_beside_the_field(corrected, dock_on, wide_path, qtbot, wait, notified):
    dock = dock_on(wide_path)
    view = dock.slide_view.readings
    click(qtbot, view.add)
    QTest.keyClicks(view.name, "dr. ann")
    QTest.keyClick(view.name, Qt.Key.Key_Return)
    assert "That is you" in view.note.text()
    begin_reading(corrected, BEN)
    view.name.clear()
    QTest.keyClicks(view.name, BEN)
    QTest.keyClick(view.name, Qt.Key.Key_Return)
    wait(lambda: "There is a reading already" in view.note.text())
    assert any("There is a reading already" in text for text in notified())
    click(qtbot, view.back)
    assert not view.name.isVisible()


def test_two_readings_are_compared_and_one_goes_where_they_differ(
    corrected, dock_on, wide_path, viewer, qtbot, wait
):
    folder = begin_reading(corrected, BEN, regions=True)
    with Case.open(folder, read_only=False) as case:
        spot = np.full((300, 200), 3, np.uint8)
        case.editing.correct([Patch(1900, 1900, spot, spot > 0)], BEN, "brush")
        case.review.set_state([1], "reviewed", BEN)
    dock = dock_on(wide_path)
    view = dock.review_view.compare
    assert view.choice.currentText() == BEN
    click(qtbot, view.go)
    wait(view.head.text)
    assert view.head.text() == "First: Dr. Ann. Second: Dr. Ben."
    assert words(view.figures.text()) == (
        "corrected reviewed analysed mm² 0.040 0 9.15 same CIN2+ 100 % – 100 % "
        "kappa – – 0.81 same grade 0 % – 99 % kappa 0.00 – 0.98 weighted kappa 0.00 – 0.98"
    )
    assert "the model's word" in view.tail.text()
    assert "They differ at 2 places, 0.060 mm²." in view.tail.text()
    assert [view.places.item(n).text() for n in range(view.places.count())] == [
        "0.040 mm²: Dr. Ann CIN3, Dr. Ben CIN2",
        "0.020 mm²: Dr. Ann CIN1, Dr. Ben CIN2",
    ]
    assert cut_off(dock.review_view) == []
    show(viewer, 500, 500)
    view.places.setFocus()
    spot = view.places.visualItemRect(view.places.item(1)).center()
    qtbot.mouseClick(view.places.viewport(), Qt.MouseButton.LeftButton, pos=spot)
    qtbot.mouseDClick(view.places.viewport(), Qt.MouseButton.LeftButton, pos=spot)
    assert tuple(viewer.scene.camera.center)[-2:] == pytest.approx((2150, 2000))

    click(qtbot, view.listing)
    wait(lambda: view.tail.text() == "Added 2.")
    wait(lambda: dock.review_view.table.regions.rowCount() == 3)
    regions = dock.slides.active.session.case.review.regions[1:]
    assert [(r.kind, r.pixels, r.comments[0].text) for r in regions] == [
        ("component", 40_000, "Dr. Ann: CIN3. Dr. Ben: CIN2."),
        ("component", 20_000, "Dr. Ann: CIN1. Dr. Ben: CIN2."),
    ]
    click(qtbot, view.listing)
    wait(lambda: "already" in view.tail.text())
    # Another palette is chosen far from there, and the dock stays where it is.
    bar = dock._area.verticalScrollBar()
    bar.setValue(0)
    dock.overlay_view.palette_chosen.emit("ordinal")
    qtbot.wait(100)
    assert bar.value() == 0

    # In the second reading one is warned: it is not blind after that.
    to_reading(dock, qtbot, wait, 1, folder)
    assert view.head.text() == ""
    assert not view.places.isVisible()
    assert view.choice.currentText() == "first reading"
    click(qtbot, view.go)
    assert "not blind" in view.warning.text()
    click(qtbot, view.back)
    assert not view.warning.isVisible()
    click(qtbot, view.go)
    click(qtbot, view.sure)
    wait(view.head.text)
    assert view.head.text() == "First: Dr. Ann. Second: Dr. Ben."


def test_a_run_under_way_is_not_lost_by_going_to_another_reading(
    corrected, dock_on, wide_path, monkeypatch
):
    begin_reading(corrected, BEN)
    dock = dock_on(wide_path)
    view, before = dock.slide_view.readings, dock.slides.active
    monkeypatch.setattr(dock.segmenting, "running", before)
    view.choice.setFocus()
    QTest.keyClick(view.choice, Qt.Key.Key_Down)
    assert "A run is under way" in view.note.text()
    assert view.choice.currentIndex() == 0
    assert dock.slides.active is before
