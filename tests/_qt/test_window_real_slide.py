"""The main job as a pathologist does it: the real slide, with real clicks and keys."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_hspnet.classes import DEMO_BANNER, NOT_RUN

pytestmark = pytest.mark.gui


def test_open_segment_see_save(viewer, add_dock, wait, qtbot, shot, tmp_path, monkeypatch):
    dock = add_dock()
    qtbot.mouseClick(dock.slide_view.sample_button, Qt.MouseButton.LeftButton)
    wait(lambda: len(viewer.layers) == 1)
    assert "0.499 µm/px · x20" in dock.slide_view.details.text()
    glass = shot()

    choice = dock.model_view.choice
    choice.setFocus()
    assert choice.itemText(1) == "demo"
    qtbot.keyClick(choice, Qt.Key.Key_Down)
    wait(lambda: dock.models.loaded is not None, 60)
    assert DEMO_BANNER in viewer.canvas.overlays.text.text

    # A quarter of the windows; `test_cli_commands` runs all of them on this slide.
    mode = dock.model_view.mode
    mode.setFocus()
    qtbot.keyClick(mode, Qt.Key.Key_Down)
    assert dock.models.mode == "balanced"

    segment = dock.segment_view
    qtbot.mouseClick(segment.targets["slide"], Qt.MouseButton.LeftButton)
    wait(lambda: "window" in segment.estimate.text(), 30)
    qtbot.mouseClick(segment.segment, Qt.MouseButton.LeftButton)
    wait(lambda: not segment.segment.isVisible())
    wait(segment.segment.isVisible, 240)
    qtbot.wait(300)
    assert not np.array_equal(glass, shot())

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: str(tmp_path))
    qtbot.mouseClick(dock.export_view.export, Qt.MouseButton.LeftButton)
    wait(lambda: "Written" in dock.export_view.told.text(), 60)
    (path,) = tmp_path.glob("*.ome.tif*")
    with tifffile.TiffFile(path) as file:
        mask = file.asarray()
        about = ElementTree.fromstring(file.ome_metadata)
    pixels = next(node for node in about.iter() if node.tag.endswith("}Pixels"))
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("1.0", "µm")
    assert mask.shape == (1481, 1108)  # 2967 x 2220 px of 0.499 µm, rounded up
    assert not (mask == NOT_RUN).any()
    shown = dock.slides.active.session.composite.read(0, 0, *mask.shape)
    assert np.array_equal(mask, shown)
