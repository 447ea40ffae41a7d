"""Places that cannot be written and files that stop short: told, and the window lives."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from window_tools import phantom

from napari_hspnet.cases.store import RunStore
from napari_hspnet.jobs.samples import sample_slide_path

from oracle import oracle_model

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def oracle_path(tmp_path_factory):
    return phantom(tmp_path_factory.mktemp("oracle"))


@pytest.fixture
def ready(viewer, add_dock, wait, oracle_path):
    viewer.open(str(oracle_path), plugin="napari-hspnet")
    dock = add_dock()
    dock.models.take(oracle_model())
    wait(dock.segment_view.segment.isEnabled)
    return dock


def press(qtbot, wait, dock):
    qtbot.mouseClick(dock.segment_view.segment, Qt.MouseButton.LeftButton)
    wait(lambda: not dock.control.running, 60)


def test_a_case_folder_that_cannot_be_made_is_told(
    ready, qtbot, wait, tmp_path, monkeypatch, notified
):
    # Below a file nothing can be made, for root too.
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file" / "data"))
    press(qtbot, wait, ready)
    assert ready.segment_view.error.text() != ""
    assert notified()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    press(qtbot, wait, ready)
    assert ready.segment_view.error.text() == ""
    assert len(ready.slides.active.session.case.runs) == 1


def test_a_full_disk_in_the_middle_of_a_run_is_told(ready, qtbot, wait, monkeypatch, notified):
    def full(self, key, chunk):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunStore, "write", full)
    press(qtbot, wait, ready)
    assert "full" in ready.segment_view.error.text()
    assert any("full" in text for text in notified())
    case = ready.slides.active.session.case
    assert case.runs == ()
    assert not any((case.folder / "runs").iterdir())


def test_a_truncated_slide_is_told(viewer, add_dock, wait, tmp_path, notified):
    path = Path(tmp_path) / "cut.svs"
    whole = sample_slide_path().read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    dock = add_dock()
    dock.control.open_slide(path)
    wait(lambda: dock.slide_view.error.text() != "")
    assert "cut.svs" in dock.slide_view.error.text()
    assert len(viewer.layers) == 0


def test_a_drawn_shape_without_area_is_refused(ready, qtbot, wait):
    ready.slides.active.layers.start_drawing()
    ready.slides.active.layers.regions.add([[100, 100], [100, 300]], shape_type="line")
    ready.slides.active.layers.stop_drawing()
    qtbot.mouseClick(ready.segment_view.targets["shapes"], Qt.MouseButton.LeftButton)
    qtbot.wait(500)
    view = ready.segment_view
    if view.segment.isEnabled():
        press(qtbot, wait, ready)
    assert view.error.text() or "area" in view.segment.toolTip().lower() + view.estimate.text()
    assert ready.slides.active.session.composite is None
