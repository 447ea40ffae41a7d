"""Exporting from the window: every format, beside correcting, with all that is on screen."""

from __future__ import annotations

import errno
import json
import time

import numpy as np
import pytest
import tifffile
from clicking import choose, click, cut_off, open_section
from correcting import ANN, SHAPE, done, entries, labels, middle, ready, stroke
from exchanging import held
from qtpy.QtCore import QPoint
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog

from napari_hspnet._qt.slots import RECORDER
from napari_hspnet.cases import Case, Selection
from napari_hspnet.errors import OutputError
from napari_hspnet.exchange import tiff
from napari_hspnet.jobs.formats import FORMATS
from napari_hspnet.slides import PixelBox

from cases.case_tools import block, run_record

pytestmark = pytest.mark.gui


@pytest.fixture
def into(monkeypatch, tmp_path):
    """The folder that is chosen in the dialog."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(folder))
    return folder


def pick(dock, qtbot, *formats):
    """Tick these formats and no others, by clicks."""
    for key, box in dock.export_view.boxes.items():
        if box.isChecked() != (key in formats):
            click(qtbot, box)
    assert set(dock.export_view.formats) == set(formats)


def export(dock, qtbot, wait):
    click(qtbot, dock.export_view.export)
    wait(lambda: dock.exporting.running is None and dock.export_view.told.text(), 120)
    return dock.export_view.told.text()


def test_every_format_of_a_painted_case(painting, canvas, qtbot, wait, into, monkeypatch):
    import pandas as pd
    import pyarrow.parquet as pq
    import zarr
    from PIL import Image

    dock = painting
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    dock.painting.leave()
    case = dock.slides.active.session.case
    case.review.add([Selection.of_box(PixelBox(1900, 1900, 2100, 2100), SHAPE)], "drawn", "Dr. Bea")
    case.review.set_state([1], "reviewed", "Dr. Bea")
    open_section(dock)
    pick(dock, qtbot, *FORMATS)
    told = export(dock, qtbot, wait)
    assert told.startswith(f"Written to {into}")
    shown = labels(dock)
    assert (shown[1980:2020, 2000:2060] == 3).any()
    np.testing.assert_array_equal(tifffile.imread(into / "wide.ome.tif", level=0), shown)
    image = zarr.open_group(into / "wide.ome.zarr", mode="r")
    path = image.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]
    np.testing.assert_array_equal(np.squeeze(np.asarray(image[path])), shown)
    with Image.open(into / "wide.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), shown)
    outlines = json.loads((into / "wide.geojson").read_text())["features"]
    assert {f["properties"]["classification"]["name"] for f in outlines} >= {"CIN1", "CIN2"}
    assert len(pd.read_csv(into / "wide-regions.csv", comment="#")) > 0
    assert pq.read_table(into / "wide-regions.parquet").num_rows > 0
    assert json.loads((into / "wide-regions.json").read_text())
    with Image.open(into / "wide-picture.png") as picture:
        assert np.ptp(np.asarray(picture.convert("RGB"))) > 50
    assert ANN in (into / "wide-report.html").read_text()
    assert any(p.is_file() for p in (into / "wide-training").rglob("*"))
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    assert not opened
    click(qtbot, dock.export_view.folder)
    assert opened == [str(into)]


def test_what_is_written_is_chosen(painting, canvas, qtbot, wait, into):
    dock = painting
    before = labels(dock)
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    dock.painting.leave()
    open_section(dock)
    pick(dock, qtbot, "ome-tiff")
    said = labels(dock, "correction")
    wanted = {
        "prediction": before,
        "correction": said,
        "difference": np.where(said == before, 255, said),
    }
    for what, values in wanted.items():
        choose(qtbot, dock.export_view.what, what)
        assert export(dock, qtbot, wait).startswith("Written")
        found = tifffile.imread(into / f"wide-{what}.ome.tif", level=0)
        np.testing.assert_array_equal(found, values)


def test_what_is_painted_last_is_in_the_file(painting, canvas, qtbot, wait, into):
    dock = painting
    open_section(dock)
    pick(dock, qtbot, "ome-tiff")
    # What is ordered before takes its time, as on a slow disk.
    dock.acts.do("Slow", dock.slides.active, lambda act: time.sleep(0.7))
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0), release=False)
    assert len(entries(dock)) == 2
    export(dock, qtbot, wait)
    written = tifffile.imread(into / "wide.ome.tif", level=0)
    assert written[2000, 2030] == 3


def test_correcting_goes_on_while_files_are_written(
    painting, canvas, qtbot, wait, into, monkeypatch
):
    dock = painting
    begun, released = held(tiff, "write_ome_tiff", monkeypatch)
    open_section(dock)
    pick(dock, qtbot, "ome-tiff")
    click(qtbot, dock.export_view.export)
    wait(begun.is_set)
    before = labels(dock)
    c = middle(canvas)
    stroke(qtbot, canvas, c, c + QPoint(60, 0))
    done(dock, wait, 3)
    assert not (labels(dock) == before).all()
    assert dock.exporting.running is dock.slides.active
    assert "wide.ome.tif" in dock.export_view.stage.text()
    released.set()
    wait(lambda: dock.exporting.running is None)
    np.testing.assert_array_equal(tifffile.imread(into / "wide.ome.tif", level=0), before)


def test_cancelling_leaves_no_file(wide_dock, qtbot, wait, into, monkeypatch):
    dock = wide_dock
    begun, _ = held(tiff, "write_ome_tiff", monkeypatch)
    open_section(dock)
    pick(dock, qtbot, "ome-tiff")
    click(qtbot, dock.export_view.export)
    wait(begun.is_set)
    assert not dock.export_view.export.isVisible()
    click(qtbot, dock.export_view.cancel)
    wait(lambda: dock.exporting.running is None)
    assert dock.export_view.told.text().startswith("Stopped")
    assert list(into.iterdir()) == []
    assert dock.export_view.export.isVisible()
    assert not dock.export_view.folder.isVisible()


def test_a_run_under_way_is_not_part_of_it(wide_dock, qtbot, wait, into):
    dock = wide_dock
    entry = dock.slides.active
    before = labels(dock)
    run = entry.session.case.start_run(run_record(started="2026-11-24T10:00:00+00:00"))
    run.write(block(0, 0, np.full((1024, 1024), 4)))
    entry.session.show_runs(live=run)
    dock.segmenting.running = entry
    dock.slides.results_changed.emit(entry)
    dock.segmenting.running_changed.emit()
    assert (labels(dock)[:1024, :1024] == 4).all()
    assert dock.exporting.why_not() == ""
    assert "under way" in dock.export_view.note.text()
    open_section(dock)
    pick(dock, qtbot, "ome-tiff")
    export(dock, qtbot, wait)
    np.testing.assert_array_equal(tifffile.imread(into / "wide.ome.tif", level=0), before)
    run.finish(1.0)
    dock.segmenting.running = None


def test_the_first_run_has_to_end(dock_on, wide_path, qtbot):
    dock = dock_on(wide_path, results=False)
    entry = dock.slides.active
    assert "Nothing is segmented or painted" in dock.export_view.export.toolTip()
    state = entry.session.writable_case()
    dock.slides.cases.take(entry, state, False)
    # napari draws a layer before it is given other data.
    qtbot.wait(300)
    run = state.case.start_run(run_record())
    run.write(block(0, 0, np.full((512, 512), 4)))
    entry.session.show_runs(live=run)
    dock.slides.results_changed.emit(entry)
    assert not dock.export_view.export.isEnabled()
    assert "Wait for the run" in dock.export_view.export.toolTip()
    run.finish(1.0)
    entry.session.show_runs()
    dock.slides.results_changed.emit(entry)
    assert dock.export_view.export.isEnabled()


def test_the_button_says_why_it_cannot_be_pressed(viewer, add_dock, qtbot):
    dock = add_dock()
    assert not dock.export_view.export.isEnabled()
    assert "Nothing is segmented" in dock.export_view.export.toolTip()
    assert "Open a slide" in dock.import_view.open.toolTip()


def test_without_a_format_there_is_nothing_to_write(wide_dock, qtbot):
    open_section(wide_dock)
    pick(wide_dock, qtbot)
    assert "at least one format" in wide_dock.export_view.export.toolTip()
    pick(wide_dock, qtbot, "csv")
    assert wide_dock.export_view.export.isEnabled()


def test_what_could_not_be_saved_holds_the_export_back(painting, canvas, qtbot, wait, monkeypatch):
    dock = painting
    case = dock.slides.active.session.case

    def full(*_, **__):
        raise OutputError("The disk is full", advice="Make room")

    with monkeypatch.context() as patched:
        patched.setattr(case.editing, "correct", full)
        c = middle(canvas)
        stroke(qtbot, canvas, c, c + QPoint(60, 0))
        wait(lambda: dock.saver.unsaved == 1)
        assert "not saved" in dock.export_view.export.toolTip()
        assert not dock.export_view.export.isEnabled()
    wait(lambda: dock.saver.unsaved == 0 and not dock.acts.waiting)
    assert dock.export_view.export.isEnabled()


def test_options(wide_dock, qtbot, wait, into):
    dock, view = wide_dock, wide_dock.export_view
    open_section(dock)
    pick(dock, qtbot, "png", "geojson")
    click(qtbot, view.options.toggle)
    assert not view.picture_mpp.isVisible()
    qtbot.keyClicks(view.name, "case 7")
    view.png_mpp.setFocus()
    view.png_mpp.selectAll()
    qtbot.keyClicks(view.png_mpp.lineEdit(), "4")
    view.simplify.selectAll()
    qtbot.keyClicks(view.simplify.lineEdit(), "3")
    view.simplify.clearFocus()
    choose(qtbot, view.origin, "level0")
    click(qtbot, view.name_slide)
    assert export(dock, qtbot, wait).startswith("Written")
    from PIL import Image

    with Image.open(into / "case 7.png") as picture:
        assert picture.size == (-(-SHAPE[1] // 4), -(-SHAPE[0] // 4))
    said = json.loads((into / "case 7.geojson").read_text())
    assert "wide" in json.dumps({k: v for k, v in said.items() if k != "features"})
    assert view.said()["simplify_um"] == 3
    assert view.said()["origin"] == "level0"
    # Once more: what is there is not replaced unless that is asked for.
    told = export(dock, qtbot, wait)
    assert "exists" in told
    assert not view.folder.isVisible()
    click(qtbot, view.overwrite)
    assert export(dock, qtbot, wait).startswith("Written")


def test_a_folder_that_cannot_be_written(wide_dock, qtbot, wait, into, notified):
    into.rmdir()
    into.write_text("a file where a folder should be")
    open_section(wide_dock)
    pick(wide_dock, qtbot, "ome-tiff")
    told = export(wide_dock, qtbot, wait)
    assert wide_dock.export_view.told.property("kind") == "error"
    assert told in notified()[-1]
    assert wide_dock.export_view.export.isVisible()


def test_files_that_were_complete_are_told_of(wide_dock, qtbot, wait, into, monkeypatch):
    dock = wide_dock
    open_section(dock)
    pick(dock, qtbot, "ome-tiff", "png", "geojson")

    def full(*given, **options):
        raise OSError(errno.ENOSPC, "no")

    # The last of them meets a full disk.
    monkeypatch.setattr("napari_hspnet.exchange.geojson.outlines", full)
    told = export(dock, qtbot, wait)
    assert "disk is full" in told
    assert told.endswith(f"Complete in {into}: wide.ome.tif, wide.png")
    assert (into / "wide.ome.tif").is_file()
    assert not (into / "wide.geojson").exists()
    assert dock.export_view.folder.isVisible()


def test_nothing_to_train_on_is_said_before_anything_is_written(wide_dock, qtbot, wait, into):
    dock = wide_dock
    open_section(dock)
    pick(dock, qtbot, "ome-tiff", "training")
    told = export(dock, qtbot, wait)
    assert "nothing to train on" in told
    assert not list(into.iterdir())
    assert not dock.export_view.folder.isVisible()


def test_review_regions_can_be_outlines_too(wide_dock, qtbot):
    open_section(wide_dock)
    view = wide_dock.export_view
    assert not view.said()["review_regions"]
    view.options.set_open(True)
    click(qtbot, view.review_regions)
    assert view.said()["review_regions"]


def test_a_dialog_that_is_closed_writes_nothing(wide_dock, qtbot, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: "")
    open_section(wide_dock)
    click(qtbot, wide_dock.export_view.export)
    assert wide_dock.exporting.running is None
    assert wide_dock.export_view.told.text() == ""


def test_a_case_that_another_holds_can_be_exported(
    viewer, add_dock, wait, wide_path, wide_case, qtbot, into
):
    with Case.open(wide_case, read_only=False) as theirs:
        viewer.open(str(wide_path), plugin="napari-hspnet")
        dock = add_dock()
        wait(lambda: dock.slides.active.session.areas is not None)
        open_section(dock)
        pick(dock, qtbot, "ome-tiff")
        assert export(dock, qtbot, wait).startswith("Written")
        found = tifffile.imread(into / "wide.ome.tif", level=0)
        np.testing.assert_array_equal(found, theirs.composite().read(0, 0, *SHAPE))


def test_closing_the_slide_ends_the_export(wide_dock, viewer, qtbot, wait, into, monkeypatch):
    dock = wide_dock
    begun, _ = held(tiff, "write_ome_tiff", monkeypatch)
    open_section(dock)
    pick(dock, qtbot, "ome-tiff")
    click(qtbot, dock.export_view.export)
    wait(begun.is_set)
    session = dock.slides.active.session
    viewer.layers.remove(dock.slides.active.layers.slide_layer)
    assert dock.exporting.running is None
    wait(lambda: session.closed)
    wait(lambda: list(into.iterdir()) == [])
    wait(lambda: "closed" in dock.export_view.told.text())


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off_at_320_pixels(wide_dock, viewer, qtbot, theme):
    viewer.theme = theme
    open_section(wide_dock)
    view, section = wide_dock.export_view, wide_dock.sections["export"]
    view.choose(tuple(FORMATS))
    view.options.set_open(True)
    wide_dock.setFixedWidth(320)
    qtbot.wait(100)
    assert section.minimumSizeHint().width() <= 316
    assert cut_off(section) == []
    view.show_running()
    view.show_progress("Writing a-slide-with-a-long-name.ome.tif, 34 % · about 12 min left", 0.34)
    view.show_outcome("Written to /somewhere/or/other: a.ome.tif", files=True)
    qtbot.wait(100)
    assert cut_off(section) == []


def test_formats_are_remembered_and_what_names_a_patient_is_not(
    wide_dock, viewer, add_dock, qtbot, wait, into
):
    dock = wide_dock
    assert dock.export_view.formats == ("ome-tiff", "geojson")
    open_section(dock)
    pick(dock, qtbot, "png")
    click(qtbot, dock.export_view.options.toggle)
    click(qtbot, dock.export_view.name_slide)
    export(dock, qtbot, wait)
    viewer.window.remove_dock_widget("all")
    another = add_dock()
    assert another is not dock
    assert another.export_view.formats == ("png",)
    assert not another.export_view.name_slide.isChecked()


def test_our_slots_are_short(wide_dock, qtbot, wait, into):
    dock = wide_dock
    open_section(dock)
    pick(dock, qtbot, "ome-tiff", "geojson")
    RECORDER.clear()
    RECORDER.on = True
    try:
        export(dock, qtbot, wait)
    finally:
        RECORDER.on = False
    ours = {t.name for t in RECORDER.times if "export" in t.name.lower()}
    assert any("answer: export report" in name for name in ours)
    RECORDER.clear()


def test_exporting_after_correcting_was_left_is_ready(painting, wait):
    # Correcting folds this section; leaving it brings it back as it was.
    ready(painting, wait)
    painting.painting.leave()
    assert painting.exporting.why_not() == ""
