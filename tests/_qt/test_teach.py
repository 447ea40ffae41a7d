"""Teaching from the window: from corrections to a model that learned, with real clicks."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
from clicking import click, cut_off, open_section
from correcting import done, middle, ready, show
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from teaching import (
    ANN,
    BOXES,
    GOOD,
    LONG,
    SIDE,
    alive,
    case_of,
    children,
    config_file,
    learned,
    predicted,
    result_of,
    slide_file,
    small_model,
    spots,
    truth,
)

from napari_hspnet._qt.slots import RECORDER
from napari_hspnet._qt.teach_undecided import looked_at_again, undecided
from napari_hspnet._qt.teach_work import Parent
from napari_hspnet.cases import Case
from napari_hspnet.errors import OutOfMemoryError, OutputError
from napari_hspnet.networks.registry import Registry
from napari_hspnet.slides import Region
from napari_hspnet.training.loop import DivergedError

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return slide_file(tmp_path_factory.mktemp("teach"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def open_window(dock_on, slide, tiny, tmp_path, wait):
    """The slide, its case, the small model, and settings that suit it."""

    def opened(**case):
        case_of(slide, **case)
        dock = dock_on(slide)
        dock.control.choose_model(tiny)
        wait(lambda: dock.control.model is not None and not dock.jobs.busy("rate"))
        dock.teach_view.options.config.set_path(config_file(tmp_path))
        wait(lambda: not dock.jobs.busy("review 0"))
        open_section(dock, "teach")
        return dock

    return opened


@pytest.fixture
def taught(open_window):
    """All is corrected, one can teach."""
    return open_window()


def rounds(dock, qtbot, count):
    if not dock.teach_view.details.is_open:
        click(qtbot, dock.teach_view.details.toggle)
    dock.teach_view.options.rounds.setFocus()
    dock.teach_view.options.rounds.selectAll()
    QTest.keyClicks(dock.teach_view.options.rounds, str(count))
    assert dock.teach_view.options.rounds.value() == count


def labels(dock, what="classes"):
    return dock.slides.active.session.composite.read(0, 0, SIDE, SIDE, what=what)


def test_from_corrections_to_a_new_overlay(open_window, viewer, canvas, qtbot, wait, tiny):
    dock = open_window(corrected=-2, state="in progress")
    view = dock.teach_view
    assert not view.teach.isEnabled()
    assert "reviewed" in view.teach.toolTip()
    before = children()
    # Correct the last two spots by a click each.
    open_section(dock, "correct")
    dock.correct_view.paint.click()
    ready(dock, wait)
    dock.correct_view.tools["region"].click()
    QTest.keyClick(canvas, Qt.Key.Key_3)
    count = len(list(dock.slides.active.session.case.journal.entries()))
    for n, (y, x) in enumerate(spots(3)[-2:], 1):
        show(viewer, y, x)
        ready(dock, wait)
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle(canvas))
        done(dock, wait, count + n)
    dock.painting.leave()
    np.testing.assert_array_equal(labels(dock), truth())
    # Mark all as reviewed.
    open_section(dock, "review")
    dock.review_view.table.setFocus()
    dock.review_view.table.selectAll()
    click(qtbot, dock.review_view.states["reviewed"])
    open_section(dock, "teach")
    wait(view.teach.isEnabled)

    click(qtbot, view.plan)
    wait(view.learns.text, LONG)
    assert "Learns from 12 regions" in view.learns.text()
    assert "Holds back 4 regions" in view.holds.text()
    assert view.account.isVisible()
    assert children() == before

    rounds(dock, qtbot, 14)
    view.options.keep.setFocus()
    QTest.keyClick(view.options.keep, Qt.Key.Key_Home)
    assert view.options.said()["keep"] == 0
    RECORDER.clear()
    RECORDER.on = True
    try:
        learned(dock, qtbot, wait)
    finally:
        RECORDER.on = False
    told = {t.name for t in RECORDER.times if t.name.startswith("answer: teach")}
    RECORDER.clear()
    assert {"answer: teach report", "answer: teach done"} <= told
    assert children() == before
    assert view.verdict.isVisible(), view.told.text()
    assert len(view.curves.losses) > 3
    mean = view.curves.figures["mean_dice"]
    assert [after for after, _ in mean] == list(range(15))
    assert mean[-1][1] > mean[0][1] + 0.2
    assert view.verdict.title.text().startswith("Better")
    assert "Research use only" in view.verdict.text.text()
    assert [one.name for one in view.verdict.held.rows[:4]] == ["normal", "CIN1", "CIN2", "CIN3"]
    assert not cut_off(view)

    parent = dock.control.model.sha256
    # Were the window closed now, the next one would find all of it.
    (waiting,) = undecided(Parent("tiny", tiny, parent))
    again, now = looked_at_again(waiting).done, dock.outcome._result.done
    assert (again.sha256, again.verdict, again.text) == (now.sha256, now.verdict, now.text)
    assert (again.advised, again.pictures) == (now.advised, now.pictures)
    assert again.pictures
    click(qtbot, view.verdict.accept)
    wait(lambda: dock.control.model is not None and dock.control.model.sha256 != parent)
    child = dock.control.model.sha256
    record = Registry().get(child)
    assert (record.state, record.in_use) == ("accepted", True)
    assert (record.acts[-1].by, record.card.parent) == (ANN, parent)
    assert "Accepted by Dr. Ann" in view.verdict.told.text()

    wait(view.verdict.again.isEnabled)
    click(qtbot, view.verdict.again)
    wait(lambda: dock.control.running)
    wait(lambda: not dock.control.running, LONG)
    newest = dock.slides.active.session.runs[0]
    assert newest.record.model_sha256 == child
    assert newest.record.region["kind"] == "slide"
    # What was corrected is on top; what the old model took for CIN1 is CIN2 now.
    shown, said = labels(dock), truth()
    cin2 = said == 3
    assert (shown[cin2] == 3).all()
    assert (labels(dock, "prediction")[cin2] == 3).mean() > 0.5
    assert (predicted()[cin2] == 3).mean() == 0

    click(qtbot, view.verdict.back)
    wait(lambda: dock.control.model is not None and dock.control.model.sha256 == parent)
    assert Registry().in_use().sha256 == parent
    assert Registry().get(child).state == "accepted"
    assert not view.verdict.back.isVisible()
    assert children() == before


@pytest.mark.parametrize("kind", ["shapes", "view"])
def test_it_segments_again_exactly_where_the_last_run_was(
    kind, open_window, viewer, tmp_path, tiny, qtbot, wait
):
    corner = [(100.0, 120.0), (100.0, 391.5), (380.25, 391.5), (380.25, 120.0)]
    triangle = [(500.0, 500.0), (500.0, 720.0), (700.0, 610.0)]
    region = Region.shapes([corner, triangle] if kind == "shapes" else [corner], kind)
    dock = open_window(run_on=region)
    model = dock.control.model
    dock.outcome.show(result_of(GOOD, tmp_path), Parent(model.card.name, model.path, model.sha256))
    click(qtbot, dock.teach_view.verdict.accept)
    again = dock.teach_view.verdict.again
    wait(lambda: again.isVisible() and again.isEnabled())
    # Far from it, and with something else chosen.
    show(viewer, 2000, 2000)
    dock.segment_view.set_target("slide")
    click(qtbot, again)
    wait(lambda: dock.control.running)
    wait(lambda: not dock.control.running, LONG)
    newest, before = dock.slides.active.session.runs[:2]
    assert Region.from_dict(newest.record.region) == region
    assert newest.record.region == before.record.region
    assert newest.record.model_sha256 == dock.control.model.sha256 != model.sha256
    assert dock.segment_view.target == "slide"
    y, x = viewer.scene.camera.center[-2:]
    assert y < 700
    assert x < 720


def test_cancelled_the_model_is_as_it_was_and_one_can_go_on(taught, qtbot, wait):
    dock, view = taught, taught.teach_view
    before, parent = children(), dock.control.model
    rounds(dock, qtbot, 40)
    click(qtbot, view.teach)
    wait(lambda: len(view.curves.losses) > 2, LONG)
    assert not view.teach.isVisible(), "a second one cannot be begun beside"
    assert dock.review_view.isEnabled()
    assert "round 1 of 40" in view.stage.text()
    pid = dock.teaching.pid
    assert alive(pid)
    click(qtbot, view.cancel)
    wait(lambda: not dock.teaching.running)
    assert not alive(pid)
    assert children() == before
    assert view.told.text() == "Stopped. The model is as it was."
    assert dock.control.model is parent
    assert not [r for r in Registry().entries() if not r.built_in]
    wait(view.go_on.isVisible)
    click(qtbot, view.go_on)
    wait(lambda: len(view.curves.losses) > 2, LONG)
    dock.teaching.cancel()
    wait(lambda: not dock.teaching.running)
    assert children() == before


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX")
def test_the_process_killed_is_told_and_nothing_is_lost(taught, qtbot, wait, notified):
    dock, view = taught, taught.teach_view
    before, count = children(), len(list(dock.slides.active.session.case.journal.entries()))
    rounds(dock, qtbot, 40)
    click(qtbot, view.teach)
    wait(lambda: len(view.curves.losses) > 2, LONG)
    os.kill(dock.teaching.pid, signal.SIGKILL)
    wait(lambda: not dock.teaching.running)
    assert "ended from outside" in view.told.text()
    assert view.told.property("kind") == "error"
    assert any("ended from outside" in text for text in notified())
    assert children() == before
    assert len(list(dock.slides.active.session.case.journal.entries())) == count
    assert view.teach.isEnabled()
    wait(view.go_on.isVisible)


def test_the_window_closed_in_the_middle_ends_it_and_the_next_goes_on(
    taught, viewer, add_dock, tiny, qtbot, wait
):
    dock, view = taught, taught.teach_view
    before = children()
    rounds(dock, qtbot, 40)
    click(qtbot, view.teach)
    wait(lambda: len(view.curves.losses) > 2, LONG)
    pid = dock.teaching.pid
    viewer.window.remove_dock_widget("all")
    assert not alive(pid)
    assert children() == before
    another = add_dock()
    wait(lambda: another.teach_view.go_on.isVisibleTo(another.teach_view))
    open_section(another, "teach")
    click(qtbot, another.teach_view.go_on)
    wait(lambda: len(another.teach_view.curves.losses) > 2, LONG)
    another.teaching.cancel()
    wait(lambda: not another.teaching.running)
    assert children() == before


def test_one_begins_anew_and_what_was_broken_off_is_forgotten(taught, tmp_path, qtbot, wait):
    dock, view = taught, taught.teach_view
    for _ in range(2):
        rounds(dock, qtbot, 40)
        click(qtbot, view.teach)
        # Not the curve of the one before.
        wait(lambda: dock.teaching.running)
        wait(lambda: len(view.curves.losses) > 2, LONG)
        click(qtbot, view.cancel)
        wait(lambda: not dock.teaching.running)
    folders = list((tmp_path / "data" / "napari-hspnet" / "fine-tunings").iterdir())
    assert len(folders) == 1


@pytest.mark.parametrize("lack", ["regions", "corrections", "model", "ticks", "slide"])
def test_what_lacks_is_said_beside_the_button(lack, open_window, add_dock, slide, qtbot, wait):
    if lack == "slide":
        dock, why = add_dock(), "Open a slide"
        open_section(dock, "teach")
    elif lack == "regions":
        dock, why = open_window(regions=()), "No region is reviewed"
    elif lack == "corrections":
        dock, why = open_window(corrected=0), "Nothing is corrected"
    else:
        dock = open_window()
        if lack == "model":
            dock.models.choose_none()
            why = "Choose the model"
        else:
            click(qtbot, dock.teach_view.sources.lines[0].box)
            why = "Tick the slides"
    view = dock.teach_view
    wait(lambda: why in view.note.text())
    assert not view.teach.isEnabled()
    assert not view.plan.isEnabled()
    assert why in view.teach.toolTip()
    assert not cut_off(view)


def test_no_corrected_region_is_said_by_the_plan(open_window, qtbot, wait, notified):
    # Corrected is something, but in no reviewed region.
    far = [box for box in BOXES if box.y0 > 1000]
    dock = open_window(corrected=2, regions=far)
    view = dock.teach_view
    click(qtbot, view.plan)
    wait(view.told.text, LONG)
    assert "No reader corrected anything in these regions" in view.told.text()
    assert view.teach.isEnabled()
    assert notified()


def test_an_account_that_is_no_longer_true_says_so(taught, qtbot, wait):
    view = taught.teach_view
    click(qtbot, view.plan)
    wait(view.learns.text, LONG)
    assert "look again" not in view.remarks.text()
    rounds(taught, qtbot, 2)
    assert "look again" in view.remarks.text()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OutOfMemoryError("The GPU's memory does not suffice", advice="Smaller batches"), "memory"),
        (OutputError("The disk is full", advice="Make room"), "disk is full"),
        (DivergedError("The loss is not a number", advice="A smaller rate"), "not a number"),
        (RuntimeError("a fault"), "unforeseen"),
    ],
)
def test_what_goes_wrong_is_told_and_one_can_try_again(
    error, told, taught, qtbot, wait, notified, monkeypatch
):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr("napari_hspnet._qt.teach_work.finetune", fails)
    view = taught.teach_view
    click(qtbot, view.teach)
    wait(lambda: view.told.text())
    assert told in view.told.text()
    assert "The model is as it was" in view.told.text()
    assert any(told in text for text in notified())
    assert view.teach.isVisible()
    assert view.teach.isEnabled()
    assert not taught.teaching.running


def test_settings_that_cannot_be_are_told(taught, tmp_path, qtbot, wait):
    view = taught.teach_view
    view.options.config.set_path(config_file(tmp_path, "[recipe]\nspeed = 5\n"))
    click(qtbot, view.teach)
    wait(view.told.text, LONG)
    assert "speed" in view.told.text()
    view.options.config.set_path(tmp_path / "gone.toml")
    click(qtbot, view.plan)
    wait(lambda: "cannot be read" in view.told.text(), LONG)


def test_one_goes_on_correcting_while_it_learns(taught, viewer, canvas, qtbot, wait):
    dock, view = taught, taught.teach_view
    rounds(dock, qtbot, 40)
    click(qtbot, view.teach)
    wait(lambda: len(view.curves.losses) > 2, LONG)
    open_section(dock, "correct")
    dock.correct_view.paint.click()
    ready(dock, wait)
    dock.correct_view.tools["region"].click()
    QTest.keyClick(canvas, Qt.Key.Key_2)
    count = len(list(dock.slides.active.session.case.journal.entries()))
    y, x = spots(4)[0]
    show(viewer, y, x)
    ready(dock, wait)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle(canvas))
    last = done(dock, wait, count + 1)[-1]
    assert last.body["changes"] == {"4>2": 120 * 120}
    assert dock.teaching.running
    open_section(dock, "teach")
    click(qtbot, view.cancel)
    wait(lambda: not dock.teaching.running)
    with Case.open(dock.slides.active.session.case.folder) as case:
        assert case.journal.last == count + 1


def test_the_device_and_who_asks_are_passed_on(taught, qtbot, wait, monkeypatch):
    asked = []

    def note(sources, parent, options, folder, on_event, cancel):
        asked.append((sources, options))
        raise OutputError("seen", advice="go on")

    monkeypatch.setattr("napari_hspnet._qt.teach_work.finetune", note)
    view = taught.teach_view
    taught.models.choose_device("cpu")
    click(qtbot, view.details.toggle)
    click(qtbot, view.options.freeze)
    click(qtbot, view.options.synthetic)
    QTest.keyClicks(view.sources.lines[0].patient, "P 7")
    click(qtbot, view.teach)
    wait(lambda: asked)
    sources, options = asked[0]
    assert sources[0].patient == "P 7"
    assert (options.device, options.by, options.freeze_encoder) == ("cpu", ANN, True)
    assert options.reference_phantoms == options.replay_phantoms > 0
    assert "no safety reference" in view.options.caution.text()
    assert options.keep == 0.5
