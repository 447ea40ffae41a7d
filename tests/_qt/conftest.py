"""Real windows: a viewer that draws, the dock in it, and patience."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
import time

import numpy as np
import pytest


def _display() -> bool:
    return bool(
        os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
        or sys.platform in ("win32", "darwin")
    )


def pytest_collection_modifyitems(items):
    if _display():
        return
    for item in items:
        if item.get_closest_marker("gui"):
            item.add_marker(
                pytest.mark.skip(reason="no display: run `make test`, which brings its own")
            )


@pytest.fixture
def wait(qtbot):
    """Let Qt work until something is true."""

    def until(condition, seconds=20.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            qtbot.wait(10)

    return until


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Cases and names of one test must not be found by another."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """No test here cuts the power: nothing has to wait for the disk itself."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def still_modules():
    """What is imported stays: the collector, which runs after each test, need not look."""
    import napari._qt.qt_main_window  # noqa: F401

    import napari_hspnet._qt.dock  # noqa: F401

    gc.collect()
    gc.freeze()
    return itertools.count(1)


@pytest.fixture(scope="session")
def plugins_found_once():
    """Every window looks for plugins anew; which are installed does not change meanwhile."""
    from npe2 import PluginManifest

    found = list(PluginManifest.discover())
    assert any(one.manifest and one.manifest.name == "napari-hspnet" for one in found)

    def discover(paths=()):
        for one in found:
            manifest = one.manifest and one.manifest.model_copy(deep=True)
            yield one._replace(manifest=manifest)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(PluginManifest, "discover", discover)
        yield


@pytest.fixture
def viewer(still_modules, plugins_found_once, make_napari_viewer, qtbot):
    # What napari keeps of earlier windows need not be looked at after each test; frozen too
    # often, the last window, which somebody still holds then, would stay for good.
    if next(still_modules) % 20 == 0:
        gc.freeze()
    made = make_napari_viewer(show=True)
    made.window._qt_window.resize(1280, 800)
    qtbot.waitExposed(made.window._qt_window)
    return made


@pytest.fixture
def add_dock(viewer, wait):
    """Opens the dock as the plugin menu does; shuts it down in the end."""
    docks = []

    def add():
        _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet")
        docks.append(dock)
        wait(lambda: not dock.jobs.busy("models"))
        return dock

    yield add
    for dock in docks:
        dock.shut_down()


@pytest.fixture
def notified():
    """Texts of napari's notifications."""
    from napari.utils.notifications import notification_manager

    before = len(notification_manager.records)

    def texts():
        return [record.message for record in notification_manager.records[before:]]

    return texts


@pytest.fixture
def shot(viewer, qtbot):
    """The canvas as (h, w, 3); an all-black one would make every comparison hold."""

    def take():
        qtbot.wait(60)
        picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
        assert np.ptp(picture) > 0, "the canvas shows nothing"
        return picture

    return take


@pytest.fixture(scope="session")
def wide_path(tmp_path_factory):
    """A slide of several edit views."""
    from correcting import WIDE

    from napari_hspnet.phantom import write_phantom

    path = tmp_path_factory.mktemp("slide") / "wide.tiff"
    write_phantom(path, WIDE)
    return path


@pytest.fixture(scope="session")
def wide_pattern(wide_path, tmp_path_factory):
    """Its case, as yesterday left it; to be copied."""
    from correcting import yesterdays_case

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("yesterday")))
        return yesterdays_case(wide_path)


@pytest.fixture
def wide_case(wide_path, wide_pattern):
    """The folder of its case, where one is looked for."""
    from napari_hspnet.cases import default_case_folder
    from napari_hspnet.slides import open_slide

    with open_slide(wide_path) as slide:
        folder = default_case_folder(slide.info)
    shutil.copytree(wide_pattern, folder)
    return folder


@pytest.fixture
def dock_on(viewer, add_dock, wait):
    """Opens a slide with the dock, in a window that has the keyboard."""
    from correcting import ANN, show

    def opened(path, results=True):
        viewer.window._qt_window.activateWindow()
        viewer.open(str(path), plugin="napari-hspnet")
        dock = add_dock()
        if results:
            wait(lambda: dock.slides.active.session.areas is not None)
        dock.slide_view.reader.setText(ANN)
        wait(viewer.window._qt_window.isActiveWindow)
        show(viewer, 2000, 2000)
        return dock

    return opened


@pytest.fixture
def wide_dock(dock_on, wide_path, wide_case):
    """Yesterday's case, open."""
    return dock_on(wide_path)


@pytest.fixture
def painting(wide_dock, wait):
    """The same, correcting."""
    from correcting import ready

    wide_dock.correct_view.paint.click()
    ready(wide_dock, wait)
    return wide_dock


@pytest.fixture
def canvas(viewer):
    return viewer.window._qt_viewer.canvas.native
