"""A verdict that waits when the window is closed is offered by the next one."""

from __future__ import annotations

import shutil

import pytest
from clicking import click, cut_off, open_section
from PIL import Image, PngImagePlugin
from teaching import ANN, BAD, GOOD, small_model, waiting_model

from napari_hspnet._qt.teach_words import waiting_text
from napari_hspnet.networks import load_checkpoint, models_folder
from napari_hspnet.networks.registry import Registry

pytestmark = pytest.mark.gui


@pytest.fixture
def parent(tmp_path):
    """The model in use."""
    path = small_model(tmp_path / "tiny.safetensors")
    registry = Registry()
    sha256 = registry.add(path, "accepted", ANN).sha256
    registry.use(sha256, ANN)
    return sha256


@pytest.fixture
def opened(parent, add_dock, wait):
    """A new window, its Teach section open; it knows all that waits."""

    def window():
        dock = add_dock()
        dock.slide_view.reader.setText(ANN)
        wait(lambda: dock.control.model is not None)
        assert dock.control.model.sha256 == parent
        open_section(dock, "teach")
        wait(lambda: not dock.jobs.busy("teach waiting"))
        return dock

    return window


def test_it_is_shown_again_and_accepted(opened, parent, tmp_path, qtbot, wait):
    sha256 = waiting_model(GOOD, tmp_path, parent)
    view = opened().teach_view
    assert "waits for your decision" in view.waiting.text()
    assert view.waiting.isVisible()
    assert not view.verdict.isVisible()
    assert not cut_off(view)
    click(qtbot, view.look)
    wait(view.verdict.isVisible)
    assert view.verdict.title.text().startswith("Better")
    assert "Dice for CIN2 rose" in view.verdict.text.text()
    assert "Pictures of where the overlay would change were not kept" in view.verdict.text.text()
    assert "Research use only" in view.verdict.text.text()
    row = next(one for one in view.verdict.held.rows if one.name == "CIN2")
    assert (row.before, row.after) == ("0.61", "0.70")
    assert not view.waiting_row.isVisible()
    click(qtbot, view.verdict.accept)
    wait(lambda: Registry().in_use().sha256 == sha256)
    record = Registry().get(sha256)
    assert (record.state, record.decision.by) == ("accepted", ANN)
    assert record.decision.figures["decision"] == "better"
    wait(lambda: "Accepted by Dr. Ann" in view.verdict.told.text())
    assert not view.waiting_row.isVisible()
    click(qtbot, view.verdict.back)
    wait(lambda: Registry().in_use().sha256 == parent)


def test_one_after_the_other_the_latest_first(opened, parent, tmp_path, qtbot, wait):
    first, second = (
        waiting_model(one, tmp_path, parent, seed) for seed, one in ((7, GOOD), (8, BAD))
    )
    view = opened().teach_view
    assert view.waiting.text().startswith("2 taught models wait")
    click(qtbot, view.look)
    wait(view.verdict.isVisible)
    assert view.verdict.title.text().startswith("Worse")
    click(qtbot, view.verdict.refuse)
    wait(lambda: Registry().get(second).state == "refused")
    wait(view.waiting_row.isVisible)
    assert view.waiting.text().startswith("A model taught on")
    click(qtbot, view.look)
    wait(lambda: view.verdict.title.text().startswith("Better"))
    click(qtbot, view.verdict.refuse)
    wait(lambda: Registry().get(first).state == "refused")
    assert not view.waiting_row.isVisible()
    assert Registry().in_use().sha256 == parent


@pytest.mark.parametrize("why", ["decided", "handed on", "another parent", "no verdict", "strange"])
def test_what_waits_for_nobody_is_not_offered(why, opened, parent, tmp_path):
    if why == "handed on":
        waiting_model(GOOD, tmp_path, parent, note="imported")
    elif why == "another parent":
        waiting_model(GOOD, tmp_path, "0" * 64)
    elif why == "no verdict":
        waiting_model({}, tmp_path, parent)
    elif why == "strange":
        waiting_model({**GOOD.to_json(), "held_back": {"changes": [1]}}, tmp_path, parent)
    else:
        Registry().decide(waiting_model(GOOD, tmp_path, parent), False, ANN)
    view = opened().teach_view
    assert not view.waiting_row.isVisible()


def test_what_was_decided_meanwhile_elsewhere_says_so(
    opened, parent, tmp_path, qtbot, wait, notified
):
    sha256 = waiting_model(GOOD, tmp_path, parent)
    view = opened().teach_view
    Registry().decide(sha256, False, "Dr. Bo", "as the command line does it")
    click(qtbot, view.look)
    wait(lambda: "refused by Dr. Bo" in view.told.text())
    wait(lambda: not view.waiting_row.isVisible())
    assert not view.verdict.isVisible()
    assert notified()


def test_what_another_process_taught_is_seen_when_the_section_opens(
    opened, parent, tmp_path, qtbot, wait
):
    dock = opened()
    assert not dock.teach_view.waiting_row.isVisible()
    waiting_model(GOOD, tmp_path, parent)
    toggle = dock.sections["teach"].toggle
    click(qtbot, toggle)
    click(qtbot, toggle)
    wait(dock.teach_view.waiting_row.isVisible)


def test_pictures_that_were_kept_are_shown(opened, parent, tmp_path, qtbot, wait):
    sha256 = waiting_model(GOOD, tmp_path, parent)
    folder = models_folder().parent / "fine-tunings" / "2026-11-25 10-00-00"
    (folder / "changes").mkdir(parents=True)
    shutil.copyfile(Registry().get(sha256).path, folder / "candidate.safetensors")
    assert load_checkpoint(folder / "candidate.safetensors").sha256 == sha256
    said = PngImagePlugin.PngInfo()
    said.add_itxt("Description", "Region 3: 0.1 mm² would change")
    Image.new("RGB", (400, 90)).save(folder / "changes" / "01-ab-r3.png", pnginfo=said)
    view = opened().teach_view
    click(qtbot, view.look)
    wait(view.verdict.picture.isVisible)
    assert view.verdict.caption.text() == "Region 3: 0.1 mm² would change"
    assert "not kept" not in view.verdict.text.text()


def test_the_line_is_right_for_one_and_for_more():
    from datetime import UTC, datetime

    then = datetime(2021, 3, 5, 12, tzinfo=UTC)
    assert waiting_text(1, then) == "A model taught on 5 Mar 2021 waits for your decision."
    assert "3 taught models wait for your decision" in waiting_text(3, then)
    assert "20" not in waiting_text(1, datetime.now(UTC)).replace("on 20 ", "")
