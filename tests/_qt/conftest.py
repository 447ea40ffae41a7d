"""Real windows: a viewer that draws, the dock in it, and patience."""

from __future__ import annotations

import os
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
    """Cases of one test must not be found by another."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def viewer(make_napari_viewer, qtbot):
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
