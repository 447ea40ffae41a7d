"""Going through a slide: the list of regions, their states, going to them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from clicking import click
from hypothesis import given, settings
from hypothesis import strategies as st
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox
from window_tools import SPEC, phantom

from napari_hspnet._qt import camera
from napari_hspnet._qt.region_mark import DARK, LIGHT, LOCKED, MarkLevel, RegionPicture
from napari_hspnet._qt.region_table import RegionModel, RegionRow
from napari_hspnet._qt.slots import RECORDER
from napari_hspnet.cases import (
    SIGNED_OFF,
    STATES,
    TAGS,
    TO_DO,
    Case,
    Patch,
    ReviewRegion,
    RunRecord,
    Selection,
    default_case_folder,
)
from napari_hspnet.cases.components import components
from napari_hspnet.cases.grades import Grades
from napari_hspnet.errors import RegionLockedError
from napari_hspnet.phantom import truth_block
from napari_hspnet.slides import LabelBlock, LabelGrid, PixelBox, Region, open_slide

from oracle import oracle_model

gui = pytest.mark.gui
ANN = "Dr. A. Ito"
SHAPE = SPEC.label_shape


@pytest.fixture(scope="module")
def oracle_path(tmp_path_factory):
    return phantom(tmp_path_factory.mktemp("oracle"))


@pytest.fixture
def truth():
    return truth_block(SPEC, 0, 0, *SHAPE)


def with_run(path, truth):
    """A case in which a run has said the truth."""
    with open_slide(path) as slide:
        info = slide.info
    grid = LabelGrid.of(info)
    record = RunRecord(
        model_name="oracle",
        model_sha256="12" * 32,
        card={"mpp": 1.0},
        settings={"stride": 100},
        region=Region.slide().to_dict(),
        device="cpu",
        versions={},
        slide_fingerprint=info.fingerprint,
        synthetic=True,
        started="2026-11-23T10:11:12+00:00",
    )
    with Case.open_or_create(default_case_folder(info), info, grid) as case:
        run = case.start_run(record)
        for y in range(0, SHAPE[0], 512):
            for x in range(0, SHAPE[1], 512):
                part = truth[y : y + 512, x : x + 512]
                run.write(LabelBlock(y, x, part, np.full_like(part, 255), np.zeros_like(part)))
        run.finish(1.0)
    return info, grid


@pytest.fixture
def dock(viewer, add_dock, wait, oracle_path, truth, qtbot):
    """A dock with a slide that was segmented before, and a reader."""
    with_run(oracle_path, truth)
    viewer.open(str(oracle_path), plugin="napari-hspnet")
    made = add_dock()
    made.slide_view.reader.setText(ANN)
    wait(lambda: made.slides.active.session.case is not None)
    wait(lambda: made.slides.active.session.areas is not None)
    for name in ("model", "segment", "overlay", "correct", "export"):
        made.sections[name].set_open(False)
    qtbot.wait(50)
    return made


@pytest.fixture
def review(dock):
    return lambda: dock.slides.active.session.case.review


def settled(dock):
    entry = dock.slides.active
    return not (
        dock.acts.waiting
        or dock.reviewing.adding.busy
        or dock.jobs.busy(f"review {entry.number}")
        or dock.jobs.busy("mark")
    )


def add_parts(qtbot, wait, dock, least=1000):
    view = dock.review_view
    view.sources["parts"].trigger()
    view.amount.setValue(least)
    click(qtbot, view.go)
    wait(lambda: settled(dock) and dock.review_view.table.regions.rowCount() > 0)


def cell(table, place, column):
    return table.regions.data(table.regions.index(place, column))


def click_row(qtbot, dock, place, double=False):
    table = dock.review_view.table
    table.scrollTo(table.regions.index(place, 1))
    where = table.visualRect(table.regions.index(place, 1)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=where)
    if double:
        qtbot.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=where)


# Making regions


@gui
def test_without_regions_the_section_says_how_to_begin(dock):
    view = dock.review_view
    assert "No regions yet" in view.empty.text()
    assert not view.table.isVisible()
    assert not view.sources["drawn"].isEnabled()
    assert "Draw" in view.sources["drawn"].toolTip()
    assert view.sources["parts"].isEnabled()
    assert view.reviewed.text() == ""


@gui
def test_without_a_slide_it_says_so(add_dock):
    dock = add_dock()
    assert not dock.review_view.add.isEnabled()
    assert dock.review_view.add.toolTip() == "Open a slide first."
    assert not dock.slide_view.label.isVisible()
    for act in (
        dock.reviewing.next_region,
        dock.reviewing.previous_region,
        dock.reviewing.sign_off,
        dock.reviewing.cycle_tag,
        dock.reviewing.unlock,
        dock.reviewing.remove,
    ):
        act()


@gui
def test_nobody_reviews_without_a_name(dock, qtbot, review):
    dock.slide_view.reader.setText("  ")
    view = dock.review_view
    view.sources["tiles"].trigger()
    click(qtbot, view.go)
    assert "who reviews" in view.error.text()
    assert dock.window().focusWidget() is dock.slide_view.reader
    assert review().regions == ()


@gui
def test_parts_of_the_overlay_become_regions(dock, qtbot, wait, review, truth):
    add_parts(qtbot, wait, dock, 2000)
    found = components(dock.slides.active.session.composite, 2000, (2, 3, 4))
    assert len(found) >= 3
    regions = review().regions
    assert [(r.box, r.pixels, r.kind) for r in regions] == [
        (f.box, f.pixels, "component") for f in found
    ]
    table = dock.review_view.table
    assert table.regions.rowCount() == len(found)
    names = {2: "CIN1", 3: "CIN2", 4: "CIN3"}
    for place, part in enumerate(found):
        assert cell(table, place, 1) == names[part.value]
        assert float(cell(table, place, 2)) == pytest.approx(part.pixels * 1e-6, abs=0.0006)
        assert cell(table, place, 4) == TO_DO
    assert "Reviewed 0 %" in dock.review_view.reviewed.text()
    # Once more: they are there.
    dock.review_view.sources["parts"].trigger()
    dock.review_view.amount.setValue(2000)
    click(qtbot, dock.review_view.go)
    wait(lambda: settled(dock))
    assert "in the list already" in dock.review_view.error.text()
    assert len(review().regions) == len(found)


@gui
def test_tiles_and_drawn_regions(dock, viewer, qtbot, wait, review):
    view = dock.review_view
    view.sources["tiles"].trigger()
    view.amount.setValue(200)
    click(qtbot, view.go)
    wait(lambda: settled(dock) and len(review().regions) > 0)
    tiles = review().regions
    assert all(r.kind == "tile" and r.box.height <= 200 for r in tiles)
    dock.segmenting.draw(True)
    layer = dock.slides.active.layers.regions
    layer.add([[100, 100], [100, 200], [160, 200], [160, 100]], shape_type="rectangle")
    layer.add([[300, 300], [300, 400], [400, 350]], shape_type="polygon")
    layer.selected_data = set()
    view.menu.aboutToShow.emit()
    assert view.sources["drawn"].isEnabled(), view.sources["drawn"].toolTip()
    view.sources["drawn"].trigger()
    wait(lambda: settled(dock) and len(review().regions) == len(tiles) + 2)
    drawn = review().regions[-2:]
    assert drawn[0].pixels == 6000
    assert {r.kind for r in drawn} == {"drawn"}


@gui
def test_finding_can_be_stopped(dock, qtbot, wait, review, monkeypatch):
    from napari_hspnet._qt import region_adding

    def slow(tissue, grid, side, progress, cancel):
        for part in range(1000):
            progress(part / 1000)
            if cancel.wait(0.02):
                from napari_hspnet.errors import CancelledError

                raise CancelledError

    monkeypatch.setattr(region_adding, "tissue_tiles", slow)
    view = dock.review_view
    view.sources["tiles"].trigger()
    click(qtbot, view.go)
    wait(view.cancel.isVisible)
    wait(lambda: "%" in view.stage.text())
    assert not view.add.isEnabled()
    click(qtbot, view.cancel)
    wait(lambda: not dock.reviewing.adding.busy)
    assert not view.bar.isVisible()
    assert view.add.isEnabled()
    assert review().regions == ()


@gui
def test_a_slide_without_tissue_gives_no_tiles(viewer, add_dock, wait, qtbot, tmp_path):
    from slide_files import write_generic_tiff

    path = tmp_path / "glass.tiff"
    write_generic_tiff(path, np.full((900, 1100, 3), 245, np.uint8), mpp=0.5)
    viewer.open(str(path), plugin="napari-hspnet")
    dock = add_dock()
    dock.slide_view.reader.setText(ANN)
    dock.review_view.sources["tiles"].trigger()
    click(qtbot, dock.review_view.go)
    wait(lambda: not dock.reviewing.adding.busy)
    assert "There is none" in dock.review_view.error.text()


# States


@gui
def test_states_tags_and_comments(dock, qtbot, wait, review):
    add_parts(qtbot, wait, dock)
    view, table = dock.review_view, dock.review_view.table
    click_row(qtbot, dock, 1)
    (number,) = dock.reviewing.chosen
    click(qtbot, view.states["in progress"])
    wait(lambda: settled(dock) and cell(table, 1, 4) == "in progress")
    click(qtbot, view.states["reviewed"])
    wait(lambda: settled(dock) and cell(table, 1, 4) == "reviewed")
    assert ANN in view.detail.text()
    assert view.states["reviewed"].isChecked()
    assert not view.reviewed.text().startswith("Reviewed 0 %")
    view.tag.setCurrentIndex(view.tag.findData("AIS"))
    view.tag.activated.emit(view.tag.currentIndex())
    wait(lambda: settled(dock) and cell(table, 1, 3) == "AIS")
    dock.reviewing.cycle_tag()
    wait(lambda: cell(table, 1, 3) == TAGS[TAGS.index("AIS") + 1])
    view.comment.setFocus()
    qtbot.keyClicks(view.comment, "glands at <b>the edge</b>")
    qtbot.keyClick(view.comment, Qt.Key.Key_Return)
    wait(lambda: "glands at <b>the edge</b>" in view.comments.text())
    # What somebody wrote is shown as it was written.
    assert view.comments.textFormat() == Qt.TextFormat.PlainText
    tip = table.regions.data(table.regions.index(1, 3), Qt.ItemDataRole.ToolTipRole)
    assert "at &lt;b&gt;the edge" in tip
    assert view.comment.text() == ""
    region = review().region(number)
    assert (region.state, region.state_reader, region.tag) == ("reviewed", ANN, "metaplasia")
    assert [c.text for c in region.comments] == ["glands at <b>the edge</b>"]
    # Other rows are as they were.
    assert {r.state for r in review().regions if r.id != number} == {TO_DO}
    click_row(qtbot, dock, 0)
    assert view.comments.text() == ""
    assert view.tag.currentData() == ""


@gui
def test_signing_off_locks_and_unlocking_unlocks(dock, qtbot, wait, review):
    add_parts(qtbot, wait, dock)
    view = dock.review_view
    click_row(qtbot, dock, 0)
    (number,) = dock.reviewing.chosen
    assert not view.unlock.isVisible()
    click(qtbot, view.sign)
    wait(lambda: settled(dock) and review().region(number).state == SIGNED_OFF)
    wait(view.unlock.isVisible)
    assert not view.sign.isVisible()
    for widget in (*view.states.values(), view.tag, view.remove):
        assert not widget.isEnabled()
        assert "unlock" in widget.toolTip()
    assert "locked" in view.detail.text()
    dock.reviewing.cycle_tag()
    wait(lambda: "signed off" in view.error.text())
    box = review().region(number).box
    case = dock.slides.active.session.case
    patch = Patch(
        box.y0, box.x0, np.zeros((box.height, box.width), np.uint8), np.ones((1, 1), bool)
    )
    patch = Patch(patch.y, patch.x, patch.values, review().selection(number).read(box))
    with pytest.raises(RegionLockedError):
        case.editing.correct([patch], ANN, "brush")
    click(qtbot, view.unlock)
    wait(lambda: settled(dock) and review().region(number).state == "in progress")
    wait(view.sign.isVisible)
    assert view.tag.isEnabled()


@gui
def test_several_rows_at_once(dock, qtbot, wait, review):
    add_parts(qtbot, wait, dock)
    table = dock.review_view.table
    table.setFocus()
    table.selectAll()
    count = table.regions.rowCount()
    assert len(dock.reviewing.chosen) == count
    assert f"{count} regions are selected" in dock.review_view.detail.text()
    assert not dock.review_view.comment.isVisible()
    click(qtbot, dock.review_view.states["reviewed"])
    wait(lambda: settled(dock) and {r.state for r in review().regions} == {"reviewed"})
    # One entry for all of them.
    entries = [e for e in dock.slides.active.session.case.journal.entries() if "state" in e.body]
    assert len(entries) == 1
    wait(lambda: len(dock.reviewing.chosen) == count)


@gui
def test_rows_are_removed_after_a_question(dock, qtbot, wait, review, monkeypatch):
    add_parts(qtbot, wait, dock)
    before = len(review().regions)
    click_row(qtbot, dock, 0)
    click(qtbot, dock.review_view.remove)
    wait(lambda: settled(dock) and len(review().regions) == before - 1)
    click_row(qtbot, dock, 0)
    dock.reviewing.set_tag("other")
    wait(lambda: settled(dock) and cell(dock.review_view.table, 0, 3) == "other")
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    asked = []
    monkeypatch.setattr(
        QMessageBox, "question", lambda *words: asked.append(words) or answers[len(asked) - 1]
    )
    click(qtbot, dock.review_view.remove)
    assert len(asked) == 1
    assert len(review().regions) == before - 1
    click(qtbot, dock.review_view.remove)
    wait(lambda: settled(dock) and len(review().regions) == before - 2)


@gui
def test_a_read_only_case_can_be_looked_through(viewer, add_dock, wait, qtbot, oracle_path, truth):
    info, grid = with_run(oracle_path, truth)
    with Case.open_or_create(default_case_folder(info), info, grid) as other:
        other.review.add([Selection.of_box(PixelBox(10, 10, 200, 200), grid.shape)], "drawn", ANN)
        # A lock is a process's: what another would hold is said for it.
    viewer.open(str(oracle_path), plugin="napari-hspnet")
    dock = add_dock()
    dock.slide_view.reader.setText(ANN)
    wait(lambda: dock.review_view.table.regions.rowCount() == 1)
    dock.slides.active.session.read_only_because = "Another process has it"
    dock.reviewing.next_region()
    wait(lambda: dock.reviewing.chosen != ())
    view = dock.review_view
    for widget in (view.add, view.sign, view.tag, view.comment, view.remove):
        assert not widget.isEnabled()
        assert "Another process has it" in widget.toolTip()
    dock.reviewing.sign_off()
    assert "Another process has it" in view.error.text()


# Going there


def fits(viewer, box):
    """The whole box is on the canvas, no closer than x40."""
    y0, x0, y1, x1 = camera.view_of(viewer)
    assert viewer.scene.camera.zoom <= 4.0 + 1e-6
    return y0 <= box.y0 and x0 <= box.x0 and y1 >= box.y1 and x1 >= box.x1


@gui
def test_double_click_next_and_previous_go_there(dock, viewer, qtbot, wait, review):
    add_parts(qtbot, wait, dock)
    table = dock.review_view.table
    ids = table.regions.ids
    click_row(qtbot, dock, 2, double=True)
    assert dock.reviewing.chosen == (ids[2],)
    assert fits(viewer, review().region(ids[2]).box)
    seen = camera.view_of(viewer)
    click(qtbot, dock.review_view.next)
    assert dock.reviewing.chosen == (ids[3 % len(ids)],)
    assert fits(viewer, review().region(ids[3 % len(ids)]).box)
    assert camera.view_of(viewer) != seen
    dock.reviewing.previous_region()
    assert dock.reviewing.chosen == (ids[2],)
    assert camera.view_of(viewer) == pytest.approx(seen)
    for _ in ids:
        dock.reviewing.next_region()
    assert dock.reviewing.chosen == (ids[2],)
    table.setFocus()
    viewer.scene.camera.zoom = 0.3
    qtbot.keyClick(table, Qt.Key.Key_Return)
    assert fits(viewer, review().region(ids[2]).box)


@gui
def test_a_small_region_is_shown_at_x40_and_a_large_one_in_full(dock, viewer, qtbot, wait, review):
    whole = Selection.of_region(Region.slide(), LabelGrid(SHAPE))
    tiny = Selection.of_box(PixelBox(100, 100, 104, 104), SHAPE)
    review().add([tiny, whole], "drawn", ANN)
    dock.reviewing.refresh(dock.slides.active)
    wait(lambda: dock.review_view.table.regions.rowCount() == 2)
    dock.reviewing.next_region()
    assert viewer.scene.camera.zoom == pytest.approx(4.0)
    dock.reviewing.next_region()
    assert fits(viewer, PixelBox(0, 0, *SHAPE))
    assert viewer.scene.camera.zoom * SHAPE[1] > 0.7 * viewer.canvas.size[1]


@gui
def test_what_is_done_leaves_the_open_ones_when_one_goes_on(dock, qtbot, wait, review):
    add_parts(qtbot, wait, dock)
    view, table = dock.review_view, dock.review_view.table
    view.filter.setCurrentIndex(1)
    view.filter.activated.emit(1)
    ids = table.regions.ids
    dock.reviewing.next_region()
    assert dock.reviewing.chosen == (ids[0],)
    dock.reviewing.sign_off()
    wait(lambda: settled(dock) and review().region(ids[0]).state == SIGNED_OFF)
    wait(lambda: cell(table, 0, 4) == SIGNED_OFF)
    dock.reviewing.next_region()
    assert dock.reviewing.chosen == (ids[1],)
    assert table.regions.ids == ids[1:]
    assert view.count.text() == f"{len(ids) - 1} of {len(ids)}"
    view.filter.activated.emit(0)
    assert table.regions.ids == ids


# On the canvas


@gui
def test_the_chosen_region_is_marked_and_nothing_is_taken(dock, viewer, qtbot, wait, shot):
    add_parts(qtbot, wait, dock)
    active = viewer.layers.selection.active
    wait(lambda: settled(dock))
    before = shot()
    click_row(qtbot, dock, 0)
    mark = dock.reviewing.marking.mark
    wait(lambda: settled(dock) and mark.layer is not None)
    assert viewer.layers.selection.active is active
    assert set(viewer.layers.selection) == {active}
    chosen = shot()
    assert (np.abs(chosen.astype(int) - before).max(axis=2) > 25).sum() > 50
    click_row(qtbot, dock, 1)
    wait(lambda: settled(dock))
    assert not np.array_equal(shot(), chosen)
    click_row(qtbot, dock, 0)
    wait(lambda: settled(dock))
    assert np.array_equal(shot(), chosen)
    dock.reviewing.sign_off()
    wait(lambda: settled(dock) and "locked" in dock.review_view.detail.text())
    assert not np.array_equal(shot(), chosen), "what is locked looks as before"
    dock.review_view.table.clearSelection()
    assert not mark.layer.visible
    assert np.array_equal(shot(), before)
    names = [layer.name for layer in viewer.layers]
    dock.shut_down(viewer_stays=True)
    assert len(viewer.layers) < len(names)
    assert not any(layer.name.startswith("Region ") for layer in viewer.layers)


@gui
def test_another_slide_has_another_list(dock, viewer, qtbot, wait, tmp_path_factory):
    from window_tools import OTHER

    add_parts(qtbot, wait, dock)
    click_row(qtbot, dock, 0)
    wait(lambda: settled(dock))
    count = dock.review_view.table.regions.rowCount()
    first = dock.slides.active
    viewer.open(
        str(phantom(tmp_path_factory.mktemp("o"), OTHER, "another")), plugin="napari-hspnet"
    )
    assert dock.slides.active is not first
    assert dock.review_view.table.regions.rowCount() == 0
    assert not dock.reviewing.marking.mark.layer.visible
    assert dock.review_view.reviewed.text() == ""
    dock.slides.activate(first)
    assert dock.review_view.table.regions.rowCount() == count
    wait(lambda: settled(dock))
    viewer.layers.remove(first.layers.slide_layer)
    qtbot.wait(50)
    assert dock.review_view.table.regions.rowCount() == 0


# Following what is corrected


@gui
def test_the_list_follows_corrections_where_they_are(dock, qtbot, wait, review, monkeypatch):
    from napari_hspnet._qt import region_book

    add_parts(qtbot, wait, dock)
    table = dock.review_view.table
    regions = {r.id: r for r in review().regions}
    counted = []
    real = region_book.counts_of

    def watched(composite, selection, places, cancel):
        counted.append((selection.box, places))
        return real(composite, selection, places, cancel)

    monkeypatch.setattr(region_book, "counts_of", watched)
    number = next(i for i in table.regions.ids if cell(table, table.regions.place(i), 1) == "CIN1")
    region = regions[number]
    where = review().selection(number).read(region.box)
    patch = Patch(region.box.y0, region.box.x0, np.full(where.shape, 4, np.uint8), where)
    dock.saver.save(dock.slides.active, patch, "brush")
    wait(lambda: settled(dock) and cell(table, table.regions.place(number), 1) == "CIN3")
    touched = [
        r
        for r in regions.values()
        if min(r.box.intersect(region.box).height, r.box.intersect(region.box).width) > 0
    ]
    assert {box for box, _ in counted} <= {r.box for r in touched}
    assert all(places for _, places in counted)
    assert len(touched) < len(regions)
    dock.correcting.undo()
    wait(lambda: settled(dock) and cell(table, table.regions.place(number), 1) == "CIN1")


@gui
def test_the_worst_grade_on_view(dock, viewer, qtbot, wait, truth):
    view = dock.review_view
    dock.slides.fit()
    wait(lambda: view.worst.text() == "Worst grade on view: CIN3")
    assert "0.001 mm²" in view.worst_detail.text()
    # Somewhere without CIN.
    for y, x in np.argwhere(truth == 1)[::500]:
        box = truth[max(0, y - 40) : y + 40, max(0, x - 40) : x + 40]
        if set(np.unique(box)) == {1}:
            break
    viewer.scene.camera.center = (0, y + 0.5, x + 0.5)
    viewer.scene.camera.zoom = max(viewer.canvas.size) / 60
    wait(lambda: view.worst.text() == "Worst grade on view: normal")
    patch = Patch(int(y) - 20, int(x) - 20, np.full((40, 40), 3, np.uint8), np.ones((40, 40), bool))
    dock.saver.save(dock.slides.active, patch, "brush")
    wait(lambda: view.worst.text() == "Worst grade on view: CIN2")
    dock.overlay_view.tiers_toggled.emit(True)
    assert view.worst.text() == "Worst grade on view: HSIL"
    viewer.scene.camera.center = (0, -5000, -5000)
    wait(lambda: view.worst.text() == "")


@gui
def test_a_new_run_that_disagrees_is_told(dock, viewer, qtbot, wait, truth):
    """What was corrected stays; where the new run says something else is listed."""
    view = dock.review_view
    inside = np.zeros(SHAPE, bool)
    y, x = np.argwhere(truth == 2)[200]
    inside[max(0, y - 30) : y + 60, max(0, x - 30) : x + 60] = True
    at = np.s_[max(0, y - 30) : y + 60, max(0, x - 30) : x + 60]
    where = truth[at] == 2
    patch = Patch(
        max(0, int(y) - 30), max(0, int(x) - 30), np.full(where.shape, 4, np.uint8), where
    )
    dock.saver.save(dock.slides.active, patch, "brush")
    wait(lambda: dock.acts.waiting == 0)
    dock.models.take(oracle_model())
    wait(dock.segment_view.segment.isEnabled)
    dock.control.segment("slide")
    wait(lambda: not dock.control.running, 60)
    wait(lambda: view.disagreement.text() != "")
    assert "disagrees with corrections at" in view.disagreement.text()
    assert not view.places.isVisible()
    click(qtbot, view.listing)
    assert view.places.isVisible()
    assert "reader CIN3, run CIN1" in view.places.item(0).text()
    box = dock.reviewing.figures.place(0)
    item = view.places.visualItemRect(view.places.item(0)).center()
    qtbot.mouseClick(view.places.viewport(), Qt.MouseButton.LeftButton, pos=item)
    qtbot.mouseDClick(view.places.viewport(), Qt.MouseButton.LeftButton, pos=item)
    assert fits(viewer, box)
    composite = dock.slides.active.session.composite
    assert (composite.read(patch.y, patch.x, *where.shape)[where] == 4).all()


# Thousands of rows


def many(count):
    rng = np.random.default_rng(1)
    rows = {}
    for number in range(1, count + 1):
        y, x = (int(v) for v in rng.integers(0, 20_000, 2))
        state = STATES[int(rng.integers(4))]
        region = ReviewRegion(
            number,
            "tile",
            int(rng.integers(10, 10**6)),
            PixelBox(y, x, y + 9, x + 9),
            state,
            ANN,
            "2026-11-23T10:11:12.000+00:00",
            TAGS[number % 6],
        )
        mm2 = {int(v): float(rng.random()) for v in rng.choice(5, 2, replace=False)}
        rows[number] = RegionRow(region, region.pixels * 1e-6, Grades(mm2))
    return rows


def test_rows_are_sorted_and_filtered():
    model, rows = RegionModel(), many(300)
    model.show_rows(rows)
    assert model.ids == sorted(rows)
    down = Qt.SortOrder.DescendingOrder
    model.sort(1, down)
    severities = [rows[i].grades.severity for i in model.ids]
    assert severities == sorted(severities, reverse=True)
    model.sort(2)
    assert [rows[i].region.pixels for i in model.ids] == sorted(
        row.region.pixels for row in rows.values()
    )
    model.sort(4, down)
    states = [STATES.index(rows[i].region.state) for i in model.ids]
    assert states == sorted(states, reverse=True)
    model.sort(0)
    done = next(i for i in rows if rows[i].region.state == SIGNED_OFF)
    model.keep([done])
    model.set_open_only(True)
    assert model.ids == [
        i for i in rows if rows[i].region.state in ("to do", "in progress") or i == done
    ]
    assert model.place(model.ids[3]) == 3


@gui
def test_five_thousand_rows_cost_few_calls_each(dock, qtbot, wait):
    table, rows = dock.review_view.table, many(5000)
    entry = dock.slides.active
    wait(lambda: settled(dock))
    known = dock.reviewing.book.of(entry)
    known.regions = tuple(row.region for row in rows.values())
    known.grades = {number: row.grades for number, row in rows.items()}
    down = Qt.SortOrder.DescendingOrder
    calls = {}
    for name, act in (
        ("list", lambda: dock.reviewing.book.changed.emit(entry)),
        ("again", lambda: dock.reviewing.book.changed.emit(entry)),
        ("severity", lambda: table.regions.sort(1, down)),
        ("state", lambda: table.regions.sort(4)),
        ("one", lambda: table.choose(2500)),
        ("all", table.selectAll),
        ("with all chosen", lambda: table.regions.sort(2)),
        ("filter", lambda: dock.review_view.filter_chosen.emit(True)),
        ("next", dock.reviewing.next_region),
        ("style", lambda: dock.overlay.style_changed.emit()),
        ("corrected", lambda: known.forget(PixelBox(0, 0, 9000, 9000))),
    ):
        calls[name] = python_calls(act)
        qtbot.wait(5)
    # Qt shows a screenful of rows whatever their number; sorting and choosing go over all.
    assert max(calls.values()) < 10 * len(rows), calls


def python_calls(act):
    """How many Python functions are called meanwhile, by this thread."""
    count = 0

    def seen(frame, event, argument):
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


@gui
def test_the_section_fits_320_pixels_whatever_is_chosen(dock, qtbot, wait, review):
    def width():
        qtbot.wait(20)
        # With a scroll bar that is what the dock has; with less, heights go wrong too.
        return dock.sections["review"].minimumSizeHint().width() + 17

    dock.slide_view.reader.setText("Professor Dr. med. Maximiliane von Hohenstein-Wolkenburg")
    view = dock.review_view
    view.sources["parts"].trigger()
    assert width() <= 316
    add_parts(qtbot, wait, dock)
    click_row(qtbot, dock, 0)
    dock.reviewing.set_tag("metaplasia")
    dock.reviewing.say("W" * 200)
    wait(lambda: settled(dock) and view.comments.text() != "")
    assert width() <= 316
    dock.reviewing.sign_off()
    wait(lambda: settled(dock) and view.unlock.isVisible())
    view.show_disagreements("New prediction disagrees with corrections", ["W" * 80] * 9)
    view.show_places(True)
    assert width() <= 316
    view.show_progress("Looking for parts of the overlay, 34 %", 0.34)
    assert width() <= 316
    table = view.table
    used = sum(table.columnWidth(column) for column in range(5))
    assert used <= table.viewport().width()


# The label


@gui
def test_the_label_is_shown_on_request_only(viewer, add_dock, wait, qtbot, monkeypatch):
    from napari_hspnet.slides import Slide

    read = []
    real = Slide.read_associated
    monkeypatch.setattr(
        Slide, "read_associated", lambda self, name: read.append(name) or real(self, name)
    )
    dock = add_dock()
    qtbot.mouseClick(dock.slide_view.sample_button, Qt.MouseButton.LeftButton)
    wait(lambda: dock.slides.active is not None)
    wait(lambda: dock.slides.active.picture is not None)
    assert read == []
    click(qtbot, dock.slide_view.label)
    dialog = dock.labels.dialog
    wait(lambda: dialog.picture.pixmap() is not None and not dialog.picture.pixmap().isNull())
    assert read == ["label"]
    assert "Patient data" in dialog.windowTitle()
    assert "CMU-1-Small-Region" in dialog.windowTitle()
    assert dialog.picture.pixmap().width() == 387
    assert dialog.picture.contextMenuPolicy() == Qt.ContextMenuPolicy.NoContextMenu
    qtbot.mouseClick(dialog.closing, Qt.MouseButton.LeftButton)
    wait(lambda: dock.labels.dialog is None)
    # Nothing is kept: it is read again.
    click(qtbot, dock.slide_view.label)
    wait(lambda: read == ["label", "label"])
    dock.slides.active.layers.slide_layer.name = "x"
    viewer.layers.remove(dock.slides.active.layers.slide_layer)
    wait(lambda: dock.labels.dialog is None)


@gui
def test_a_slide_without_a_label_says_so(dock):
    assert not dock.slide_view.label.isEnabled()
    assert "no picture of a label" in dock.slide_view.label.toolTip()


# The mark, without a window


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_box_of_the_mark_is_that_part_of_the_whole(data):
    shape = (1500, 1100)
    grid = LabelGrid(shape, 1.0)
    y0, x0 = data.draw(st.integers(0, 1480)), data.draw(st.integers(0, 1080))
    box = PixelBox(y0, x0, y0 + data.draw(st.integers(1, 300)), x0 + data.draw(st.integers(1, 300)))
    picture = RegionPicture(Selection.of_box(box, shape), grid)
    level = data.draw(st.integers(-1, 1))
    mark = MarkLevel(picture, level, data.draw(st.booleans()))
    scale = 2.0**-level
    top = max(0, min(int(y0 * scale) + data.draw(st.integers(-30, 30)), mark.shape[0] - 60))
    left = max(0, min(int(x0 * scale) + data.draw(st.integers(-30, 30)), mark.shape[1] - 60))
    whole = mark[max(0, top - 40) : top + 100, max(0, left - 40) : left + 100]
    part = mark[top : top + 60, left : left + 60]
    oy, ox = top - max(0, top - 40), left - max(0, left - 40)
    assert np.array_equal(part, whole[oy : oy + 60, ox : ox + 60])


def test_the_smallest_region_is_seen_on_the_coarsest_level():
    shape = (30_000, 20_000)
    grid = LabelGrid(shape, 1.0)
    tiny = Selection.of_box(PixelBox(12_345, 6_789, 12_347, 6_790), shape)
    picture = RegionPicture(tiny, grid)
    for level in range(-2, 6):
        mark = MarkLevel(picture, level, locked=False)
        y, x = int(12_345 * 2.0**-level), int(6_789 * 2.0**-level)
        near = mark[max(0, y - 20) : y + 20, max(0, x - 20) : x + 20]
        assert {DARK, LIGHT} & set(np.unique(near)), level
        far = mark[0:200, 0:200]
        assert not far.any()


def test_a_huge_region_is_kept_coarsely_and_in_place():
    shape = (20_000, 20_000)
    selection = SimpleNamespace(
        shape=shape,
        box=PixelBox(1_000, 2_000, 19_000, 18_000),
        masks=Selection.of_box(PixelBox(1_000, 2_000, 19_000, 18_000), shape).masks,
    )
    picture = RegionPicture(selection, LabelGrid(shape, 1.0))
    assert picture.finest > 0
    for level in (0, picture.finest, picture.finest + 1):
        inside = picture.read(level, 10_000 >> level, 2_000 >> level, 4, 8)
        assert inside.all()
        outside = picture.read(level, 10_000 >> level, (2_000 >> level) - 16, 4, 8)
        assert outside is None
    locked = MarkLevel(picture, 2, locked=True)
    assert (locked[2_000:2_100, 2_000:2_100] == LOCKED).any()


@gui
def test_slots_of_the_review_are_short(dock, qtbot, wait, review):
    RECORDER.clear()
    RECORDER.on = True
    try:
        add_parts(qtbot, wait, dock)
        for _ in range(4):
            dock.reviewing.next_region()
            qtbot.wait(120)
            dock.reviewing.set_state("reviewed")
            wait(lambda: settled(dock))
    finally:
        RECORDER.on = False
    ours = [t for t in RECORDER.times if "eview" in t.name or "egion" in t.name or "act" in t.name]
    assert len(ours) > 10
    slow = [t for t in ours if t.ours > 0.05]
    RECORDER.clear()
    assert len(slow) <= 1, slow
